package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"passerelle/config"
	"passerelle/gateway/ledger"
	"passerelle/gateway/store"
)

// LedgerEntry is what is noted of one recipient of one message.
type LedgerEntry = ledger.Entry

// LedgerFilter says which entries are wanted.
type LedgerFilter = ledger.Filter

// Trace reads the ledger of the state folder, beside a gateway that serves or without one, the newest entries first.
func Trace(ctx context.Context, cfg *config.Config, f LedgerFilter) ([]LedgerEntry, error) {
	db, err := store.Beside(ctx, cfg.StateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no ledger in %s: the gateway makes it at its first start (state_dir)", cfg.StateDir)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the ledger in %s is the service's alone: run it as that user (runuser -u passerelle -- passerelle ...)", cfg.StateDir)
	case err != nil:
		return nil, err
	}
	defer db.Close()
	tables := 0 // none: the gateway has not come so far in its first start
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name = 'ledger_entries'`).Scan(&tables); err != nil || tables == 0 {
		return nil, err
	}
	return ledger.Query(ctx, db, f)
}
