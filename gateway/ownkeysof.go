package gateway

import (
	"passerelle/crypto/openpgp"
	"passerelle/crypto/smime"
	"passerelle/gateway/message"
)

// of gives the keys that open mail for an address, its own and its domain's, expired ones too.
func (k *ownKeys) of(a message.Address) (cms []smime.Key, pgp []*openpgp.PrivateKey) {
	for _, l := range k.all() {
		if !l.decrypt || l.fits(a) == 0 {
			continue
		}
		if l.smime != nil {
			cms = append(cms, *l.smime)
		}
		pgp = append(pgp, l.openpgp...)
	}
	return cms, pgp
}

// decrypts tells whether there is a key to decrypt with at all.
func (k *ownKeys) decrypts() bool { return len(k.smimeKeys()) > 0 || len(k.openpgpKeys()) > 0 }

// none tells whether there are no keys.
func (k *ownKeys) none() bool { return k == nil || len(k.list) == 0 }
