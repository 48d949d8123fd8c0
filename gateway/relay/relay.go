// Package relay hands messages on to the next hop by SMTP or LMTP. It takes a hop and a letter (envelope, header bytes, body), gives
// one result per recipient with the hop's reply and the peer's TLS identity, and knows nothing of routes, queues or retries: what
// could not be handed on now is a temporary error, and the clinic's own server repeats it.
//
// One letter goes: a kept connection or a new one (dial, banner, EHLO, STARTTLS, EHLO, AUTH) -> MAIL, RCPT..., DATA in one write where the
// hop offers PIPELINING -> content -> final reply -> the connection is kept. Until the final dot is written everything can be
// undone by closing the connection; behind it only the hop knows, and a lost connection is ErrUnknownOutcome.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"passerelle/gateway/message"
)

// Config is what New needs. Zero fields take the values named.
type Config struct {
	Log      *slog.Logger
	Timeouts Timeouts
	// IdleMax is how long an unused connection is kept: 30 s. MaxUses is how many letters it carries: 100.
	IdleMax time.Duration
	MaxUses int
	// MaxConns bounds the connections to a hop that has no MaxConns of its own: 20.
	MaxConns int
	// BreakAfter is the number of connection failures in a row (3) after which a hop is left alone for BreakMin (5 s), doubled
	// for each failed probe up to BreakMax (60 s).
	BreakAfter         int
	BreakMin, BreakMax time.Duration
	// Now is the clock of the pool and the breaker.
	Now func() time.Time
	// Resolver finds the addresses of hops; nil: the system's.
	Resolver *net.Resolver
	// Budget, where set, lends the large buffers.
	Budget *message.Budget
}

// Timeouts bound each step. RFC 5321 section 4.5.3.2 asks for minutes; a client of ours waits meanwhile, so the steps before DATA
// are shorter here, and the final reply keeps its 10 minutes (section 4.5.3.2.6: a shorter one makes duplicates).
type Timeouts struct {
	Slot     time.Duration // 1 min for a free connection: a stalled hop must not hold every session of the client
	Dial     time.Duration // 15 s
	Banner   time.Duration // 30 s
	Hello    time.Duration // 30 s
	StartTLS time.Duration // 30 s, the reply and the handshake together
	Mail     time.Duration // 1 min
	Rcpt     time.Duration // 1 min
	Data     time.Duration // 1 min
	Write    time.Duration // 1 min for each write of at most 256 KiB
	Final    time.Duration // 10 min
	Quit     time.Duration // 2 s
}

// Relay keeps the connections. It is safe for concurrent use.
type Relay struct {
	cfg     Config
	mu      sync.Mutex
	pools   map[poolKey]*pool
	closed  bool
	done    chan struct{}
	work    sync.WaitGroup // the sweeper and the QUITs
	buffers buffers
}

func or[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// New starts a relay; Close ends it.
func New(cfg Config) *Relay {
	or(&cfg.Log, slog.New(slog.DiscardHandler))
	t := &cfg.Timeouts
	or(&t.Slot, time.Minute)
	or(&t.Dial, 15*time.Second)
	or(&t.Banner, 30*time.Second)
	or(&t.Hello, 30*time.Second)
	or(&t.StartTLS, 30*time.Second)
	or(&t.Mail, time.Minute)
	or(&t.Rcpt, time.Minute)
	or(&t.Data, time.Minute)
	or(&t.Write, time.Minute)
	or(&t.Final, 10*time.Minute)
	or(&t.Quit, 2*time.Second)
	or(&cfg.IdleMax, 30*time.Second)
	or(&cfg.MaxUses, 100)
	or(&cfg.MaxConns, 20)
	or(&cfg.BreakAfter, 3)
	or(&cfg.BreakMin, 5*time.Second)
	or(&cfg.BreakMax, time.Minute)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Relay{cfg: cfg, pools: map[poolKey]*pool{}, done: make(chan struct{})}
	r.buffers.budget = cfg.Budget
	r.work.Go(r.sweeper)
	return r
}

// Close ends idle connections and refuses new letters; letters on their way finish, and their connections end with them.
func (r *Relay) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	close(r.done)
	r.mu.Unlock()
	r.sweep(true)
	r.work.Wait()
	return nil
}

// Send hands a letter to a hop and gives one result per recipient, in their order. Ending ctx aborts the letter as long as its final
// dot was not written; behind that the final reply is waited for, because only the hop knows what became of it, unless ctx ends with
// the cause ErrAbandoned.
func (r *Relay) Send(ctx context.Context, hop Hop, l Letter) []Result {
	t := &transfer{hop: hop, letter: &l, timeouts: &r.cfg.Timeouts, buffers: &r.buffers, results: make([]Result, len(l.Recipients))}
	if len(l.Recipients) == 0 {
		return nil
	}
	if err := t.prepare(); err != nil {
		t.failOpen(err)
	} else {
		r.do(ctx, hop, t)
	}
	for i := range t.results {
		handedOn.WithLabelValues(hop.Name, t.results[i].word()).Inc()
	}
	return t.results
}

// Probe asks a hop whether it would take a letter from sender for rcpt: MAIL, RCPT, RSET. The result is the reply to RCPT.
func (r *Relay) Probe(ctx context.Context, hop Hop, sender message.Address, rcpt message.Recipient) Result {
	l := Letter{Sender: sender, Recipients: []message.Recipient{rcpt}}
	t := &transfer{hop: hop, letter: &l, timeouts: &r.cfg.Timeouts, probe: true, results: make([]Result, 1)}
	if err := t.prepare(); err != nil {
		t.failOpen(err)
	} else {
		r.do(ctx, hop, t)
	}
	return t.results[0]
}

// Greet makes a connection to a hop as a letter would, with TLS as the hop must show it, and ends it: is it there, is it who it must be?
func (r *Relay) Greet(ctx context.Context, hop Hop) error {
	if err := hop.check(); err != nil {
		return err
	}
	c, err := r.open(ctx, hop)
	if err != nil {
		return err
	}
	c.quit()
	return nil
}

// do finds a connection and runs the transfer on it; a kept connection that died before it answered MAIL is replaced once.
func (r *Relay) do(ctx context.Context, hop Hop, t *transfer) {
	p, err := r.pool(hop)
	if err != nil {
		t.failOpen(err)
		return
	}
	if err := p.enter(ctx, r.cfg.Timeouts.Slot); err != nil {
		t.failOpen(hop.temporary("connect", [3]int{4, 4, 5}, "pas de connexion libre vers le relais suivant", err))
		return
	}
	defer p.leave()
	for attempt := 0; ; attempt++ {
		c, kept, err := r.connection(ctx, p, hop, attempt > 0)
		if err != nil {
			t.failOpen(err)
			return
		}
		again := t.run(ctx, c)
		if t.pledged {
			t.letter.Pledge.settle(t.results[0])
			return
		}
		r.give(p, c)
		if !again || !kept || attempt > 0 || ctx.Err() != nil {
			return
		}
		clear(t.results)
		t.settled = nil
	}
}

// connection takes a kept connection, or makes one if the breaker lets it.
func (r *Relay) connection(ctx context.Context, p *pool, hop Hop, fresh bool) (c *conn, kept bool, fail *Error) {
	if !fresh {
		if c := r.take(p, hop); c != nil {
			return c, true, nil
		}
	}
	if err := p.breaker.allow(r.cfg.Now()); err != nil {
		if last := (*Error)(nil); errors.As(err, &last) && last.Step == "auth" {
			return nil, false, hop.temporary("auth", last.Enhanced, last.Text, err)
		}
		return nil, false, hop.temporary("connect", [3]int{4, 4, 1}, "le relais suivant ne repond pas, nouvel essai plus tard", err)
	}
	began := r.cfg.Now()
	c, err := r.open(ctx, hop)
	switch {
	case err == nil:
		p.breaker.succeeded()
		return c, false, nil
	case ctx.Err() != nil && !(errors.Is(ctx.Err(), context.DeadlineExceeded) && r.cfg.Now().Sub(began) >= greetingPatience):
		p.breaker.undecided()
	case err.Enhanced[1] == 4, err.Step == "banner", err.Step == "hello", err.Step == "auth": // the network, or a hop that is there and takes nothing
		if wait := p.breaker.failed(r.cfg.Now(), err); wait > 0 {
			r.cfg.Log.Warn("hop is left alone", "hop", hop.Name, "for", wait, "err", err)
		}
	default: // it answered
		p.breaker.succeeded()
	}
	return nil, false, err
}

// pool finds or makes the pool of a hop.
func (r *Relay) pool(hop Hop) (*pool, *Error) {
	if err := hop.check(); err != nil {
		return nil, hop.temporary("connect", [3]int{4, 3, 5}, "relais suivant mal configure sur la passerelle", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, hop.temporary("connect", [3]int{4, 3, 2}, "arret de la passerelle, nouvel essai plus tard", ErrClosed)
	}
	key := poolKey{hop.Name, hop.Addr, hop.identity(), hop.MaxConns}
	p := r.pools[key]
	if p == nil {
		n := hop.MaxConns
		if n <= 0 {
			n = r.cfg.MaxConns
		}
		p = &pool{name: hop.Name, slots: make(chan struct{}, n), breaker: breaker{after: r.cfg.BreakAfter, min: r.cfg.BreakMin, max: r.cfg.BreakMax}}
		r.pools[key] = p
	}
	p.used = r.cfg.Now()
	return p, nil
}

// ErrUnknownOutcome: the connection was lost behind the final dot. The hop may have taken the letter; repeating it may double it.
var ErrUnknownOutcome = errors.New("connection lost behind the final dot, outcome unknown")

// greetingPatience: a hop that has not greeted for so long when the caller's own time is over counts as not reached; a caller who came
// with less to spare proves nothing.
const greetingPatience = 500 * time.Millisecond

// ErrAbandoned is the cause of a context that ends a letter behind its final dot too. Its outcome is then unknown.
var ErrAbandoned = errors.New("given up")

// ErrClosed: the relay was closed.
var ErrClosed = errors.New("relay is closed")

// check finds faults of a hop that the operator must mend; each is answered "later".
func (h *Hop) check() error {
	if !wireSafe(h.Helo) || len(h.Helo) > 255 {
		return fmt.Errorf("helo name of hop %s does not fit on the wire", h.Name)
	}
	c := h.TLS.Config
	if h.TLS.Mode == Verify && c != nil && c.InsecureSkipVerify && c.VerifyConnection == nil && h.TLS.Check == nil {
		return fmt.Errorf("hop %s must verify certificates, but its TLS settings verify nothing", h.Name)
	}
	if h.TLS.Implicit && h.TLS.Mode < Encrypt {
		return fmt.Errorf("hop %s begins with TLS that proves nothing", h.Name)
	}
	if h.Auth != nil {
		if h.TLS.Mode != Verify {
			return fmt.Errorf("hop %s wants to know who we are, but is not verified itself", h.Name)
		}
		if err := h.Auth.check(); err != nil {
			return fmt.Errorf("hop %s: %w", h.Name, err)
		}
	}
	if h.TLS.Mode < None || h.TLS.Mode > Verify {
		return fmt.Errorf("hop %s has an unknown TLS mode", h.Name)
	}
	return nil
}
