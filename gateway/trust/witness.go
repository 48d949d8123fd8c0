package trust

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"time"
)

// Witness is who tells of revocation, as it was at the last question.
type Witness struct {
	Kind  string    // file, crl, ocsp
	Name  string    // its path or address
	Until time.Time // what its list promises; zero: nothing is known, or it answers for one certificate
	Fault error     // of the last question
}

// Witnesses asks everybody who can tell of our own certificate whether it was revoked, also those who are asked only where others fail, and gives
// all who were asked since the Space was made, and the files.
func (s *Space) Witnesses(ctx context.Context) []Witness {
	st, now := s.state.Load(), s.cfg.Now()
	var all []Witness
	for _, l := range st.crls {
		all = append(all, Witness{"file", l.name, l.until, l.fresh(now, 0)})
	}
	if st.crlFault != nil {
		all = append(all, Witness{Kind: "file", Name: "trust.crl", Fault: st.crlFault})
	}
	if s.cfg.Evidence == nil || !s.asks() {
		return all
	}
	await(ctx, s.askAll(st, now))
	return append(all, s.cfg.Evidence.witnesses()...)
}

// askAll starts the questions about our own chain, and about the lists of the config.
func (s *Space) askAll(st *state, now time.Time) (under []<-chan struct{}) {
	e, r := s.cfg.Evidence, s.cfg.Revocation
	for _, u := range r.URLs {
		under = append(under, e.wantList(u, st.cas, r.Every))
	}
	own, err := s.ownChain()
	if err != nil || len(own) == 0 {
		return under
	}
	between := st.others.Clone()
	for _, c := range own[1:] {
		between.AddCert(c)
	}
	chains, err := own[0].Verify(x509.VerifyOptions{Roots: st.roots, Intermediates: between, CurrentTime: now, KeyUsages: asServer.usages()})
	if err != nil { // never ask where an unproved certificate leads
		return under
	}
	chain := chains[0]
	for i := range len(chain) - 1 {
		q := question{s, st, chain[i], chain[i+1], i == 0}
		for _, u := range q.lists() {
			under = append(under, e.wantList(u, append(slices.Clip(st.cas), q.issuer), r.Every))
		}
		for _, u := range q.responders() {
			under = append(under, e.wantAnswer(u, q.cert, q.issuer, r, st.crls))
		}
	}
	return under
}

var errUnasked = errors.New("no answer yet")

// witnesses gives the sources over the network, in the order of their kinds and names.
func (e *Evidence) witnesses() (all []Witness) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for u, s := range e.sources {
		w := Witness{Kind: "crl", Name: u, Fault: s.fault}
		if s.list != nil {
			w.Until = s.list.until
		} else if w.Fault == nil {
			w.Fault = errUnasked
		}
		all = append(all, w)
	}
	for u, p := range e.asked {
		all = append(all, Witness{Kind: "ocsp", Name: u, Fault: p.fault})
	}
	slices.SortFunc(all, func(a, b Witness) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return all
}
