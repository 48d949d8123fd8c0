package smime

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
)

// Key is one of our own: a certificate, what stands above it (the root may be left out), and its private key, *rsa.PrivateKey or
// *ecdsa.PrivateKey.
type Key struct {
	Cert    *x509.Certificate
	Chain   []*x509.Certificate
	Private crypto.PrivateKey
}

// Limits bound what a stranger's message may cost. Zero is the default.
type Limits struct {
	Size       int64 // bytes of content; 1 GiB
	Recipients int   // 1000
	Head       int64 // bytes of all that is not content; 1 MiB
}

func (l Limits) complete() Limits {
	if l.Size == 0 {
		l.Size = 1 << 30
	}
	if l.Recipients == 0 {
		l.Recipients = 1000
	}
	if l.Head == 0 {
		l.Head = 1 << 20
	}
	return l
}

// Info is how a message was sealed.
type Info struct {
	// Cipher of the content: AES-256-GCM, AES-128-CBC, 3DES-CBC.
	Cipher string
	// Wrap is how the content key came: RSA-PKCS1, RSA-OAEP, ECDH.
	Wrap string
	// Authenticated: the content cannot have been changed on the way. Never with CBC.
	Authenticated bool
	// Weak: 3DES.
	Weak bool
	// Cert is whose key opened it.
	Cert *x509.Certificate
}

var (
	// ErrNotForUs: none of the recipients is one of the keys.
	ErrNotForUs = errors.New("decrypt: sealed to none of our certificates")
	// ErrUnopened: the key or the content is not what was sealed. Why is not told: who could ask often would learn from it.
	ErrUnopened = errors.New("decrypt: cannot be opened")
	// ErrTooLarge: the content is more than the limit.
	ErrTooLarge = errors.New("decrypt: more content than the limit")
)

// Decrypt opens EnvelopedData and AuthEnvelopedData (RFC 5652, 5083), in DER or BER, with whichever of keys it is sealed to, and writes
// the content to w as it comes. On any error the caller throws away what w got: nothing of it is authenticated. Also without an error
// it is not where Info.Authenticated is false (EFAIL). Info holds what was learnt until an error.
func Decrypt(w io.Writer, r io.Reader, keys []Key, limits Limits) (info Info, err error) {
	limits = limits.complete()
	b := newBER(r, limits.Head)
	broken := func() error { return fmt.Errorf("decrypt: %w", b.err) }
	b.enter(tagSequence)
	kind := b.object()
	b.enter(explicit)
	b.enter(tagSequence)
	if b.err == nil && !kind.Equal(oidEnveloped) && !kind.Equal(oidAuth) {
		b.fail(errors.New("neither EnvelopedData nor AuthEnvelopedData"))
	}
	var version int // it says nothing that the fields do not
	b.parse(&version)
	if b.next() == explicit {
		b.value() // originatorInfo: certificates and lists
	}
	ways := b.recipients(keys, limits.Recipients)
	b.enter(tagSequence)
	b.object() // the content's type: a MIME entity, whatever it says
	var algorithm pkix.AlgorithmIdentifier
	b.parse(&algorithm)
	if b.err != nil {
		return info, broken()
	}
	if len(ways) == 0 {
		return info, ErrNotForUs
	}
	c, ok := ciphers[algorithm.Algorithm.String()]
	if !ok || c.gcm != kind.Equal(oidAuth) {
		return info, fmt.Errorf("decrypt: cipher %v is not known here", algorithm.Algorithm)
	}
	info.Cipher, info.Weak = c.name, c.weak
	key, way := contentKey(ways, c.size)
	if key == nil {
		return info, ErrUnopened
	}
	defer clear(key)
	info.Wrap, info.Cert = way.name, way.key.Cert
	out := &limited{w: w, left: limits.Size}
	content := b.octets(implicit)
	if c.gcm {
		err = b.openGCM(out, content, key, algorithm.Parameters.FullBytes)
	} else {
		err = openCBC(out, content, key, algorithm.Parameters.FullBytes, c.weak)
	}
	switch {
	case out.err != nil:
		return info, out.err
	case b.err != nil:
		return info, broken()
	case err != nil:
		return info, err
	}
	if !c.gcm {
		b.leave()
		if b.next() == explicit+1 { // unprotectedAttrs
			b.value()
		}
	}
	for range 3 {
		b.leave()
	}
	if b.end(); b.err != nil {
		return info, broken()
	}
	info.Authenticated = c.gcm
	return info, nil
}

// ciphers of content, by their object identifiers (RFC 3565 section 4.1, 5084 section 3.2, 3370 section 5.1).
var ciphers = map[string]struct {
	name      string
	size      int
	gcm, weak bool
}{
	"2.16.840.1.101.3.4.1.2":  {name: "AES-128-CBC", size: 16},
	"2.16.840.1.101.3.4.1.22": {name: "AES-192-CBC", size: 24},
	"2.16.840.1.101.3.4.1.42": {name: "AES-256-CBC", size: 32},
	"2.16.840.1.101.3.4.1.6":  {name: "AES-128-GCM", size: 16, gcm: true},
	"2.16.840.1.101.3.4.1.26": {name: "AES-192-GCM", size: 24, gcm: true},
	"2.16.840.1.101.3.4.1.46": {name: "AES-256-GCM", size: 32, gcm: true},
	"1.2.840.113549.3.7":      {name: "3DES-CBC", size: 24, weak: true}, // what Outlook wrote until 2016, and old stores still do
}

// limited passes at most left bytes; err is why it did not.
type limited struct {
	w    io.Writer
	left int64
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
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

// openCBC tells a wrong key from a broken end by nothing.
func openCBC(w io.Writer, content io.Reader, key, parameters []byte, triple bool) error {
	var iv []byte
	var block cipher.Block
	var err error
	if triple {
		block, err = des.NewTripleDESCipher(key)
	} else {
		block, err = aes.NewCipher(key)
	}
	if err != nil {
		return ErrUnopened
	}
	size := block.BlockSize()
	if unmarshal(parameters, &iv, "") != nil || len(iv) != size {
		return ErrUnopened
	}
	mode := cipher.NewCBCDecrypter(block, iv)
	buf := make([]byte, size+chunk) // the last block of each round stays before the next: it may be the end
	held := 0
	for {
		n, rerr := io.ReadFull(content, buf[size:])
		if n%size != 0 {
			return ErrUnopened
		}
		if n > 0 {
			mode.CryptBlocks(buf[size:size+n], buf[size:size+n])
			if _, err := w.Write(buf[size-held : n]); err != nil {
				return err
			}
			copy(buf, buf[n:n+size])
			held = size
		}
		if rerr != nil {
			break
		}
	}
	if held == 0 {
		return ErrUnopened
	}
	last := buf[:size]
	pad := int(last[size-1]) // RFC 5652 section 6.3
	good := subtle.ConstantTimeLessOrEq(1, pad) & subtle.ConstantTimeLessOrEq(pad, size)
	for i, c := range last {
		inPad := subtle.ConstantTimeLessOrEq(size-i, pad)
		good &= subtle.ConstantTimeSelect(inPad, subtle.ConstantTimeByteEq(c, byte(pad)), 1)
	}
	if good != 1 {
		return ErrUnopened
	}
	_, err = w.Write(last[:size-pad])
	return err
}

// openGCM reads to the end of the tag. The authenticated attributes stand behind the content, but come first under the tag
// (RFC 5083 section 2.2).
func (b *ber) openGCM(w io.Writer, content io.Reader, key, parameters []byte) error {
	var p struct {
		Nonce []byte
		Tag   int `asn1:"optional,default:12"`
	}
	if unmarshal(parameters, &p, "") != nil || len(p.Nonce) != 12 || p.Tag < 12 || p.Tag > 16 {
		return ErrUnopened
	}
	g, err := newGCM(key, [12]byte(p.Nonce))
	if err != nil {
		return ErrUnopened
	}
	buf := make([]byte, chunk)
	for {
		n, rerr := io.ReadFull(content, buf)
		if n > 0 {
			if g.size+uint64(n) > maxSize {
				return ErrTooLarge
			}
			if _, err := w.Write(g.decrypt(buf[:n])); err != nil {
				return err
			}
		}
		if rerr != nil {
			break
		}
	}
	b.leave()
	if b.next() == explicit+1 {
		attributes := b.value()
		if b.err == nil {
			attributes[0] = tagSet
			g.behind(attributes)
		}
	}
	var tag []byte
	b.parse(&tag)
	if b.err == nil && (len(tag) != p.Tag || subtle.ConstantTimeCompare(tag, g.sum()[:p.Tag]) != 1) {
		return ErrUnopened
	}
	if b.next() == explicit+2 { // unauthAttrs
		b.value()
	}
	return nil
}
