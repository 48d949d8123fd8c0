package vault

import (
	"context"
	"encoding/hex"
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

// schemaInHand has the answers that a gateway has in hand or has handed on, for the other gateways on the same database: each has a ledger of its own.
const schemaInHand = `
CREATE TABLE vault_in_hand (
	answer BLOB PRIMARY KEY,         -- HMAC of the answer's key
	at     INTEGER NOT NULL,
	until  INTEGER NOT NULL          -- it is somebody's until then; 0: it was handed on
);
CREATE INDEX vault_in_hand_at ON vault_in_hand (at);`

// AnswerLease is how long who takes an answer has it: longer than any handing on lasts, so that a killed gateway's is tried again afterwards.
const AnswerLease = 6 * time.Minute

// Answering is whose an answer is.
type Answering int

// The answers of TakeAnswer: who asks has it now, another one has, it was handed on.
const (
	AnswerTaken Answering = iota
	AnswerInHand
	AnswerHandedOn
)

// TakeAnswer takes an answer in hand, for AnswerLease.
func (v *Vault) TakeAnswer(ctx context.Context, key [32]byte) (whose Answering, err error) {
	mark, now := v.answerMark(key), v.cfg.Now()
	err = v.db.Write(ctx, func(tx store.Tx) error {
		until := ms(now.Add(AnswerLease))
		n, err := affected(tx.Exec(`INSERT INTO vault_in_hand (answer, at, until) VALUES (?, ?, ?) ON CONFLICT (answer) DO NOTHING`, mark, ms(now), until))
		if err != nil || n == 1 {
			whose = AnswerTaken
			return err
		}
		var theirs int64
		if err := tx.QueryRow(`SELECT until FROM vault_in_hand WHERE answer = ?`, mark).Scan(&theirs); err != nil {
			return err
		}
		switch {
		case theirs == 0:
			whose = AnswerHandedOn
		case theirs > ms(now):
			whose = AnswerInHand
		default: // its gateway died
			whose = AnswerTaken
			_, err = tx.Exec(`UPDATE vault_in_hand SET at = ?, until = ? WHERE answer = ?`, ms(now), until, mark)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("take an answer in hand: %w", err)
	}
	return whose, nil
}

// LeaveAnswer ends what TakeAnswer began: it was handed on, or anybody may try again.
func (v *Vault) LeaveAnswer(ctx context.Context, key [32]byte, handedOn bool) error {
	query := `DELETE FROM vault_in_hand WHERE answer = ?`
	if handedOn {
		query = `UPDATE vault_in_hand SET until = 0 WHERE answer = ?`
	}
	err := v.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(query, v.answerMark(key))
		return err
	})
	if err != nil {
		return fmt.Errorf("note what became of an answer in hand: %w", err)
	}
	return nil
}

func (v *Vault) answerMark(key [32]byte) []byte {
	return seal.Mark(v.cfg.Key, "answer", hex.EncodeToString(key[:]))
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
