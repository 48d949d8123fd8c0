package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Step is one thing that must hold of a certificate, by itself: for people who look why a peer is not believed. Sessions go by verify.
type Step struct {
	Name  string // certificate, chain, validity, key, revocation, dn
	Found string // what was seen, in words
	Err   error  // why it does not hold
}

// Inspect tells of each step that a server's session must pass for a domain. What cannot be looked at because of a fault before it is left
// out. Only ClientTLS decides; its check is to be asked beside this.
func (s *Space) Inspect(cs tls.ConnectionState, domain string) []Step {
	if len(cs.PeerCertificates) == 0 {
		return []Step{{"certificate", "", errors.New("the peer showed no certificate")}}
	}
	steps := s.inspect(cs.PeerCertificates, asServer, cs.OCSPResponse)
	return append(steps, s.inspectName(cs.PeerCertificates[0], domain))
}

// InspectOwn tells the same of our own certificate, as server and as client; domains are those whose DN it must bear, one step each.
func (s *Space) InspectOwn(domains []string) []Step {
	chain, err := s.ownChain()
	if err != nil || len(chain) == 0 {
		return []Step{{"certificate", "none: we are known by a token alone", err}}
	}
	steps := s.inspect(chain, asServer, nil)
	for _, d := range domains {
		steps = append(steps, s.inspectName(chain[0], d))
	}
	return steps
}

// ownChain is our certificate with what stands behind it in its file.
func (s *Space) ownChain() (chain []*x509.Certificate, err error) {
	for _, der := range s.state.Load().cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read our certificate: %w", err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}

func (s *Space) inspect(certs []*x509.Certificate, peer role, stapled []byte) []Step {
	st, now, leaf := s.state.Load(), s.cfg.Now(), certs[0]
	steps := []Step{{"certificate", fmt.Sprintf("%s, serial %x, issued by %s", dnText(leaf), leaf.SerialNumber, leaf.Issuer.CommonName), nil}}
	between := st.others.Clone()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	verify := func(at time.Time) ([][]*x509.Certificate, error) {
		return leaf.Verify(x509.VerifyOptions{Roots: st.roots, Intermediates: between, CurrentTime: at, KeyUsages: peer.usages()})
	}
	validity := Step{"validity", fmt.Sprintf("%.0f days left, until %s", leaf.NotAfter.Sub(now).Hours()/24, leaf.NotAfter.UTC().Format(time.DateOnly)), nil}
	chains, err := verify(now)
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired { // is that all?
		validity.Err = err
		if chains, err = verify(leaf.NotAfter.Add(-time.Second)); errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return append(steps, validity) // not the leaf alone: nothing can be said of the chain
		}
	}
	if err != nil {
		return append(steps, Step{"chain", "", err}, validity)
	}
	chain := chains[0]
	steps = append(steps, Step{"chain", fmt.Sprintf("leads to %s in %d steps", chain[len(chain)-1].Subject.CommonName, len(chain)-1), nil}, validity)
	key := Step{"key", fmt.Sprintf("%s, %s", leaf.PublicKeyAlgorithm, leaf.SignatureAlgorithm), nil}
	for _, c := range chain {
		if key.Err == nil {
			key.Err = strong(c)
		}
	}
	steps = append(steps, key)
	if validity.Err == nil && key.Err == nil {
		steps = append(steps, s.inspectRevocation(st, chains, stapled, now))
	}
	return steps
}

// inspectRevocation looks for one chain that is good, as prove does.
func (s *Space) inspectRevocation(st *state, chains [][]*x509.Certificate, stapled []byte, now time.Time) Step {
	step := Step{Name: "revocation", Found: "not revoked"}
	if !s.asks() {
		step.Found = "nobody is asked about it (trust.revocation)"
	}
	for _, chain := range chains {
		if _, step.Err = s.sound(st, chain, stapled, now); step.Err == nil {
			break
		}
	}
	return step
}

func (s *Space) inspectName(leaf *x509.Certificate, domain string) Step {
	step := Step{Name: "dn", Found: fmt.Sprintf("%q is listed for %s", dnText(leaf), domain)}
	dns, listed, err := s.lookUp(domain)
	if err != nil {
		step.Err = doubtful(err)
		return step
	}
	if !listed {
		step.Err = &Error{NotListed, false, fmt.Errorf("%s is not in the white list", domain)}
		return step
	}
	p := &proof{strict: s.cfg.StrictDN}
	p.subject, p.odd = subjectOf(leaf)
	step.Err = named(leaf, p, dns, domain)
	return step
}

// IsOwn tells whether a session showed our own certificate, as it is on the disk.
func (s *Space) IsOwn(certs []*x509.Certificate) bool {
	own := s.state.Load().cert.Leaf
	return len(certs) > 0 && own != nil && certs[0].Equal(own)
}
