package vault

import (
	"context"
	"fmt"
	"strings"
	"time"

	"passerelle/gateway/store"
)

// schemaKeep is the room "vault keep": what a sender was told of, how long rows stay, how they are found by recipient.
const schemaKeep = `
ALTER TABLE vault_deposits ADD COLUMN said TEXT NOT NULL DEFAULT ''; -- the state, held or destroyed, that its sender was told of
UPDATE vault_deposits SET said = state WHERE state = 'held';
UPDATE vault_deposits SET said = state WHERE state = 'destroyed' AND sending NOT IN (SELECT id FROM vault_sendings WHERE told = 0 AND next_due > 0);
UPDATE vault_deposits SET ended = changed WHERE ended = 0 AND state IN ('expired', 'revoked', 'destroyed');
CREATE INDEX vault_deposits_ended ON vault_deposits (ended) WHERE ended > 0;
CREATE INDEX vault_deposits_recipient ON vault_deposits (LOWER(recipient), created);
UPDATE vault_sendings SET next_due = created + 604800000 WHERE next_due = 0 AND NOT EXISTS (SELECT 1 FROM vault_deposits d WHERE d.sending = vault_sendings.id);`

// schemaClosed finds the closed exchanges of two people without their other messages: a laboratory writes thousands to one mailbox.
const schemaClosed = `CREATE INDEX vault_deposits_closed ON vault_deposits (recipient, sender) WHERE closed = 1;`

// defaultKeep has a year's work with a month to ask about it: a complaint, the next yearly visit, an audit of the year before.
const defaultKeep = 400 * day

// shed removes the rows of a batch of deposits that ended longer ago than Config.Keep, with all that is about them, and tells whether there may
// be another. The ledger must know of each. What belongs to one message goes no sooner than the last of it may: the sender's page shows all of it.
func (v *Vault) shed(ctx context.Context, now time.Time, s *Swept) (more bool, err error) {
	before := ms(now.Add(-v.cfg.Keep))
	old, err := v.ids(ctx, shedQuery, before, before, sweepBatch)
	if err != nil || len(old) == 0 {
		return false, err
	}
	args := make([]any, len(old))
	for i, id := range old {
		args[i] = id
	}
	these := `(?` + strings.Repeat(", ?", len(old)-1) + `)`
	left := map[State]int{}
	err = v.db.Write(ctx, func(tx store.Tx) error {
		clear(left)
		rows, err := tx.Query(`SELECT state, sending FROM vault_deposits WHERE id IN `+these, args...) // another gateway may have been faster
		if err != nil {
			return err
		}
		defer rows.Close()
		sendings := map[string]bool{}
		for rows.Next() {
			var state State
			var sending string
			if err := rows.Scan(&state, &sending); err != nil {
				return err
			}
			left[state]++
			sendings[sending] = true
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, of := range []string{`vault_codes WHERE deposit`, `vault_refusals WHERE deposit`, `vault_deposits WHERE id`} {
			if _, err := tx.Exec(`DELETE FROM `+of+` IN `+these, args...); err != nil {
				return err
			}
		}
		for id := range sendings {
			if _, err := tx.Exec(`DELETE FROM vault_sendings WHERE id = ? AND NOT EXISTS (SELECT 1 FROM vault_deposits d WHERE d.sending = vault_sendings.id)`, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("remove what ended long ago: %w", err)
	}
	for state, n := range left {
		for range n {
			moved(state, "")
			s.Shed++
		}
	}
	return len(old) == sweepBatch, nil
}

// shedQuery wants twice the time before which a deposit must have ended, and how many rows are wanted.
const shedQuery = `SELECT id FROM vault_deposits WHERE ended > 0 AND ended <= ? AND noted = state
	AND (sending = '' OR NOT EXISTS (SELECT 1 FROM vault_deposits d WHERE d.sending = vault_deposits.sending AND (d.ended = 0 OR d.ended > ?)))
	ORDER BY ended LIMIT ?`

// empty removes sendings of which nothing was ever accepted, once no attempt can join them.
func (v *Vault) empty(ctx context.Context, now time.Time, _ *Swept) (more bool, err error) {
	// A sending gets due at that time where none of its deposits has made it due earlier.
	old, err := v.ids(ctx, `SELECT id FROM vault_sendings WHERE next_due > 0 AND next_due <= ? AND created <= ?
		AND NOT EXISTS (SELECT 1 FROM vault_deposits d WHERE d.sending = vault_sendings.id) ORDER BY next_due LIMIT ?`, ms(now), ms(now.Add(-sendingLife)), sweepBatch)
	if err != nil || len(old) == 0 {
		return false, err
	}
	err = v.db.Write(ctx, func(tx store.Tx) error {
		for _, id := range old {
			if _, err := tx.Exec(`DELETE FROM vault_sendings WHERE id = ? AND NOT EXISTS (SELECT 1 FROM vault_deposits d WHERE d.sending = vault_sendings.id)`, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("remove sendings without deposits: %w", err)
	}
	return len(old) == sweepBatch, nil
}
