package trust

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"time"
)

// maxCRL bounds a revocation list's file: the largest public ones have tens of megabytes.
const maxCRL = 64 << 20

// revocations is one CRL that a known CA signed.
type revocations struct {
	list   *x509.RevocationList
	signer []byte // the public key of the CA that signed it
	serial map[string]bool
	file   string
}

// readCRL reads a list and checks who signed it. Only full lists without critical extensions are taken: a delta or a list of some
// reasons or of other issuers' certificates would say less than it seems to (RFC 5280 sections 5.2.4, 5.2.5).
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
	if block, _ := pem.Decode(raw); block != nil && block.Type == "X509 CRL" {
		raw = block.Bytes
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return nil, fmt.Errorf("read CRL %s: %w", file, err)
	}
	for _, e := range list.Extensions {
		if e.Critical {
			return nil, fmt.Errorf("read CRL %s: critical extension %s is not understood", file, e.Id)
		}
	}
	i := slices.IndexFunc(cas, func(ca *x509.Certificate) bool {
		return string(list.RawIssuer) == string(ca.RawSubject) && list.CheckSignatureFrom(ca) == nil
	})
	if i < 0 {
		return nil, fmt.Errorf("read CRL %s: no configured CA signed it", file)
	}
	r := &revocations{list: list, signer: cas[i].RawSubjectPublicKeyInfo, serial: make(map[string]bool, len(list.RevokedCertificateEntries)), file: file}
	for _, e := range list.RevokedCertificateEntries {
		r.serial[key(e.SerialNumber)] = true
	}
	return r, nil
}

func key(n *big.Int) string { return string(n.Bytes()) }

// fresh tells whether the list speaks of now.
func (r *revocations) fresh(now time.Time, grace time.Duration) error {
	switch {
	case r.list.ThisUpdate.After(now.Add(5 * time.Minute)): // clocks differ a little
		return fmt.Errorf("CRL %s is of the future", r.file)
	case r.list.NextUpdate.IsZero():
		return fmt.Errorf("CRL %s does not say until when it is good", r.file)
	case now.After(r.list.NextUpdate.Add(grace)):
		return fmt.Errorf("CRL %s was to be renewed by %s", r.file, r.list.NextUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

var errRevoked = errors.New("certificate is revoked")

// revoked asks the lists about a chain: the leaf needs a fresh list of its issuer, each CA certificate one where a list of its issuer is
// configured at all. errRevoked, or why nothing is known.
func (st *state) revoked(chain []*x509.Certificate, now time.Time, grace time.Duration) error {
	if st.crlFault != nil {
		return st.crlFault
	}
	if len(st.crls) == 0 {
		return nil
	}
	for i := range len(chain) - 1 {
		cert, issuer := chain[i], chain[i+1]
		var fault error
		known, found := false, false
		for _, r := range st.crls {
			if string(r.list.RawIssuer) != string(issuer.RawSubject) {
				continue
			}
			found = true
			if string(r.signer) != string(issuer.RawSubjectPublicKeyInfo) { // a CA of the same name with another key
				fault = fmt.Errorf("CRL %s is signed by another key of its issuer", r.file)
				continue
			}
			if r.serial[key(cert.SerialNumber)] {
				return fmt.Errorf("%w: serial %x", errRevoked, cert.SerialNumber)
			}
			if err := r.fresh(now, grace); err != nil {
				fault = err
				continue
			}
			known = true
		}
		if !known && (found || i == 0) {
			if fault == nil {
				fault = fmt.Errorf("no CRL of the issuer %q", issuer.Subject)
			}
			return fault
		}
	}
	return nil
}
