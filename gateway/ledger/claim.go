package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrInHand says that another attempt with one of these recipients is being worked on: answer 451.
var ErrInHand = errors.New("a copy of this message is in hand")

var errIndex = errors.New("no such recipient in this claim")

// Claim is one attempt's hold on its recipients. Its methods may be called from any goroutine, but Note and Bounced of one recipient
// one at a time.
type Claim struct {
	l      *Ledger
	keys   []key
	served map[int]Entry
	memos  []memo // what was remembered, kept up to date by Note
	here   func() bool
	since  time.Time
	held   []bool // still in hand; under l.mu
	kept   []bool // in hand beyond Settled and Release, until Free; under l.mu
}

// Patience is the longest that Claim and Note each wait for the disk.
const Patience = patience

// holder is a recipient in hand.
type holder struct {
	c *Claim
	i int
}

// Claim takes the recipients of one attempt in hand, all or none. It answers ErrInHand if any of them is in hand already for a client that
// may be this one come again, and a *NotReadyError if the ledger has not just proved that it can note what will become of them: then
// nothing may be handed on.
//
// here tells whether the attempt's client still waits for its reply; nil: nobody knows. A second copy beside one whose client is here, and
// that was taken in hand within the last second, is no repeat but a message of its own (two scans of an empty page), with a memory of its
// own; so is a recipient named twice. After a second the connection may be open on our side alone. here must not block.
func (l *Ledger) Claim(ctx context.Context, asks []Ask, here func() bool) (*Claim, error) {
	if err := l.prove(ctx); err != nil {
		return nil, err
	}
	c := &Claim{l: l, keys: make([]key, len(asks)), memos: make([]memo, len(asks)), here: here, since: time.Now(), held: make([]bool, len(asks)), kept: make([]bool, len(asks))}
	for i, a := range asks {
		c.keys[i] = hashAsk(l.key, a)
	}
	served, err := l.take(c)
	if err != nil {
		return nil, err
	}
	if served {
		if err := c.readServed(ctx); err != nil {
			c.Release()
			return nil, fmt.Errorf("read served recipients: %w", err)
		}
	}
	return c, nil
}

// take puts a claim's recipients in hand and tells whether any was served before.
func (l *Ledger) take(c *Claim) (served bool, err error) {
	oldest := l.cfg.Now().Add(-l.cfg.Memory).UnixMicro()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil { // a note failed since the proof: what it says is not in the index yet
		return false, &NotReadyError{l.fault}
	}
	for i, k := range c.keys {
		if k, err = l.choose(c, k, oldest); err != nil {
			for j := range i {
				l.settle(c.keys[j], false)
				l.drop(c, j)
			}
			return false, err
		}
		c.keys[i] = k
		if k.nth() > l.copies[k.copy(0)] {
			l.copies[k.copy(0)] = k.nth()
		}
		l.hand[k] = holder{c, i}
		c.held[i] = true
		if m, ok := l.index[k]; ok && m.last >= oldest {
			c.memos[i] = m
			served = served || m.served
			delete(l.untold, k) // it moves to no row while the claim may tell it, or note more of it
		}
	}
	return served, nil
}

// choose gives the copy that a recipient of c is: one that is remembered, so that a repeat finds its first try, else a new one.
func (l *Ledger) choose(c *Claim, base key, oldest int64) (key, error) {
	last := l.copies[base]
	free, found := base, false
	for nth := uint32(0); nth <= last+1; nth++ {
		k := base.copy(nth)
		if h, ok := l.hand[k]; ok {
			if h.c != c && h.c.mayRepeat(h.i) {
				return key{}, ErrInHand
			}
			continue
		}
		if m, ok := l.index[k]; ok && m.last >= oldest {
			return k, nil
		}
		if !found {
			free, found = k, true
		}
	}
	if !found || free.nth() >= maxCopies {
		return key{}, ErrInHand
	}
	return free, nil
}

// sideBySide is how long two copies of the same bytes can only be two messages: no client repeats one so soon.
const sideBySide = time.Second

// mayRepeat tells whether what looks like recipient i may be he again. l.mu is held.
func (c *Claim) mayRepeat(i int) bool {
	return c.kept[i] || c.here == nil || time.Since(c.since) > sideBySide || !c.here()
}

// drop takes recipient i of c out of hand. l.mu is held.
func (l *Ledger) drop(c *Claim, i int) {
	c.held[i] = false
	delete(l.hand, c.keys[i])
	l.shrink(c.keys[i].copy(0))
}

// shrink forgets the highest copies that are neither in hand nor remembered. l.mu is held.
func (l *Ledger) shrink(base key) {
	for n := l.copies[base]; n > 0; n-- {
		_, held := l.hand[base.copy(n)]
		_, known := l.index[base.copy(n)]
		if held || known {
			l.copies[base] = n
			return
		}
	}
	delete(l.copies, base)
}

func (c *Claim) readServed(ctx context.Context) error {
	c.served = map[int]Entry{}
	for i, m := range c.memos {
		if !m.served {
			continue
		}
		e, err := scanEntry(c.l.db.Read().QueryRowContext(ctx, `SELECT seq, `+columns+` FROM ledger_entries WHERE seq = ?`, m.entry))
		if errors.Is(err, sql.ErrNoRows) {
			e, err = m.erased(), nil
		}
		if err != nil {
			return err
		}
		e.I, e.Bounced = i, m.bounced
		c.served[i] = e
	}
	return nil
}

// erased stands for the row where that was erased: that the recipient was served is still known.
func (m memo) erased() Entry {
	if m.outcome == Delivered {
		return Entry{Outcome: m.outcome, Code: 250}
	}
	return Entry{Outcome: m.outcome, Code: 554, Text: "Remise impossible lors d'un essai precedent"}
}

// Served gives the remembered final outcome of recipient i, if an earlier attempt reached one that its client was not told: its
// message was answered 4xx as a whole, or the reply was never written. Do not hand it on again; e.Bounced says that its bounce
// was handed over too.
func (c *Claim) Served(i int) (e Entry, ok bool) {
	e, ok = c.served[i]
	return e, ok
}

// Waiting tells since when recipient i has been answered 4xx and how often; restarts do not change it.
func (c *Claim) Waiting(i int) (first time.Time, n int, ok bool) {
	if i < 0 || i >= len(c.memos) || c.memos[i].n == 0 || c.memos[i].served {
		return time.Time{}, 0, false
	}
	return instant(c.memos[i].first), c.memos[i].n, true
}

// Settled is told what happened to the reply of recipient i, or with i = -1 to the one reply for all of them (SMTP). final: the
// reply was 2xx or 5xx. written: its bytes left without an error. A final written reply ends the memory of the recipient: the
// same bytes are a new message from now on. Otherwise what was noted is remembered: under LMTP for this recipient, under SMTP
// for each one that was served while the message as a whole must come again. Settled never waits for the disk; the recipient is
// no longer in hand afterwards, and when all are settled the claim is released.
func (c *Claim) Settled(i int, final, written bool) {
	from, to := i, i+1
	if i < 0 {
		from, to = 0, len(c.keys)
	}
	l := c.l
	l.mu.Lock()
	for j := from; j < to && j < len(c.keys); j++ {
		if !c.held[j] || c.kept[j] {
			continue
		}
		l.settle(c.keys[j], final && written)
		l.drop(c, j)
	}
	pending := len(l.forget) > 0 || len(l.untold) > 0 || l.stale || l.behind
	l.mu.Unlock()
	if pending {
		l.wake()
	}
}

// Keep leaves recipient i in hand beyond Settled and Release: his copy is still on its way while his client is answered "later". A
// repeat meets ErrInHand until Free; what Note was told before Free is what it then finds.
func (c *Claim) Keep(i int) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.kept[i] = true
}

// Free ends Keep. What was noted is remembered, for the client was not told.
func (c *Claim) Free(i int) {
	c.l.mu.Lock()
	kept := c.kept[i]
	c.kept[i] = false
	c.l.mu.Unlock()
	if kept {
		c.Settled(i, false, false)
	}
}

// settle ends the memory of a recipient that was told, and keeps that of one who was not. l.mu is held.
func (l *Ledger) settle(k key, told bool) {
	m, known := l.index[k]
	if !known {
		return
	}
	_, open := l.open[k]
	if !told {
		if open {
			l.untold[k] = struct{}{}
		}
		return
	}
	delete(l.index, k)
	delete(l.untold, k)
	if open {
		delete(l.open, k)
		l.stale = true
	}
	if _, moving := l.moving[k]; m.row || moving {
		l.forget[k] = m.entry
	}
}

// Release lets go of what is not settled; what was noted stays remembered. It may be called at any time, and again.
func (c *Claim) Release() { c.Settled(-1, false, false) }
