package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"time"
)

// maxCRL bounds a revocation list, in octets: the largest public ones have tens of megabytes.
const maxCRL = 64 << 20

// revocations is one CRL that a CA signed.
type revocations struct {
	issuer      []byte // its name, as in the certificates that it speaks of
	signer      []byte // the public key of the CA that signed it
	serial      map[string]struct{}
	from, until time.Time // ThisUpdate and NextUpdate
	scope       scope
	name        string // its file or URL
}

// readCRL reads a list from a file and checks who signed it.
func readCRL(file string, cas []*x509.Certificate) (*revocations, error) {
	if fi, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("read CRL: %w", err)
	} else if fi.Size() > maxCRL {
		return nil, fmt.Errorf("read CRL %s: over %d octets", file, maxCRL)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CRL: %w", err)
	}
	r, _, err := parseCRL(raw, file, cas)
	return r, err
}

// parseCRL takes PEM or DER, and gives the list with the certificate that signed it, one of cas. Only full lists of their own issuer are taken: a
// delta (RFC 5280 section 5.2.4), a list of some reasons or one of other issuers' certificates would say less than it seems to, and so would
// one with any other critical extension. Deltas that a list points to (section 5.2.6) are not looked at: the full one is asked for often.
func parseCRL(raw []byte, name string, cas []*x509.Certificate) (*revocations, *x509.Certificate, error) {
	if block, _ := pem.Decode(raw); block != nil && block.Type == "X509 CRL" {
		raw = block.Bytes
	}
	if err := signedByAny(raw, cas); err != nil {
		return nil, nil, fmt.Errorf("read CRL %s: %w", name, err)
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("read CRL %s: %w", name, err)
	}
	r := &revocations{issuer: list.RawIssuer, serial: make(map[string]struct{}, len(list.RevokedCertificateEntries)), from: list.ThisUpdate, until: list.NextUpdate, name: name}
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidIssuingPoint):
			if r.scope, err = parseScope(e.Value); err != nil {
				return nil, nil, fmt.Errorf("read CRL %s: %w", name, err)
			}
		case e.Id.Equal(oidDelta):
			return nil, nil, fmt.Errorf("read CRL %s: a delta is no full list", name)
		case e.Critical:
			return nil, nil, fmt.Errorf("read CRL %s: critical extension %s is not understood", name, e.Id)
		}
	}
	i := slices.IndexFunc(cas, func(ca *x509.Certificate) bool {
		return string(list.RawIssuer) == string(ca.RawSubject) && list.CheckSignatureFrom(ca) == nil
	})
	if i < 0 {
		return nil, nil, fmt.Errorf("read CRL %s: %w", name, errNoSigner)
	}
	r.signer = cas[i].RawSubjectPublicKeyInfo
	for _, e := range list.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return nil, nil, fmt.Errorf("read CRL %s: critical extension %s of an entry is not understood", name, x.Id)
			}
		}
		r.serial[key(e.SerialNumber)] = struct{}{}
	}
	return r, cas[i], nil
}

var errNoSigner = errors.New("no known CA signed it")

// listAlgorithms are those by which a list may be signed (RFC 4055, 5758, 8410).
var listAlgorithms = map[string]x509.SignatureAlgorithm{
	"1.2.840.113549.1.1.11": x509.SHA256WithRSA, "1.2.840.113549.1.1.12": x509.SHA384WithRSA, "1.2.840.113549.1.1.13": x509.SHA512WithRSA,
	"1.2.840.10045.4.3.2": x509.ECDSAWithSHA256, "1.2.840.10045.4.3.3": x509.ECDSAWithSHA384, "1.2.840.10045.4.3.4": x509.ECDSAWithSHA512,
	"1.3.101.112": x509.PureEd25519,
}

// signedByAny looks at the signature before anything within is read: lists come over HTTP, and the entries of a forged one of 64 MB would
// take gigabytes.
func signedByAny(raw []byte, cas []*x509.Certificate) error {
	var list struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if rest, err := asn1.Unmarshal(raw, &list); err != nil || len(rest) > 0 {
		return errors.New("malformed")
	}
	alg, ok := listAlgorithms[list.Algorithm.Algorithm.String()]
	if !ok {
		return fmt.Errorf("signature by %s is not taken", list.Algorithm.Algorithm)
	}
	for _, ca := range cas {
		if ca.CheckSignature(alg, list.TBS.FullBytes, list.Signature.RightAlign()) == nil {
			return nil
		}
	}
	return errNoSigner
}

// soundSignature refuses what x509 still checks for OCSP answers although SHA-1 and MD5 prove nothing any more.
func soundSignature(a x509.SignatureAlgorithm) error {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1, x509.UnknownSignatureAlgorithm:
		return fmt.Errorf("signature by %s", a)
	}
	return nil
}

var (
	oidIssuingPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidDelta        = asn1.ObjectIdentifier{2, 5, 29, 27}
)

// scope is of which certificates of its issuer a list speaks (RFC 5280 section 5.2.5). The zero value is all.
type scope struct {
	points    []string // the URLs one of which a certificate must name; none: any certificate
	users, ca bool     // only users' certificates, only CAs'
}

func parseScope(der []byte) (scope, error) {
	var p struct {
		Point struct {
			FullName     []asn1.RawValue `asn1:"optional,tag:0"`
			RelativeName asn1.RawValue   `asn1:"optional,tag:1"`
		} `asn1:"optional,tag:0"`
		Users    bool           `asn1:"optional,tag:1"`
		CA       bool           `asn1:"optional,tag:2"`
		Reasons  asn1.BitString `asn1:"optional,tag:3"`
		Indirect bool           `asn1:"optional,tag:4"`
		Attrs    bool           `asn1:"optional,tag:5"`
	}
	rest, err := asn1.Unmarshal(der, &p)
	switch {
	case err != nil || len(rest) > 0:
		return scope{}, errors.New("malformed issuing distribution point")
	case p.Reasons.BitLength > 0 || p.Indirect || p.Attrs:
		return scope{}, errors.New("a list of some reasons, of other issuers' or of attribute certificates is not taken")
	}
	s := scope{users: p.Users, ca: p.CA}
	for _, n := range p.Point.FullName {
		if n.Class == asn1.ClassContextSpecific && n.Tag == 6 {
			s.points = append(s.points, string(n.Bytes))
		}
	}
	if len(s.points) == 0 && (len(p.Point.FullName) > 0 || len(p.Point.RelativeName.FullBytes) > 0) {
		return scope{}, errors.New("a list whose part of the certificates has no URL is not taken")
	}
	return s, nil
}

// covers tells whether a list of this scope speaks of a certificate.
func (s scope) covers(c *x509.Certificate) bool {
	if s.users && c.IsCA || s.ca && !c.IsCA {
		return false
	}
	return len(s.points) == 0 || slices.ContainsFunc(c.CRLDistributionPoints, func(p string) bool { return slices.Contains(s.points, p) })
}

func key(n *big.Int) string { return string(n.Bytes()) }

// skew is by how much our clock and the CA's may differ.
const skew = 5 * time.Minute

// fresh tells whether the list speaks of now.
func (r *revocations) fresh(now time.Time, grace time.Duration) error {
	switch {
	case r.from.After(now.Add(skew)):
		return fmt.Errorf("CRL %s is of the future", r.name)
	case r.until.IsZero():
		return fmt.Errorf("CRL %s does not say until when it is good", r.name)
	case now.After(r.until.Add(grace)):
		return fmt.Errorf("CRL %s was to be renewed by %s", r.name, r.until.UTC().Format(time.RFC3339))
	}
	return nil
}

var errRevoked = errors.New("certificate is revoked")

// verdict is what is known of one certificate.
type verdict struct {
	good  time.Time // until when it is proved good; the zero time: it is not
	found bool      // there is a list of its issuer
	err   error     // errRevoked, or why there is no proof
	old   bool      // what says that it is revoked was to be renewed
}

func (v verdict) revoked() bool { return errors.Is(v.err, errRevoked) }

// settled tells that nobody has to be waited for.
func (v verdict) settled() bool { return !v.good.IsZero() || v.revoked() && !v.old }

// ask asks lists about a certificate. A list that has it refuses it, however old the list; the first end of those that are fresh bounds
// the proof.
func (v *verdict) ask(lists []*revocations, cert, issuer *x509.Certificate, now time.Time, grace time.Duration) {
	for _, r := range lists {
		if v.revoked() || string(r.issuer) != string(issuer.RawSubject) || !r.scope.covers(cert) {
			continue
		}
		v.found = true
		if string(r.signer) != string(issuer.RawSubjectPublicKeyInfo) { // a CA of the same name with another key
			v.err = fmt.Errorf("CRL %s is signed by another key of its issuer", r.name)
			continue
		}
		if _, in := r.serial[key(cert.SerialNumber)]; in {
			v.good, v.err = time.Time{}, fmt.Errorf("%w: serial %x, by CRL %s", errRevoked, cert.SerialNumber, r.name)
			return
		}
		if err := r.fresh(now, grace); err != nil {
			v.err = err
			continue
		}
		if end := r.until.Add(grace); v.good.IsZero() || end.Before(v.good) {
			v.good = end
		}
	}
}
