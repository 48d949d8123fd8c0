package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Revocation is how it is learnt, over the network, that a certificate was revoked (Référentiel #2, ECO.1.1.6). The zero value asks nobody.
type Revocation struct {
	// Fetch: the lists are fetched that certificates name, once their chain to the CA was proved; never those of any other certificate.
	Fetch bool
	// URLs are further lists, of the CAs of Config.CA.
	URLs []string
	OCSP Mode
	// Responder is asked about peers in the place of those that their certificates name.
	Responder string
	Every     time.Duration // from one look for a list to the next
	Timeout   time.Duration // that a handshake waits where nothing is known
	// Grace is how long a list or an answer counts beyond its end: it was good when it came, and its source is away since (ECO.1.1.7).
	Grace time.Duration
	// MaxAge bounds an OCSP answer that promises more.
	MaxAge time.Duration
	// AcceptNoSource believes peers of whom nobody is said to know: no list is configured, no responder, and their certificate names neither.
	AcceptNoSource bool
}

// Mode is when OCSP is asked about a peer.
type Mode string

const (
	OCSPOff      Mode = "off"
	OCSPFallback Mode = "fallback" // where no list tells
	OCSPPrefer   Mode = "prefer"   // first; where it does not tell, the lists
	OCSPRequire  Mode = "require"  // only its word makes a peer good; lists can still make it bad
)

func (m Mode) on() bool { return m != "" && m != OCSPOff }

// asks tells whether anything is asked about revocation at all.
func (s *Space) asks() bool {
	r := s.cfg.Revocation
	return len(s.cfg.CRL) > 0 || len(r.URLs) > 0 || r.Fetch || r.OCSP.on()
}

// revoked asks about a chain: the leaf needs a proof that it is not revoked, each CA's certificate one where it names who would know, or a
// list of its issuer is there. It gives until when nothing of the proof ends; errRevoked, or why nothing is known.
func (s *Space) revoked(st *state, chain []*x509.Certificate, stapled []byte, now time.Time) (until time.Time, err error) {
	if st.crlFault != nil {
		return until, st.crlFault
	}
	if !s.asks() {
		return until, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Revocation.Timeout)
	defer cancel()
	for i := range len(chain) - 1 {
		q := question{s, st, chain[i], chain[i+1], i == 0}
		if i == 0 && len(stapled) > 0 {
			q.staple(stapled, now)
		}
		v := q.settle(ctx, now)
		switch {
		case v.revoked():
			return until, v.err
		case v.good.IsZero() && q.needed(v):
			return until, q.doubt(v)
		case !v.good.IsZero() && (until.IsZero() || v.good.Before(until)):
			until = v.good
		}
	}
	return until, nil
}

// question is about one certificate of a proved chain.
type question struct {
	*Space
	st           *state
	cert, issuer *x509.Certificate
	leaf         bool
}

// lists are the URLs at which lists of the certificate's issuer may be, responders who may be asked about it.
func (q question) lists() []string {
	urls := slices.Clone(q.cfg.Revocation.URLs)
	if q.cfg.Revocation.Fetch {
		urls = append(urls, offered(q.cert.CRLDistributionPoints)...)
	}
	return urls
}

func (q question) responders() []string {
	switch r := q.cfg.Revocation; {
	case !r.OCSP.on():
		return nil
	case r.Responder != "" && q.leaf: // it speaks for the authority of the peers; their authority's own may have another
		return []string{r.Responder}
	}
	return offered(q.cert.OCSPServer)
}

// needed: an unproved leaf is not believed; a CA's certificate is where nobody would know.
func (q question) needed(v verdict) bool {
	r := q.cfg.Revocation
	if q.leaf && r.AcceptNoSource && !v.found && len(q.cfg.CRL)+len(r.URLs)+len(r.Responder)+len(q.cert.CRLDistributionPoints)+len(q.cert.OCSPServer) == 0 {
		return false
	}
	return q.leaf || v.found || r.Fetch && len(offered(q.cert.CRLDistributionPoints)) > 0 || r.OCSP.on() && len(offered(q.cert.OCSPServer)) > 0
}

// known is what can be said at once.
func (q question) known(now time.Time) (v verdict) {
	r, e := q.cfg.Revocation, q.cfg.Evidence
	v.ask(q.st.crls, q.cert, q.issuer, now, q.cfg.CRLGrace)
	if e != nil {
		v.ask(e.counting(r), q.cert, q.issuer, now, r.Grace)
	}
	if v.revoked() || e == nil || !r.OCSP.on() {
		return v
	}
	if q.leaf && r.OCSP == OCSPRequire {
		v.good, v.err = time.Time{}, errors.New("no OCSP answer")
	}
	switch a := e.find(keyOf(q.cert, q.issuer)); {
	case a == nil:
	case a.revoked:
		v.good, v.err = time.Time{}, fmt.Errorf("%w: serial %x, by OCSP", errRevoked, q.cert.SerialNumber)
		v.old = now.After(a.until)
	case now.After(a.until.Add(r.Grace)) || a.from.After(now.Add(skew)):
		v.err = fmt.Errorf("OCSP answer was to be renewed by %s", a.until.UTC().Format(time.RFC3339))
	case r.OCSP != OCSPFallback || v.good.IsZero():
		v.good = a.until.Add(r.Grace)
	}
	return v
}

// settle asks who may know, and waits for them only where nothing is known: what grows old is renewed beside the session.
func (q question) settle(ctx context.Context, now time.Time) verdict {
	v, r, e := q.known(now), q.cfg.Revocation, q.cfg.Evidence
	if e == nil {
		return v
	}
	lists := make([]<-chan struct{}, 0, 4)
	for _, u := range q.lists() {
		signers := []*x509.Certificate{q.issuer} // no other's list is to lie where a certificate says that its own is
		if slices.Contains(r.URLs, u) {
			signers = append(signers, q.st.cas...)
		}
		lists = append(lists, e.wantList(u, signers, r.Every))
	}
	askOCSP := func() (under []<-chan struct{}) {
		if a := e.find(keyOf(q.cert, q.issuer)); a == nil || a.due(now) {
			for _, u := range q.responders() {
				under = append(under, e.wantAnswer(u, q.cert, q.issuer, r, q.st.crls))
			}
		}
		return under
	}
	first, second := lists, []<-chan struct{}(nil)
	switch {
	case r.OCSP == OCSPPrefer || r.OCSP == OCSPRequire:
		first, second = askOCSP(), lists
	case r.OCSP == OCSPFallback && v.revoked():
		first = askOCSP() // it may have been lifted
	}
	patience := ctx
	if r.OCSP == OCSPFallback { // a list's server that takes the question and says nothing leaves half of the time to the responder
		half, cancel := context.WithTimeout(ctx, r.Timeout/2)
		defer cancel()
		patience = half
	}
	for _, under := range [][]<-chan struct{}{first, second} {
		if v.settled() {
			return v
		}
		landed := await(patience, under)
		if v = q.known(now); !landed && r.OCSP != OCSPFallback {
			return v
		}
	}
	if !v.settled() && r.OCSP == OCSPFallback {
		await(ctx, askOCSP())
		v = q.known(now)
	}
	return v
}

// await waits for all, or tells that the time is over.
func await(ctx context.Context, under []<-chan struct{}) bool {
	for _, done := range under {
		select {
		case <-done:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// staple takes what the peer's own handshake says by OCSP, if it verifies.
func (q question) staple(raw []byte, now time.Time) {
	e, r := q.cfg.Evidence, q.cfg.Revocation
	if e == nil || !r.OCSP.on() {
		return
	}
	a, err := readAnswer(raw, q.cert, q.issuer, now, r.MaxAge, slices.Concat(q.st.crls, e.counting(r)))
	if err != nil {
		q.cfg.Log.Debug("a stapled OCSP answer is not taken", "err", err)
		return
	}
	e.keepAnswer(keyOf(q.cert, q.issuer), a)
}

// doubt says why there is no proof, for the log.
func (q question) doubt(v verdict) error {
	why := v.err
	if why == nil {
		why = fmt.Errorf("no CRL of the issuer %q", q.issuer.Subject)
	}
	e := q.cfg.Evidence
	if e == nil {
		return why
	}
	for _, fault := range []error{e.fault(q.lists()), e.faultOf(q.responders())} {
		if fault != nil {
			why = fmt.Errorf("%w; %v", why, fault)
		}
	}
	return why
}

// counting are the lists that a Space goes by.
func (e *Evidence) counting(r Revocation) []*revocations {
	all := *e.lists.Load()
	if r.Fetch {
		return all
	}
	var out []*revocations
	for _, l := range all {
		if slices.Contains(r.URLs, l.name) {
			out = append(out, l)
		}
	}
	return out
}

// generation changes with what is known.
func (e *Evidence) generation() uint64 {
	if e == nil {
		return 0
	}
	return e.gen.Load()
}
