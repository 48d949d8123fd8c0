package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/gateway/store"
)

var readyGauge = promauto.NewGauge(prometheus.GaugeOpts{
	Name: "passerelle_ledger_ready", Help: "1 while the ledger can be written, 0 while the gate answers 451.",
})

// NotReadyError says that the ledger could not be written and has not been since: nothing may be handed on, answer 451.
type NotReadyError struct{ Err error }

func (e *NotReadyError) Error() string { return fmt.Sprintf("ledger is not writable: %v", e.Err) }
func (e *NotReadyError) Unwrap() error { return e.Err }

// Ready is nil while the gate is open. After one failed write it is a *NotReadyError, until a write succeeds in the background.
func (l *Ledger) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil {
		return &NotReadyError{l.fault}
	}
	return nil
}

// prove gives nil if a commit succeeded within the last cfg.Proof, or one does now. Under load the notes themselves are the
// proof; after a silence the first of the waiting claims writes and the others share its answer.
func (l *Ledger) prove(ctx context.Context) error {
	if ok, err := l.fresh(); ok || err != nil {
		return err
	}
	stall := time.NewTimer(l.cfg.Stall)
	defer stall.Stop()
	select {
	case l.proving <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-stall.C:
		return l.stalled()
	}
	if ok, err := l.fresh(); ok || err != nil {
		<-l.proving
		return err
	}
	done := make(chan error, 1)
	l.proofs.Go(func() { // a disk that answers nothing must not hold every session, nor hide behind an open gate
		defer func() { <-l.proving }()
		err := l.probe(context.WithoutCancel(ctx))
		if err != nil {
			l.fail(err, nil)
		}
		done <- err
	})
	select {
	case err := <-done:
		if err != nil {
			return &NotReadyError{err}
		}
	case <-ctx.Done():
		return &NotReadyError{ctx.Err()}
	case <-stall.C:
		return l.stalled()
	}
	return l.Ready() // a note may have failed while we wrote
}

// stalled shuts the gate until the write that hangs has come through.
func (l *Ledger) stalled() error {
	err := fmt.Errorf("no commit within %s: the disk stalls", l.cfg.Stall)
	l.fail(err, nil)
	return &NotReadyError{err}
}

func (l *Ledger) fresh() (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil {
		return false, &NotReadyError{l.fault}
	}
	age := l.cfg.Now().Sub(l.proved)
	return age >= 0 && age < l.cfg.Proof, nil // a clock set back proves nothing
}

// probe commits as much as a note of a common size would need, and with it what failed notes could not write: whoever comes
// after it finds those recipients served.
func (l *Ledger) probe(ctx context.Context) error {
	return l.writes.Alone(ctx, func() error { return l.writeLate(ctx) })
}

func (l *Ledger) writeLate(ctx context.Context) error {
	l.mu.Lock()
	late := slices.Clone(l.late)
	l.mu.Unlock()
	notes := make([]*note, len(late))
	for i := range late {
		notes[i] = &late[i]
	}
	if err := l.commit(ctx, notes, func(tx store.Tx) error {
		_, err := tx.Stmt(l.st.probe).Exec()
		return err
	}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = l.late[len(late):]
	if len(l.late) > 0 {
		return nil // a note failed while we wrote: the gate stays shut until the next probe
	}
	l.late, l.fault, l.proved = nil, nil, l.cfg.Now()
	readyGauge.Set(1)
	l.wake() // what fell due behind a shut gate waits still; at the start, what the last process left unlisted
	return nil
}

// fail shuts the gate. Final outcomes of the failed note are kept to be written by the probe that opens it again.
func (l *Ledger) fail(err error, notes []note) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range notes {
		if !n.entry.Outcome.final() || len(l.late) >= maxLate {
			continue
		}
		if m, ok := l.open[n.key]; ok { // of a bounce: its failure was noted before and moves with the mark
			m.bounced = m.bounced || n.memo.bounced
			l.open[n.key], l.index[n.key], n.memo = m, m, m
			n.touch = leave
		}
		if n.touch == enter { // whoever was to be told got "later" instead
			n.touch, n.memo.row = remember, true
		}
		l.late = append(l.late, n)
	}
	if l.fault == nil {
		l.cfg.Log.Error("ledger cannot be written, the gate answers 451", "err", err)
	}
	l.fault = err
	readyGauge.Set(0)
}

// reopen tries to write behind a shut gate.
func (l *Ledger) reopen(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := l.probe(ctx); err != nil {
		l.cfg.Log.Warn("ledger still cannot be written", "err", err)
		return
	}
	if l.Ready() == nil {
		l.cfg.Log.Info("ledger can be written again")
	}
}

// flush writes what waited in the background: repeats first, then what is to be forgotten, because one recipient may have both.
func (l *Ledger) flush(ctx context.Context) {
	const batch = 500 // bounds how long a note waits behind us
	for l.Ready() == nil {
		l.mu.Lock()
		idle := len(l.forget) == 0 && len(l.repeat) == 0 && len(l.untold) == 0 && !l.stale && !l.behind
		l.mu.Unlock()
		if idle {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		var again map[key]repeat
		err := l.writes.Alone(context.Background(), func() error {
			return l.commit(ctx, nil, func(tx store.Tx) error {
				again = l.takeRepeats(batch)
				if err := l.writeRepeats(tx, again); err != nil {
					return err
				}
				return l.list(tx)
			})
		})
		cancel()
		if err != nil {
			l.putBack(nil, again)
			l.fail(fmt.Errorf("write in the background: %w", err), nil)
			return
		}
	}
}

// purge drops memory that is too old; a claim does not see it already. A row may lie behind its recipient's last attempt until the
// background has written that, so repeats go first; where they cannot be written nothing is dropped.
func (l *Ledger) purge(ctx context.Context) {
	l.mu.Lock()
	behind := len(l.repeat) > 0
	l.mu.Unlock()
	if behind {
		if l.flush(ctx); l.Ready() != nil {
			return
		}
	}
	oldest := l.cfg.Now().Add(-l.cfg.Memory).UnixMicro()
	l.mu.Lock()
	for k, m := range l.index {
		if _, held := l.hand[k]; !held && m.last < oldest {
			delete(l.index, k)
			l.shrink(k.copy(0))
		}
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var n int64
		err := l.db.Write(ctx, func(tx store.Tx) error {
			res, err := tx.Exec(`DELETE FROM ledger_memory WHERE key IN (SELECT key FROM ledger_memory WHERE last < ? LIMIT 1000)`, oldest)
			if err != nil {
				return err
			}
			n, err = res.RowsAffected()
			return err
		})
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			l.fail(fmt.Errorf("purge the retry memory: %w", err), nil)
		}
		if err != nil || n < 1000 {
			return
		}
	}
}
