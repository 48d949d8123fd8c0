// Package ledger notes what became of each recipient, durably and before the reply is given, and remembers across repeated
// attempts who was served already. It takes the outcome of each recipient, gives back "served", "waiting since" or "in hand" for
// the next attempt, and knows nothing of SMTP, routes or message content.
//
// Life of one message:
//
//	claim, err := l.Claim(ctx, asks, here) // 451 on error: the ledger cannot note now, or an earlier try is in hand
//	e, ok := claim.Served(i)           // an earlier attempt ended for i and the client does not know it: reply as e says
//	first, n, ok := claim.Waiting(i)   // answered "later" before: since when, how often
//	err = claim.Note(ctx, entries)     // before the reply; 451 on error
//	claim.Settled(i, final, written)   // after the reply; the last one releases the claim
//	claim.Release()                    // on the ways out that never reach a reply
//
// Only one process has a ledger at a time (package store sees to it), so what is in hand is kept in memory, and so is an index of
// the retry memory: a claim for new mail costs no SQL.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"passerelle/gateway/store"
)

// Config says how a ledger remembers. Zero values mean the defaults.
type Config struct {
	// Key is the server key; the memory's keys are HMACs under a key derived from it.
	Key [32]byte
	Now func() time.Time
	Log *slog.Logger
	// Memory is how long a recipient is remembered after it was served, or answered "later" for the last time: 7 days. It must be as long as
	// the client's queue lifetime (config: longestQueue).
	Memory time.Duration
	// Proof is for how long a successful commit proves the ledger writable: 1 s. A claim after a longer silence costs one commit
	// more; under load none does.
	Proof time.Duration
	// Stall is how long a claim waits for that commit: 10 s; SQLite gives up a foreign lock after 5 s.
	Stall time.Duration
	// Probe is how often a shut gate tries to write: 1 s.
	Probe time.Duration
	// Idle is how long what may wait (repeats of "later", memory to forget) waits for another commit to ride on: 20 ms. It is
	// also the span in which a kill can leave a memory of a recipient whose final reply was written.
	Idle time.Duration
}

// Ledger is safe for concurrent use. Close it before its DB.
type Ledger struct {
	db  *store.DB
	cfg Config
	key [32]byte // of the HMACs
	st  statements

	mu     sync.Mutex
	hand   map[key]holder
	copies map[key]uint32   // by the key of the first: the highest number that is in hand or remembered, where it is not 0
	index  map[key]memo     // the rows of ledger_memory
	forget map[key]int64    // memory rows to delete, with the entry they must still point to
	repeat map[key]repeat   // rows of waiting recipients to bring up to date
	late   []note           // what a failed Note could not write
	open   map[key]memo     // noted, not told yet: the row of ledger_open
	untold map[key]struct{} // of open: those who will not be told by this attempt, to be moved to ledger_memory
	moving map[key]memo     // on their way there in the commit that runs
	stale  bool             // ledger_open is behind open
	row    []byte           // buffer of ledger_open
	seq    int64            // of the last entry, -1: ask the database; of the commit that runs
	listed int64            // entries up to this one are in the indexes (list.go); of the commit that runs
	behind bool             // others wait to be listed
	fault  error            // why the gate is shut; nil: open
	proved time.Time        // the last commit that succeeded

	writes  *store.Gather[[]note] // one commit at a time
	proofs  sync.WaitGroup
	proving chan struct{} // holds one token: only one claim at a time proves
	kick    chan struct{}
	armed   atomic.Bool // a flush is due
	stop    chan struct{}
	done    chan struct{}
	closing sync.Once
}

// memo is what the memory holds of one recipient. Times are Unix microseconds.
type memo struct {
	served  bool // false: waiting
	bounced bool
	row     bool // it has a row in ledger_memory
	outcome Outcome
	first   int64 // first answered 4xx, or first noted
	last    int64
	n       int                   // attempts that ended in "later"
	entry   int64                 // the ledger row that tells the rest
	reason  unique.Handle[string] // thousands wait for a few reasons; zero: none
}

func (m memo) why() string {
	if m.reason == (unique.Handle[string]{}) {
		return ""
	}
	return m.reason.Value()
}

type statements struct{ insert, remember, bounced, repeatEntry, repeatMemory, forget, open, list, probe *sql.Stmt }

var steps = []string{`
CREATE TABLE ledger_entries (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	salt BLOB NOT NULL CHECK (length(salt) = 16),
	message_id TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, recipient TEXT NOT NULL COLLATE NOCASE,
	route TEXT NOT NULL, rule TEXT NOT NULL, reason TEXT NOT NULL, source TEXT NOT NULL, as_of INTEGER NOT NULL,
	outcome TEXT NOT NULL, code INTEGER NOT NULL, enhanced TEXT NOT NULL, text TEXT NOT NULL, hop TEXT NOT NULL,
	peer_subject TEXT NOT NULL, peer_fingerprint TEXT NOT NULL, tls TEXT NOT NULL, deposit_id TEXT NOT NULL,
	clear INTEGER NOT NULL, size INTEGER NOT NULL, form TEXT NOT NULL, header_message_id TEXT NOT NULL,
	first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL);
CREATE INDEX ledger_entries_message ON ledger_entries (message_id);
CREATE INDEX ledger_entries_recipient ON ledger_entries (recipient, last);
CREATE INDEX ledger_entries_sender ON ledger_entries (sender, last);
CREATE INDEX ledger_entries_last ON ledger_entries (last);
CREATE TABLE ledger_memory (
	key BLOB PRIMARY KEY CHECK (length(key) = 32),
	served INTEGER NOT NULL, bounced INTEGER NOT NULL, outcome TEXT NOT NULL,
	first INTEGER NOT NULL, last INTEGER NOT NULL, n INTEGER NOT NULL, entry INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX ledger_memory_last ON ledger_memory (last);
CREATE TABLE ledger_probe (id INTEGER PRIMARY KEY CHECK (id = 1), n INTEGER NOT NULL, ballast BLOB NOT NULL);
INSERT INTO ledger_probe VALUES (1, 0, zeroblob(32768));
`, `
CREATE TABLE ledger_open (id INTEGER PRIMARY KEY CHECK (id = 1), rows BLOB NOT NULL);
INSERT INTO ledger_open VALUES (1, x'');
DROP INDEX ledger_memory_last;
`, `
CREATE TABLE ledger_entries2 (
	seq INTEGER PRIMARY KEY,
	salt BLOB NOT NULL CHECK (length(salt) = 16),
	message_id TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, recipient TEXT NOT NULL COLLATE NOCASE,
	route TEXT NOT NULL, rule TEXT NOT NULL, reason TEXT NOT NULL, source TEXT NOT NULL, as_of INTEGER NOT NULL,
	outcome TEXT NOT NULL, code INTEGER NOT NULL, enhanced TEXT NOT NULL, text TEXT NOT NULL, hop TEXT NOT NULL,
	peer_subject TEXT NOT NULL, peer_fingerprint TEXT NOT NULL, tls TEXT NOT NULL, deposit_id TEXT NOT NULL,
	clear INTEGER NOT NULL, size INTEGER NOT NULL, form TEXT NOT NULL, header_message_id TEXT NOT NULL,
	first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL);
INSERT INTO ledger_entries2 SELECT * FROM ledger_entries;
DROP TABLE ledger_entries;
ALTER TABLE ledger_entries2 RENAME TO ledger_entries;
CREATE INDEX ledger_entries_message ON ledger_entries (message_id);
CREATE INDEX ledger_entries_recipient ON ledger_entries (recipient, last);
CREATE INDEX ledger_entries_sender ON ledger_entries (sender, last);
ALTER TABLE ledger_open ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
`, `
DELETE FROM ledger_memory;
UPDATE ledger_open SET rows = x'';
`, `
ALTER TABLE ledger_entries ADD COLUMN listed INTEGER NOT NULL DEFAULT 1;
ALTER TABLE ledger_open ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;
UPDATE ledger_open SET listed = max(seq, (SELECT coalesce(max(seq), 0) FROM ledger_entries));
DROP INDEX ledger_entries_message;
DROP INDEX ledger_entries_recipient;
DROP INDEX ledger_entries_sender;
CREATE INDEX ledger_entries_message ON ledger_entries (message_id) WHERE listed = 1;
CREATE INDEX ledger_entries_recipient ON ledger_entries (recipient, last) WHERE listed = 1;
CREATE INDEX ledger_entries_sender ON ledger_entries (sender, last) WHERE listed = 1;
`}

// New opens the ledger in db, proves it writable and starts its one goroutine, which Close ends.
func New(ctx context.Context, db *store.DB, cfg Config) (*Ledger, error) {
	cfg = withDefaults(cfg)
	if err := db.Migrate(ctx, "ledger", steps...); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := &Ledger{
		db: db, cfg: cfg, key: derive(cfg.Key), seq: -1,
		hand: map[key]holder{}, copies: map[key]uint32{}, index: map[key]memo{}, forget: map[key]int64{}, repeat: map[key]repeat{},
		open: map[key]memo{}, untold: map[key]struct{}{}, row: make([]byte, 0, 4096), proving: make(chan struct{}, 1), kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	l.writes = store.NewGather(maxGroup, l.writeAll)
	if err := l.prepare(ctx); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if err := l.load(ctx); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if err := l.loadOpen(ctx); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if err := l.probe(ctx); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	go l.keep()
	return l, nil
}

func withDefaults(cfg Config) Config {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&cfg.Memory, 7 * 24 * time.Hour}, {&cfg.Proof, time.Second}, {&cfg.Stall, 10 * time.Second}, {&cfg.Probe, time.Second}, {&cfg.Idle, 20 * time.Millisecond}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return cfg
}

func (l *Ledger) prepare(ctx context.Context) error {
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&l.st.insert, insertEntry},
		{&l.st.remember, `INSERT OR REPLACE INTO ledger_memory (key, served, bounced, outcome, first, last, n, entry, reason) VALUES (?,?,?,?,?,?,?,?,?)`},
		{&l.st.bounced, `UPDATE ledger_memory SET bounced = 1 WHERE key = ? AND entry = ?`},
		{&l.st.repeatEntry, `UPDATE ledger_entries SET last = ?, count = ?, reason = ?, code = ?, enhanced = ?, text = ?, hop = ? WHERE seq = ?`},
		{&l.st.repeatMemory, `UPDATE ledger_memory SET last = ?, n = ?, reason = ? WHERE key = ? AND entry = ?`},
		{&l.st.forget, `DELETE FROM ledger_memory WHERE key = ? AND entry = ?`},
		{&l.st.open, `UPDATE ledger_open SET rows = ?, seq = ?, listed = ? WHERE id = 1`},
		{&l.st.list, `UPDATE OR FAIL ledger_entries SET listed = 1 WHERE seq > ? AND seq <= ?`},
		{&l.st.probe, `UPDATE ledger_probe SET n = n + 1, ballast = randomblob(32768) WHERE id = 1`},
	} {
		st, err := l.db.Prepare(ctx, s.text)
		if err != nil {
			return err
		}
		*s.stmt = st
	}
	return nil
}

// Close writes what still waits and ends the goroutine. Claims in hand are no longer remembered as such.
func (l *Ledger) Close() error {
	l.closing.Do(func() { close(l.stop) })
	<-l.done
	l.proofs.Wait()
	var errs []error
	for _, s := range []*sql.Stmt{l.st.insert, l.st.remember, l.st.bounced, l.st.repeatEntry, l.st.repeatMemory, l.st.forget, l.st.open, l.st.list, l.st.probe} {
		errs = append(errs, s.Close())
	}
	l.mu.Lock()
	waiting := len(l.forget) + len(l.repeat) + len(l.late) + len(l.untold)
	l.mu.Unlock()
	if waiting > 0 {
		errs = append(errs, fmt.Errorf("%d rows could not be written", waiting))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close ledger: %w", err)
	}
	return nil
}

// keep is the ledger's goroutine: it writes what may wait, opens a shut gate again and drops what is too old.
func (l *Ledger) keep() {
	defer close(l.done)
	probe := time.NewTicker(l.cfg.Probe)
	defer probe.Stop()
	purge := time.NewTicker(time.Hour)
	defer purge.Stop()
	var idle <-chan time.Time
	ctx := context.Background()
	l.purge(ctx)
	for {
		select {
		case <-l.kick:
			if idle == nil {
				idle = time.After(l.cfg.Idle)
			}
		case <-idle:
			idle = nil
			l.armed.Store(false)
			l.flush(ctx)
		case <-probe.C:
			if l.Ready() != nil {
				l.reopen(ctx)
			}
		case <-purge.C:
			l.purge(ctx)
		case <-l.stop:
			if l.Ready() != nil {
				l.reopen(ctx)
			}
			l.flush(ctx)
			return
		}
	}
}

// wake asks for a flush within cfg.Idle; while one is due already it costs nothing.
func (l *Ledger) wake() {
	if l.armed.CompareAndSwap(false, true) {
		l.kick <- struct{}{}
	}
}
