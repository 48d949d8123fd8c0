package openpgp

import (
	"errors"
	"io"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// PrivateKey is one of our own, unlocked.
type PrivateKey struct{ entity *openpgp.Entity }

// ParsePrivateKeys reads and unlocks every private key of a block, armoured or binary. The error is a *KeyError that holds nothing of the
// passphrase.
func ParsePrivateKeys(block, passphrase []byte, now time.Time) ([]*PrivateKey, error) {
	return nil, &KeyError{Reason: "not yet"}
}

// ParseSigners reads public keys to verify with; they need not be able to be encrypted to. The error is a *KeyError.
func ParseSigners(block []byte) ([]*Key, error) { return nil, &KeyError{Reason: "not yet"} }

// Verdict is what a signature is worth.
type Verdict int

const (
	Unsigned Verdict = iota
	// Good: of a key that is known.
	Good
	// Unknown: of a key that we do not have; the content may be anybody's.
	Unknown
	// Bad: not of this content, of a key that was expired or revoked, or by a weak hash.
	Bad
)

// Signature is what was found.
type Signature struct {
	Verdict Verdict
	// Fingerprint of the primary key in upper-case hex where Good; else the key id that the signature names, "" where none.
	Fingerprint string
	Time        time.Time
	Err         error // why Bad
}

// Info is how a message was sealed. All that decrypts is authenticated: a packet without MDC or AEAD is refused.
type Info struct {
	AEAD      bool   // SEIPDv2; else SEIPDv1 with MDC
	Key       string // fingerprint of the primary key that opened it
	Signature Signature
}

var (
	// ErrNotForUs: none of the recipients is one of the keys.
	ErrNotForUs = errors.New("decrypt: sealed to none of our keys")
	// ErrUnprotected: nothing would tell a change on the way.
	ErrUnprotected = errors.New("decrypt: without integrity protection")
	// ErrUnopened: broken, changed on the way, or no OpenPGP message.
	ErrUnopened = errors.New("decrypt: cannot be opened")
	// ErrTooLarge: what came out is more than the limit.
	ErrTooLarge = errors.New("decrypt: too large")
)

// Decrypt opens a message, armoured or binary, writes the content to w as it comes, size bytes at most, and verifies the signature inside
// with the known keys. On any error the caller throws away what w got. A bad signature is no error.
func Decrypt(w io.Writer, r io.Reader, keys []*PrivateKey, known []*Key, size int64, now time.Time) (Info, error) {
	return Info{}, ErrUnopened
}

// Verify looks at a detached signature of content, armoured or binary, with the known keys. The error is that of reading content.
func Verify(content, signature io.Reader, known []*Key, now time.Time) (Signature, error) {
	return Signature{}, errors.New("not yet")
}

// Micalg is the parameter of multipart/signed (RFC 3156 section 5) that goes with SignDetached.
const Micalg = "pgp-sha256"

// SignDetached writes the armoured signature of entity, a MIME entity with CRLF line ends.
func SignDetached(w io.Writer, entity io.Reader, key *PrivateKey, now time.Time) error {
	return errors.New("not yet")
}
