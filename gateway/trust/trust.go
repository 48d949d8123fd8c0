// Package trust holds the law of the MSSanté trust space: which domains are listed under which certificate names, whether a peer's
// certificate proves one of them, and what a patient's address looks like. It takes TLS connection states and addresses, gives TLS
// settings and verdicts, and knows nothing of messages or routes.
//
// What binds a peer is the DN of its certificate, which the list gives for its domains, and a chain to the configured CA; a host name
// binds nothing here. Whatever cannot be proved (no fresh revocation list, say) is an error that says "later".
package trust

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"passerelle/gateway/message"
)

// Domains are listed by the operator himself: domain -> the DNs of the certificates that may speak for it.
type Domains map[string][]string

// Config is what New needs.
type Config struct {
	Domains    Domains
	OwnDomains []string
	// CA names PEM files with the CA's certificates: self-signed ones are the roots, others help to build chains; without any
	// self-signed one, all are roots.
	CA []string
	// Cert (our chain) and Key are PEM files. Both are empty where the clinic is an operator's client without a certificate of its own.
	Cert, Key string
	// CRL names PEM or DER files. With any, each peer's certificate needs a fresh list of its issuer, which must be among CA. Without, and with
	// nothing in Revocation, nothing is asked about revocation, and New says so in the log.
	CRL []string
	// CRLGrace is how long a list of CRL is good after its NextUpdate.
	CRLGrace time.Duration
	// Revocation is what else is asked about revocation, and Evidence keeps what comes; nil: in memory, for a process that soon ends.
	Revocation Revocation
	Evidence   *Evidence
	TLS        TLS
	// StrictDN: a DN of the list is the certificate's to the letter, from CN to C; no custom of quoting, no likeness of spaces or accents.
	StrictDN bool
	// PatientDomain is PatientDomain where empty.
	PatientDomain string
	// WhiteList is the signed list, beside Domains; nil: Domains alone.
	WhiteList *WhiteListConfig
	// Former is the Space before a reload of the config: it lends its list.
	Former *Space
	Now    func() time.Time
	Log    *slog.Logger
}

// TLS is what sessions of the space may speak. 0 and nil are Go's own choice, from TLS 1.2 on; Suites are those of TLS 1.2.
type TLS struct {
	Min, Max uint16
	Suites   []uint16
}

// Space is the trust space as configured. It is safe for concurrent use.
type Space struct {
	cfg    Config
	names  map[string][]distinguished // by domain, of Config.Domains
	own    map[string]bool
	state  atomic.Pointer[state]
	lister *lister // of the signed list, nil where none is configured
}

// state is what Reload swaps.
type state struct {
	roots, others *x509.CertPool
	cas           []*x509.Certificate
	cert          tls.Certificate
	crls          []*revocations
	crlFault      error // a configured list could not be read
	client        *tls.Config
	server        *tls.Config
	proofs        proofs
	operators     sync.Map // of OperatorTLS: operatorKey to *tls.Config
}

// Reasons of an Error.
const (
	NotListed     = "not-listed"     // the domain is not in the list
	ListUnknown   = "list-unknown"   // the white list was never loaded, or is too old
	NoCertificate = "no-certificate" // the peer showed none
	OldTLS        = "old-tls"        // below 1.2
	Chain         = "chain"          // not issued by the configured CA, or not for this use
	Expired       = "expired"        // or not valid yet
	WeakKey       = "weak-key"
	Revoked       = "revoked"
	Unproven      = "revocation-unknown" // a configured CRL is missing, stale or not signed by the CA
	WrongName     = "dn-mismatch"
)

// Error is why a peer is not trusted.
type Error struct {
	Reason string
	// Later: it may be otherwise soon without the peer's doing, so a client is told to come back.
	Later bool
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("trust peer: %s: %v", e.Reason, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// New reads the files. A CRL that is missing or broken is no fault here: peers are then answered "later" until a Reload finds it.
func New(cfg Config) (*Space, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.PatientDomain == "" {
		cfg.PatientDomain = PatientDomain
	}
	if r := cfg.Revocation; cfg.Evidence == nil && (r.Fetch || r.OCSP.on() || len(r.URLs) > 0) {
		cfg.Evidence = OpenEvidence(EvidenceConfig{Now: cfg.Now, Log: cfg.Log})
	}
	cfg.TLS.Min = max(cfg.TLS.Min, tls.VersionTLS12)
	s := &Space{cfg: cfg, names: map[string][]distinguished{}, own: map[string]bool{}}
	for name, dns := range cfg.Domains {
		d, err := message.ParseDomain(name)
		if err != nil {
			return nil, fmt.Errorf("trust domain %q: %w", name, err)
		}
		if len(dns) == 0 {
			return nil, fmt.Errorf("trust domain %s: no certificate name", name)
		}
		for _, dn := range dns {
			parsed, err := parseDN(dn)
			if err != nil {
				return nil, fmt.Errorf("trust domain %s: read DN %q: %w", name, dn, err)
			}
			s.names[d] = append(s.names[d], parsed)
		}
	}
	for _, name := range cfg.OwnDomains {
		d, err := message.ParseDomain(name)
		if err != nil {
			return nil, fmt.Errorf("own trust domain %q: %w", name, err)
		}
		s.own[d] = true
	}
	st, err := s.load()
	if err != nil {
		return nil, err
	}
	if !s.asks() {
		cfg.Log.Warn("nobody is asked about revocation: revoked certificates of the trust space are not noticed")
	}
	if st.crlFault != nil {
		cfg.Log.Error("revocation list cannot be read, peers of the trust space wait", "err", st.crlFault)
	}
	s.state.Store(st)
	former := cfg.Former
	if s.cfg.Former = nil; cfg.WhiteList != nil { // the chain of former ones would never end
		if err := newLister(s, former); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Reload reads the files again and takes them all, or keeps what it had and gives the fault.
func (s *Space) Reload() error {
	st, err := s.load()
	if err == nil {
		err = st.crlFault
	}
	if err != nil {
		return fmt.Errorf("reload trust space: %w", err)
	}
	s.state.Store(st)
	return nil
}

func (s *Space) load() (*state, error) {
	st := &state{}
	var err error
	if st.cas, err = readAuthorities(s.cfg.CA); err != nil {
		return nil, err
	}
	if len(st.cas) == 0 {
		return nil, errors.New("trust space has no CA certificate")
	}
	st.roots, st.others = pools(st.cas)
	if s.cfg.Cert != "" || s.cfg.Key != "" {
		if st.cert, err = tls.LoadX509KeyPair(s.cfg.Cert, s.cfg.Key); err != nil {
			return nil, fmt.Errorf("read our certificate: %w", err)
		}
		if st.cert.Leaf == nil {
			return nil, errors.New("read our certificate: it has no leaf")
		}
	}
	for _, file := range s.cfg.CRL {
		r, err := readCRL(file, st.cas)
		if err != nil {
			st.crlFault = errors.Join(st.crlFault, err)
			continue
		}
		st.crls = append(st.crls, r)
		mNextUpdate.WithLabelValues(file).Set(float64(r.until.Unix()))
	}
	s.settings(st)
	return st, nil
}

func readCerts(file string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	var out []*x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read CA %s: %w", file, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read CA %s: no PEM certificate in it", file)
	}
	return out, nil
}

// readAuthorities reads several PEM files.
func readAuthorities(files []string) (cas []*x509.Certificate, err error) {
	for _, f := range files {
		certs, err := readCerts(f)
		if err != nil {
			return nil, err
		}
		cas = append(cas, certs...)
	}
	return cas, nil
}

// pools parts authorities into roots, which are self-signed, and others; without any self-signed one all are roots.
func pools(cas []*x509.Certificate) (roots, others *x509.CertPool) {
	roots, others = x509.NewCertPool(), x509.NewCertPool()
	selfSigned := func(c *x509.Certificate) bool { return c.CheckSignatureFrom(c) == nil }
	anyRoot := slices.ContainsFunc(cas, selfSigned)
	for _, c := range cas {
		if !anyRoot || selfSigned(c) {
			roots.AddCert(c)
		} else {
			others.AddCert(c)
		}
	}
	return roots, others
}

// Own tells whether a domain of the trust space is the clinic's.
func (s *Space) Own(domain string) bool {
	d, err := message.ParseDomain(domain)
	return err == nil && s.own[d]
}

// DaysLeft is how long our own certificate is valid; negative once it is not, without end where we have none.
func (s *Space) DaysLeft() float64 {
	if s.state.Load().cert.Leaf == nil {
		return math.Inf(1)
	}
	return s.state.Load().cert.Leaf.NotAfter.Sub(s.cfg.Now()).Hours() / 24
}
