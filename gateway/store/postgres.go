package store

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	sharedUp = promauto.NewGauge(prometheus.GaugeOpts{
		Name: "passerelle_store_shared_up", Help: "1 while the PostgreSQL database that several gateways share answers.",
	})
	sharedCommitSeconds = promauto.NewHistogram(prometheus.HistogramOpts{
		Name: "passerelle_store_shared_commit_seconds", Help: "Time of one grouped transaction in the shared database, waiting for other gateways' included.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
	})
	sharedWrites = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "passerelle_store_shared_writes_total", Help: "Closures handed to the writer of the shared database, by what became of them.",
	}, []string{"result"}) // ok, error
)

var (
	// ErrRefused is in every error of a shared database that time does not mend: it belongs to others, or its tables are of a newer version.
	ErrRefused = errors.New("the shared database is not for this gateway")
	// ErrOtherKey: every mark in it is made with a key, and this gateway's is another.
	ErrOtherKey = fmt.Errorf("%w: it was begun with another server key; all gateways on one database need the same key", ErrRefused)
	// ErrUnknown is in the error of a Write of which nobody knows whether it was done.
	ErrUnknown = errors.New("the connection broke in the commit")
	// errOther: behind the same URL lies another database now. What this process knows of the old one (whose the bucket is) does not hold for it.
	errOther = fmt.Errorf("%w: it is not the one that this gateway began with; restart the gateway if that is meant", ErrRefused)
)

const (
	// groupTime bounds one group of closures, the wait for other gateways' included. A server that hangs costs a sender a 451, not his session.
	groupTime = 20 * time.Second
	// connectTime bounds one attempt to connect.
	connectTime = 5 * time.Second
	// aliveTime is how long a connection that was idle may take to show that it lives.
	aliveTime = 2 * time.Second
	// clockOff is how far this machine's clock may be from the server's. Ends and locks are times: a clock an hour ahead would destroy for all gateways
	// what others are about to hand on.
	clockOff = 2 * time.Minute
	// connLife: then a connection is made anew, and with it looked at: server, name, clock.
	connLife = 15 * time.Minute
	// writersLock is the advisory lock that one writer of all gateways holds until its commit.
	writersLock = 0x7061737365 // "passe"
)

// SharedConfig says where the shared database is.
type SharedConfig struct {
	// URL is a connection string as libpq's: postgres://user:password@host:5432/name?sslmode=verify-full. It goes into no log and no error.
	URL string
	// Check is the same on all gateways that may share the database, and tells nothing of what it is made from.
	Check []byte
	// Timeout bounds one statement that reads; 0 is 10 s.
	Timeout time.Duration
	Log     *slog.Logger
	// Now is this machine's clock; nil is time.Now.
	Now func() time.Time
}

// Postgres is a database on a PostgreSQL server that any number of gateways have open at the same time. It keeps DB's promises: closures that
// wait share one transaction, each in a savepoint, durable before Write returns. Of all gateways one writes at a time, so that a closure that
// reads first and writes then means what it means under SQLite. While the server is away every use is an error, and it mends itself.
type Postgres struct {
	r, w  *sql.DB
	cfg   SharedConfig
	check string

	writes *Gather[func(Tx) error]

	away breaker

	mu      sync.Mutex
	pending []roomSteps // of Migrate, while the server was away
	made    bool        // the store's own tables are there
	id      string      // of the database, once it was seen
}

type roomSteps struct {
	room  string
	steps []string
}

// OpenPostgres connects; Close ends it. A server that cannot be used now is no error, but a line in the log: the gateway's other work goes on, and
// Ready tells. One that never can be is ErrRefused.
func OpenPostgres(ctx context.Context, cfg SharedConfig) (*Postgres, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Postgres{cfg: cfg, check: hex.EncodeToString(cfg.Check)}
	p.writes = NewGather(maxGroup, p.commit)
	var err error
	if p.r, err = p.pool("on", cfg.Timeout, 6); err != nil {
		return nil, err
	}
	if p.w, err = p.pool("off", groupTime, 1); err != nil {
		return nil, errors.Join(err, p.r.Close())
	}
	if err := p.Ready(ctx); err != nil {
		if errors.Is(err, ErrRefused) {
			return nil, errors.Join(err, p.Close())
		}
		cfg.Log.Error("the shared database cannot be used, what needs it is put off", "err", err)
	}
	return p, nil
}

// ProbePostgres tells whether the database can be used from here, and is not another's. It changes nothing; an empty Check is not compared.
func ProbePostgres(ctx context.Context, cfg SharedConfig) error {
	p := &Postgres{cfg: cfg, check: hex.EncodeToString(cfg.Check)}
	db, err := p.pool("on", connectTime, 1)
	if err == nil {
		err = errors.Join(db.PingContext(ctx), db.Close())
	}
	return err
}

// ParseSharedURL reads a connection string; the error does not repeat it. Host is empty or a path for a Unix socket.
// Every host that it can lead to, by its own words, the environment or a service file, is of this machine or shows a certificate that is verified.
func ParseSharedURL(url string) (cfg *pgx.ConnConfig, err error) {
	cfg, err = pgx.ParseConfig(url)
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		return nil, fmt.Errorf("read what the connection string names: %w", file)
	}
	if err != nil { // pgx hides the password as far as it can find it, and it cannot in what does not parse
		return nil, errors.New("not a connection string: postgres://user:password@host:5432/name?sslmode=verify-full")
	}
	for _, f := range append([]*pgconn.FallbackConfig{{Host: cfg.Host, TLSConfig: cfg.TLSConfig}}, cfg.Fallbacks...) {
		if a, err := netip.ParseAddr(f.Host); strings.HasPrefix(f.Host, "/") || f.Host == "localhost" || err == nil && a.Unmap().IsLoopback() {
			continue
		}
		switch t := f.TLSConfig; {
		case t == nil, t.InsecureSkipVerify && t.VerifyPeerCertificate == nil:
			return nil, fmt.Errorf("the way to %s must have sslmode=verify-full", f.Host)
		case t.InsecureSkipVerify && t.RootCAs == nil: // else everybody with a certificate of any name is believed
			return nil, fmt.Errorf("the way to %s must have sslmode=verify-full, or sslrootcert with verify-ca", f.Host)
		}
	}
	return cfg, nil
}

// pool makes one pool of connections, each of which is checked before its first use.
func (p *Postgres) pool(readOnly string, timeout time.Duration, size int) (*sql.DB, error) {
	cfg, err := ParseSharedURL(p.cfg.URL)
	if err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = min(connectTime, timeout)
	cfg.RuntimeParams["application_name"] = "passerelle"
	cfg.RuntimeParams["default_transaction_read_only"] = readOnly
	cfg.RuntimeParams["statement_timeout"] = fmt.Sprint(timeout.Milliseconds())
	cfg.RuntimeParams["lock_timeout"] = fmt.Sprint((groupTime / 2).Milliseconds())
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = fmt.Sprint((2 * groupTime).Milliseconds()) // a gateway that hangs lets the others go on
	cfg.RuntimeParams["timezone"] = "UTC"
	cfg.RuntimeParams["default_transaction_isolation"] = "read committed" // who has waited for his turn sees what the one before him wrote
	// A gateway that lost its power lets go of its locks soon, not after the two hours of most systems.
	cfg.RuntimeParams["tcp_keepalives_idle"], cfg.RuntimeParams["tcp_keepalives_interval"], cfg.RuntimeParams["tcp_keepalives_count"] = "30", "10", "3"
	db := sql.OpenDB(pgConnector{stdlib.GetConnector(*cfg, stdlib.OptionAfterConnect(p.checked)), timeout, &p.away})
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(connLife)
	return db, nil
}

// checked looks at each new connection: the server behind a name may be another one today. A refused connection is closed.
func (p *Postgres) checked(ctx context.Context, c *pgx.Conn) (err error) {
	defer func() {
		if err != nil {
			sharedUp.Set(0)
			c.Close(ctx)
		}
	}()
	var fsync string
	var standby, known bool
	var version int
	var clock int64 // milliseconds since 1970
	asked := p.now()
	if err := c.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('server_version_num')::int, pg_is_in_recovery(), to_regclass('store_checks') IS NOT NULL,
		(extract(epoch FROM clock_timestamp()) * 1000)::bigint`).Scan(&fsync, &version, &standby, &known, &clock); err != nil {
		return err
	}
	off := time.UnixMilli(clock).Sub(asked)
	switch {
	case off.Abs() > clockOff:
		return fmt.Errorf("the clock of this machine and that of the database's server differ by %v: what is shared has its ends by them; see to both (NTP)", off.Round(time.Second))
	case version < 130000:
		return fmt.Errorf("%w: PostgreSQL %d is too old, 13 is needed", ErrRefused, version/10000)
	case standby:
		return errors.New("the server is a standby: it takes no writes")
	case fsync != "on":
		return errors.New("the server runs with fsync off: what it confirms may be gone after a power cut")
	}
	var check, id string
	if known {
		if err := c.QueryRow(ctx, `SELECT k.value, i.value FROM store_checks k, store_checks i WHERE k.name = 'key' AND i.name = 'id'`).Scan(&check, &id); err != nil {
			return err
		}
		if p.check != "" && subtle.ConstantTimeCompare([]byte(check), []byte(p.check)) != 1 {
			return ErrOtherKey
		}
	}
	return p.same(id)
}

// same remembers which database it is, and refuses another one: id is "" where it has no tables yet.
func (p *Postgres) same(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id != "" && p.id != id {
		return errOther
	}
	p.id = id
	return nil
}

func (p *Postgres) now() time.Time {
	if p.cfg.Now != nil {
		return p.cfg.Now()
	}
	return time.Now()
}

// Ready is nil when the database can be used now, with all tables as they shall be.
func (p *Postgres) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, groupTime)
	defer cancel()
	err := p.Write(ctx, func(Tx) error { return nil })
	if err != nil {
		return fmt.Errorf("shared database: %w", err)
	}
	return nil
}

// Read gives the pool of reading connections; what it is asked to write is refused.
func (p *Postgres) Read() *sql.DB { return p.r }

// Write runs f as DB.Write does, in the shared database.
func (p *Postgres) Write(ctx context.Context, f func(Tx) error) error { return p.writes.Do(ctx, f) }

// Migrate is DB.Migrate. While the server is away the steps wait until it is used next.
func (p *Postgres) Migrate(ctx context.Context, room string, steps ...string) error {
	p.mu.Lock()
	p.pending = append(p.pending, roomSteps{room, steps})
	p.mu.Unlock()
	if p.away.lately() { // a start does not wait for it once for each room
		return nil
	}
	if err := p.Ready(ctx); errors.Is(err, ErrRefused) || errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// ID names this database among all others: it was drawn when its first tables were made.
func (p *Postgres) ID(ctx context.Context) (id string, err error) {
	if err = p.Ready(ctx); err == nil {
		err = p.r.QueryRowContext(ctx, `SELECT value FROM store_checks WHERE name = 'id'`).Scan(&id)
	}
	if err != nil {
		return "", fmt.Errorf("read the name of the shared database: %w", err)
	}
	return id, nil
}

// Alone runs f unless another gateway is in an Alone of the same name; ran tells. A connection that breaks meanwhile lets another one in.
func (p *Postgres) Alone(ctx context.Context, name string, f func() error) (ran bool, err error) {
	c, err := p.r.Conn(ctx)
	if err != nil {
		return false, fmt.Errorf("shared database: %w", err)
	}
	defer c.Close()
	h := fnv.New64a()
	h.Write([]byte("passerelle " + name))
	key := int64(h.Sum64())
	if err := c.QueryRowContext(ctx, `SELECT pg_try_advisory_lock(?)`, key).Scan(&ran); err != nil {
		c.Raw(func(any) error { return driver.ErrBadConn }) // it may have the lock
		return false, fmt.Errorf("shared database: %w", err)
	}
	if !ran {
		return false, nil
	}
	defer func() {
		if _, err := c.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(?)`, key); err != nil {
			c.Raw(func(any) error { return driver.ErrBadConn }) // the lock goes with the connection
		}
	}()
	return true, f()
}

// Close refuses new writes, commits those already queued and ends the connections. A second Close does nothing.
func (p *Postgres) Close() error {
	if !p.writes.Close() {
		return nil
	}
	return errors.Join(p.w.Close(), p.r.Close())
}
