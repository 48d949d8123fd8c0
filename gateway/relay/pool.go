package relay

import (
	"context"
	"errors"
	"sync"
	"time"
)

// poolKey: one pool per name, address and identity, and per bound, which a reload of the config may change.
type poolKey struct {
	name, addr, identity string
	maxConns             int
}

// pool is the connections to one hop: slots bounds them all, idle holds those that wait for a letter, the last used at the end.
type pool struct {
	name    string
	slots   chan struct{}
	breaker breaker
	used    time.Time // last asked for; guarded by the relay's mutex
	mu      sync.Mutex
	idle    []*conn
}

// enter waits for a slot, at most that long.
func (p *pool) enter(ctx context.Context, patience time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return errBusy
	}
}

var errBusy = errors.New("all connections to the hop are in use")

func (p *pool) leave() { <-p.slots }

// take gives a kept connection that still lives and that this hop's settings would make again, or nil.
func (r *Relay) take(p *pool, hop Hop) *conn {
	now := r.cfg.Now()
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if !c.fits(hop) || now.Sub(c.since) > r.cfg.IdleMax || !c.quiet() {
			r.end(c)
			continue
		}
		// Asked again each time: the white list or a revocation list may have changed, or the letter's domain.
		if hop.TLS.Check != nil && c.tls != nil && hop.TLS.Check(*c.tls) != nil {
			r.end(c)
			continue
		}
		return c
	}
}

// give keeps a connection that may carry another letter, and ends every other.
func (r *Relay) give(p *pool, c *conn) {
	if c.broken {
		c.kill()
		return
	}
	c.uses++
	c.since = r.cfg.Now()
	p.mu.Lock()
	keep := c.uses < r.cfg.MaxUses && len(p.idle) < cap(p.slots)
	if keep {
		select {
		case <-r.done:
			keep = false
		default:
			p.idle = append(p.idle, c)
		}
	}
	p.mu.Unlock()
	if !keep {
		r.end(c)
	}
}

// end says QUIT without making a letter wait for it; Close waits. After Close there is no goodbye: nobody would wait for it.
func (r *Relay) end(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		c.kill()
		return
	}
	r.work.Go(c.quit)
}

// sweeper ends connections that were idle too long.
func (r *Relay) sweeper() {
	t := time.NewTicker(max(r.cfg.IdleMax/2, 10*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-t.C:
			r.sweep(false)
		}
	}
}

// poolKept is how long a hop that nobody writes to is remembered: the servers of the trust space's domains are as many as their DNS says.
const poolKept = 10 * time.Minute

// sweep ends idle connections: the old ones, or all; it returns when they are ended.
func (r *Relay) sweep(all bool) {
	now := r.cfg.Now()
	var old []*conn
	r.mu.Lock()
	for key, p := range r.pools {
		p.mu.Lock()
		keep := p.idle[:0]
		for _, c := range p.idle {
			if all || now.Sub(c.since) > r.cfg.IdleMax {
				old = append(old, c)
			} else {
				keep = append(keep, c)
			}
		}
		clear(p.idle[len(keep):])
		p.idle = keep
		if len(keep)+len(p.slots) == 0 && now.Sub(p.used) > poolKept {
			delete(r.pools, key)
		}
		p.mu.Unlock()
	}
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range old {
		wg.Go(c.quit)
	}
	wg.Wait()
}
