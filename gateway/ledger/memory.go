package ledger

import (
	"context"
	"fmt"
	"unique"

	"passerelle/gateway/store"
)

// load reads the memory of earlier processes into the index.
func (l *Ledger) load(ctx context.Context) error {
	rows, err := l.db.Read().QueryContext(ctx, `SELECT key, served, bounced, outcome, first, last, n, entry, reason FROM ledger_memory WHERE last >= ?`,
		l.cfg.Now().Add(-l.cfg.Memory).UnixMicro())
	if err != nil {
		return fmt.Errorf("read the retry memory: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var raw []byte
		var m memo
		var why string
		if err := rows.Scan(&raw, &m.served, &m.bounced, &m.outcome, &m.first, &m.last, &m.n, &m.entry, &why); err != nil {
			return fmt.Errorf("read the retry memory: %w", err)
		}
		m.row, m.reason = true, unique.Make(why)
		k := key(raw) // the table checks the length
		l.index[k] = m
		l.known(k)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the retry memory: %w", err)
	}
	return nil
}

// known counts a remembered copy.
func (l *Ledger) known(k key) {
	if n := k.nth(); n > l.copies[k.copy(0)] && n < maxCopies {
		l.copies[k.copy(0)] = n
	}
}

func (l *Ledger) takeForgotten(max int) map[key]int64 { return some(l, l.forget, max) }
func (l *Ledger) takeRepeats(max int) map[key]repeat  { return some(l, l.repeat, max) }

// some moves up to max items out of a map that l.mu guards.
func some[V any](l *Ledger, from map[key]V, max int) map[key]V {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(from) == 0 {
		return nil
	}
	out := make(map[key]V, min(max, len(from)))
	for k, v := range from {
		if len(out) == max {
			break
		}
		out[k] = v
		delete(from, k)
	}
	return out
}

// putBack keeps what a failed transaction did not write, unless something newer came meanwhile.
func (l *Ledger) putBack(gone map[key]int64, again map[key]repeat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, entry := range gone {
		if _, newer := l.forget[k]; !newer {
			l.forget[k] = entry
		}
	}
	for k, r := range again {
		if _, newer := l.repeat[k]; !newer {
			l.repeat[k] = r
		}
	}
}

// writeForgotten deletes memory rows that still point to the entry they were forgotten with: a new message with the same bytes
// may have been noted since, and its memory must stay.
func (l *Ledger) writeForgotten(tx store.Tx, gone map[key]int64) error {
	for k, entry := range gone {
		if _, err := tx.Stmt(l.st.forget).Exec(k[:], entry); err != nil {
			return fmt.Errorf("forget settled recipient: %w", err)
		}
	}
	return nil
}

func (l *Ledger) writeRepeats(tx store.Tx, again map[key]repeat) error {
	for k, r := range again {
		e, m := r.entry, r.memo
		if _, err := tx.Stmt(l.st.repeatEntry).Exec(m.last, m.n, e.Reason, e.Code, e.Enhanced, e.Text, e.Hop, m.entry); err != nil {
			return fmt.Errorf("note repeated delay: %w", err)
		}
		if _, err := tx.Stmt(l.st.repeatMemory).Exec(m.last, m.n, m.why(), k[:], m.entry); err != nil {
			return fmt.Errorf("note repeated delay: %w", err)
		}
	}
	return nil
}
