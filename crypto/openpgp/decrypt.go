package openpgp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

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
	// Fingerprint of the primary key in upper-case hex where Good; else what the signature says of its key, "" where nothing.
	Fingerprint string
	Time        time.Time // when Good: as the signer says
	Err         error     // why Bad or Unknown
}

// Info is how a message was sealed. All that decrypts is authenticated: a packet without MDC or AEAD is refused.
type Info struct {
	Key       string // fingerprint of the primary key that opened it
	Signature Signature
}

var (
	// ErrNotForUs: none of the recipients is one of the keys.
	ErrNotForUs = errors.New("decrypt: sealed to none of our keys")
	// ErrUnprotected: nothing would tell a change on the way.
	ErrUnprotected = errors.New("decrypt: without integrity protection")
	// ErrUnopened: broken, changed on the way, or no encrypted OpenPGP message.
	ErrUnopened = errors.New("decrypt: cannot be opened")
	// ErrTooLarge: what came out is more than the limit.
	ErrTooLarge = errors.New("decrypt: more content than the limit")
)

// reading bounds what a compressed packet may become.
func reading(now time.Time, size int64) *packet.Config {
	c := config(now)
	c.MaxDecompressedMessageSize = &size
	return c
}

// bare gives the packets of what may be armoured, of one of the kinds.
func bare(r io.Reader, kind string) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 4096)
	start, err := b.Peek(1)
	if err != nil || start[0]&0x80 != 0 { // every packet begins with a set bit, no armour does
		return b, err
	}
	block, err := armor.Decode(b)
	if err != nil {
		return nil, err
	}
	if block.Type != kind {
		return nil, fmt.Errorf("is %.40q", block.Type)
	}
	return block.Body, nil
}

// Decrypt opens a message, armoured or binary, writes the content to w as it comes, size bytes at most, and verifies the signature inside
// with the known keys. On any error the caller throws away what w got. A bad signature is no error.
func Decrypt(w io.Writer, r io.Reader, keys []*PrivateKey, known []*Key, size int64, now time.Time) (info Info, err error) {
	defer contain(&err, func(err error) error { return fmt.Errorf("%w: %w", ErrUnopened, err) })
	packets, err := bare(r, openpgp.MessageType)
	if err != nil {
		return info, fmt.Errorf("%w: %w", ErrUnopened, err)
	}
	ring := &ringOf{}
	for _, k := range keys {
		ring.own = append(ring.own, k.entity)
	}
	ring.known = entities(known)
	md, err := openpgp.ReadMessage(packets, ring, nil, reading(now, size+1<<20)) // what stands around the content has its room
	switch {
	case errors.Is(err, pgperrors.ErrKeyIncorrect):
		return info, ErrNotForUs
	case err != nil && errors.As(err, new(pgperrors.UnsupportedError)) && err.Error() == pgperrors.UnsupportedError("message is not integrity protected").Error():
		return info, ErrUnprotected
	case err != nil:
		return info, fmt.Errorf("%w: %w", ErrUnopened, err)
	case !md.IsEncrypted:
		return info, fmt.Errorf("%w: it is not encrypted", ErrUnopened)
	}
	if md.DecryptedWith.Entity != nil {
		info.Key = (&Key{md.DecryptedWith.Entity}).Fingerprint()
	}
	out := &limited{w: w, left: size}
	if _, err := io.Copy(out, md.UnverifiedBody); err != nil { // the end of the body checks the MDC or the last tag
		if out.err != nil {
			return info, out.err
		}
		return info, fmt.Errorf("%w: %w", ErrUnopened, err)
	}
	info.Signature = verdict(md)
	return info, nil
}

type limited struct {
	w    io.Writer
	left int64
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		l.err = ErrTooLarge
		return 0, l.err
	}
	n, err := l.w.Write(p)
	if err != nil {
		l.err = fmt.Errorf("decrypt: write: %w", err)
	}
	return n, l.err
}

// verdict is that of the library once the body was read to its end.
func verdict(md *openpgp.MessageDetails) Signature {
	if !md.IsSigned {
		return Signature{}
	}
	s := Signature{Verdict: Bad, Err: md.SignatureError}
	if c := md.SelectedCandidate; c != nil {
		s.Fingerprint = fmt.Sprintf("%X", c.IssuerFingerprint)
		if s.Fingerprint == "" {
			s.Fingerprint = fmt.Sprintf("%016X", c.IssuerKeyId)
		}
	}
	switch {
	case md.SignatureError == nil && md.SignedBy != nil && md.Signature != nil:
		s = Signature{Verdict: Good, Fingerprint: (&Key{md.SignedBy.Entity}).Fingerprint(), Time: md.Signature.CreationTime}
	case errors.Is(md.SignatureError, pgperrors.ErrUnknownIssuer):
		s.Verdict = Unknown
	}
	return s
}

// maxSignature bounds a detached signature; some hold a certificate chain.
const maxSignature = 64 << 10

// Verify looks at a detached signature of content, armoured or binary, with the known keys. The error is that of reading content.
func Verify(content, signature io.Reader, known []*Key, now time.Time) (s Signature, err error) {
	defer contain(&err, func(err error) error { s = Signature{Verdict: Bad, Err: err}; return nil })
	bad := func(err error) (Signature, error) {
		_, rerr := io.Copy(io.Discard, content)
		return Signature{Verdict: Bad, Err: err}, rerr
	}
	text, err := io.ReadAll(io.LimitReader(signature, maxSignature+1))
	if err != nil {
		return s, fmt.Errorf("verify: read the signature: %w", err)
	}
	if len(text) > maxSignature {
		return bad(errors.New("the signature is larger than 64 KiB"))
	}
	packets, err := bare(bytes.NewReader(text), openpgp.SignatureType)
	if err != nil {
		return bad(fmt.Errorf("the signature cannot be read: %w", err))
	}
	from := &remembers{r: content}
	md, err := openpgp.VerifyDetachedSignatureReader(&ringOf{known: entities(known)}, from, packets, config(now))
	if err != nil {
		return bad(fmt.Errorf("the signature cannot be read: %w", err))
	}
	if _, err := io.Copy(io.Discard, md.UnverifiedBody); from.err != nil {
		return Signature{}, fmt.Errorf("verify: read the content: %w", from.err)
	} else if err != nil {
		return Signature{Verdict: Bad, Err: err}, nil
	}
	return verdict(md), nil
}

type remembers struct {
	r   io.Reader
	err error
}

func (r *remembers) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// ringOf shows the library both kinds of keys; it asks both by their ids.
type ringOf struct{ own, known openpgp.EntityList }

func (r *ringOf) KeysById(id uint64) []openpgp.Key {
	return append(r.own.KeysById(id), r.known.KeysById(id)...)
}

func (r *ringOf) EntitiesById(id uint64) []*openpgp.Entity {
	return append(r.own.EntitiesById(id), r.known.EntitiesById(id)...)
}
