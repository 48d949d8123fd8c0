package deploy_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"passerelle/gateway/gatewaytest"
)

// TestPowerCut: the state folder comes back as its disk was at the instant, without what was only written and not synced. The ledger
// opens, and what was answered 250 has its row and came. `make kills` does it behind Postfix, twenty times.
func TestPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root and a loop device")
	}
	const n, clients = 200, 6
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sink, env := benchSink(t, "plain", gatewaytest.Options{})
	state := filepath.Join(t.TempDir(), "state")
	benchCheck(t, os.Mkdir(state, 0o700))
	disk, err := gatewaytest.NewDisk(state, t.TempDir())
	if err != nil {
		t.Fatalf("needs root and a loop device (Debian packages mount, e2fsprogs): %v", err)
	}
	t.Cleanup(func() { // after the gateway has ended
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	b := benchStart(t, binary(t), "plain", sink.Addr(), append(env, "STATE_DIR="+state)) // the last of two counts
	var next atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				if err := b.repeat(ctx, c%2 == 0, benchLetter(fmt.Sprint("m", i), "nothing", 8<<10), fmt.Sprintf("r%d@dest.test", i)); err != nil {
					t.Errorf("m%d: %v", i, err)
				}
			}
		})
	}
	defer wg.Wait()
	cuts := 0
	for _, at := range []int{40, 120} {
		if _, err := sink.Wait(ctx, at); err != nil {
			t.Fatal(err)
		}
		b.kill(t)
		benchCheck(t, disk.Cut())
		cuts++
		b.start(t)
	}
	wg.Wait()
	b.stop(t)
	benchArrivals(t, sink, n, n, 1+cuts, cuts*clients)
	db, err := sql.Open("sqlite", filepath.Join(state, "passerelle.db"))
	benchCheck(t, err)
	defer db.Close()
	var rows int
	benchCheck(t, db.QueryRowContext(ctx, `SELECT count(DISTINCT recipient) FROM ledger_entries WHERE outcome = 'delivered'`).Scan(&rows))
	if rows != n {
		t.Errorf("%d of %d recipients have a row in the ledger", rows, n)
	}
}
