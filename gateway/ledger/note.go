package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unique"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/gateway/store"
)

var (
	noteSeconds = promauto.NewHistogram(prometheus.HistogramOpts{
		Name: "passerelle_ledger_note_seconds", Help: "Time until a Note was durable; repeats of \"later\" do not count.",
		Buckets: prometheus.ExponentialBuckets(0.000125, 2, 17),
	})
	notesTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "passerelle_ledger_notes_total", Help: "Recipients noted, by outcome; every repeat of \"later\" counts.",
	}, []string{"outcome"}) // delivered, deferred, failed, refused, bounced, reported
	dropped = promauto.NewCounter(prometheus.CounterOpts{
		Name: "passerelle_ledger_repeats_dropped_total", Help: "Repeats of \"later\" that did not reach their row because too many waited to be written.",
	})
)

const (
	// patience is how long a Note waits for its turn to be written. A client of ours waits 10 minutes for the reply (RFC 5321
	// section 4.5.3.2.6).
	patience   = time.Minute
	maxRepeats = 10000 // rows of waiting recipients that may wait to be brought up to date
	maxLate    = 10000
	maxGroup   = 256 // claims in one commit
	maxRide    = 128 // memory rows that a note forgets on its way
)

// note is one row to write with the memory that goes with it.
type note struct {
	key   key
	entry Entry
	memo  memo
	touch touch
}

// touch is what a note does to the memory.
type touch int

const (
	enter    touch = iota // join the set of those whose reply is not written yet (open.go)
	remember              // replace the memory row
	markSent              // mark the row that is there: its bounce was accepted
	leave                 // the recipient was served: a later "later" does not undo that
)

// repeat is the newest state of a waiting recipient's row.
type repeat struct {
	entry Entry
	memo  memo
}

// Note writes what became of recipients and returns nil when that is durable, together with the memory that keeps a repeated
// attempt from serving them twice. "Later" for a recipient that waits already only brings its row up to date, in the background.
// When Note fails the gate is shut, the reply must be 4xx, and what it was told is written as soon as the disk allows. The deed
// is done by now, so an ended ctx does not stop it.
func (c *Claim) Note(ctx context.Context, entries []Entry) error {
	notes, err := c.sort(entries)
	if err != nil {
		return fmt.Errorf("note outcome: %w", err)
	}
	if len(notes) == 0 {
		return nil
	}
	start := time.Now()
	err = c.l.write(ctx, notes)
	noteSeconds.Observe(time.Since(start).Seconds())
	if err != nil {
		c.l.fail(err, notes)
		return fmt.Errorf("note outcome: %w", err)
	}
	for _, n := range notes {
		notesTotal.WithLabelValues(string(n.entry.Outcome)).Inc()
		c.memos[n.entry.I] = n.memo
	}
	return nil
}

// Bounced notes that the reports to the sender about these recipients, bounces or reports of success, were accepted, so that no
// repeated attempt hands them over again. What became of them was noted before.
func (c *Claim) Bounced(ctx context.Context, recipients ...int) error {
	entries := make([]Entry, 0, len(recipients))
	for _, i := range recipients {
		if i < 0 || i >= len(c.memos) || !c.memos[i].served {
			return fmt.Errorf("note bounce of recipient %d: %w", i, errIndex)
		}
		e, err := c.l.Entry(ctx, c.memos[i].entry)
		if errors.Is(err, ErrNoEntry) { // the report has left: without its mark each repeat would send another
			e, err = c.memos[i].erased(), nil
		}
		if err != nil {
			return fmt.Errorf("note bounce of recipient %d: %w", i, err)
		}
		told := Bounced
		if e.Outcome == Delivered {
			told = Reported
		}
		e.I, e.Outcome, e.First, e.Last, e.Count = i, told, time.Time{}, time.Time{}, 0
		entries = append(entries, e)
	}
	return c.Note(ctx, entries)
}

// sort hands repeats to the background and gives the rest as rows to write.
func (c *Claim) sort(entries []Entry) ([]note, error) {
	now := c.l.cfg.Now().UTC()
	for _, e := range entries {
		if e.I < 0 || e.I >= len(c.keys) {
			return nil, errIndex
		}
		if !e.Outcome.final() && e.Outcome != Deferred {
			return nil, fmt.Errorf("outcome %q is not known", e.Outcome)
		}
	}
	var notes []note
	for _, e := range entries {
		e = complete(e, now)
		k, m := c.keys[e.I], c.memos[e.I]
		n := note{key: k, entry: e}
		switch {
		case e.Outcome == Deferred && m.served:
			n.memo, n.touch = m, leave
		case e.Outcome == Deferred && m.n > 0:
			m.n, m.last, m.reason = m.n+1, micros(e.Last), unique.Make(e.Reason)
			c.memos[e.I] = m
			c.l.again(k, repeat{e, m})
			notesTotal.WithLabelValues(string(Deferred)).Inc()
			continue
		case e.Outcome == Deferred:
			n.memo = memo{outcome: Deferred, first: micros(e.First), last: micros(e.Last), n: 1, reason: unique.Make(e.Reason), row: true}
			n.touch = remember
		case (e.Outcome == Bounced || e.Outcome == Reported) && m.served:
			m.bounced = true
			n.memo, n.touch = m, markSent
			if !m.row {
				n.touch = enter
			}
		default:
			n.memo = memo{served: true, bounced: e.Outcome == Bounced, outcome: e.Outcome, first: micros(e.First), last: micros(e.Last), row: m.row}
			if m.row {
				n.touch = remember
			}
		}
		notes = append(notes, n)
	}
	return notes, nil
}

// again puts a repeat where the background finds it; a newer one of the same recipient takes its place.
func (l *Ledger) again(k key, r repeat) {
	l.mu.Lock()
	l.index[k] = r.memo
	if _, ok := l.repeat[k]; ok || len(l.repeat) < maxRepeats {
		l.repeat[k] = r
	} else {
		dropped.Inc()
	}
	l.mu.Unlock()
	l.wake()
}

// write makes notes durable. Claims that note at the same time share one commit.
func (l *Ledger) write(ctx context.Context, notes []note) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return l.writes.Do(ctx, notes)
}

// writeAll is one commit for the notes of several claims: all are kept or none.
func (l *Ledger) writeAll(group [][]note) []error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var notes []*note
	for _, own := range group {
		for i := range own {
			notes = append(notes, &own[i])
		}
	}
	err := l.commit(ctx, notes, nil)
	errs := make([]error, len(group))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// commit makes notes durable and puts them in the index; memory rows that wait to be forgotten ride on it. before, where given, joins
// the transaction in front. It runs by writes alone: what the set of untold recipients is must not change between two commits.
func (l *Ledger) commit(ctx context.Context, notes []*note, before func(store.Tx) error) error {
	var gone map[key]int64
	var change openChange
	l.join(notes)
	err := l.db.Write(ctx, func(tx store.Tx) error {
		if err := l.lastSeq(tx); err != nil {
			return err
		}
		if before != nil {
			if err := before(tx); err != nil {
				return err
			}
		}
		gone = l.takeForgotten(maxRide)
		if err := l.writeForgotten(tx, gone); err != nil {
			return err
		}
		if err := l.writeNotes(tx, notes); err != nil {
			return err
		}
		c, row, due := l.changeOpen(notes)
		if change = c; !due {
			return nil
		}
		return l.writeOpen(tx, c, row)
	})
	l.changedOpen(change, err)
	if err != nil {
		l.seq = -1
		l.putBack(gone, nil)
		return err
	}
	l.accept(notes)
	return nil
}

// join turns notes of recipients who have a row in ledger_memory by now towards it: one may have been written since they were taken in hand.
func (l *Ledger) join(notes []*note) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range notes {
		if n.touch != enter || !l.index[n.key].row {
			continue
		}
		n.touch, n.memo.row = remember, true
		if n.memo.entry != 0 {
			n.touch = markSent
		}
	}
}

// lastSeq asks for the number of the last entry where it is not known: numbers have no gaps and are never used again, so one that a failed
// commit took is free.
func (l *Ledger) lastSeq(tx store.Tx) error {
	if l.seq >= 0 {
		return nil
	}
	if err := tx.QueryRow(`SELECT max(seq, (SELECT coalesce(max(seq), 0) FROM ledger_entries)), listed FROM ledger_open`).Scan(&l.seq, &l.listed); err != nil {
		return fmt.Errorf("number of the last entry: %w", err)
	}
	return nil
}

func (l *Ledger) writeNotes(tx store.Tx, notes []*note) error {
	st := tx.Stmt(l.st.insert)
	for _, n := range notes {
		seq := l.seq + 1
		err := insert(st, seq, &n.entry)
		if err != nil {
			return err
		}
		l.seq = seq
		switch n.touch {
		case enter:
			if n.memo.entry == 0 {
				n.memo.entry = seq
			}
		case remember:
			n.memo.entry = seq
			err = l.writeMemory(tx, n.key, n.memo)
		case markSent:
			_, err = tx.Stmt(l.st.bounced).Exec(n.key[:], n.memo.entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) writeMemory(tx store.Tx, k key, m memo) error {
	_, err := tx.Stmt(l.st.remember).Exec(k[:], m.served, m.bounced, string(m.outcome), m.first, m.last, m.n, m.entry, m.why())
	return err
}

// accept puts durable notes in the index; the commit has proved the ledger writable.
func (l *Ledger) accept(notes []*note) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range notes {
		if n.touch != leave { // it changes nothing, and he may have been told since
			l.index[n.key] = n.memo
			l.known(n.key) // a late one is not in hand
		}
	}
	l.behind = l.listed < l.seq
	if l.fault == nil {
		l.proved = l.cfg.Now()
	}
}
