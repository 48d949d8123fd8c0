package vault

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/store"
)

const (
	pendingLife = time.Hour // a deposit whose notice was not accepted by then is what a crash left
	sweepBatch  = 250       // rows per commit, so that a large sweep does not hold up mail
	sweepPause  = 20 * time.Millisecond
	// orphansEvery: payloads are held against rows at the start and then seldom, for there may be a million of them.
	orphansEvery = time.Hour
)

// Swept counts what a sweep removed.
type Swept struct{ Expired, Pending, Orphans int }

// Sweep ends what is past its time: expired deposits lose their key and their payload, pending ones and payloads without a row
// go. It may be run at any time, on several gateways at once, and again after a crash at any point.
func (v *Vault) Sweep(ctx context.Context) (Swept, error) {
	var s Swept
	now := v.cfg.Now()
	for {
		ids, err := v.ids(ctx, `SELECT id FROM vault_deposits WHERE next_due > 0 AND next_due <= ? AND (expires <= ? OR state IN (?, ?))
			ORDER BY next_due LIMIT ?`, ms(now), ms(now), Pending, Held, sweepBatch)
		if err != nil {
			return s, fmt.Errorf("sweep: %w", err)
		}
		if len(ids) == 0 {
			break
		}
		var expired, pending int
		var gone []string // of those ids: a row may have been extended meanwhile
		err = v.db.Write(ctx, func(tx store.Tx) error {
			expired, pending, gone = 0, 0, gone[:0]
			for _, id := range ids {
				n, err := affected(tx.Exec(`DELETE FROM vault_deposits WHERE id = ? AND state = ? AND next_due <= ?`, id, Pending, ms(now)))
				if err != nil {
					return err
				}
				pending += n
				m, err := affected(tx.Exec(`UPDATE vault_deposits SET state = ?, changed = ?, ended = ?, next_due = 0, `+forget+`
					WHERE id = ? AND (state IN (?, ?) AND expires <= ? OR state = ?) AND next_due <= ?`, Expired, ms(now), ms(now), id, Waiting, Opened, ms(now), Held, ms(now)))
				if err != nil {
					return err
				}
				if expired += m; n+m > 0 {
					gone = append(gone, id)
				}
			}
			return v.settled(tx, ms(now), gone...)
		})
		if err != nil {
			return s, fmt.Errorf("sweep: %w", err)
		}
		if expired+pending == 0 {
			break // another gateway was faster; its deletions follow below as orphans
		}
		s.Expired, s.Pending = s.Expired+expired, s.Pending+pending
		for _, id := range gone { // after the keys: a crash between leaves noise, which the next look at orphans removes
			if err := v.blobs.Delete(ctx, id); err != nil {
				return s, fmt.Errorf("sweep: %w", err)
			}
		}
		select { // mail has the writer in between
		case <-ctx.Done():
			return s, fmt.Errorf("sweep: %w", ctx.Err())
		case <-time.After(sweepPause):
		}
	}
	if last := v.swept.Load(); last == 0 || ms(now)-last >= orphansEvery.Milliseconds() || ms(now) < last {
		if err := v.orphans(ctx, &s); err != nil {
			return s, fmt.Errorf("sweep: %w", err)
		}
		v.swept.Store(ms(now))
	}
	err := v.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM vault_answers WHERE day < ?`, dayOf(now)); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM vault_codes WHERE at <= ?`, ms(now.Add(-day)))
		return err
	})
	if err != nil {
		return s, fmt.Errorf("sweep: %w", err)
	}
	return s, v.count(ctx)
}

// orphans deletes the payloads that no row can open. A row stands before its payload does, so none in the making is hit.
func (v *Vault) orphans(ctx context.Context, s *Swept) error {
	blobs, err := v.blobs.List(ctx)
	if err != nil {
		return err
	}
	blobs = slices.DeleteFunc(blobs, func(name string) bool { // what has another name is nobody's payload: somebody else's file
		b, err := hex.DecodeString(name)
		return err != nil || len(b) != 16
	})
	for batch := range slices.Chunk(blobs, 500) {
		args := make([]any, len(batch))
		for i, id := range batch {
			args[i] = id
		}
		living, err := v.ids(ctx, `SELECT id FROM vault_deposits WHERE header IS NOT NULL AND id IN (?`+strings.Repeat(", ?", len(batch)-1)+`)`, args...)
		if err != nil {
			return err
		}
		keep := make(map[string]bool, len(living))
		for _, id := range living {
			keep[id] = true
		}
		for _, id := range batch {
			if keep[id] {
				continue
			}
			if err := v.blobs.Delete(ctx, id); err != nil {
				return err
			}
			s.Orphans++
		}
	}
	return nil
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
