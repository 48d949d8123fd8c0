package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestFilesAway: what would be written to a file without its name is refused, before and behind the commit, and taken again once the
// file is back.
func TestFilesAway(t *testing.T) {
	for _, name := range []string{"passerelle.db", "passerelle.db-wal"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db, err := Open(t.Context(), Config{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			path := filepath.Join(dir, name)
			write := func(then func()) error {
				return db.Write(context.Background(), func(tx Tx) error {
					defer then()
					_, err := tx.Exec(`CREATE TABLE IF NOT EXISTS x (y)`)
					return err
				})
			}
			away := func() {
				if err := os.Rename(path, path+".old"); err != nil {
					t.Error(err)
				}
			}
			nothing := func() {}
			if err := write(away); err == nil {
				t.Error("durable, though the file went before the commit")
			}
			if err := write(nothing); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("away: got %v", err)
			}
			if err := os.WriteFile(path, []byte("another"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := write(nothing); err == nil {
				t.Error("durable, though the file was replaced")
			}
			if err := os.Rename(path+".old", path); err != nil {
				t.Fatal(err)
			}
			if err := write(nothing); err != nil {
				t.Errorf("the file is back: %v", err)
			}
		})
	}
}
