package store

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// No way that a connection string leads to, by itself, by a second host, by a service or by the environment, crosses a network unproved.
func TestSharedURL(t *testing.T) {
	s, _ := newDatabase(t)
	for url, ok := range map[string]bool{
		"postgres://u:p@db.test/d?sslmode=verify-full":                               true,
		"postgres://u:p@db.test/d?sslmode=verify-ca&sslrootcert=" + s.CAFile:         true,
		"postgres://u:p@127.0.0.1,localhost/d?sslmode=disable":                       true,
		"postgres:///d?host=/run/postgresql":                                         true,
		"postgres://u:p@db.test/d?sslmode=verify-ca":                                 false, // anybody's certificate of any name
		"postgres://u:p@db.test/d":                                                   false,
		"postgres://u:p@db.test/d?sslmode=require":                                   false,
		"postgres://u:p@127.0.0.1,db.test/d":                                         false,
		"postgres:///d?host=/run/postgresql,db.test":                                 false,
		"postgres://u:p@db.test/d?sslmode=verify-full&sslmode=disable":               false, // the last one counts
		"postgres://u:secret@db.test/d?sslmode=verify-full&sslrootcert=/nowhere.pem": false,
	} {
		_, err := ParseSharedURL(url)
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	t.Setenv("PGHOST", "db.test")
	if _, err := ParseSharedURL("postgres:///d"); err == nil {
		t.Error("the host of the environment is believed without a certificate")
	}
	if _, err := ParseSharedURL("postgres://u@localhost/d?sslrootcert=/nowhere.pem"); err == nil || !strings.Contains(err.Error(), "/nowhere.pem") {
		t.Errorf("the missing file is not named: %v", err)
	}
}

// A machine whose clock is wrong ends nothing for the others.
func TestSharedClock(t *testing.T) {
	_, url := newDatabase(t)
	for off, ok := range map[time.Duration]bool{-time.Minute: true, time.Hour: false, -3 * time.Minute: false} {
		p := openShared(t, url, func(c *SharedConfig) { c.Now = func() time.Time { return time.Now().Add(off) } })
		err := p.Ready(t.Context())
		if (err == nil) != ok || err != nil && (errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "clock")) {
			t.Errorf("%v off: %v", off, err)
		}
	}
}

// Another database behind the same URL is not used by who knows the first: what it does not know would be taken for rubbish.
func TestSharedOtherDatabase(t *testing.T) {
	s, url := newDatabase(t)
	p := openShared(t, url)
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{`UPDATE store_checks SET value = 'other' WHERE name = 'id'`, `DROP TABLE store_checks`} {
		if err := s.SQLIn(url, statement); err != nil {
			t.Fatal(err)
		}
		p.w.SetMaxIdleConns(0) // as when the connections broke
		p.r.SetMaxIdleConns(0)
		if err := p.Ready(t.Context()); !errors.Is(err, errOther) {
			t.Errorf("%s: write: %v", statement, err)
		}
		var n int
		if err := p.Read().QueryRow(`SELECT 1`).Scan(&n); !errors.Is(err, errOther) {
			t.Errorf("%s: read: %v", statement, err)
		}
	}
}

// Whatever isolation a database has by default, who waited for his turn sees what the one before him wrote.
func TestSharedIsolation(t *testing.T) {
	s, url := newDatabase(t)
	if err := s.SQLIn(url, `DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET default_transaction_isolation TO serializable'; END $$`); err != nil {
		t.Fatal(err)
	}
	p := openShared(t, url)
	var level string
	if err := p.Write(t.Context(), func(tx Tx) error { return tx.QueryRow(`SHOW transaction_isolation`).Scan(&level) }); err != nil || level != "read committed" {
		t.Errorf("%q, %v", level, err)
	}
}

// An attempt that its caller left tells nothing of the server, and does not let a crowd in on one that is away.
func TestBreakerLeft(t *testing.T) {
	var b breaker
	away := errors.New("away")
	b.leave(away)
	if err := b.enter(); err != nil {
		t.Fatal(err)
	}
	b.quit()
	if err := b.enter(); err != nil {
		t.Fatal(err)
	}
	if err := b.enter(); !errors.Is(err, away) {
		t.Errorf("a second one is let in: %v", err)
	}
}
