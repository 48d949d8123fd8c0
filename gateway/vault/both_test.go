package vault

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/store"
)

// server is nil while the vaults of the tests lie in SQLite, and the PostgreSQL server in which they lie after that.
var server *gatewaytest.Postgres

// TestMain runs all tests twice: in the database of one gateway, then in that of several. Both are held to one suite.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	bench := flag.Lookup("test.bench").Value.String() != "" || flag.Lookup("test.list").Value.String() != "" || flag.Lookup("test.fuzz").Value.String() != ""
	if code == 0 && !testing.Short() && !bench {
		fmt.Println("again, in PostgreSQL")
		code = shared(m)
	}
	os.Exit(code)
}

func shared(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if server, err = gatewaytest.StartPostgres(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Close()
	return m.Run()
}

// disks are the folders of a vault.
func (h *house) disks(t *testing.T) []string {
	t.Helper()
	if server == nil {
		return []string{h.dir}
	}
	dir, err := server.Disk()
	if err != nil {
		t.Fatal(err)
	}
	return []string{h.dir, dir}
}

// sharedPlans is TestPlans where PostgreSQL plans: on an empty table it would rather read all of it, so that is forbidden.
func (h *house) sharedPlans(t *testing.T) {
	c, err := h.db.Read().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ExecContext(t.Context(), `SET enable_seqscan = off`); err != nil {
		t.Fatal(err)
	}
	recipient, args := (Filter{Recipient: "p@m.test", State: Expired}).where()
	for index, q := range map[string]struct {
		query string
		args  []any
	}{
		"vault_deposits_recipient": {`SELECT ` + columns + ` FROM vault_deposits WHERE ` + recipient, args},
		"vault_deposits_ended":     {shedQuery, []any{1, 1, 1}},
		"vault_deposits_closed":    {reopenQuery, []any{"p@m.test", "dr@c.test"}},
		"vault_deposits_due":       {`SELECT id FROM vault_deposits WHERE next_due > 0 AND next_due <= ? AND state = ? AND expires > ? ORDER BY next_due LIMIT ?`, []any{1, Waiting, 1, 1}},
	} {
		rows, err := c.QueryContext(t.Context(), `EXPLAIN `+q.query, q.args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan += line + "\n"
		}
		if rows.Close(); !strings.Contains(plan, index) || strings.Contains(plan, "Seq Scan") {
			t.Errorf("without %s:\n%s", index, plan)
		}
	}
}

// database gives an empty one, with its files in dir where it has any of ours.
func database(t *testing.T, dir string) Database {
	t.Helper()
	if server == nil {
		db, err := store.Open(t.Context(), store.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	url, err := server.NewDatabase()
	if err != nil {
		t.Fatal(err)
	}
	p, err := store.OpenPostgres(t.Context(), store.SharedConfig{URL: url, Check: []byte("vault")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// Guesses at two gateways are counted as one: the lock comes after as many wrong codes, and none more is compared.
func TestGuessesAtTwoGateways(t *testing.T) {
	h := open(t)
	d := h.deposit(t, "") // its code is told by the sender
	other, err := New(t.Context(), h.db, h.blobs, h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	wrong := "000000"
	if d.Code == wrong {
		wrong = "111111"
	}
	var wg sync.WaitGroup
	counts := make(chan Reason, 100)
	for i, v := range []*Vault{h.Vault, other} {
		for j := range 2 * wrongPerLock {
			wg.Go(func() {
				_, err := v.Prove(t.Context(), secretOf(d), wrong, "", netip.AddrFrom4([4]byte{198, 51, byte(i), byte(j)}))
				counts <- Why(err)
			})
		}
	}
	wg.Wait()
	close(counts)
	seen := map[Reason]int{}
	for r := range counts {
		seen[r]++
	}
	if seen[WrongCode] != wrongPerLock-1 || seen[WrongCode]+seen[Locked]+seen[SlowDown] != 4*wrongPerLock {
		t.Errorf("%v, want %d compared as wrong, one that locks, and all others not looked at", seen, wrongPerLock-1)
	}
	if _, err := other.Prove(t.Context(), secretOf(d), d.Code, "", home); Why(err) != Locked && Why(err) != SlowDown {
		t.Errorf("the right code at the other gateway while it is locked: %v", err)
	}
}
