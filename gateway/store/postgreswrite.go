package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

func (p *Postgres) commit(group []func(Tx) error) []error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), groupTime)
	defer cancel()
	errs := make([]error, len(group))
	err := p.prepare(ctx)
	if err == nil {
		err = p.transact(ctx, group, errs)
	}
	up := 1.0
	if err != nil {
		up = 0
		for i := range errs {
			errs[i] = err
		}
	}
	sharedUp.Set(up)
	sharedCommitSeconds.Observe(time.Since(start).Seconds())
	for _, err := range errs {
		result := "ok"
		if err != nil {
			result = "error"
		}
		sharedWrites.WithLabelValues(result).Inc()
	}
	return errs
}

// transact runs the group in one transaction. Its own error means that nothing of any was kept, or that nobody knows: a connection that broke in
// the commit (ErrUnknown). Callers take both for "not done" and must bear that it was, or ask: the next Write begins when that commit has ended.
func (p *Postgres) transact(ctx context.Context, group []func(Tx) error, errs []error) error {
	t, err := p.begin(ctx)
	if err != nil {
		return err
	}
	defer t.Rollback()
	tx := shared{t, ctx}
	kept := 0
	for i, f := range group {
		var lost error
		if errs[i], lost = p.one(tx, f, len(group) == 1); lost != nil {
			return lost
		}
		if errs[i] == nil {
			kept++
		}
	}
	if kept == 0 {
		return nil
	}
	err = t.Commit()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrTxCommitRollback), errors.Is(err, sql.ErrTxDone): // a closure swallowed an error; the time was over before
		return fmt.Errorf("commit: %w", err)
	}
	return fmt.Errorf("commit: %w: %w", ErrUnknown, err)
}

// begin opens a transaction once no other gateway has one. What a commit confirms is on the server's disk, whatever its settings say.
func (p *Postgres) begin(ctx context.Context) (*sql.Tx, error) {
	t, err := p.w.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin transaction: %w", err)
	}
	if _, err := t.ExecContext(ctx, fmt.Sprintf(`SET LOCAL synchronous_commit TO on; SELECT pg_advisory_xact_lock(%d)`, int64(writersLock))); err != nil {
		t.Rollback()
		return nil, fmt.Errorf("wait for the other gateways: %w", err)
	}
	return t, nil
}

// one runs f in a savepoint, as DB.one does: in PostgreSQL every failed statement ends the whole transaction without one.
func (p *Postgres) one(tx shared, f func(Tx) error, alone bool) (err, lost error) {
	if alone {
		return guard(p.cfg.Log, tx, f), nil
	}
	if _, err := tx.Exec("SAVEPOINT one"); err != nil {
		return nil, fmt.Errorf("set savepoint: %w", err)
	}
	if err = guard(p.cfg.Log, tx, f); err != nil {
		if _, undo := tx.Exec("ROLLBACK TO one"); undo != nil {
			return nil, fmt.Errorf("transaction lost: %w", err)
		}
	}
	if _, lost := tx.Exec("RELEASE one"); lost != nil {
		return nil, fmt.Errorf("release savepoint: %w", lost)
	}
	return err, nil
}

// prepare makes the tables that are not there yet. Who writes has the turn, so nobody does it beside him.
func (p *Postgres) prepare(ctx context.Context) error {
	p.mu.Lock()
	rooms, made := p.pending, p.made
	p.mu.Unlock()
	if made && len(rooms) == 0 {
		return nil
	}
	t, err := p.begin(ctx)
	if err != nil {
		return err
	}
	defer t.Rollback()
	tx := shared{t, ctx}
	if _, err := tx.Exec(`CREATE TABLE IF NOT EXISTS store_migrations (room TEXT NOT NULL, step INTEGER NOT NULL, hash TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (room, step));
		CREATE TABLE IF NOT EXISTS store_checks (name TEXT PRIMARY KEY, value TEXT NOT NULL)`); err != nil {
		return fmt.Errorf("make the store's tables: %w", err)
	}
	var id [16]byte
	rand.Read(id[:])
	if _, err := tx.Exec(`INSERT INTO store_checks (name, value) VALUES ('key', ?), ('id', ?) ON CONFLICT (name) DO NOTHING`, p.check, hex.EncodeToString(id[:])); err != nil {
		return fmt.Errorf("note whose database it is: %w", err)
	}
	var check, known string
	if err := tx.QueryRow(`SELECT k.value, i.value FROM store_checks k, store_checks i WHERE k.name = 'key' AND i.name = 'id'`).Scan(&check, &known); err != nil {
		return fmt.Errorf("read whose database it is: %w", err)
	}
	if check != p.check { // another gateway made it since this connection was
		return ErrOtherKey
	}
	for _, r := range rooms {
		if err := migrate(tx, r.room, r.steps); errors.As(err, new(stepsError)) {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		} else if err != nil {
			return err
		}
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("commit tables: %w", err)
	}
	if err := p.same(known); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending, p.made = p.pending[len(rooms):], true
	return nil
}

// shared is a transaction whose statements all end in time.
type shared struct {
	t   *sql.Tx
	ctx context.Context
}

func (s shared) Exec(query string, args ...any) (sql.Result, error) {
	return s.t.ExecContext(s.ctx, query, args...)
}

func (s shared) Query(query string, args ...any) (*sql.Rows, error) {
	return s.t.QueryContext(s.ctx, query, args...)
}

func (s shared) QueryRow(query string, args ...any) *sql.Row {
	return s.t.QueryRowContext(s.ctx, query, args...)
}

func (s shared) Stmt(st *sql.Stmt) *sql.Stmt { return s.t.StmtContext(s.ctx, st) }
