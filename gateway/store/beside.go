package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
)

// Beside opens the database of a state folder for reading alone, whoever else has it open: it takes no lock of ours, changes nothing in it, and makes
// no database where none is. SQLite may lay its empty -wal and -shm beside it, which are its owner's. Close ends it.
func Beside(ctx context.Context, dir string) (*sql.DB, error) {
	path, err := filepath.Abs(filepath.Join(dir, "passerelle.db"))
	if err != nil {
		return nil, fmt.Errorf("open database in %s: %w", dir, err)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path, "deferred", "busy_timeout(5000)", "query_only(1)")+"&mode=ro")
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := db.PingContext(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return db, nil
}
