package store

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"
)

// TestDescriptors: what a database holds open it holds from the start, whatever is asked of it at once.
func TestDescriptors(t *testing.T) {
	db := open(t, t.TempDir())
	count := func() int {
		es, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(es)
	}
	before := count()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			var n int
			if err := db.Read().QueryRow(`WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20000) SELECT COUNT(*) FROM c`).Scan(&n); err != nil {
				t.Error(err)
			}
			if err := db.Settle(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if after := count(); after > before {
		t.Errorf("%d descriptors, %d at the start", after, before)
	}
}

// TestSettleHoldsNobody: whoever reads for long keeps the log from being emptied, and no write waits for that.
func TestSettleHoldsNobody(t *testing.T) {
	db := openConfig(t, Config{Dir: t.TempDir(), Busy: 30 * time.Second})
	write := func(ctx context.Context) error {
		return db.Write(ctx, func(tx Tx) error {
			_, err := tx.Exec("CREATE TABLE IF NOT EXISTS t (a)")
			return err
		})
	}
	if err := write(t.Context()); err != nil {
		t.Fatal(err)
	}
	reads, err := db.Read().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer reads.Rollback()
	var n int
	if err := reads.QueryRow("SELECT COUNT(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx Tx) error { _, err := tx.Exec("INSERT INTO t VALUES (1)"); return err }); err != nil {
		t.Fatal(err)
	}
	settled := make(chan error, 1)
	go func() { settled <- db.Settle(t.Context()) }()
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 100 {
		if err := write(soon); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-settled:
		if err != nil {
			t.Error(err)
		}
	case <-soon.Done():
		t.Error("it waits for the reader")
	}
}
