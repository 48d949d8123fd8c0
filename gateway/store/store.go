// Package store keeps what must survive a power cut: an embedded SQLite database and a folder of blobs. It takes closures over a
// transaction and streams of bytes, gives them back durable or not at all, and knows nothing of messages, ledgers or deposits.
//
// There is one writer. Closures handed to DB.Write at the same time share one commit (and so one flush of the disk), each in a
// savepoint of its own; readers have connections of their own and never wait for the writer (WAL).
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// ErrClosed is what Write and Migrate answer once Close was called.
var ErrClosed = errors.New("store is closed")

const (
	fileMode = 0o600 // design, "What may lie on disk": files that only the service's user reads
	dirMode  = 0o700
)

// Config says where the database lies.
type Config struct {
	// Dir is made if it is missing; its mode is set to 0700.
	Dir string
	// File is the database's name in Dir; "" is "passerelle.db". Two databases may share a folder under two names.
	File string
	// Busy is how long a statement waits for a lock that a foreign process holds (an operator's sqlite3 shell); 0 is 5 s.
	Busy time.Duration
	// Shared lets several processes have the database open at the same time, each of them Shared: SQLite's own locks let one write after the
	// other. The default is one process.
	// The modes of a folder and a file that are there stay as they are.
	Shared bool
	Log    *slog.Logger
}

// DB is one open database. Only one process at a time has it, unless it is Shared.
type DB struct {
	pool *sql.DB   // of w alone
	w    *sql.Conn // the connection that writes; whoever has the turn uses it
	r    *sql.DB   // a pool that reads
	busy time.Duration
	lock *os.File
	disk *files
	log  *slog.Logger

	begin, end, savepoint, release, undo *sql.Stmt

	writes *Gather[func(Tx) error]
	done   chan struct{} // closed when Close has ended
}

// Open makes or opens the database; Close ends it. A folder that another process has open is refused
// with a *LockedError.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.File == "" {
		cfg.File = "passerelle.db"
	}
	if cfg.Busy == 0 {
		cfg.Busy = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open state folder %s: %w", cfg.Dir, err)
	}
	if err := makeDir(dir, cfg.Shared); err != nil {
		return nil, fmt.Errorf("open state folder %s: %w", dir, err)
	}
	lock, err := lockFile(filepath.Join(dir, cfg.File+".lock"), cfg.Shared)
	if err != nil {
		return nil, err
	}
	db := &DB{busy: cfg.Busy, lock: lock, log: cfg.Log, done: make(chan struct{})}
	db.writes = NewGather(maxGroup, db.commit)
	if err := db.open(ctx, filepath.Join(dir, cfg.File), cfg); err != nil {
		db.closeHandles()
		return nil, fmt.Errorf("open database %s: %w", filepath.Join(dir, cfg.File), err)
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, path string, cfg Config) (err error) {
	if err := makeFile(path, cfg.Shared); err != nil {
		return err
	}
	wait := fmt.Sprintf("busy_timeout(%d)", cfg.Busy.Milliseconds())
	// All connections of the process, other databases' too, share one cache as large as their cache_size together, and fill it in hours. It takes
	// twice that: a page with SQLite's record of it is a little more than 4 kB, and the allocator below gives powers of two. What is not in it
	// the kernel has.
	cache := "cache_size(-2000)"
	if cfg.Shared { // the keyring: small, and seldom written
		cache = "cache_size(-500)"
	}
	// Pragmas stand in the DSN because they belong to a connection, and database/sql may open a new one at any time. Without
	// BEGIN IMMEDIATE a transaction that reads first and writes then fails with SQLITE_BUSY whatever the timeout.
	if db.pool, err = sql.Open("sqlite", dsn(path, "immediate", wait, "journal_mode(WAL)", "synchronous(FULL)",
		"secure_delete(1)", // a destroyed deposit's key must not stay in a free page
		"foreign_keys(1)", "journal_size_limit(67108864)", inMemory, cache)); err != nil {
		return err
	}
	if err := openAll(ctx, db.pool, 1); err != nil {
		return err
	}
	if db.w, err = db.pool.Conn(ctx); err != nil {
		return err
	}
	if _, err := db.w.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS store_migrations (
		room TEXT NOT NULL, step INTEGER NOT NULL, hash TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (room, step)) WITHOUT ROWID`); err != nil {
		return err
	}
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{{&db.begin, "BEGIN IMMEDIATE"}, {&db.end, "COMMIT"}, {&db.savepoint, "SAVEPOINT one"}, {&db.release, "RELEASE one"}, {&db.undo, "ROLLBACK TO one"}} {
		if *s.stmt, err = db.w.PrepareContext(ctx, s.text); err != nil {
			return err
		}
	}
	if db.r, err = sql.Open("sqlite", dsn(path, "deferred", wait, "query_only(1)", "cache_size(-250)")); err != nil {
		return err
	}
	if err := openAll(ctx, db.r, readers); err != nil {
		return err
	}
	db.disk, err = openedFiles(path)
	return err
}

// inMemory: pages as they were before a statement or a savepoint, to undo it alone, stay in memory. Past 64 kB SQLite would put them into a
// file in the folder for temporary files, and a write would fail, others of its group with it, where that is full or gone.
const inMemory = "temp_store(MEMORY)"

// readers is how many read at once.
const readers = 4

// openAll opens every connection of a pool now, and the pool keeps them: no request waits for one, and their descriptors are there from the start.
func openAll(ctx context.Context, pool *sql.DB, n int) error {
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	var err error
	conns := make([]*sql.Conn, n)
	for i := range conns {
		var fail error
		if conns[i], fail = pool.Conn(ctx); fail == nil {
			var n int
			fail = conns[i].QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_schema").Scan(&n) // it opens the log, which a ping does not
		}
		err = errors.Join(err, fail)
	}
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
	return err
}

// makeFile makes the database file with its mode, which SQLite gives its -wal and -shm files too. Closing a descriptor of an open database would
// drop this process's POSIX locks, that is SQLite's: the lock of Open says that nobody has it open; a shared one is not touched once it is there.
func makeFile(path string, shared bool) error {
	flag := os.O_CREATE | os.O_RDWR
	if shared {
		flag |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flag, fileMode)
	if shared && errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(fileMode), f.Sync(), f.Close(), syncDir(filepath.Dir(path)))
}

func dsn(path, txlock string, pragmas ...string) string {
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: url.Values{"_txlock": {txlock}, "_pragma": pragmas}.Encode()}
	return u.String()
}

// Read gives the pool of reading connections; what it is asked to write is refused.
func (db *DB) Read() *sql.DB { return db.r }

// Prepare compiles a statement for use inside Write, as tx.Stmt(s): the writer has one connection, so it is compiled once. It
// must not be called from inside a Write closure. Close ends the statement too.
func (db *DB) Prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	s, err := db.w.PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("prepare statement: %w", err)
	}
	return s, nil
}

// Close refuses new writes, commits those already queued and lets go of the folder. A second Close does
// nothing.
func (db *DB) Close() error {
	if !db.writes.Close() {
		<-db.done
		return nil
	}
	defer close(db.done)
	if err := db.closeHandles(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// Settle moves the log into the database and empties it. secure_delete overwrites in the database what a statement removed; the page before it
// stands in the log until then, and for days where little is written. It has the writer's turn, so no write meets its locks; what a reader
// holds for longer than a moment is left to the next call.
func (db *DB) Settle(ctx context.Context) error {
	err := db.writes.Alone(ctx, func() (err error) {
		ctx := context.WithoutCancel(ctx) // an interrupt is for nobody's sake
		if _, err := db.w.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", readersMoment.Milliseconds())); err != nil {
			return err
		}
		defer func() {
			_, fail := db.w.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", db.busy.Milliseconds()))
			err = errors.Join(err, fail)
		}()
		var busy, frames, moved int
		return db.w.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved)
	})
	if err != nil {
		return fmt.Errorf("empty the log of the database: %w", err)
	}
	return nil
}

// readersMoment is how long Settle, and so every write behind it, waits for readers.
const readersMoment = 50 * time.Millisecond

func (db *DB) closeHandles() error {
	var errs []error
	for _, s := range []*sql.Stmt{db.begin, db.end, db.savepoint, db.release, db.undo} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	if db.r != nil {
		errs = append(errs, db.r.Close())
	}
	if db.w != nil {
		errs = append(errs, db.w.Close())
	}
	if db.pool != nil {
		errs = append(errs, db.pool.Close()) // the last connection moves the WAL into the database
	}
	return errors.Join(append(errs, db.lock.Close())...)
}

// makeDir leaves the mode of a folder alone that others serve from.
func makeDir(dir string, shared bool) error {
	if err := os.MkdirAll(dir, dirMode); err != nil || shared {
		return err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st.Mode().Perm() != dirMode {
		return os.Chmod(dir, dirMode)
	}
	return nil
}

// syncDir makes the names in a folder durable: a renamed or new file can be gone after a power cut without it.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
