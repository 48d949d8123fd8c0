package trust

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Evidence is what CAs said over the network of the certificates they signed: revocation lists by URL, kept in a folder, and OCSP answers,
// kept in memory. Spaces that follow one another share it. It judges nothing: a list or an answer counts for a certificate only where the key that
// signed it is the issuer's in a chain that a Space proved. It is safe for concurrent use.
//
// No handshake waits for the network where something is known: what grows old is asked for again beside it. One question at a time goes
// to a source, whoever wants its answer, and a source that failed is left alone for a while.
type Evidence struct {
	cfg    EvidenceConfig
	ctx    context.Context // of everything under way; Close ends it
	cancel context.CancelFunc
	under  sync.WaitGroup
	gen    atomic.Uint64                  // grows with each change, behind it
	lists  atomic.Pointer[[]*revocations] // of all sources
	large  chan struct{}                  // one large list is read at a time: a few of the largest at once would take a gigabyte

	mu      sync.Mutex
	closed  bool
	sources map[string]*source // by URL
	answers map[answerKey]*answer
	asked   map[string]*patience // OCSP responders, by URL
	flights map[any]chan struct{}
}

// EvidenceConfig is what OpenEvidence needs.
type EvidenceConfig struct {
	// Dir keeps the lists over a restart; it is made where it is missing. "": memory alone.
	Dir string
	Now func() time.Time
	Log *slog.Logger
}

// source is a URL that gives a list.
type source struct {
	url            string
	signers        []*x509.Certificate // one of them signs it
	list           *revocations        // nil: none came yet
	etag, modified string
	used           time.Time // when a certificate last named it
	patience
}

// patience is when a source may be asked again.
type patience struct {
	next     time.Time
	failures int
	fault    error // of the last question
}

func (p *patience) failed(now time.Time, err error) {
	p.failures++
	p.fault = err
	p.next = now.Add(min(firstPause<<min(p.failures-1, 10), longPause))
}

const (
	firstPause = 10 * time.Second // after a failure; doubled by each further one
	longPause  = 5 * time.Minute
	maxSources = 256                 // CAs have a handful
	unused     = 30 * 24 * time.Hour // then a list that no certificate names any more is given up
	listTime   = 2 * time.Minute     // for a whole list
)

// OpenEvidence reads the lists that the folder keeps. What is broken there is fetched again.
func OpenEvidence(cfg EvidenceConfig) *Evidence {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Evidence{cfg: cfg, sources: map[string]*source{}, answers: map[answerKey]*answer{}, asked: map[string]*patience{}, flights: map[any]chan struct{}{}, large: make(chan struct{}, 1)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.lists.Store(new([]*revocations))
	e.restore()
	return e
}

// Close ends what is under way.
func (e *Evidence) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.under.Wait()
	return nil
}

// flight runs do unless it is under way already, and gives what is closed behind it. The lock is held.
func (e *Evidence) flight(name any, do func()) <-chan struct{} {
	if done := e.flights[name]; done != nil {
		return done
	}
	done := make(chan struct{})
	if e.closed {
		close(done)
		return done
	}
	e.flights[name] = done
	e.under.Go(func() {
		defer func() {
			e.mu.Lock()
			delete(e.flights, name)
			e.mu.Unlock()
			close(done)
		}()
		do()
	})
	return done
}

var landed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// wantList has the list at a URL looked for where that is due, and gives what is closed when that has ended.
func (e *Evidence) wantList(url string, signers []*x509.Certificate, every time.Duration) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.cfg.Now()
	s := e.sources[url]
	if s == nil {
		if len(e.sources) >= maxSources {
			return landed
		}
		s = &source{url: url}
		e.sources[url] = s
	}
	s.used = now
	for _, c := range signers {
		if !slices.ContainsFunc(s.signers, c.Equal) {
			s.signers = append(s.signers[max(0, len(s.signers)-15):len(s.signers):len(s.signers)], c)
			if s.fault != nil { // it may be the one that was missing
				s.next = time.Time{}
			}
		}
	}
	if now.Before(s.next) {
		return landed
	}
	return e.flight(url, func() { e.fetchList(s, every) })
}

// publish shows a change of the lists. The lock is held.
func (e *Evidence) publish() {
	all := make([]*revocations, 0, len(e.sources))
	for _, s := range e.sources {
		if s.list != nil {
			all = append(all, s.list)
		}
	}
	e.lists.Store(&all)
	e.gen.Add(1)
}

// fault says why the source of a certificate gave nothing, nil where it was not asked or gave something.
func (e *Evidence) fault(urls []string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, u := range urls {
		if s := e.sources[u]; s != nil && s.fault != nil {
			return s.fault
		}
	}
	return nil
}

// KeepFresh looks for new lists ahead of need until ctx ends: the configured ones and those that verified certificates named.
func KeepFresh(ctx context.Context, current func() *Space) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if s := current(); s != nil && s.cfg.Evidence != nil {
			s.refresh()
		}
		timer.Reset(refreshTick)
	}
}

// refreshTick: sources say themselves when they are due.
const refreshTick = 5 * time.Second

// refresh starts what is due and waits for nothing.
func (s *Space) refresh() {
	e, r := s.cfg.Evidence, s.cfg.Revocation
	for _, u := range r.URLs {
		e.wantList(u, s.state.Load().cas, r.Every)
	}
	now := s.cfg.Now()
	e.mu.Lock()
	var due []string
	for u, src := range e.sources {
		switch configured := slices.Contains(r.URLs, u); {
		case configured:
		case now.Sub(src.used) > unused:
			delete(e.sources, u)
			e.forget(src)
			e.publish()
		case r.Fetch && !now.Before(src.next):
			due = append(due, u)
		}
	}
	for _, u := range due {
		src := e.sources[u]
		e.flight(u, func() { e.fetchList(src, r.Every) })
	}
	e.mu.Unlock()
}

// newClient asks CAs: over the environment's proxy, without following anybody to another host, without inflating anything.
func newClient() *http.Client {
	dial := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dial.DialContext, TLSHandshakeTimeout: 5 * time.Second,
			ResponseHeaderTimeout: 15 * time.Second, DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || r.URL.Hostname() != via[0].URL.Hostname() {
				return errRedirect
			}
			return nil
		},
	}
}
