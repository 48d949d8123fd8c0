package smime

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"
)

// CertificateError says why mail cannot be sealed to a certificate. Its text is for the operator.
type CertificateError struct{ Reason string }

func (e *CertificateError) Error() string { return "certificate " + e.Reason }

// The bounds of an RSA key: below the first it can be broken (ANSSI and RFC 8551 section 6), above the second it is a stranger's way
// to hold a processor.
const (
	minRSA = 2048
	maxRSA = 16384
)

// standing tells whether there is a certificate that is valid now, and whose key, where it is RSA, is neither too short nor too long.
func standing(c *x509.Certificate, now time.Time) error {
	no := func(reason string) error { return &CertificateError{reason} }
	switch {
	case c == nil:
		return no("is missing")
	case now.Before(c.NotBefore):
		return no("is not valid before " + c.NotBefore.Format(time.DateOnly))
	case now.After(c.NotAfter):
		return no("ran out on " + c.NotAfter.Format(time.DateOnly))
	}
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && tooSmall(key) {
		return no("has an RSA key of less than 2048 bits or more than 16384")
	}
	return nil
}

// Usable tells whether mail can be sealed to the certificate at that time: it is valid then, its key is RSA of 2048 bits at least or on
// P-256, P-384 or P-521, and its usages, where it names any, are those of a key that opens mail. Who signed it, and whether it was
// revoked, is the caller's to know. The error is a *CertificateError.
func Usable(c *x509.Certificate, now time.Time) error {
	if err := standing(c, now); err != nil {
		return err
	}
	no := func(reason string) error { return &CertificateError{reason} }
	var usage x509.KeyUsage
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		usage = x509.KeyUsageKeyEncipherment // RFC 8550 section 4.4.2
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, key.Curve) {
			return no("has a key on a curve other than P-256, P-384 and P-521")
		}
		usage = x509.KeyUsageKeyAgreement // RFC 5753 section 3.1.1
	default:
		return no("has a key that is neither RSA nor on an elliptic curve")
	}
	if c.KeyUsage != 0 && c.KeyUsage&usage == 0 {
		return no("is for signing, not for encryption (keyUsage)")
	}
	// RFC 8550 section 4.4.4: no extended usage at all is any usage.
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageEmailProtection) &&
		!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return no("is not for mail (extendedKeyUsage)")
	}
	return nil
}

// announces tells whether the certificate's owner says that he reads the algorithm: the extension smimeCapabilities, RFC 4262.
func announces(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidCapabilities) {
			continue
		}
		var list []struct {
			ID         asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		if rest, err := asn1.Unmarshal(e.Value, &list); err != nil || len(rest) > 0 {
			return false
		}
		for _, l := range list {
			if l.ID.Equal(id) {
				return true
			}
		}
	}
	return false
}

// Announced is the suite that every one of the certificates announces: Modern where all of them name AES-256-GCM and, for RSA keys,
// OAEP; else Compatible.
func Announced(certs []*x509.Certificate) Suite {
	for _, c := range certs {
		_, isRSA := c.PublicKey.(*rsa.PublicKey)
		if !announces(c, oidAES256GCM) || isRSA && !announces(c, oidOAEP) {
			return Compatible
		}
	}
	if len(certs) == 0 {
		return Compatible
	}
	return Modern
}
