package trust

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// settings builds the TLS settings of a state. Their VerifyConnection asks the state of the moment, so a new CRL counts at once.
func (s *Space) settings(st *state) {
	st.client = &tls.Config{
		MinVersion: s.cfg.TLS.Min, MaxVersion: s.cfg.TLS.Max, CipherSuites: s.cfg.TLS.Suites,
		// The host name binds nothing in the trust space; VerifyConnection does all of the verification, on each handshake.
		InsecureSkipVerify:   true,
		VerifyConnection:     func(cs tls.ConnectionState) error { _, err := s.verify(cs, asServer); return disbelieved(err) },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &st.cert, nil },
		// Small first records show a page sooner; a letter is of use when it is whole.
		DynamicRecordSizingDisabled: true,
	}
	hints := x509.NewCertPool()
	for _, ca := range st.cas {
		hints.AddCert(ca)
	}
	var own []tls.Certificate
	if st.cert.Leaf != nil {
		own = append(own, st.cert)
	}
	st.server = &tls.Config{
		MinVersion: s.cfg.TLS.Min, MaxVersion: s.cfg.TLS.Max, CipherSuites: s.cfg.TLS.Suites,
		Certificates:           own,
		ClientAuth:             tls.RequireAnyClientCert,
		ClientCAs:              hints, // tells the client which certificate is meant
		SessionTicketsDisabled: true,  // each session shows its certificate anew
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := s.verify(cs, asClient)
			if e := (*Error)(nil); errors.As(err, &e) && e.Later { // AdmitPeer says so in words: a handshake has none for "come back"
				return nil
			}
			return disbelieved(err)
		},
	}
}

// role is what a peer is in a session.
type role int

const (
	asServer role = iota
	asClient
)

// usages: operators' certificates are made for servers, and the framework does not say that their clients have others.
func (r role) usages() []x509.ExtKeyUsage {
	if r == asClient {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

// ClientTLS gives the settings for a session towards a domain's operator, and the check that binds the session to the domain. Both are
// needed: the settings prove a chain of the trust space, only check asks for the domain's DN. The settings are the same for all domains
// until a Reload, so that one connection may serve several domains of one operator; check is to be asked for each.
func (s *Space) ClientTLS(domain string) (*tls.Config, func(tls.ConnectionState) error, error) {
	dns, listed, err := s.lookUp(domain)
	if err != nil {
		return nil, nil, doubtful(err)
	}
	if !listed {
		return nil, nil, &Error{NotListed, false, fmt.Errorf("domain %q", domain)}
	}
	check := func(cs tls.ConnectionState) error {
		p, err := s.verify(cs, asServer)
		if err != nil {
			return disbelieved(err)
		}
		return disbelieved(named(cs.PeerCertificates[0], p, dns, domain))
	}
	return s.state.Load().client, check, nil
}

// ServerTLS gives the settings of the listener that the trust space talks to: a client certificate of the space is required. They
// follow a Reload.
func (s *Space) ServerTLS() *tls.Config {
	cfg := s.state.Load().server.Clone()
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.state.Load().server, nil }
	return cfg
}

// AdmitPeer tells whether the client of a session may send for a domain: its certificate's DN is listed for it. The null sender ("") may
// come from any listed certificate.
func (s *Space) AdmitPeer(cs tls.ConnectionState, senderDomain string) error {
	return disbelieved(s.admit(cs, senderDomain))
}

func (s *Space) admit(cs tls.ConnectionState, senderDomain string) error {
	p, err := s.verify(cs, asClient)
	if err != nil {
		return err
	}
	leaf := cs.PeerCertificates[0]
	if senderDomain == "" {
		if known, err := s.anyone(p); err != nil {
			return doubtful(err)
		} else if known {
			return nil
		}
		return &Error{WrongName, false, fmt.Errorf("DN %q is listed for no domain", dnText(leaf))}
	}
	dns, listed, err := s.lookUp(senderDomain)
	if err != nil {
		return doubtful(err)
	}
	if !listed {
		return &Error{NotListed, false, fmt.Errorf("domain %q", senderDomain)}
	}
	return named(leaf, p, dns, senderDomain)
}

// bears tells whether the peer's DN is one of these.
func (p *proof) bears(dns []distinguished) bool {
	same := distinguished.is
	if p.strict {
		same = distinguished.isExactly
	}
	return p.odd == nil && slices.ContainsFunc(dns, func(dn distinguished) bool { return same(dn, p.subject) })
}

// disbelieved counts who was not believed.
func disbelieved(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		mRefused.WithLabelValues(e.Reason).Inc()
	}
	return err
}

func named(leaf *x509.Certificate, p *proof, dns []distinguished, domain string) error {
	switch {
	case p.odd != nil:
		return &Error{WrongName, false, p.odd}
	case !p.bears(dns):
		return &Error{WrongName, false, fmt.Errorf("DN %q is not listed for %s", dnText(leaf), domain)}
	}
	return nil
}

// verify proves that a session's peer holds a valid certificate of the trust space for its role; a proof that still holds is enough.
func (s *Space) verify(cs tls.ConnectionState, peer role) (*proof, error) {
	st := s.state.Load()
	if cs.Version < s.cfg.TLS.Min {
		return nil, &Error{OldTLS, false, fmt.Errorf("%s", tls.VersionName(cs.Version))}
	}
	if len(cs.PeerCertificates) == 0 {
		return nil, &Error{NoCertificate, false, errors.New("the peer showed no certificate")}
	}
	k := proofKey{shown(cs.PeerCertificates), peer}
	gen := s.cfg.Evidence.generation() // before it is read: what changes meanwhile ends the proof
	if p := st.proofs.find(k, gen, s.cfg.Now); p != nil {
		return p, nil
	}
	now := s.cfg.Now()
	until, err := s.prove(st, cs.PeerCertificates, peer.usages(), cs.OCSPResponse, now)
	if err != nil {
		return nil, err
	}
	p := &proof{since: now, last: now.Round(0), until: until, gen: gen, strict: s.cfg.StrictDN}
	p.subject, p.odd = subjectOf(cs.PeerCertificates[0])
	st.proofs.keep(k, p)
	return p, nil
}

// prove finds a good chain from the first certificate, over those that were shown beside it, to a root, and says until when it is a proof.
func (s *Space) prove(st *state, certs []*x509.Certificate, uses []x509.ExtKeyUsage, stapled []byte, now time.Time) (time.Time, error) {
	between := st.others.Clone()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{Roots: st.roots, Intermediates: between, CurrentTime: now, KeyUsages: uses})
	if err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return time.Time{}, &Error{Expired, false, err}
		}
		return time.Time{}, &Error{Chain, false, err}
	}
	var last error
	for _, chain := range chains {
		until, err := s.sound(st, chain, stapled, now)
		if err == nil {
			return until, nil
		}
		last = err
	}
	return time.Time{}, last
}

// Mail tells whether a certificate, shown with others that may lead up from it, is good for mail now: a chain to the CA whose keys are strong,
// none of whose certificates is revoked, made for protecting mail. It says until when nothing of that ends; it may wait a little for who knows. What
// the certificate's own key may be used for, and whose it is, is not asked. An *Error: Chain, Expired, WeakKey, Revoked, or Unproven, which is Later.
func (s *Space) Mail(certs []*x509.Certificate) (time.Time, error) {
	if len(certs) == 0 {
		return time.Time{}, &Error{NoCertificate, false, errors.New("none was shown")}
	}
	return s.prove(s.state.Load(), certs, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, nil, s.cfg.Now())
}

// Sound tells whether the keys of a chain are strong and none of its certificates is revoked; it may wait a little for who knows. The chain is
// one that x509 found good, from the leaf to a root that the caller believes: what its certificates name is fetched. An *Error: WeakKey,
// Revoked, or Unproven, which is Later.
func (s *Space) Sound(chain []*x509.Certificate) error {
	_, err := s.sound(s.state.Load(), chain, nil, s.cfg.Now())
	return err
}

// sound looks at keys and revocation of one chain, and says until when it is good.
func (s *Space) sound(st *state, chain []*x509.Certificate, stapled []byte, now time.Time) (time.Time, error) {
	end := chain[0].NotAfter
	for _, c := range chain {
		if err := strong(c); err != nil {
			return end, &Error{WeakKey, false, err}
		}
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	until, err := s.revoked(st, chain, stapled, now)
	switch {
	case errors.Is(err, errRevoked):
		return end, &Error{Revoked, false, err}
	case err != nil:
		return end, &Error{Unproven, true, err}
	case !until.IsZero() && until.Before(end):
		end = until
	}
	return end, nil
}

func strong(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return nil
		}
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize >= 256 {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("key of %q is too short or of an unknown kind", c.Subject)
}

// Identity is who a peer is, for the ledger.
type Identity struct {
	Subject, Fingerprint string // DN from CN to C; SHA-256 in hex
	NotAfter             time.Time
	// HostMismatch: the certificate does not name the host. It is a warning only.
	HostMismatch bool
}

// Identify describes a session's peer that was reached under host ("" asks for no name).
func Identify(cs tls.ConnectionState, host string) Identity {
	if len(cs.PeerCertificates) == 0 {
		return Identity{}
	}
	leaf := cs.PeerCertificates[0]
	sum := sha256.Sum256(leaf.Raw)
	return Identity{Subject: dnText(leaf), Fingerprint: hex.EncodeToString(sum[:]), NotAfter: leaf.NotAfter,
		HostMismatch: host != "" && leaf.VerifyHostname(host) != nil}
}

// OperatorTLS gives the settings for a session with the clinic's own operator, as its client: a chain of the trust space and the host's name
// (Référentiel #2, ECO.1.1.4 to 1.1.6). A DN binds nothing here: the operator is the one whom the clinic's config names. cert is what we
// show, nil: the certificate of the trust space, where there is one. They are those of the moment, the same ones until a Reload; ask again
// for each session, and their VerifyConnection for each letter over a kept one.
func (s *Space) OperatorTLS(host string, cert *tls.Certificate) *tls.Config {
	st := s.state.Load()
	k := operatorKey{host, cert}
	if cfg, ok := st.operators.Load(k); ok {
		return cfg.(*tls.Config)
	}
	cfg := st.client.Clone()
	cfg.ServerName = host
	if cert != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if _, err := s.verify(cs, asServer); err != nil {
			return disbelieved(err)
		}
		if err := cs.PeerCertificates[0].VerifyHostname(host); err != nil {
			return disbelieved(&Error{WrongName, false, err})
		}
		return nil
	}
	made, _ := st.operators.LoadOrStore(k, cfg)
	return made.(*tls.Config)
}

type operatorKey struct {
	host string
	cert *tls.Certificate
}
