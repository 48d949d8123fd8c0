package vault

import (
	"context"
	"flag"
	"fmt"
	"os"
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
