// Package smime encrypts to the certificates of correspondents (CMS: RFC 5652, 5083, 8551). It takes certificates and a stream whose
// length is known, gives the DER of one message, and knows nothing of mail, MIME or where certificates come from. It holds one buffer
// of 64 KiB, however long the stream is.
package smime

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Suite is what a message is sealed with. RSA and elliptic keys may stand beside each other in both.
type Suite int

const (
	// Compatible is EnvelopedData with AES-256-CBC, and for RSA keys PKCS#1 v1.5 unless the certificate announces OAEP. Every reader since
	// about 2005 opens it. Its content is not authenticated: a reader that shows what was tampered with is its limit (EFAIL).
	Compatible Suite = iota
	// Modern is AuthEnvelopedData with AES-256-GCM and, for RSA keys, OAEP with SHA-256. PKCS#1 v1.5 never stands under it: who gets the
	// content key out of a reader that tells wrong paddings apart could write under the tag too.
	Modern
)

// Type is the smime-type of RFC 8551 section 3.2.2.
func (s Suite) Type() string {
	if s == Modern {
		return "authEnveloped-data"
	}
	return "enveloped-data"
}

const (
	chunk   = 64 << 10 // whole blocks
	maxSize = 1 << 35  // far below what one counter of GCM is good for
)

var (
	oidData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEnveloped = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidAuth      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 23}
)

// Encrypt starts a message of size bytes of content to the owners of certs. What is written to the result is encrypted as it comes;
// Close ends the message and must succeed for it to be whole: it fails where not size bytes were written. It does not close w. A
// certificate that cannot be sealed to at that time is a *CertificateError, and nothing is written then.
func Encrypt(w io.Writer, certs []*x509.Certificate, size int64, suite Suite, now time.Time) (io.WriteCloser, error) {
	if len(certs) == 0 {
		return nil, &CertificateError{"is missing"}
	}
	if size < 0 || size > maxSize {
		return nil, fmt.Errorf("encrypt: %d bytes cannot be one message", size)
	}
	var key [32]byte
	defer clear(key[:])
	rand.Read(key[:])
	version := byte(0)
	var infos [][]byte
	for _, c := range certs {
		if err := Usable(c, now); err != nil {
			return nil, err
		}
		info, err := recipientInfo(c, key[:], suite)
		if err != nil {
			return nil, fmt.Errorf("encrypt: %w", err)
		}
		if info[0] != tagSequence && suite == Compatible { // RFC 5652 section 6.1: 2 where a recipient is no version 0
			version = 2
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, bytes.Compare) // X.690 section 11.6: a SET OF in DER
	s := &sealing{w: w, left: size, buf: make([]byte, 0, chunk+aes.BlockSize)}
	cipherLen, tail, contentType, algorithm := size, int64(0), oidAuth, []byte(nil)
	switch suite {
	case Modern:
		var nonce [12]byte
		rand.Read(nonce[:])
		g, err := newGCM(key[:], nonce)
		if err != nil {
			return nil, fmt.Errorf("encrypt: %w", err)
		}
		s.gcm, tail = g, 2+16
		// GCMParameters, RFC 5084 section 3.2: the nonce and the tag's length, whose default is 12.
		algorithm = tlv(tagSequence, oid(oidAES256GCM), tlv(tagSequence, tlv(tagOctets, nonce[:]), number(16)))
	case Compatible:
		var iv [aes.BlockSize]byte
		rand.Read(iv[:])
		block, err := aes.NewCipher(key[:])
		if err != nil {
			return nil, fmt.Errorf("encrypt: %w", err)
		}
		s.cbc = cipher.NewCBCEncrypter(block, iv[:])
		cipherLen, contentType = size/aes.BlockSize*aes.BlockSize+aes.BlockSize, oidEnveloped
		algorithm = tlv(tagSequence, oid(oidAES256CBC), tlv(tagOctets, iv[:]))
	default:
		return nil, fmt.Errorf("encrypt: no suite %d", suite)
	}
	if _, err := w.Write(opening(contentType, version, tlv(tagSet, infos...), algorithm, cipherLen, tail)); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return s, nil
}

// opening is all that stands before the first encrypted byte: every length around the content is known by now, tail is what follows
// the content. Both content types begin alike (RFC 5652 section 6.1, RFC 5083 section 2.1).
func opening(contentType asn1.ObjectIdentifier, version byte, recipients, algorithm []byte, cipherLen, tail int64) []byte {
	content := head(implicit, cipherLen) // [0] IMPLICIT OCTET STRING
	of := func(tag byte, behind int64, parts ...[]byte) []byte {
		p := slices.Concat(parts...)
		return append(head(tag, int64(len(p))+behind), p...)
	}
	p := of(tagSequence, cipherLen, oid(oidData), algorithm, content)
	p = of(tagSequence, cipherLen+tail, number(version), recipients, p)
	p = of(explicit, cipherLen+tail, p)
	return of(tagSequence, cipherLen+tail, oid(contentType), p)
}

// sealing is the content on its way; one of cbc and gcm is set.
type sealing struct {
	w    io.Writer
	left int64 // bytes to come
	buf  []byte
	cbc  cipher.BlockMode
	gcm  *gcm
	err  error
}

func (s *sealing) Write(p []byte) (n int, err error) {
	if s.err == nil && int64(len(p)) > s.left {
		s.err = errors.New("encrypt: more content than was said")
	}
	for len(p) > 0 && s.err == nil {
		k := min(chunk-len(s.buf), len(p))
		s.buf, p = append(s.buf, p[:k]...), p[k:]
		s.left -= int64(k)
		n += k
		if len(s.buf) == chunk {
			s.flush()
		}
	}
	return n, s.err
}

// flush encrypts and writes what the buffer holds.
func (s *sealing) flush() {
	if s.gcm != nil {
		s.gcm.encrypt(s.buf)
	} else {
		s.cbc.CryptBlocks(s.buf, s.buf)
	}
	if _, err := s.w.Write(s.buf); err != nil {
		s.err = fmt.Errorf("encrypt: %w", err)
	}
	s.buf = s.buf[:0]
}

func (s *sealing) Close() error {
	if s.err == nil && s.left > 0 {
		s.err = fmt.Errorf("encrypt: %d bytes of content are missing", s.left)
	}
	if s.err != nil {
		return s.err
	}
	if s.gcm == nil { // RFC 5652 section 6.3: one to sixteen octets, each their number
		pad := aes.BlockSize - len(s.buf)%aes.BlockSize
		s.buf = append(s.buf, bytes.Repeat([]byte{byte(pad)}, pad)...)
	}
	s.flush()
	if s.gcm != nil && s.err == nil {
		if _, err := s.w.Write(tlv(tagOctets, s.gcm.sum())); err != nil {
			s.err = fmt.Errorf("encrypt: %w", err)
		}
	}
	err := s.err
	if err == nil {
		s.err = errors.New("encrypt: the message has ended")
	}
	return err
}
