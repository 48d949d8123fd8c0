package keyring

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// File is the database's name in the state folder.
const File = "keys.db"

// Config sets up a ring.
type Config struct {
	// Dir is the state folder.
	Dir string
	// Every is how often a look-up asks whether another process wrote; 0 is one second.
	Every time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Ring is an open store of keys. It has no goroutine of its own.
type Ring struct {
	db    *store.DB
	every time.Duration
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	cache  map[string][]Key // of the generation, by address
	gen    int64
	empty  bool      // no key at all, of the generation
	looked time.Time // by the machine's own clock

	warned map[string]int // of keys that end, how often; Watch's alone
}

const schema = `
CREATE TABLE keyring_keys (
	address     TEXT NOT NULL,
	kind        TEXT NOT NULL,
	fingerprint TEXT NOT NULL,
	data        BLOB NOT NULL,
	name        TEXT NOT NULL,
	source      TEXT NOT NULL,
	trust       TEXT NOT NULL,
	why         TEXT NOT NULL,
	fixed       INTEGER NOT NULL,
	added       INTEGER NOT NULL, -- times are seconds since 1970, UTC; 0 is none
	seen        INTEGER NOT NULL,
	checked     INTEGER NOT NULL,
	not_before  INTEGER NOT NULL,
	not_after   INTEGER NOT NULL,
	until       INTEGER NOT NULL,
	revoked     TEXT NOT NULL,
	PRIMARY KEY (address, kind, fingerprint)
) WITHOUT ROWID;
CREATE INDEX keyring_keys_fingerprint ON keyring_keys (fingerprint);
CREATE TABLE keyring_state (id INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
INSERT INTO keyring_state (id, generation) VALUES (1, 1);`

const columns = `address, kind, fingerprint, data, name, source, trust, why, fixed, added, seen, checked, not_before, not_after, until, revoked`

// Open opens the ring of a state folder, or makes it. Close ends it.
func Open(ctx context.Context, cfg Config) (*Ring, error) {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	db, err := store.Open(ctx, store.Config{Dir: cfg.Dir, File: File, Shared: true, Log: cfg.Log})
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	if err := db.Migrate(ctx, "keyring", schema); err != nil {
		db.Close()
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	return &Ring{db: db, every: cfg.Every, now: cfg.Now, log: cfg.Log, cache: map[string][]Key{}}, nil
}

// Close lets go of the database.
func (r *Ring) Close() error { return r.db.Close() }

// AddressKey gives the form that addresses are kept in: of an address, or of "@domain" and "*@domain".
func AddressKey(s string) (string, error) {
	s = strings.TrimSpace(s)
	if d, ok := strings.CutPrefix(strings.TrimPrefix(s, "*"), "@"); ok {
		d, err := message.ParseDomain(d)
		if err != nil || strings.HasPrefix(d, "[") {
			return "", errors.New("domain is not a host name")
		}
		return "@" + d, nil
	}
	a, err := message.ParseAddress(s, true)
	if err != nil {
		return "", err
	}
	if a.IsNull() {
		return "", errors.New("address is empty")
	}
	return a.Key(), nil
}

// Put keeps a key under its address. Address, Kind, Data, Source and Trust must be given; what the key says of itself (Fingerprint, Name,
// NotBefore, NotAfter, Revoked) is read out of it. A key that nothing can be sealed to now is refused with an *Error, unless it is known: then
// that is noted of it. A known key is seen again: its trust rises to the new one's where that is higher, and never falls; what the
// operator fixed stays. added tells that it was not known under this address.
func (r *Ring) Put(ctx context.Context, k Key) (added bool, err error) {
	now := r.now()
	if k.Address, err = AddressKey(k.Address); err != nil {
		return false, &Error{Reason: "address: " + err.Error(), Err: err}
	}
	if !k.Trust.Valid() {
		return false, &Error{Reason: fmt.Sprintf("trust %q is none of %s", k.Trust, words())}
	}
	m, err := readOne(k.Kind, k.Data, now)
	if err != nil {
		return false, err
	}
	k.Fingerprint, k.Data, k.Name, k.NotBefore, k.NotAfter, k.Revoked = m.Fingerprint, m.Data, m.Name, m.NotBefore, m.NotAfter, m.Revoked
	k.Why = line(k.Why)
	err = r.write(ctx, func(tx store.Tx) error {
		old, err := one(tx, k.Address, k.Kind, k.Fingerprint)
		added = errors.Is(err, sql.ErrNoRows)
		switch {
		case added && m.Fault != nil:
			return &Error{Fingerprint: k.Fingerprint, Reason: m.Fault.Error(), Err: m.Fault}
		case added:
			k.Added, k.Seen = now, now
			return insert(tx, &k)
		case err != nil:
			return err
		}
		had, err := readOne(old.Kind, old.Data, now)
		if err != nil {
			return err
		}
		old.again(&k, m, had, now)
		return insert(tx, old)
	})
	if err != nil {
		return false, fmt.Errorf("keep key: %w", err)
	}
	return added, nil
}

// again takes into a known key what was found now: n, read as m; had is what its data said before. What the owner signed last counts, whoever brings
// it; an older copy that is brought back changes nothing, and a revocation once known stays.
func (k *Key) again(n *Key, m, had *Material, now time.Time) {
	higher := n.Trust.AtLeast(k.Trust)
	if n.Revoked != "" && k.Revoked == "" {
		k.Revoked = n.Revoked
	}
	if m.Signed.After(had.Signed) || m.Signed.Equal(had.Signed) && higher && m.Fault == nil { // with a fault its owner ended it: NotAfter is now
		k.Data, k.Name, k.NotBefore, k.NotAfter = n.Data, n.Name, n.NotBefore, n.NotAfter
	}
	if n.Fixed || !k.Fixed && k.Trust != Rejected && higher {
		k.Trust, k.Source, k.Why, k.Fixed = n.Trust, n.Source, n.Why, n.Fixed
	}
	if !n.Checked.IsZero() {
		k.Checked = n.Checked
	}
	k.Seen = now
}

// For gives the keys that mail to a may be sealed to at that time, of both kinds, best first: those of the address before those of its domain,
// then by trust, then the newest. An error is no "none": the message must wait.
func (r *Ring) For(ctx context.Context, a message.Address, now time.Time, least Trust) (keys []Key, err error) {
	for _, address := range []string{a.Key(), "@" + a.Domain} {
		all, err := r.under(ctx, address)
		if err != nil {
			return nil, err
		}
		for _, k := range all {
			if k.Usable(now, least) {
				keys = append(keys, k)
			}
		}
	}
	return keys, nil
}

// maxCached bounds the addresses that are remembered, those without a key among them.
const maxCached = 8192

// under gives all keys of one address in For's order; they are shared and must not be changed.
func (r *Ring) under(ctx context.Context, address string) ([]Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.look(ctx); err != nil {
		return nil, fmt.Errorf("ask keyring: %w", err)
	}
	if keys, ok := r.cache[address]; ok || r.empty {
		return keys, nil
	}
	keys, err := r.Under(ctx, address)
	if err != nil {
		return nil, err
	}
	if len(r.cache) >= maxCached {
		clear(r.cache)
	}
	r.cache[address] = keys
	return keys, nil
}

// look forgets what is remembered once anybody wrote since.
func (r *Ring) look(ctx context.Context) error {
	if !r.looked.IsZero() && time.Since(r.looked) < r.every {
		return nil
	}
	var gen int64
	if err := r.db.Read().QueryRowContext(ctx, `SELECT generation FROM keyring_state`).Scan(&gen); err != nil {
		return err
	}
	if gen != r.gen {
		if err := r.db.Read().QueryRowContext(ctx, `SELECT NOT EXISTS (SELECT 1 FROM keyring_keys)`).Scan(&r.empty); err != nil {
			return err
		}
		clear(r.cache)
	}
	r.gen, r.looked = gen, time.Now()
	return nil
}

// write runs f and makes every ring, this one too, look again.
func (r *Ring) write(ctx context.Context, f func(store.Tx) error) error {
	err := r.db.Write(ctx, func(tx store.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE keyring_state SET generation = generation + 1`)
		return err
	})
	r.mu.Lock()
	r.looked = time.Time{}
	r.mu.Unlock()
	return err
}

func words() string {
	var s []string
	for _, t := range trusts {
		s = append(s, string(t))
	}
	return strings.Join(s, ", ")
}

// line keeps what strangers named to one printable line.
func line(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 300)]
}
