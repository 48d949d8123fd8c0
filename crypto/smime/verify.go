package smime

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
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
	// Expired: the certificate was not valid at that time; whether it is trusted was not looked at.
	Expired Fault = iota + 1
	// Untrusted: no chain leads to a root, the certificate is not for signing mail, or it is not in the message.
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

const (
	maxSigners = 8
	maxCerts   = 32
)

// signedBy is SignerInfo, RFC 5652 section 5.3.
type signedBy struct {
	Version    int
	Who        asn1.RawValue
	Digest     pkix.AlgorithmIdentifier
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm  pkix.AlgorithmIdentifier
	Signature  []byte
	Unsigned   asn1.RawValue `asn1:"optional,tag:1"`
}

// Verify looks at SignedData in DER or BER. With content it is a detached signature of that; with nil the content stands inside and is
// written to out, to be taken as unsigned where there is an error. Every signature must be good: the error is then nil and there is at
// least one; else it is a *VerifyError with the worst fault, or what reading content or writing out said. roots nil trusts nobody.
// Whether one of Addresses(Cert) is the author's is the caller's to ask.
func Verify(out io.Writer, signed, content io.Reader, roots *x509.CertPool, at time.Time, limits Limits) ([]Signature, error) {
	limits = limits.complete()
	b := newBER(signed, limits.Head)
	b.enter(tagSequence)
	if id := b.object(); b.err == nil && !id.Equal(oidSigned) {
		b.fail(errors.New("no SignedData"))
	}
	b.enter(explicit)
	b.enter(tagSequence)
	var version int
	b.parse(&version)
	digests := newDigests(b)
	b.enter(tagSequence)
	kind := b.object()
	inside := b.next() == explicit
	switch {
	case b.err != nil:
	case inside == (content != nil):
		return nil, &VerifyError{Mismatch, errors.New("content inside a detached signature, or none where it should be")}
	case inside:
		b.enter(explicit)
		o := b.octets(tagOctets)
		if err := digests.read(out, o, limits.Size); b.err == nil && err != nil {
			return nil, err
		}
		b.leave()
	}
	b.leave()
	var certs []*x509.Certificate
	if b.next() == explicit {
		certs = b.certificates()
	}
	if b.next() == explicit+1 { // lists of revoked ones: who verifies has better ones
		b.value()
	}
	b.enter(tagSet)
	var signers []signedBy
	for b.more() {
		var s signedBy
		b.parse(&s)
		if signers = append(signers, s); len(signers) > maxSigners {
			b.fail(errors.New("too many signatures"))
		}
	}
	for range 4 {
		b.leave()
	}
	if b.end(); b.err != nil {
		return nil, &VerifyError{Broken, b.err}
	}
	if len(signers) == 0 {
		return nil, &VerifyError{Broken, errors.New("nobody signed")}
	}
	if !inside {
		if err := digests.read(nil, content, limits.Size); err != nil {
			return nil, err
		}
	}
	var found []Signature
	var worst *VerifyError
	for _, s := range signers {
		sig, err := s.check(kind, digests, certs, roots, at)
		found = append(found, sig)
		if err != nil && (worst == nil || err.Fault > worst.Fault) {
			worst = err
		}
	}
	if worst != nil {
		return found, worst
	}
	return found, nil
}

// certificates reads the set [0]; what is no certificate that can be read is passed over: a signer without one is untrusted.
func (b *ber) certificates() (out []*x509.Certificate) {
	b.enter(explicit)
	for n := 0; b.more(); n++ {
		if n == maxCerts {
			b.fail(errors.New("too many certificates"))
		}
		if c, err := x509.ParseCertificate(b.value()); b.err == nil && err == nil {
			out = append(out, c)
		}
	}
	b.leave()
	return out
}

// digests are the sums of the content by each algorithm that the message announces and we take.
type digests struct {
	sums  map[crypto.Hash]hash.Hash
	first byte // of the content
}

func newDigests(b *ber) *digests {
	d := &digests{sums: map[crypto.Hash]hash.Hash{}}
	b.enter(tagSet)
	for n := 0; b.more(); n++ {
		var a pkix.AlgorithmIdentifier
		b.parse(&a)
		if n == maxSigners {
			b.fail(errors.New("too many digests"))
		}
		if h := hashes[a.Algorithm.String()]; h > crypto.SHA1 && d.sums[h] == nil {
			d.sums[h] = h.New()
		}
	}
	b.leave()
	return d
}

func (d *digests) read(out io.Writer, content io.Reader, most int64) error {
	buf := make([]byte, chunk)
	for total := int64(0); ; {
		n, err := content.Read(buf)
		if n > 0 {
			if total == 0 {
				d.first = buf[0]
			}
			if total += int64(n); total > most {
				return errors.New("verify: more content than the limit")
			}
			for _, h := range d.sums {
				h.Write(buf[:n])
			}
			if out != nil {
				if _, err := out.Write(buf[:n]); err != nil {
					return fmt.Errorf("verify: write: %w", err)
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("verify: read the content: %w", err)
		}
	}
}

// check looks at one signature, the worst first.
func (s *signedBy) check(kind asn1.ObjectIdentifier, d *digests, certs []*x509.Certificate, roots *x509.CertPool, at time.Time) (sig Signature, _ *VerifyError) {
	for _, c := range certs {
		if isNamed(s.Who.FullBytes, c) {
			sig.Cert = c
			break
		}
	}
	h := hashes[s.Digest.Algorithm.String()]
	if h == crypto.SHA1 || h == 0 {
		return sig, &VerifyError{Weak, fmt.Errorf("digest %v is not taken", s.Digest.Algorithm)}
	}
	sum := d.sums[h]
	if sum == nil {
		return sig, &VerifyError{Broken, errors.New("a digest that was not announced")}
	}
	message, digest := []byte(nil), sum.Sum(nil)
	if len(s.Attributes.FullBytes) > 0 {
		message = bytes.Clone(s.Attributes.FullBytes)
		message[0] = tagSet // RFC 5652 section 5.4
		a, err := readAttributes(message)
		if err != nil || !a.kind.Equal(kind) || len(a.digest) == 0 {
			return sig, &VerifyError{Broken, errors.New("the signed attributes are not those of the content")}
		}
		sig.Time = a.time
		if !bytes.Equal(a.digest, digest) {
			return sig, &VerifyError{Mismatch, errors.New("the content is not what was signed")}
		}
		if sig.Cert != nil && !a.names(sig.Cert) {
			return sig, &VerifyError{Broken, errors.New("signed with another certificate of the same key")}
		}
	} else if !kind.Equal(oidData) || d.first == tagSet {
		// Section 5.3 wants attributes where the content is no data; and signed attributes shown as content must not pass as that.
		return sig, &VerifyError{Broken, errors.New("signed attributes are missing")}
	}
	if sig.Cert == nil {
		return sig, &VerifyError{Untrusted, errors.New("the signer's certificate is not in the message")}
	}
	var err error
	if sig.Algorithm, err = checkKey(sig.Cert, s, h, message, digest); err != nil {
		var weak *VerifyError
		if errors.As(err, &weak) {
			return sig, weak
		}
		if message == nil { // nothing but the key's word stands between the content and the signature
			return sig, &VerifyError{Mismatch, err}
		}
		return sig, &VerifyError{Broken, err}
	}
	return sig, sig.trust(certs, roots, at)
}

// trust looks for a chain to one of the roots.
func (sig *Signature) trust(certs []*x509.Certificate, roots *x509.CertPool, at time.Time) *VerifyError {
	c := sig.Cert
	if at.Before(c.NotBefore) || at.After(c.NotAfter) {
		return &VerifyError{Expired, fmt.Errorf("the certificate is valid from %s to %s", c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))}
	}
	if err := CanSign(c, at); err != nil && c.PublicKeyAlgorithm != x509.Ed25519 {
		return &VerifyError{Untrusted, err}
	}
	between := x509.NewCertPool()
	for _, o := range certs {
		between.AddCert(o)
	}
	if roots == nil { // the library would take those of the system
		roots = x509.NewCertPool()
	}
	chains, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}})
	if err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return &VerifyError{Expired, err}
		}
		return &VerifyError{Untrusted, err}
	}
	sig.Chain = chains[0]
	return nil
}

// Addresses are the mail addresses that a certificate is for: subjectAltName, and emailAddress of the subject where there is none
// (RFC 8550 section 3).
func Addresses(c *x509.Certificate) []string {
	out := c.EmailAddresses
	if len(out) > 0 {
		return out
	}
	for _, n := range c.Subject.Names {
		if s, ok := n.Value.(string); ok && n.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}) {
			out = append(out, s)
		}
	}
	return out
}

// tooSmall tells an RSA key that can be broken, or one that costs too much.
func tooSmall(key *rsa.PublicKey) bool { return key.N.BitLen() < minRSA || key.N.BitLen() > maxRSA }
