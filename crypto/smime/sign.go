package smime

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Micalg is the parameter of multipart/signed (RFC 8551 section 3.5.3.2) that goes with Sign.
const Micalg = "sha-256"

var (
	oidSigned        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidSigningCertV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47} // RFC 5035 section 3
	oidECDSASHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidAES128GCM     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 6}
	oidAES128CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
)

// CanSign tells whether the certificate may sign mail at that time; the error is a *CertificateError.
func CanSign(c *x509.Certificate, now time.Time) error {
	no := func(reason string) error { return &CertificateError{reason} }
	switch {
	case c == nil:
		return no("is missing")
	case now.Before(c.NotBefore):
		return no("is not valid before " + c.NotBefore.Format(time.DateOnly))
	case now.After(c.NotAfter):
		return no("ran out on " + c.NotAfter.Format(time.DateOnly))
	case c.KeyUsage != 0 && c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return no("is not for signing (keyUsage)")
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageEmailProtection) &&
		!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
		return no("is not for mail (extendedKeyUsage)")
	}
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA || n > maxRSA {
			return no("has an RSA key of less than 2048 bits or more than 16384")
		}
	case *ecdsa.PublicKey:
	default:
		return no("has a key that is neither RSA nor on an elliptic curve")
	}
	return nil
}

// Sign writes the detached signature (SignedData in DER: smime.p7s) of entity, a MIME entity with CRLF line ends, of which nothing but the
// digest is held. It is RSA PKCS#1 v1.5 or ECDSA, with SHA-256, and holds the whole chain of the key. A certificate that may not sign at
// that time is a *CertificateError, and then nothing was read.
func Sign(w io.Writer, entity io.Reader, key Key, now time.Time) error {
	if err := CanSign(key.Cert, now); err != nil {
		return err
	}
	signer, ok := key.Private.(crypto.Signer)
	if !ok {
		return errors.New("sign: the private key cannot sign")
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{entity}, make([]byte, chunk)); err != nil {
		return fmt.Errorf("sign: read the entity: %w", err)
	}
	who, err := issuerAndSerial(key.Cert)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	attributes, err := signedAttributes(key.Cert, h.Sum(nil), now)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	digest := sha256.Sum256(tlv(tagSet, attributes)) // RFC 5652 section 5.4: of the SET, which stands as [0] in the message
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	algorithm := tlv(tagSequence, oid(oidRSA), null) // RFC 3370 section 3.2
	if _, ok := key.Cert.PublicKey.(*ecdsa.PublicKey); ok {
		algorithm = tlv(tagSequence, oid(oidECDSASHA256)) // RFC 5754 section 3.3: no parameters
	}
	sha := tlv(tagSequence, oid(oidSHA256)) // section 2: none either
	info := tlv(tagSequence, number(1), who, sha, tlv(explicit, attributes), algorithm, tlv(tagOctets, signature))
	certs := [][]byte{key.Cert.Raw}
	for _, c := range key.Chain {
		certs = append(certs, c.Raw)
	}
	slices.SortFunc(certs, bytes.Compare)
	certs = slices.CompactFunc(certs, bytes.Equal)
	der := tlv(tagSequence, oid(oidSigned), tlv(explicit, tlv(tagSequence, number(1), tlv(tagSet, sha), tlv(tagSequence, oid(oidData)),
		tlv(explicit, certs...), tlv(tagSet, info))))
	if _, err := w.Write(der); err != nil {
		return fmt.Errorf("sign: write: %w", err)
	}
	return nil
}

// signedAttributes gives them in the order of DER, without the tag of the set.
func signedAttributes(c *x509.Certificate, digest []byte, now time.Time) ([]byte, error) {
	at, err := asn1.Marshal(now.UTC().Truncate(time.Second)) // UTCTime until 2049, as RFC 5652 section 11.3 wants
	if err != nil {
		return nil, fmt.Errorf("signing time: %w", err)
	}
	serial, err := asn1.Marshal(c.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	sum := sha256.Sum256(c.Raw)
	// ESSCertIDv2, RFC 5035 section 4: the default hash, GeneralNames of the issuer, so that no other certificate of the same key passes.
	name := tlv(tagSequence, tlv(explicit+4, c.RawIssuer))
	ess := tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, tlv(tagOctets, sum[:]), tlv(tagSequence, name, serial))))
	// What Decrypt reads, the best first (RFC 8551 section 2.5.2).
	var reads [][]byte
	for _, id := range []asn1.ObjectIdentifier{oidAES256GCM, oidAES128GCM, oidAES256CBC, oidAES128CBC} {
		reads = append(reads, tlv(tagSequence, oid(id)))
	}
	if _, ok := c.PublicKey.(*rsa.PublicKey); ok {
		reads = append(reads, tlv(tagSequence, oid(oidOAEP)))
	}
	var all [][]byte
	for _, a := range []struct {
		id    asn1.ObjectIdentifier
		value []byte
	}{{oidContentType, oid(oidData)}, {oidMessageDigest, tlv(tagOctets, digest)}, {oidSigningTime, at}, {oidSigningCertV2, ess},
		{oidCapabilities, tlv(tagSequence, reads...)}} {
		all = append(all, tlv(tagSequence, oid(a.id), tlv(tagSet, a.value)))
	}
	slices.SortFunc(all, bytes.Compare)
	return slices.Concat(all...), nil
}
