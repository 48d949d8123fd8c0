package openpgp

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// PrivateKey is one of our own, unlocked.
type PrivateKey struct{ entity *openpgp.Entity }

// Fingerprint of the primary key in upper-case hex.
func (k *PrivateKey) Fingerprint() string { return (&Key{k.entity}).Fingerprint() }

// Addresses are those of the key's user ids.
func (k *PrivateKey) Addresses() (out []string) {
	for _, id := range k.entity.Identities {
		if id.UserId != nil && id.UserId.Email != "" && !slices.Contains(out, id.UserId.Email) {
			out = append(out, id.UserId.Email)
		}
	}
	slices.Sort(out)
	return out
}

// Public is what others encrypt to, and verify with.
func (k *PrivateKey) Public() *Key {
	public := *k.entity
	public.PrivateKey = nil
	public.Subkeys = slices.Clone(k.entity.Subkeys)
	for i := range public.Subkeys {
		public.Subkeys[i].PrivateKey = nil
	}
	return &Key{&public}
}

// CanSign tells whether the key may sign at that time; the error is a *KeyError.
func (k *PrivateKey) CanSign(now time.Time) error {
	key, ok := k.entity.SigningKey(now, config(now))
	if !ok || key.PrivateKey == nil || key.PrivateKey.Dummy() {
		return &KeyError{Fingerprint: k.Fingerprint(), Reason: "has no usable key to sign with"}
	}
	return nil
}

// CanDecrypt tells whether the key holds a private part that opens mail; it may have expired, for old mail.
func (k *PrivateKey) CanDecrypt() bool {
	keys := k.entity.DecryptionKeys(0, time.Time{}, config(time.Time{}))
	return slices.ContainsFunc(keys, func(key openpgp.Key) bool { return key.PrivateKey != nil && !key.PrivateKey.Dummy() })
}

// readRing reads a block, armoured as kind or binary.
func readRing(block []byte, kind string) (openpgp.EntityList, error) {
	if len(block) > maxKey {
		return nil, &KeyError{Reason: "is larger than 1 MiB"}
	}
	var from io.Reader = bytes.NewReader(block)
	if i := bytes.Index(block, []byte("-----BEGIN PGP")); i >= 0 {
		b, err := armor.Decode(bytes.NewReader(block[i:]))
		if err != nil {
			return nil, &KeyError{Reason: "its armour is broken", Err: err}
		}
		if b.Type != kind {
			return nil, &KeyError{Reason: fmt.Sprintf("is not a %s but %.40q", kind, b.Type)}
		}
		from = b.Body
	}
	ring, err := openpgp.ReadKeyRing(from)
	if err != nil || len(ring) == 0 {
		return nil, &KeyError{Reason: "cannot be read", Err: err}
	}
	return ring, nil
}

// ParsePrivateKeys reads and unlocks every private key of a block, armoured or binary. The error is a *KeyError that holds nothing of the
// passphrase.
func ParsePrivateKeys(block, passphrase []byte, now time.Time) (keys []*PrivateKey, err error) {
	defer contain(&err, func(err error) error { keys = nil; return &KeyError{Reason: "cannot be read", Err: err} })
	ring, err := readRing(block, openpgp.PrivateKeyType)
	if err != nil {
		return nil, err
	}
	for _, e := range ring {
		k := &PrivateKey{e}
		if e.PrivateKey == nil {
			return nil, &KeyError{Fingerprint: k.Fingerprint(), Reason: "is a public key: the private one is wanted"}
		}
		if len(passphrase) == 0 && locked(e) {
			return nil, &KeyError{Fingerprint: k.Fingerprint(), Reason: "has a passphrase, and none is given"}
		}
		if err := e.DecryptPrivateKeys(passphrase); err != nil {
			return nil, &KeyError{Fingerprint: k.Fingerprint(), Reason: "the passphrase does not open it"}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// locked tells whether any part of the key wants a passphrase.
func locked(e *openpgp.Entity) bool {
	return e.PrivateKey.Encrypted || slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool { return s.PrivateKey != nil && s.PrivateKey.Encrypted })
}

// ParseSigners reads public keys to verify with; they need not be able to be encrypted to. The error is a *KeyError.
func ParseSigners(block []byte) (keys []*Key, err error) {
	defer contain(&err, func(err error) error { keys = nil; return &KeyError{Reason: "cannot be read", Err: err} })
	ring, err := readRing(block, openpgp.PublicKeyType)
	if err != nil {
		return nil, err
	}
	for _, e := range ring {
		keys = append(keys, &Key{e})
	}
	return keys, nil
}

// contain turns a panic of the library into an error: what it reads is a stranger's.
func contain(err *error, as func(error) error) {
	if r := recover(); r != nil {
		*err = as(fmt.Errorf("panic: %v", r))
	}
}

// Micalg is the parameter of multipart/signed (RFC 3156 section 5) that goes with SignDetached.
const Micalg = "pgp-sha256"

// SignDetached writes the armoured signature of entity, a MIME entity with CRLF line ends. Its own lines end with LF.
func SignDetached(w io.Writer, entity io.Reader, key *PrivateKey, now time.Time) (err error) {
	defer contain(&err, func(err error) error { return fmt.Errorf("sign: %w", err) })
	if err := key.CanSign(now); err != nil {
		return err
	}
	a, err := armor.Encode(w, openpgp.SignatureType, nil)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	c := config(now)
	c.DefaultHash = crypto.SHA256 // Micalg says so
	if err := openpgp.DetachSign(a, []*openpgp.Entity{key.entity}, entity, c); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if err := a.Close(); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}
