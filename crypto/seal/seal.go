// Package seal locks bytes for the disk. It takes readers, short values, a server key and a link's secret, gives sealed bytes and
// readers that open them from the middle, and knows nothing of mail, databases or the network.
//
// A deposit is an age file (https://age-encryption.org/v1) whose file key is wrapped by a recipient type of ours, see Lock. The
// header and the payload are kept apart: the header goes into the database, the payload into the blob place, so that forgetting
// the header destroys the content.
package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"crypto/rand"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

// Key is a server key. It never prints.
type Key [32]byte

// String hides the key from every formatter.
func (Key) String() string { return "<secret>" }

// GoString hides the key from %#v.
func (Key) GoString() string { return "<secret>" }

// LogValue hides the key from the log.
func (Key) LogValue() slog.Value { return slog.StringValue("<secret>") }

// ErrLocked is returned where the secret, the server key or the name does not fit, or the sealed bytes were changed.
var ErrLocked = errors.New("sealed bytes do not open")

// stanzaType names our recipient in the age header; the version is part of it.
const stanzaType = "passerelle-link-v1"

// maxHeader bounds the age header that Split takes; ours has about 200 octets.
const maxHeader = 4096

// Lock wraps a file key under a link's secret together with a server key: neither alone opens. It is bound to a name, the
// deposit's, so that a header moved to another row does not open there. It is both age.Recipient and age.Identity.
type Lock struct {
	key    Key
	secret []byte
	name   string
}

// NewLock gives the lock for a deposit's name. The secret must hold at least 128 bits.
func NewLock(key Key, secret []byte, name string) (*Lock, error) {
	if len(secret) < 16 {
		return nil, fmt.Errorf("new lock: the secret has %d octets, needs 16", len(secret))
	}
	return &Lock{key: key, secret: bytes.Clone(secret), name: name}, nil
}

// wrapKey derives the wrapping key. The secret comes first with its length in the info, so that no two pairs (secret, key) give
// the same input.
func (l *Lock) wrapKey(salt []byte) ([]byte, error) {
	ikm := append(bytes.Clone(l.secret), l.key[:]...)
	info := fmt.Sprintf("%s\x00%d\x00%s", stanzaType, len(l.secret), l.name)
	return hkdf.Key(sha256.New, ikm, salt, info, chacha20poly1305.KeySize)
}

// Wrap is age.Recipient. The nonce is zero as in age's own stanzas: the salt makes every wrapping key unique.
func (l *Lock) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	salt := make([]byte, 16)
	rand.Read(salt)
	wrap, err := l.wrapKey(salt)
	if err != nil {
		return nil, fmt.Errorf("wrap file key: %w", err)
	}
	aead, err := chacha20poly1305.New(wrap)
	if err != nil {
		return nil, fmt.Errorf("wrap file key: %w", err)
	}
	return []*age.Stanza{{
		Type: stanzaType,
		Args: []string{base64.RawStdEncoding.EncodeToString(salt)},
		Body: aead.Seal(nil, make([]byte, aead.NonceSize()), fileKey, nil),
	}}, nil
}

// Unwrap is age.Identity.
func (l *Lock) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type != stanzaType || len(s.Args) != 1 || len(s.Body) != 16+chacha20poly1305.Overhead {
			continue
		}
		salt, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[0])
		if err != nil || len(salt) != 16 {
			continue
		}
		wrap, err := l.wrapKey(salt)
		if err != nil {
			return nil, fmt.Errorf("unwrap file key: %w", err)
		}
		aead, err := chacha20poly1305.New(wrap)
		if err != nil {
			return nil, fmt.Errorf("unwrap file key: %w", err)
		}
		if fileKey, err := aead.Open(nil, make([]byte, aead.NonceSize()), s.Body, nil); err == nil {
			return fileKey, nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// Split seals what is read from plain and gives the age header, and a reader of the payload that encrypts as it is read. A read
// error of plain comes out of the payload reader: what was stored by then is not complete and must be thrown away.
func Split(lock *Lock, plain io.Reader) (header []byte, payload io.Reader, err error) {
	sealed, err := age.EncryptReader(plain, lock)
	if err != nil {
		return nil, nil, fmt.Errorf("seal: %w", err)
	}
	// The header has no length field; its last line begins with "---". One small read holds all of it, and what follows is payload.
	var head []byte
	var buf [512]byte
	for {
		n, rerr := sealed.Read(buf[:])
		head = append(head, buf[:n]...)
		if h, herr := age.ExtractHeader(bytes.NewReader(head)); herr == nil {
			return h, io.MultiReader(bytes.NewReader(head[len(h):]), sealed), nil
		}
		if rerr != nil {
			return nil, nil, fmt.Errorf("seal: %w", rerr)
		}
		if len(head) > maxHeader {
			return nil, nil, errors.New("seal: the header has no end")
		}
	}
}

// Open joins header and payload again and gives the plain bytes, readable from any offset. Every 64 KiB segment is authenticated
// as it is read, and the last one before anything is given.
func Open(lock *Lock, header []byte, payload io.ReaderAt, size int64) (plain io.ReaderAt, plainSize int64, err error) {
	j := joined{header: header, payload: payload}
	plain, plainSize, err = age.DecryptReaderAt(j, int64(len(header))+size, lock)
	if err != nil {
		return nil, 0, fmt.Errorf("open: %w: %w", ErrLocked, err)
	}
	return plain, plainSize, nil
}

// joined is header followed by payload as one io.ReaderAt.
type joined struct {
	header  []byte
	payload io.ReaderAt
}

func (j joined) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	if h := int64(len(j.header)); off < h {
		n = copy(p, j.header[off:])
		if n == len(p) {
			return n, nil
		}
		off = h
	}
	m, err := j.payload.ReadAt(p[n:], off-int64(len(j.header)))
	return n + m, err
}
