package smime

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"time"
)

// Signature is one signature that was found.
type Signature struct {
	// Cert is the signer's, nil where the message does not hold it. It says something of him only where there was no error.
	Cert *x509.Certificate
	// Chain is from Cert to the root.
	Chain []*x509.Certificate
	// Time is when he says he signed; zero where he does not say.
	Time time.Time
	// Algorithm: RSA-PKCS1-SHA256, RSA-PSS-SHA512, ECDSA-SHA384, Ed25519.
	Algorithm string
}

// Fault is what is wrong with a signature, the worst last.
type Fault int

const (
	// Expired: the certificate was not valid at that time; all else is in order but was not looked at further.
	Expired Fault = iota + 1
	// Untrusted: no chain leads to a root, or the certificate is not for signing mail.
	Untrusted
	// Weak: SHA-1, MD5, RSA under 2048 bits.
	Weak
	// Broken: it cannot be read, or is not of that key.
	Broken
	// Mismatch: the content is not what was signed.
	Mismatch
)

// VerifyError says why a signature does not count.
type VerifyError struct {
	Fault Fault
	Err   error
}

func (e *VerifyError) Error() string { return "verify: " + e.Err.Error() }

func (e *VerifyError) Unwrap() error { return e.Err }

// Verify looks at SignedData in DER or BER. With content it is a detached signature of that; with nil the content stands inside and is
// written to out, to be taken as unsigned where there is an error. Every signature must be good: the error is then nil and there is at
// least one; else it is a *VerifyError with the worst fault, or what reading or writing said. roots nil trusts nobody.
func Verify(out io.Writer, signed, content io.Reader, roots *x509.CertPool, at time.Time, limits Limits) ([]Signature, error) {
	return nil, &VerifyError{Broken, errors.New("not yet")}
}

// Addresses are the mail addresses that a certificate is for: subjectAltName, and emailAddress of the subject where there is none
// (RFC 8550 section 3).
func Addresses(c *x509.Certificate) []string { return c.EmailAddresses }

var oidContentType = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
