package vault

import (
	"context"
	"fmt"
	"time"

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
