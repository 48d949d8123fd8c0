package smime

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"
)

// attributes are those of a signature that we read.
type attributes struct {
	kind   asn1.ObjectIdentifier
	digest []byte
	time   time.Time
	cert   []byte // the value of signingCertificateV2
}

// readAttributes reads the SET; none of those we read may stand twice (RFC 5652 section 11).
func readAttributes(set []byte) (a attributes, err error) {
	var list []struct {
		ID     asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	if err := unmarshal(set, &list, "set"); err != nil {
		return a, err
	}
	seen := map[string]bool{}
	for _, l := range list {
		var v any
		switch {
		case l.ID.Equal(oidContentType):
			v = &a.kind
		case l.ID.Equal(oidMessageDigest):
			v = &a.digest
		case l.ID.Equal(oidSigningTime):
			v = &a.time
		case l.ID.Equal(oidSigningCertV2):
		default:
			continue
		}
		if len(l.Values) != 1 || seen[l.ID.String()] {
			return a, errBER
		}
		seen[l.ID.String()] = true
		if v == nil {
			a.cert = l.Values[0].FullBytes
			continue
		}
		if err := unmarshal(l.Values[0].FullBytes, v, ""); err != nil {
			return a, err
		}
	}
	return a, nil
}

// names tells whether signingCertificateV2, where there is one, is of that certificate (RFC 5035 section 5.4).
func (a *attributes) names(c *x509.Certificate) bool {
	if a.cert == nil {
		return true
	}
	var ess struct {
		Certs    []asn1.RawValue
		Policies asn1.RawValue `asn1:"optional"`
	}
	if unmarshal(a.cert, &ess, "") != nil || len(ess.Certs) == 0 {
		return false
	}
	h, inner := crypto.SHA256, ess.Certs[0].Bytes
	var id pkix.AlgorithmIdentifier
	if rest, err := asn1.Unmarshal(inner, &id); err == nil { // DEFAULT sha256, else it stands first
		h, inner = hashes[id.Algorithm.String()], rest
	}
	var sum []byte
	if _, err := asn1.Unmarshal(inner, &sum); err != nil || h <= crypto.SHA1 {
		return false
	}
	own := h.New()
	own.Write(c.Raw)
	return bytes.Equal(sum, own.Sum(nil))
}

// The algorithms of signatures that name their hash.
var named = map[string]struct {
	ec   bool
	hash crypto.Hash
}{
	"1.2.840.113549.1.1.11": {false, crypto.SHA256}, "1.2.840.113549.1.1.12": {false, crypto.SHA384}, "1.2.840.113549.1.1.13": {false, crypto.SHA512},
	"1.2.840.10045.4.3.2": {true, crypto.SHA256}, "1.2.840.10045.4.3.3": {true, crypto.SHA384}, "1.2.840.10045.4.3.4": {true, crypto.SHA512},
	"1.2.840.113549.1.1.5": {false, crypto.SHA1}, "1.2.840.10045.4.1": {true, crypto.SHA1}, "1.2.840.113549.1.1.4": {false, crypto.MD5},
}

var (
	oidPSS     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// checkKey holds the signature against the certificate's key: over message, or over the content with that digest where message is nil. h
// is the digest's algorithm; the signature's own must be the same.
func checkKey(c *x509.Certificate, s *signedBy, h crypto.Hash, message, digest []byte) (algorithm string, err error) {
	if message != nil {
		sum := h.New()
		sum.Write(message)
		digest = sum.Sum(nil)
	}
	id := s.Algorithm.Algorithm
	if n, ok := named[id.String()]; ok {
		if n.hash <= crypto.SHA1 {
			return "", &VerifyError{Weak, fmt.Errorf("signature algorithm %v is not taken", id)}
		}
		if n.hash != h {
			return "", errors.New("two hashes in one signature")
		}
	}
	suffix := map[crypto.Hash]string{crypto.SHA256: "SHA256", crypto.SHA384: "SHA384", crypto.SHA512: "SHA512"}[h]
	broken := errors.New("the signature is not of that key")
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if tooSmall(key) {
			return "", &VerifyError{Weak, fmt.Errorf("an RSA key of %d bits", key.N.BitLen())}
		}
		if id.Equal(oidPSS) {
			salt, err := pssSalt(s.Algorithm.Parameters.FullBytes, h)
			if err != nil || rsa.VerifyPSS(key, h, digest, s.Signature, &rsa.PSSOptions{SaltLength: salt}) != nil {
				return "", broken
			}
			return "RSA-PSS-" + suffix, nil
		}
		if n, ok := named[id.String()]; !id.Equal(oidRSA) && (!ok || n.ec) || rsa.VerifyPKCS1v15(key, h, digest, s.Signature) != nil {
			return "", broken
		}
		return "RSA-PKCS1-" + suffix, nil
	case *ecdsa.PublicKey:
		if n, ok := named[id.String()]; !id.Equal(oidECPublic) && (!ok || !n.ec) || !ecdsa.VerifyASN1(key, digest, s.Signature) {
			return "", broken
		}
		return "ECDSA-" + suffix, nil
	case ed25519.PublicKey: // RFC 8419: over the attributes themselves, with SHA-512 in them
		if !id.Equal(oidEd25519) || message == nil || h != crypto.SHA512 || !ed25519.Verify(key, message, s.Signature) {
			return "", broken
		}
		return "Ed25519", nil
	}
	return "", broken
}

// pssSalt reads RSASSA-PSS-params (RFC 4055 section 3.1); both hashes must be h.
func pssSalt(der []byte, h crypto.Hash) (int, error) {
	var p struct {
		Hash    pkix.AlgorithmIdentifier `asn1:"explicit,tag:0,optional"`
		MGF     pkix.AlgorithmIdentifier `asn1:"explicit,tag:1,optional"`
		Salt    int                      `asn1:"explicit,tag:2,optional,default:20"`
		Trailer int                      `asn1:"explicit,tag:3,optional,default:1"`
	}
	var mgf pkix.AlgorithmIdentifier
	if err := unmarshal(der, &p, ""); err != nil {
		return 0, err
	}
	if !p.MGF.Algorithm.Equal(oidMGF1) || unmarshal(p.MGF.Parameters.FullBytes, &mgf, "") != nil || hashes[p.Hash.Algorithm.String()] != h ||
		hashes[mgf.Algorithm.String()] != h || p.Trailer != 1 || p.Salt <= 0 {
		return 0, errBER
	}
	return p.Salt, nil
}
