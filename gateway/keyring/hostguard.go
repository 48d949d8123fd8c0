package keyring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// hostGuard keeps one bad domain from costing others anything: two questions at a time go to one, and who failed is left alone for a
// while, longer each time.
type hostGuard struct {
	now func() time.Time

	mu      sync.Mutex
	domains map[string]*guarded
}

type guarded struct {
	slots    chan struct{}
	users    int // who is in, or waits
	failures int
	until    time.Time // left alone until then
	fault    error
}

const (
	perHost    = 2
	firstRest  = time.Minute // doubled by each further failure
	longRest   = 30 * time.Minute
	maxDomains = 4096
)

func newHostGuard(now func() time.Time) *hostGuard {
	return &hostGuard{now: now, domains: map[string]*guarded{}}
}

// enter waits for a place. leave must be called with what the question came to; that our own client went away is nobody's fault.
func (g *hostGuard) enter(ctx context.Context, domain string) (leave func(error), err error) {
	g.mu.Lock()
	d := g.domains[domain]
	if d == nil {
		g.makeRoom()
		d = &guarded{slots: make(chan struct{}, perHost)}
		g.domains[domain] = d
	}
	if rest := d.until.Sub(g.now()); rest > 0 && rest <= longRest { // a clock that was set back holds nobody up
		defer g.mu.Unlock()
		return nil, fmt.Errorf("its server failed and is left alone until %s: %w", d.until.UTC().Format(time.RFC3339), d.fault)
	}
	d.users++
	g.mu.Unlock()
	select {
	case d.slots <- struct{}{}:
		return func(err error) { <-d.slots; g.left(d, err) }, nil
	case <-ctx.Done():
		g.left(d, context.Canceled)
		return nil, errors.New("its server has too many questions in hand")
	}
}

func (g *hostGuard) left(d *guarded, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d.users--
	switch {
	case errors.Is(err, context.Canceled):
	case err == nil:
		d.failures, d.until, d.fault = 0, time.Time{}, nil
	case g.now().Before(d.until): // of several at a time the first counts
	default:
		d.until = g.now().Add(min(firstRest<<min(d.failures, 10), longRest))
		d.failures++
		d.fault = err
	}
}

// makeRoom forgets who is at rest; mail to thousands of new domains within half an hour is worth a question more.
func (g *hostGuard) makeRoom() {
	if len(g.domains) < maxDomains {
		return
	}
	for name, d := range g.domains {
		if d.users == 0 && !g.now().Before(d.until) {
			delete(g.domains, name)
		}
	}
	if len(g.domains) < maxDomains {
		return
	}
	for name, d := range g.domains {
		if d.users == 0 {
			delete(g.domains, name)
		}
	}
}
