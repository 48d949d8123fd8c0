package gateway

import (
	"passerelle/crypto/openpgp"
	"passerelle/crypto/smime"
	"passerelle/gateway/message"
)

// smimeKeysOf are those that may decrypt for an address: those of the address and those of its domain.
func (k *ownKeys) smimeKeysOf(a message.Address) []smime.Key { return k.smimeKeys() }

// openpgpKeysOf is the same for OpenPGP.
func (k *ownKeys) openpgpKeysOf(a message.Address) []*openpgp.PrivateKey { return k.openpgpKeys() }

// decrypts tells whether there is a key to decrypt with at all.
func (k *ownKeys) decrypts() bool { return len(k.smimeKeys()) > 0 || len(k.openpgpKeys()) > 0 }
