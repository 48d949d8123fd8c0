package store

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
	"sync/atomic"
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

const (
	queued int32 = iota
	taken
	dropped
)

type job struct {
	f     func(*sql.Tx) error
	done  chan error
	state atomic.Int32
}

// Write runs f in the writer goroutine and returns nil only when what f did is durable. Closures that wait at the same time
// share one transaction: an error of f (or a panic) undoes what f did and nothing else; when the transaction itself fails, all
// of them get that error and nothing of any is kept. ctx counts while f is queued only: once begun, f runs to its end, because
// interrupting a statement would undo the others' work. So f uses tx.Exec, tx.Query and tx.Stmt without a context, is short, and neither
// commits nor rolls back tx nor calls Write.
func (db *DB) Write(ctx context.Context, f func(*sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{f: f, done: make(chan error, 1)}
	if err := db.enqueue(ctx, j); err != nil {
		return err
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.state.CompareAndSwap(queued, dropped) {
			return ctx.Err()
		}
		return <-j.done
	}
}

func (db *DB) enqueue(ctx context.Context, j *job) error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.closed {
		return ErrClosed
	}
	select {
	case db.jobs <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run is the writer goroutine: it takes a job and whatever else waits, and commits them together. While it commits, the next
// group gathers; that is all the grouping there is, and no job waits for a timer.
func (db *DB) run() {
	defer close(db.done)
	group := make([]*job, 0, maxGroup)
	for j := range db.jobs {
		group = group[:0]
		group = take(group, j)
	gather:
		for len(group) < maxGroup {
			select {
			case j, ok := <-db.jobs:
				if !ok {
					break gather
				}
				group = take(group, j)
			default:
				break gather
			}
		}
		if len(group) > 0 {
			db.commit(group)
		}
	}
}

func take(group []*job, j *job) []*job {
	if j.state.CompareAndSwap(queued, taken) {
		return append(group, j)
	}
	return group
}

func (db *DB) commit(group []*job) {
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
	for i, j := range group {
		result := "ok"
		if errs[i] != nil {
			result = "error"
		}
		writesTotal.WithLabelValues(result).Inc()
		j.done <- errs[i]
	}
}

// transact runs the group in one transaction and puts each closure's own error in errs. Its own error means that nothing of any
// of them was kept.
func (db *DB) transact(group []*job, errs []error) error {
	tx, err := db.w.Begin()
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	kept := 0
	for i, j := range group {
		var lost error
		if errs[i], lost = db.one(tx, j.f, len(group) == 1); lost != nil {
			tx.Rollback()
			db.clear()
			return lost
		}
		if errs[i] == nil {
			kept++
		}
	}
	if kept == 0 {
		tx.Rollback()
		db.clear()
		return nil
	}
	if err := tx.Commit(); err != nil {
		db.clear()
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// clear ends a transaction that SQLite may have left open: a COMMIT that failed (busy, disk full) does not end it, and the next
// BEGIN on the only connection would fail for ever. When there is none, SQLite says so and nothing happens.
func (db *DB) clear() { db.w.Exec("ROLLBACK") }

// one runs f in a savepoint. err is f's own failure, undone; lost says that the transaction as a whole cannot go on: some errors
// (disk full, I/O) make SQLite roll back everything, and then there is no savepoint to return to.
func (db *DB) one(tx *sql.Tx, f func(*sql.Tx) error, alone bool) (err, lost error) {
	if alone { // no neighbour to protect: rolling back the transaction does it
		return db.guard(tx, f), nil
	}
	if _, err := tx.Stmt(db.savepoint).Exec(); err != nil {
		return nil, fmt.Errorf("set savepoint: %w", err)
	}
	if err = db.guard(tx, f); err != nil {
		if _, undo := tx.Stmt(db.undo).Exec(); undo != nil {
			return nil, fmt.Errorf("transaction lost: %w", err)
		}
	}
	if _, lost := tx.Stmt(db.release).Exec(); lost != nil {
		return nil, fmt.Errorf("release savepoint: %w", lost)
	}
	return err, nil
}

func (db *DB) guard(tx *sql.Tx, f func(*sql.Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			db.log.Error("write closure panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("write closure panicked")
		}
	}()
	return f(tx)
}
