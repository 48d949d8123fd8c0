package gateway

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"passerelle/config"
	"passerelle/gateway/ledger"
	"passerelle/gateway/store"
)

// LedgerEntry is what is noted of one recipient of one message.
type LedgerEntry = ledger.Entry

// LedgerFilter says which entries are wanted.
type LedgerFilter = ledger.Filter

// RuleCount is how often a rule chose a route with an outcome.
type RuleCount = ledger.RuleCount

// Trace reads the ledger of the state folder, beside a gateway that serves or without one, the newest entries first.
func Trace(ctx context.Context, cfg *config.Config, f LedgerFilter) (list []LedgerEntry, err error) {
	err = readLedger(ctx, cfg, func(db *sql.DB) (err error) {
		list, err = ledger.Query(ctx, db, f)
		return err
	})
	return list, err
}

// TraceRules counts in the same ledger what each rule did since then.
func TraceRules(ctx context.Context, cfg *config.Config, since time.Time) (list []RuleCount, err error) {
	err = readLedger(ctx, cfg, func(db *sql.DB) (err error) {
		list, err = ledger.Rules(ctx, db, since)
		return err
	})
	return list, err
}

func readLedger(ctx context.Context, cfg *config.Config, read func(*sql.DB) error) error {
	db, err := store.Beside(ctx, cfg.StateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no ledger in %s: the gateway makes it at its first start (state_dir)", cfg.StateDir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the ledger in %s is the service's alone: run it as that user (runuser -u passerelle -- passerelle ...)", cfg.StateDir)
	case err != nil:
		return err
	}
	defer db.Close()
	var columns, listed int
	err = db.QueryRowContext(ctx, `SELECT count(*), count(*) FILTER (WHERE name = 'listed') FROM pragma_table_info('ledger_entries')`).Scan(&columns, &listed)
	switch {
	case err != nil || columns == 0: // the gateway has not come so far in its first start
		return err
	case listed == 0:
		return fmt.Errorf("the ledger in %s is of an older version: the gateway brings it up to date at its start", cfg.StateDir)
	}
	return read(db)
}
