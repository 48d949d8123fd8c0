package smime

import (
	"crypto"
	"crypto/x509"
	"errors"
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
)

// Decrypt opens EnvelopedData and AuthEnvelopedData (RFC 5652, 5083), in DER or BER, with whichever of keys it is sealed to, and writes
// the content to w as it comes. On any error the caller throws away what w got: nothing of it is authenticated. Also without an error
// it is not where Info.Authenticated is false (EFAIL). Info holds what was learnt until an error.
func Decrypt(w io.Writer, r io.Reader, keys []Key, limits Limits) (Info, error) {
	return Info{}, ErrUnopened
}
