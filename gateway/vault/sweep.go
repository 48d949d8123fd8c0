package vault

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/store"
)

const (
	pendingLife = time.Hour // a deposit whose notice was not accepted by then is what a crash left
	sweepBatch  = 50        // rows per commit: mail waits for one
	sweepPause  = 20 * time.Millisecond
	// sweepTime bounds each kind of work of one sweep: what is left is for the next, and other duties have their turn. Nothing opens after its end, swept or not.
	sweepTime = 20 * time.Second
	// allEvery: payloads are held against rows, and rows counted, at the start and then seldom, for there may be a million of them.
	allEvery = time.Hour
)

// Swept counts what a sweep removed.
type Swept struct {
	Expired, Pending, Orphans, Shed int
	away                            error // of the blob place: the keys go all the same
}

// Sweep ends what is past its time: expired deposits lose their key and their payload, pending ones and payloads without a row
// go; so do the rows of what ended longer ago than Config.Keep. It may be run at any time, on several gateways at once, and again after a crash at any point. Of very many it leaves some to the next.
func (v *Vault) Sweep(ctx context.Context) (Swept, error) {
	var s Swept
	now := v.cfg.Now()
	for _, step := range []func(context.Context, time.Time, *Swept) (bool, error){v.sweep, v.unlink, v.shed, v.empty} {
		for start := time.Now(); ; {
			begin := time.Now()
			more, err := step(ctx, now, &s)
			if err != nil {
				return s, fmt.Errorf("sweep: %w", err)
			}
			if !more || time.Since(start) >= v.sweepTime {
				break
			}
			if err := rest(ctx, max(sweepPause, 3*time.Since(begin))); err != nil {
				return s, fmt.Errorf("sweep: %w", err)
			}
		}
	}
	err := v.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM vault_answers WHERE day < ?`, dayOf(now)); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM vault_in_hand WHERE at <= ?`, ms(now.Add(-sendingLife))); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM vault_codes WHERE at <= ?`, ms(now.Add(-day)))
		return err
	})
	if err != nil {
		return s, fmt.Errorf("sweep: %w", err)
	}
	if err := v.sweepPhrases(ctx, now); err != nil {
		return s, fmt.Errorf("sweep: %w", err)
	}
	if s.away != nil {
		return s, fmt.Errorf("sweep: %w", s.away)
	}
	if last := v.swept.Load(); last == 0 || ms(now)-last >= allEvery.Milliseconds() || ms(now) < last {
		if err := errors.Join(v.orphans(ctx, &s), v.count(ctx)); err != nil {
			return s, fmt.Errorf("sweep: %w", err)
		}
		v.swept.Store(ms(now))
	}
	return s, nil
}

// rest leaves the writer, the disk and the processor to mail.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// past is a deposit that is past its time.
type past struct {
	id   string
	from State
	size int64
}

// sweep ends one batch, and tells whether there may be another.
func (v *Vault) sweep(ctx context.Context, now time.Time, s *Swept) (more bool, err error) {
	due, err := v.past(ctx, now)
	if err != nil || len(due) == 0 {
		return false, err
	}
	var gone []string // of those: a row may have been extended meanwhile
	err = v.db.Write(ctx, func(tx store.Tx) error {
		gone = gone[:0]
		for _, d := range due {
			n, err := affected(tx.Exec(`DELETE FROM vault_deposits WHERE id = ? AND state = ? AND next_due <= ?`, d.id, Pending, ms(now)))
			if err != nil {
				return err
			}
			m, err := affected(tx.Exec(`UPDATE vault_deposits SET state = CASE state WHEN ? THEN ? ELSE ? END, changed = ?, ended = ?, next_due = 0, `+forget+`
				WHERE id = ? AND (state IN (?, ?) AND expires <= ? OR state = ?) AND next_due <= ?`, Held, Destroyed, Expired, ms(now), ms(now), d.id, Waiting, Opened, ms(now), Held, ms(now)))
			if err != nil {
				return err
			}
			if n+m > 0 {
				gone = append(gone, d.id)
			}
		}
		return v.settled(tx, ms(now), gone...)
	})
	if err != nil {
		return false, err
	}
	for _, d := range due {
		switch {
		case !slices.Contains(gone, d.id):
		case d.from == Pending:
			moved(Pending, "")
			s.Pending++
		default:
			moved(d.from, map[bool]State{true: Destroyed, false: Expired}[d.from == Held])
			bytesGauge.Sub(float64(d.size))
			s.Expired++
		}
	}
	if len(gone) == 0 {
		return false, nil // another gateway was faster; its deletions follow as orphans
	}
	// After the keys: a crash between, or a blob place that is away, leaves noise, which the next look at orphans removes.
	if s.away == nil {
		s.away = v.blobs.Delete(ctx, gone...)
	}
	return true, nil
}

// unlink destroys the link's record of opened deposits at the time of their last reminder, as that does of unopened ones.
func (v *Vault) unlink(ctx context.Context, now time.Time, _ *Swept) (more bool, err error) {
	due, err := v.ids(ctx, `SELECT id FROM vault_deposits INDEXED BY vault_deposits_due WHERE next_due > 0 AND next_due <= ? AND state = ? AND expires > ?
		ORDER BY next_due LIMIT ?`, ms(now), Opened, ms(now), sweepBatch)
	if err != nil || len(due) == 0 {
		return false, err
	}
	err = v.db.Write(ctx, func(tx store.Tx) error {
		for _, id := range due {
			if _, err := tx.Exec(`UPDATE vault_deposits SET resend = NULL, next_due = expires WHERE id = ? AND state = ? AND next_due <= ?`, id, Opened, ms(now)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("remove links' records: %w", err)
	}
	return len(due) == sweepBatch, nil
}

func (v *Vault) past(ctx context.Context, now time.Time) (due []past, err error) {
	rows, err := v.db.Read().QueryContext(ctx, `SELECT id, state, size FROM vault_deposits INDEXED BY vault_deposits_due WHERE next_due > 0 AND next_due <= ? AND (expires <= ? OR state IN (?, ?))
		ORDER BY next_due LIMIT ?`, ms(now), ms(now), Pending, Held, sweepBatch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var d past
		if err := rows.Scan(&d.id, &d.from, &d.size); err != nil {
			return nil, err
		}
		due = append(due, d)
	}
	return due, rows.Err()
}

// orphans deletes the payloads that no row can open. A row stands before its payload does, so none in the making is hit.
func (v *Vault) orphans(ctx context.Context, s *Swept) error {
	return v.blobs.List(ctx, func(batch []string) error {
		begin := time.Now()
		var args []any
		batch = slices.DeleteFunc(batch, func(name string) bool { // what has another name is nobody's payload: somebody else's file
			b, err := hex.DecodeString(name)
			return err != nil || len(b) != 16
		})
		if len(batch) == 0 {
			return nil
		}
		for _, id := range batch {
			args = append(args, id)
		}
		living, err := v.ids(ctx, `SELECT id FROM vault_deposits WHERE header IS NOT NULL AND id IN (?`+strings.Repeat(", ?", len(batch)-1)+`)`, args...)
		if err != nil {
			return err
		}
		keep := make(map[string]bool, len(living))
		for _, id := range living {
			keep[id] = true
		}
		if batch = slices.DeleteFunc(batch, func(id string) bool { return keep[id] }); len(batch) > 0 {
			if err := v.blobs.Delete(ctx, batch...); err != nil {
				return err
			}
			s.Orphans += len(batch)
		}
		return rest(ctx, time.Since(begin))
	})
}

func (v *Vault) ids(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := v.db.Read().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func affected(res sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}
