package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Migrate brings a room's tables up to date: steps are numbered from 1 in their order, each runs once, in a transaction with the
// row that remembers it. A step never changes after it was released; one that did, or a database that knows more steps than the
// program, is refused before anything runs. What a step sorts, for an index over many rows, goes to a temporary file.
func (db *DB) Migrate(ctx context.Context, room string, steps ...string) error {
	if err := db.pragma(ctx, "temp_store(FILE)"); err != nil {
		return err
	}
	err := db.Write(ctx, func(tx Tx) error { return migrate(tx, room, steps) })
	return errors.Join(err, db.pragma(context.WithoutCancel(ctx), inMemory))
}

// pragma sets one for the writer, which no transaction may be open for.
func (db *DB) pragma(ctx context.Context, text string) error {
	return db.writes.Alone(ctx, func() error {
		_, err := db.w.ExecContext(context.WithoutCancel(ctx), "PRAGMA "+text)
		if errors.Is(err, sql.ErrConnDone) {
			return ErrClosed
		}
		return err
	})
}

// stepsError: the tables are not those that this program's steps make.
type stepsError string

func (e stepsError) Error() string { return string(e) }

func migrate(tx Tx, room string, steps []string) error {
	done, err := appliedSteps(tx, room)
	if err != nil {
		return fmt.Errorf("read migrations of %s: %w", room, err)
	}
	if len(done) > len(steps) {
		return stepsError(fmt.Sprintf("tables of %s are at step %d and this program knows %d: the state folder was used by a newer version", room, len(done), len(steps)))
	}
	for i, text := range steps {
		sum := sha256.Sum256([]byte(text))
		hash := hex.EncodeToString(sum[:])
		if i < len(done) {
			if done[i] != hash {
				return stepsError(fmt.Sprintf("step %d of %s is not the one that made these tables", i+1, room))
			}
			continue
		}
		if _, err := tx.Exec(text); err != nil {
			return fmt.Errorf("run step %d of %s: %w", i+1, room, err)
		}
		if _, err := tx.Exec(`INSERT INTO store_migrations (room, step, hash, at) VALUES (?, ?, ?, ?)`,
			room, i+1, hash, time.Now().UTC().Format(time.RFC3339)); err != nil {
			return fmt.Errorf("note step %d of %s: %w", i+1, room, err)
		}
	}
	return nil
}

// appliedSteps gives the hashes of a room's steps that ran, in order.
func appliedSteps(tx Tx, room string) ([]string, error) {
	rows, err := tx.Query(`SELECT hash FROM store_migrations WHERE room = ? ORDER BY step`, room)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var done []string
	for rows.Next() {
		var hash string
		if err := rows.Scan(&hash); err != nil {
			return nil, err
		}
		done = append(done, hash)
	}
	return done, rows.Err()
}
