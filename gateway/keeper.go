package gateway

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"passerelle/gateway/ledger"
	"passerelle/gateway/relay"
)

// Keeper is somebody who outlives this process and holds its connections: systemd's store of descriptors (sd_notify(3), FDSTORE). What was
// pledged to it is found by the next process, and with it what a hop answered while nobody listened.
type Keeper struct {
	Store func(name string, fd uintptr) error
	Drop  func(name string)
	Kept  map[string]net.Conn // of an earlier process
}

// Keep sets the keeper; without one a kill between a hop's acceptance and its note means that a collected message is handed on again.
func Keep(k Keeper) Option { return func(g *Gateway) { g.pledges.keeper = k } }

// pledges are the connections whose replies are not noted yet, by the name of their message.
type pledges struct {
	keeper Keeper
	mu     sync.Mutex
	open   map[string]*relay.Pledge
}

// keptFor is how long a connection of an earlier process waits for its message to come again: its mailbox may be away.
const keptFor = 24 * time.Hour

// earlier tells what the hop answered when the message was handed on before without being noted. An error: it has not answered yet.
func (p *pledges) earlier(ctx context.Context, name string, hop relay.Hop) (_ relay.Result, known bool, err error) {
	p.mu.Lock()
	old, kept := p.open[name], p.keeper.Kept[name]
	delete(p.keeper.Kept, name)
	p.mu.Unlock()
	if kept != nil {
		old = relay.Inherit(ctx, kept, hop, inheritTime)
		p.mu.Lock()
		if old != nil {
			p.put(name, old)
		} else if p.keeper.Kept != nil {
			p.keeper.Kept[name] = kept
		}
		p.mu.Unlock()
		if old == nil {
			return relay.Result{}, false, laterNote(ledger.ErrInHand)
		}
	}
	if old == nil {
		return relay.Result{}, false, nil
	}
	r, answered := old.Outcome()
	if answered && (r.Err == nil || r.Err.Permanent && !errors.Is(r.Err, relay.ErrUnknownOutcome)) {
		return r, true, nil
	}
	p.drop(name)
	return relay.Result{}, false, nil
}

// inheritTime is how long a look waits for a hop that still works on what an earlier process handed it; then the next look does.
const inheritTime = 20 * time.Second

func (p *pledges) put(name string, v *relay.Pledge) {
	if p.open == nil {
		p.open = map[string]*relay.Pledge{}
	}
	p.open[name] = v
}

// next gives the pledge for a message that is handed on now, nil where there is no keeper.
func (p *pledges) next(name string) *relay.Pledge {
	if p.keeper.Store == nil {
		return nil
	}
	v := &relay.Pledge{Keep: func(fd uintptr) error { return p.keeper.Store(name, fd) }}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.put(name, v)
	return v
}

// another replaces a pledge whose letter was refused by one for a second letter of the same message.
func (p *pledges) another(v *relay.Pledge) *relay.Pledge {
	p.mu.Lock()
	name := ""
	for n, o := range p.open {
		if o == v {
			name = n
		}
	}
	p.mu.Unlock()
	if name == "" {
		return nil
	}
	p.drop(name)
	return p.next(name)
}

// drop lets go of a message that is noted, or that the hop does not have.
func (p *pledges) drop(name string) {
	p.mu.Lock()
	v, kept := p.open[name], p.keeper.Kept[name]
	delete(p.open, name)
	delete(p.keeper.Kept, name)
	p.mu.Unlock()
	if v != nil || kept != nil {
		p.forget(name)
	}
	if v != nil {
		v.Release()
	}
	if kept != nil { // what it was kept for is noted
		kept.Close()
	}
}

// later: the message was answered 4xx. What the hop may have, or has while that could not be noted, stays pledged.
func (p *pledges) later(name string) {
	p.mu.Lock()
	v := p.open[name]
	p.mu.Unlock()
	if v == nil {
		return
	}
	if r, known := v.Outcome(); known && r.Err != nil {
		p.drop(name)
	}
}

// expire lets go of what nobody asks for any more.
func (p *pledges) expire() {
	p.mu.Lock()
	old := p.keeper.Kept
	p.keeper.Kept = nil
	p.mu.Unlock()
	for name, c := range old {
		p.forget(name)
		c.Close()
	}
}

func (p *pledges) forget(name string) {
	if p.keeper.Drop != nil {
		p.keeper.Drop(name)
	}
}
