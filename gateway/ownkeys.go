package gateway

import (
	"crypto/x509"
	"log/slog"
	"time"

	"passerelle/config"
	"passerelle/crypto/openpgp"
	"passerelle/crypto/smime"
	"passerelle/gateway/message"
)

// ownKeys are the clinic's private keys as the config in force names them. Changed files are read again; where they are faulty the former
// keys stay.
type ownKeys struct {
	list []config.OwnKey
	log  *slog.Logger
	now  func() time.Time
}

// loadOwnKeys reads all of them; the error names file and deed and holds nothing of a key.
func loadOwnKeys(list []config.OwnKey, log *slog.Logger, now func() time.Time) (*ownKeys, error) {
	return &ownKeys{list: list, log: log, now: now}, nil
}

// smimeSigner gives the key that signs for an author: of his address before that of his domain; of several valid ones the one that lasts
// longest.
func (k *ownKeys) smimeSigner(author message.Address) (smime.Key, bool) { return smime.Key{}, false }

// openpgpSigner is the same for OpenPGP.
func (k *ownKeys) openpgpSigner(author message.Address) (*openpgp.PrivateKey, bool) {
	return nil, false
}

// smimeKeys are all that may decrypt, expired ones too: old mail is sealed to them.
func (k *ownKeys) smimeKeys() []smime.Key { return nil }

// openpgpKeys are all that may decrypt.
func (k *ownKeys) openpgpKeys() []*openpgp.PrivateKey { return nil }

// certificates are those of S/MIME, to warn of their ends.
func (k *ownKeys) certificates() []*x509.Certificate { return nil }
