package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	// CommitSeconds is how long groups took from BEGIN to the end of COMMIT, failed ones included.
	CommitSeconds = promauto.NewHistogram(prometheus.HistogramOpts{
		Name: "passerelle_store_commit_seconds", Help: "Time of one grouped transaction, from BEGIN to durable.",
		Buckets: prometheus.ExponentialBuckets(0.000125, 2, 17),
	})
	writesTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "passerelle_store_writes_total", Help: "Closures handed to the writer, by what became of them.",
	}, []string{"result"}) // ok, error
)

// maxGroup bounds how long the first of a group waits for the last.
const maxGroup = 256

// Tx is the open transaction that a closure works in. *sql.Tx is one, too.
type Tx interface {
	Exec(query string, args ...any) (sql.Result, error)
	Query(query string, args ...any) (*sql.Rows, error)
	QueryRow(query string, args ...any) *sql.Row
	// Stmt gives a statement of DB.Prepare as it is used inside the transaction.
	Stmt(*sql.Stmt) *sql.Stmt
}

// transaction is the writer's connection between BEGIN and COMMIT. database/sql's own Tx starts a goroutine and compiles both words anew
// for each transaction.
type transaction struct{ c *sql.Conn }

func (t transaction) Exec(query string, args ...any) (sql.Result, error) {
	return t.c.ExecContext(context.Background(), query, args...)
}

func (t transaction) Query(query string, args ...any) (*sql.Rows, error) {
	return t.c.QueryContext(context.Background(), query, args...)
}

func (t transaction) QueryRow(query string, args ...any) *sql.Row {
	return t.c.QueryRowContext(context.Background(), query, args...)
}

func (t transaction) Stmt(s *sql.Stmt) *sql.Stmt { return s } // prepared on this very connection

// Write runs f and returns nil only when what f did is durable. Closures that wait at the same time share one transaction: an error of
// f (or a panic) undoes what f did and nothing else; when the transaction itself fails, all of them get that error and nothing of any is
// kept. ctx counts while f is queued only: once begun, f runs to its end, because interrupting a statement would undo the others' work.
// So f uses tx without a context, is short, and does not call Write.
func (db *DB) Write(ctx context.Context, f func(Tx) error) error { return db.writes.Do(ctx, f) }

func (db *DB) commit(group []func(Tx) error) []error {
	start := time.Now()
	errs := make([]error, len(group))
	err := db.disk.there()
	if err == nil {
		if err = db.transact(group, errs); err == nil {
			err = db.disk.there() // what was committed to a file without a name is not durable
		}
	}
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	CommitSeconds.Observe(time.Since(start).Seconds())
	for _, err := range errs {
		result := "ok"
		if err != nil {
			result = "error"
		}
		writesTotal.WithLabelValues(result).Inc()
	}
	return errs
}

// transact runs the group in one transaction and puts each closure's own error in errs. Its own error means that nothing of any
// of them was kept.
func (db *DB) transact(group []func(Tx) error, errs []error) error {
	if _, err := db.begin.Exec(); err != nil {
		db.clear()
		return fmt.Errorf("begin transaction: %w", err)
	}
	tx := transaction{db.w}
	kept := 0
	for i, f := range group {
		var lost error
		if errs[i], lost = db.one(tx, f, len(group) == 1); lost != nil {
			db.clear()
			return lost
		}
		if errs[i] == nil {
			kept++
		}
	}
	if kept == 0 {
		db.clear()
		return nil
	}
	if _, err := db.end.Exec(); err != nil {
		db.clear()
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// clear ends a transaction that SQLite may have left open: a COMMIT that failed (busy, disk full) does not end it, and the next
// BEGIN on the only connection would fail for ever. When there is none, SQLite says so and nothing happens.
func (db *DB) clear() { db.w.ExecContext(context.Background(), "ROLLBACK") }

// one runs f in a savepoint. err is f's own failure, undone; lost says that the transaction as a whole cannot go on: some errors
// (disk full, I/O) make SQLite roll back everything, and then there is no savepoint to return to.
func (db *DB) one(tx Tx, f func(Tx) error, alone bool) (err, lost error) {
	if alone { // no neighbour to protect: rolling back the transaction does it
		return guard(db.log, tx, f), nil
	}
	if _, err := tx.Stmt(db.savepoint).Exec(); err != nil {
		return nil, fmt.Errorf("set savepoint: %w", err)
	}
	if err = guard(db.log, tx, f); err != nil {
		if _, undo := tx.Stmt(db.undo).Exec(); undo != nil {
			return nil, fmt.Errorf("transaction lost: %w", err)
		}
	}
	if _, lost := tx.Stmt(db.release).Exec(); lost != nil {
		return nil, fmt.Errorf("release savepoint: %w", lost)
	}
	return err, nil
}

func guard(log *slog.Logger, tx Tx, f func(Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("write closure panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("write closure panicked")
		}
	}()
	return f(tx)
}
