package gateway

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"passerelle/config"
	"passerelle/crypto/openpgp"
	"passerelle/crypto/smime"
	"passerelle/gateway/message"
)

// ownKeys are the clinic's private keys as the config in force names them. Changed files are read again; where they are faulty the former
// keys stay.
type ownKeys struct {
	list []*ownKey
	now  func() time.Time
}

// ownKey is one entry with the files that it was last read from.
type ownKey struct {
	cfg  config.OwnKey
	name string // keys[0]
	log  *slog.Logger

	mu     sync.Mutex
	stamps []stamp // of the files when they were last read, well or not
	loaded *loadedKey
}

type stamp struct {
	changed time.Time
	size    int64
}

// loadedKey is what the files of an entry hold; one of smime and openpgp is set. It never changes.
type loadedKey struct {
	smime         *smime.Key
	openpgp       []*openpgp.PrivateKey
	addresses     []string // lower case; @domain for all of one
	sign, decrypt bool     // as the entry says; what the certificate allows is asked at each use
}

// loadOwnKeys reads all of them; the error names file and deed and holds nothing of a key.
func loadOwnKeys(list []config.OwnKey, log *slog.Logger, now func() time.Time) (*ownKeys, error) {
	k := &ownKeys{now: now}
	var faults []error
	for i, c := range list {
		if c.Off() {
			continue
		}
		o := &ownKey{cfg: c, name: fmt.Sprintf("keys[%d]", i), log: log, stamps: stampsOf(c)}
		var err error
		if o.loaded, err = readOwnKey(c, now()); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", o.name, err))
			continue
		}
		k.list = append(k.list, o)
	}
	return k, errors.Join(faults...)
}

func stampsOf(c config.OwnKey) (out []stamp) {
	for _, f := range c.Files() {
		var s stamp
		if st, err := os.Stat(f); err == nil {
			s = stamp{st.ModTime(), st.Size()}
		}
		out = append(out, s)
	}
	return out
}

// get is the entry as its files are now. Files that are faulty are read again only once they change: a passphrase costs much to try.
func (o *ownKey) get(now time.Time) *loadedKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	stamps := stampsOf(o.cfg)
	if slices.Equal(stamps, o.stamps) {
		return o.loaded
	}
	o.stamps = stamps
	l, err := readOwnKey(o.cfg, now)
	if err != nil {
		o.log.Error("new key cannot be used, the old one stays", "key", o.name, "err", err)
		return o.loaded
	}
	o.log.Info("new key in use", "key", o.name)
	o.loaded = l
	return l
}

func (k *ownKeys) all() (out []*loadedKey) {
	if k == nil {
		return nil
	}
	for _, o := range k.list {
		out = append(out, o.get(k.now()))
	}
	return out
}

// fits tells how closely the entry is for an address: 2 his own, 1 his domain's, 0 not.
func (l *loadedKey) fits(a message.Address) int {
	best := 0
	for _, own := range l.addresses {
		switch {
		case strings.EqualFold(own, a.Local+"@"+a.Domain):
			return 2
		case strings.EqualFold(own, "@"+a.Domain):
			best = 1
		}
	}
	return best
}

// smimeSigner gives the key that signs for an author: of his address before that of his domain; of several valid ones the one that lasts
// longest.
func (k *ownKeys) smimeSigner(author message.Address) (key smime.Key, ok bool) {
	best := 0
	for _, l := range k.all() {
		fit := l.fits(author)
		if l.smime == nil || !l.sign || fit == 0 || smime.CanSign(l.smime.Cert, k.now()) != nil {
			continue
		}
		if fit > best || fit == best && l.smime.Cert.NotAfter.After(key.Cert.NotAfter) {
			key, ok, best = *l.smime, true, fit
		}
	}
	return key, ok
}

// openpgpSigner is the same for OpenPGP; of several the first.
func (k *ownKeys) openpgpSigner(author message.Address) (key *openpgp.PrivateKey, ok bool) {
	best := 0
	for _, l := range k.all() {
		fit := l.fits(author)
		if !l.sign || fit <= best {
			continue
		}
		for _, p := range l.openpgp {
			if p.CanSign(k.now()) == nil {
				key, ok, best = p, true, fit
				break
			}
		}
	}
	return key, ok
}

// smimeKeys are all that may decrypt, expired ones too: old mail is sealed to them.
func (k *ownKeys) smimeKeys() (out []smime.Key) {
	for _, l := range k.all() {
		if l.smime != nil && l.decrypt {
			out = append(out, *l.smime)
		}
	}
	return out
}

// openpgpKeys are all that may decrypt.
func (k *ownKeys) openpgpKeys() (out []*openpgp.PrivateKey) {
	for _, l := range k.all() {
		if l.decrypt {
			out = append(out, l.openpgp...)
		}
	}
	return out
}

// certificates are those of S/MIME, by the names of their entries.
func (k *ownKeys) certificates() map[string]*x509.Certificate {
	out := map[string]*x509.Certificate{}
	if k == nil {
		return out
	}
	for _, o := range k.list {
		if l := o.get(k.now()); l.smime != nil {
			out[o.name] = l.smime.Cert
		}
	}
	return out
}

// CheckKeys says what the operator should know of the clinic's keys: their ends, and files that everybody may read. The error is of keys
// that cannot be used.
func CheckKeys(cfg *config.Config, now time.Time) (warnings []string, err error) {
	keys, err := loadOwnKeys(cfg.Keys, slog.New(slog.DiscardHandler), func() time.Time { return now })
	for i, c := range cfg.Keys {
		for _, f := range c.Files() {
			if f == c.Cert { // public
				continue
			}
			if st, err := os.Stat(f); err == nil && st.Mode().Perm()&0o004 != 0 {
				warnings = append(warnings, fmt.Sprintf("keys[%d]: everybody may read %s (mode %04o): chmod 600", i, f, st.Mode().Perm()))
			}
		}
	}
	for _, o := range keys.list {
		l := o.loaded
		if len(l.addresses) == 0 && l.sign {
			warnings = append(warnings, o.name+": names no address: set addresses, or it signs for nobody")
		}
		if l.smime == nil || !l.sign {
			continue
		}
		days := l.smime.Cert.NotAfter.Sub(now).Hours() / 24
		switch err := smime.CanSign(l.smime.Cert, now); {
		case err != nil && slices.Contains(o.cfg.Use, "sign"):
			warnings = append(warnings, fmt.Sprintf("%s: signs nothing: %v", o.name, err))
		case err == nil && days < certificateAlarm:
			warnings = append(warnings, fmt.Sprintf("%s: the certificate ends in %.0f days: put the next one beside it", o.name, days))
		}
	}
	return warnings, err
}
