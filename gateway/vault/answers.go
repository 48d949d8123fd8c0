package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"passerelle/crypto/seal"
	"passerelle/gateway/store"
)

// schemaAnswers counts the answers of a deposit by day (UTC), for their limit.
const schemaAnswers = `
CREATE TABLE vault_answers (
	deposit TEXT NOT NULL,
	day     INTEGER NOT NULL, -- since 1970
	n       INTEGER NOT NULL,
	PRIMARY KEY (deposit, day)
) WITHOUT ROWID;`

// schemaInHand has what one of several gateways on this database has in hand or has done, as an answer that it hands on: each has a ledger of its own.
const schemaInHand = `
CREATE TABLE vault_in_hand (
	deed  BLOB PRIMARY KEY, -- HMAC of its key
	at    INTEGER NOT NULL,
	until INTEGER NOT NULL  -- it is somebody's until then; 0: it is done
);
CREATE INDEX vault_in_hand_at ON vault_in_hand (at);`

// schemaLease tells whose a deed in hand is: who was slower than his lease gives back nothing that another one has by then.
const schemaLease = `
ALTER TABLE vault_in_hand ADD COLUMN lease BLOB;`

// handLease is how long who takes a deed in hand has it: longer than any handing on lasts (portal: handOnTime), so that what is tried again
// afterwards is a killed gateway's.
const handLease = 6 * time.Minute

// askAgain is how soon Take looks again for what the database did not say.
const askAgain = 250 * time.Millisecond

// Hand is whose a deed is.
type Hand int

// The answers of Take: who asks has it now, another one has, it was done.
const (
	Ours Hand = iota
	Theirs
	Done
)

// Lease is what Leave shows of what Take gave.
type Lease [16]byte

// Take takes a deed in hand. A take of which nobody knows whether it was done is looked for until ctx ends: else it would be in nobody's hand, and
// kept from all.
func (v *Vault) Take(ctx context.Context, key [32]byte) (whose Hand, lease Lease, err error) {
	rand.Read(lease[:])
	for lost := false; ; {
		whose, err = v.take(ctx, key, lease)
		lost = lost || errors.Is(err, store.ErrUnknown)
		if err == nil {
			return whose, lease, nil
		}
		if !lost || rest(ctx, askAgain) != nil {
			return 0, lease, fmt.Errorf("take a deed in hand: %w", err)
		}
	}
}

func (v *Vault) take(ctx context.Context, key [32]byte, lease Lease) (whose Hand, err error) {
	mark, now := v.deedMark(key), v.cfg.Now()
	err = v.db.Write(ctx, func(tx store.Tx) error {
		end := ms(now.Add(handLease))
		n, err := affected(tx.Exec(`INSERT INTO vault_in_hand (deed, at, until, lease) VALUES (?, ?, ?, ?) ON CONFLICT (deed) DO NOTHING`, mark, ms(now), end, lease[:]))
		if err != nil || n == 1 {
			whose = Ours
			return err
		}
		var until int64
		var has []byte
		if err := tx.QueryRow(`SELECT until, lease FROM vault_in_hand WHERE deed = ?`, mark).Scan(&until, &has); err != nil {
			return err
		}
		switch {
		case until == 0:
			whose = Done
		case until > ms(now) && !bytes.Equal(has, lease[:]):
			whose = Theirs
		default: // its gateway died, or it is ours
			whose = Ours
			_, err = tx.Exec(`UPDATE vault_in_hand SET at = ?, until = ?, lease = ? WHERE deed = ?`, ms(now), end, lease[:], mark)
		}
		return err
	})
	return whose, err
}

// Leave ends what Take began: it is done for good, whoever has it now, or anybody may take it again.
func (v *Vault) Leave(ctx context.Context, key [32]byte, lease Lease, done bool) error {
	mark, now := v.deedMark(key), v.cfg.Now()
	err := v.db.Write(ctx, func(tx store.Tx) (err error) {
		if done {
			_, err = tx.Exec(`INSERT INTO vault_in_hand (deed, at, until) VALUES (?, ?, 0) ON CONFLICT (deed) DO UPDATE SET until = 0`, mark, ms(now))
		} else {
			_, err = tx.Exec(`DELETE FROM vault_in_hand WHERE deed = ? AND lease = ? AND until > 0`, mark, lease[:])
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("note what became of a deed in hand: %w", err)
	}
	return nil
}

func (v *Vault) deedMark(key [32]byte) []byte {
	return seal.Mark(v.cfg.Key, "deed", hex.EncodeToString(key[:]))
}

func dayOf(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

// Answered counts an answer that the clinic's server has accepted.
func (v *Vault) Answered(ctx context.Context, id string) error {
	now := v.cfg.Now()
	err := v.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO vault_answers (deposit, day, n) VALUES (?, ?, 1) ON CONFLICT (deposit, day) DO UPDATE SET n = vault_answers.n + 1`, id, dayOf(now)); err != nil {
			return err
		}
		return one(tx.Exec(`UPDATE vault_deposits SET answers = answers + 1, changed = ? WHERE id = ?`, ms(now), id))
	})
	if err != nil {
		return fmt.Errorf("note answer to deposit %s: %w", id, err)
	}
	return nil
}

// AnswersToday is how many answers to a deposit were accepted since midnight, UTC.
func (v *Vault) AnswersToday(ctx context.Context, id string) (n int, err error) {
	err = v.db.Read().QueryRowContext(ctx, `SELECT COALESCE(SUM(n), 0) FROM vault_answers WHERE deposit = ? AND day = ?`, id, dayOf(v.cfg.Now())).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count answers to deposit %s: %w", id, err)
	}
	return n, nil
}
