package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	neturl "net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// server is the one cluster of this package's tests; TestMain ends it.
var (
	server = sync.OnceValues(func() (_ *gatewaytest.Postgres, err error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cluster, err = gatewaytest.StartPostgres(ctx)
		return cluster, err
	})
	cluster *gatewaytest.Postgres
)

func openShared(t *testing.T, url string, change ...func(*SharedConfig)) *Postgres {
	t.Helper()
	cfg := SharedConfig{URL: url, Check: []byte("key one"), Timeout: 10 * time.Second}
	for _, c := range change {
		c(&cfg)
	}
	p, err := OpenPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newDatabase(t *testing.T) (*gatewaytest.Postgres, string) {
	t.Helper()
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	url, err := s.NewDatabase()
	if err != nil {
		t.Fatal(err)
	}
	return s, url
}

// keeper is what rooms use of a database, whichever it is.
type keeper interface {
	Write(ctx context.Context, f func(Tx) error) error
	Read() *sql.DB
	Migrate(ctx context.Context, room string, steps ...string) error
	Close() error
}

// both runs a test on SQLite and on PostgreSQL: they are held to one suite. writes is for queueAll.
func both(t *testing.T, f func(t *testing.T, db keeper, writes *Gather[func(Tx) error])) {
	t.Run("sqlite", func(t *testing.T) {
		db := open(t, t.TempDir())
		table(t, db)
		f(t, db, db.writes)
	})
	t.Run("postgres", func(t *testing.T) {
		_, url := newDatabase(t)
		p := openShared(t, url)
		table(t, p)
		f(t, p, p.writes)
	})
}

// The store that several gateways share: a stop of the server in the middle of a closure, and in the middle of a commit, keeps nothing or is an
// error, and the next write works without anybody's help.
func TestSharedOutlivesItsServer(t *testing.T) {
	s, url := newDatabase(t)
	p := openShared(t, url)
	table(t, p)
	if err := p.Write(t.Context(), put(1)); err != nil {
		t.Fatal(err)
	}
	err := p.Write(t.Context(), func(tx Tx) error {
		if err := put(2)(tx); err != nil {
			return err
		}
		return s.Stop()
	})
	if err == nil {
		t.Fatal("a commit on a dead server was called durable")
	}
	if err := p.Write(t.Context(), put(3)); err == nil {
		t.Fatal("a write without a server was called durable")
	}
	if _, err := p.Read().ExecContext(t.Context(), `SELECT 1`); err == nil {
		t.Fatal("a read without a server")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 { // of the reader's old connections one may stand in the way once
		if err = p.Ready(t.Context()); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(t.Context(), put(4)); err != nil {
		t.Fatal(err)
	}
	if got := values(t, p); got != "[1 4]" {
		t.Errorf("kept %s, want 1 and 4", got)
	}
}

func values(t *testing.T, db keeper) string {
	t.Helper()
	rows, err := db.Read().QueryContext(t.Context(), `SELECT v FROM t ORDER BY v`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []int
	for rows.Next() {
		var v int
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		got = append(got, v)
	}
	return fmt.Sprint(got)
}

// A server that keeps its connections and answers nothing holds nobody longer than a statement may take.
func TestSharedServerThatHangs(t *testing.T) {
	s, url := newDatabase(t)
	p := openShared(t, url, func(c *SharedConfig) { c.Timeout = time.Second })
	table(t, p)
	if err := p.Read().PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	defer s.Thaw()
	start := time.Now()
	var n int
	if err := p.Read().QueryRow(`SELECT count(*) FROM t`).Scan(&n); err == nil {
		t.Error("a frozen server answered")
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("the read waited for %v", d)
	}
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := p.Read().QueryRow(`SELECT count(*) FROM t`).Scan(&n); err != nil {
		t.Error(err)
	}
}

// While the server is away a gateway starts, with its tables still to be made, and has them once it is there.
func TestSharedBegunWithoutItsServer(t *testing.T) {
	s, url := newDatabase(t)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	p := openShared(t, url)
	err := p.Migrate(t.Context(), "test", `CREATE TABLE t (v INTEGER PRIMARY KEY, pad TEXT NOT NULL DEFAULT '')`)
	if err != nil {
		t.Errorf("migrate: %v", err)
	}
	if err := p.Ready(t.Context()); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("ready: got %v", err)
	} else if u, _ := neturl.Parse(url); strings.Contains(err.Error(), must(u.User.Password())) {
		t.Errorf("the error shows the password: %v", err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Write(t.Context(), put(7)); err != nil {
		t.Fatal(err)
	}
	if got := values(t, p); got != "[7]" {
		t.Errorf("kept %s", got)
	}
}

// Gateways of two clinics, or with two server keys, do not meet in one database; nor does an older program use newer tables.
func TestSharedRefuses(t *testing.T) {
	s, url := newDatabase(t)
	p := openShared(t, url)
	table(t, p)
	if _, err := OpenPostgres(t.Context(), SharedConfig{URL: url, Check: []byte("key two")}); !errors.Is(err, ErrOtherKey) || !errors.Is(err, ErrRefused) {
		t.Errorf("another key: got %v", err)
	}
	q := openShared(t, url)
	if err := q.Migrate(t.Context(), "test"); !errors.Is(err, ErrRefused) {
		t.Errorf("newer tables: got %v", err)
	}
	if err := s.SQL(`ALTER SYSTEM SET fsync = off`); err != nil {
		t.Fatal(err)
	}
	defer s.SQL(`ALTER SYSTEM RESET fsync`)
	if err := s.SQL(`SELECT pg_reload_conf()`); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := OpenPostgres(t.Context(), SharedConfig{URL: url, Check: []byte("key one")})
		if err != nil {
			t.Fatal(err)
		}
		err = r.Ready(t.Context())
		r.Close()
		if err != nil && strings.Contains(err.Error(), "fsync off") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a server that does not sync is used: %v", err)
		}
	}
	s.SQL(`ALTER SYSTEM RESET fsync`)
	s.SQL(`SELECT pg_reload_conf()`)
}

// Two gateways that read, add one and write lose nothing of each other's, which READ COMMITTED alone would.
func TestSharedWritersTakeTurns(t *testing.T) {
	_, url := newDatabase(t)
	p, q := openShared(t, url), openShared(t, url)
	table(t, p)
	if err := p.Write(t.Context(), func(tx Tx) error {
		_, err := tx.Exec(`INSERT INTO t (v, pad) VALUES (1, '0')`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, db := range []*Postgres{p, q, p, q} {
		wg.Go(func() {
			for range 50 {
				if err := db.Write(t.Context(), func(tx Tx) error {
					var n int
					if err := tx.QueryRow(`SELECT pad FROM t WHERE v = ?`, 1).Scan(&n); err != nil {
						return err
					}
					_, err := tx.Exec(`UPDATE t SET pad = ? WHERE v = ?`, fmt.Sprint(n+1), 1)
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var n string
	if err := p.Read().QueryRow(`SELECT pad FROM t`).Scan(&n); err != nil || n != "200" {
		t.Errorf("counted %s (%v), want 200", n, err)
	}
	// And one alone does what is for one.
	ran, err := p.Alone(t.Context(), "x", func() error {
		again, err := q.Alone(t.Context(), "x", func() error { return nil })
		if again || err != nil {
			t.Errorf("two alone: %v", err)
		}
		return nil
	})
	if !ran || err != nil {
		t.Errorf("alone: %v %v", ran, err)
	}
	if ran, err := q.Alone(t.Context(), "x", func() error { return nil }); !ran || err != nil {
		t.Errorf("after it: %v %v", ran, err)
	}
}

// The wire is as sslmode says, and a reader's connection writes nothing.
func TestSharedConnections(t *testing.T) {
	s, _ := newDatabase(t)
	p := openShared(t, s.URL("postgres", "sslmode=verify-full&sslrootcert="+s.CAFile))
	var tls bool
	if err := p.Read().QueryRow(`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&tls); err != nil || !tls {
		t.Errorf("in clear: %v", err)
	}
	if _, err := p.Read().Exec(`CREATE TABLE forbidden (v INTEGER)`); err == nil {
		t.Error("the reader wrote")
	}
	var commit string
	if err := p.Write(t.Context(), func(tx Tx) error { return tx.QueryRow(`SHOW synchronous_commit`).Scan(&commit) }); err != nil || commit != "on" {
		t.Errorf("synchronous_commit is %q (%v)", commit, err)
	}
	other := openShared(t, s.URL("postgres", "sslmode=verify-full")) // by the system's authorities
	if err := other.Ready(t.Context()); err == nil {
		t.Error("a certificate of nobody's was believed")
	}
}

func TestDialect(t *testing.T) {
	for in, want := range map[string]string{
		`SELECT a FROM t WHERE b = ? AND c IN (?, ?)`:                   `SELECT a FROM t WHERE b = $1 AND c IN ($2, $3)`,
		`SELECT '?', 'it''s ?' WHERE a = ?`:                             `SELECT '?', 'it''s ?' WHERE a = $1`,
		"CREATE TABLE t (a BLOB, -- what's this?\nb INTEGER)":           "CREATE TABLE t (a BYTEA, \nb BIGINT)",
		`CREATE TABLE t (a INTEGER PRIMARY KEY) WITHOUT ROWID;`:         `CREATE TABLE t (a BIGINT PRIMARY KEY) ;`,
		`SELECT a FROM t INDEXED BY t_due WHERE a > CAST(? AS INTEGER)`: `SELECT a FROM t  WHERE a > CAST($1 AS BIGINT)`,
		`SELECT 'open`: `SELECT 'open`,
	} {
		if got := dialect(in); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", in, got, want)
		}
	}
}

func must(s string, ok bool) string {
	if !ok {
		panic("no password")
	}
	return s
}
