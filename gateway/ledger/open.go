package ledger

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"passerelle/gateway/store"
)

// Most recipients are noted and told within a millisecond, and what the memory needs of them in between is little: the set of those
// whose outcome is durable and whose reply is not written yet. It is one row, written anew with each commit, so that ordinary
// mail costs the memory no row of its own. Who stays untold (a message that must come again, a reply that never left) moves to
// ledger_memory.

// openRow is one recipient in the set: key, flags, outcome, first, last, entry.
const openRow = len(key{}) + 2 + 3*8

var outcomes = []Outcome{Delivered, Deferred, Failed, Refused, Bounced, Reported}

func appendOpen(b []byte, k key, m memo) []byte {
	b = append(b, k[:]...)
	flags := byte(0)
	if m.bounced {
		flags = 1
	}
	b = append(b, flags, byte(slices.Index(outcomes, m.outcome)))
	for _, v := range []int64{m.first, m.last, m.entry} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func parseOpen(b []byte) (map[key]memo, error) {
	open := make(map[key]memo, len(b)/openRow)
	for ; len(b) >= openRow; b = b[openRow:] {
		k, rest := key(b[:len(key{})]), b[len(key{}):openRow]
		if int(rest[1]) >= len(outcomes) {
			return nil, fmt.Errorf("outcome %d in the set of untold recipients", rest[1])
		}
		at := func(i int) int64 { return int64(binary.BigEndian.Uint64(rest[2+8*i:])) }
		open[k] = memo{served: true, bounced: rest[0] == 1, outcome: outcomes[rest[1]], first: at(0), last: at(1), entry: at(2)}
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("set of untold recipients ends in the middle of a row")
	}
	return open, nil
}

// loadOpen reads the set that an earlier process left: nobody is there any more to tell them, so they belong in ledger_memory.
func (l *Ledger) loadOpen(ctx context.Context) error {
	var raw []byte
	if err := l.db.Read().QueryRowContext(ctx, `SELECT rows FROM ledger_open WHERE id = 1`).Scan(&raw); err != nil {
		return fmt.Errorf("read the untold recipients: %w", err)
	}
	open, err := parseOpen(raw)
	if err != nil {
		return fmt.Errorf("read the untold recipients: %w", err)
	}
	oldest := l.cfg.Now().Add(-l.cfg.Memory).UnixMicro()
	for k, m := range open {
		if m.last >= oldest {
			l.index[k], l.open[k] = m, m
			l.untold[k] = struct{}{}
			l.known(k)
		}
	}
	l.stale = true
	return nil
}

// openChange is what one commit does to the set.
type openChange struct {
	entered []key
	marked  map[key]memo // who was there before, as he was
	moving  map[key]memo
}

// changeOpen says what is due: notes enter, the told have left already, the untold move to ledger_memory. It gives the row to write.
func (l *Ledger) changeOpen(notes []*note) (c openChange, row []byte, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stale = l.stale || len(notes) > 0 // it holds the last number, too
	for _, n := range notes {
		if n.touch != enter {
			continue
		}
		if was, there := l.open[n.key]; !there {
			c.entered = append(c.entered, n.key)
		} else {
			if c.marked == nil {
				c.marked = map[key]memo{}
			}
			c.marked[n.key] = was
		}
		l.open[n.key] = n.memo
	}
	if len(l.untold) > 0 {
		c.moving = make(map[key]memo, len(l.untold))
		for k := range l.untold {
			c.moving[k] = l.open[k]
			delete(l.open, k)
		}
		clear(l.untold)
		l.moving, l.stale = c.moving, true
	}
	if !l.stale {
		return c, nil, false
	}
	row = l.row[:0]
	for k, m := range l.open {
		row = appendOpen(row, k, m)
	}
	l.row, l.stale = row, false
	return c, row, true
}

func (l *Ledger) writeOpen(tx store.Tx, c openChange, row []byte) error {
	if _, err := tx.Stmt(l.st.open).Exec(row, l.seq, l.listed); err != nil {
		return fmt.Errorf("note untold recipients: %w", err)
	}
	for k, m := range c.moving {
		if err := l.writeMemory(tx, k, m); err != nil {
			return fmt.Errorf("remember untold recipient: %w", err)
		}
	}
	return nil
}

// changedOpen follows the commit: after a failed one the set is what it was, less what was told meanwhile.
func (l *Ledger) changedOpen(c openChange, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moving = nil
	for k, m := range c.moving {
		now, known := l.index[k]
		known = known && now.entry == m.entry
		switch {
		case err == nil && known:
			now.row = true
			l.index[k] = now
		case err != nil && known:
			l.open[k] = m
			if _, held := l.hand[k]; !held {
				l.untold[k] = struct{}{}
			}
		case err != nil:
			delete(l.forget, k) // told meanwhile, and there is no row
		}
	}
	if err != nil {
		l.stale = true
		for _, k := range c.entered {
			delete(l.open, k)
		}
		for k, m := range c.marked {
			l.open[k] = m
		}
	}
}
