package keyring

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

var mSought = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_keyring_wkd_total", Help: "Questions to Web Key Directories, by answer."},
	[]string{"answer"}) // found, none, refused (something was given that is of no use), unasked

// Finder brings into the ring what Web Key Directories hold, and asks about an address once a day at most, whatever the answer was. It is safe
// for concurrent use.
type Finder struct {
	ring  *Ring
	web   *WebDirectory
	trust Trust
	log   *slog.Logger

	mu      sync.Mutex
	flights map[string]*flight // by address
}

type flight struct {
	done chan struct{}
	err  error
}

const (
	seekEvery = 24 * time.Hour
	// seekKept is how long an address is remembered that nobody writes to any more.
	seekKept = 30 * 24 * time.Hour
)

const askedSchema = `
CREATE TABLE keyring_asked (
	address TEXT PRIMARY KEY,
	at      INTEGER NOT NULL, -- seconds since 1970, UTC
	found   INTEGER NOT NULL,
	why     TEXT NOT NULL -- why there was no key
) WITHOUT ROWID;
CREATE INDEX keyring_asked_at ON keyring_asked (at);`

// NewFinder brings what web finds into ring, with that trust.
func NewFinder(ctx context.Context, ring *Ring, web *WebDirectory, trust Trust) (*Finder, error) {
	if err := ring.db.Migrate(ctx, "keyring_asked", askedSchema); err != nil {
		return nil, fmt.Errorf("keep what key directories said: %w", err)
	}
	return &Finder{ring: ring, web: web, trust: trust, log: ring.log, flights: map[string]*flight{}}, nil
}

// Seek has the directory of the address's domain asked unless it was within a day. Without an error the ring holds what it says. The error is an
// *Unasked where nobody could be asked, and nothing that it said before is in use; any other is the ring's own. It ends with ctx, and with
// the directory's timeout.
func (f *Finder) Seek(ctx context.Context, a message.Address) error {
	key := a.Key()
	for {
		if done, err := f.asked(ctx, key); done || err != nil {
			return err
		}
		f.mu.Lock()
		under := f.flights[key]
		if under == nil {
			under = &flight{done: make(chan struct{})}
			f.flights[key] = under
			f.mu.Unlock()
			under.err = f.seek(ctx, a)
			f.mu.Lock()
			delete(f.flights, key)
			f.mu.Unlock()
			close(under.done)
			return under.err
		}
		f.mu.Unlock()
		select {
		case <-under.done:
		case <-ctx.Done():
			return &Unasked{ctx.Err()}
		}
		if under.err != nil && !errors.Is(under.err, context.Canceled) { // of the one who asked; he may have gone away
			return under.err
		}
	}
}

// asked tells whether the address was asked about within a day.
func (f *Finder) asked(ctx context.Context, key string) (bool, error) {
	var at int64
	err := f.ring.db.Read().QueryRowContext(ctx, `SELECT at FROM keyring_asked WHERE address = ?`, key).Scan(&at)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read what key directories said: %w", err)
	}
	age := f.ring.now().Sub(time.Unix(at, 0))
	return age > -time.Hour && age < seekEvery, nil // of the future: the clock was set back
}

func (f *Finder) seek(ctx context.Context, a message.Address) (err error) {
	defer func() {
		if p := recover(); p != nil { // what a stranger's answer breaks stays with it
			err = &Unasked{fmt.Errorf("panic: %T", p)}
			mSought.WithLabelValues("unasked").Inc()
		}
	}()
	ans, err := f.web.Find(ctx, a)
	ctx = context.WithoutCancel(ctx) // the ring is ours, and quick: what was asked is not asked for nothing
	if err != nil {
		mSought.WithLabelValues("unasked").Inc()
		f.log.Info("web key directory could not be asked", "address", a, "err", err)
		known, kerr := f.known(ctx, a)
		switch {
		case kerr != nil:
			return kerr
		case known: // what it said before counts until it says otherwise
			return nil
		}
		return err
	}
	return f.take(ctx, a, ans)
}

// known tells whether a key of the directory is in use.
func (f *Finder) known(ctx context.Context, a message.Address) (bool, error) {
	keys, err := f.ring.Under(ctx, a.Key())
	for i := range keys {
		if keys[i].Source == WKD && keys[i].Usable(f.ring.now(), Seen) {
			return true, err
		}
	}
	return false, err
}

// take puts an answer into the ring. That it was asked is noted last.
func (f *Finder) take(ctx context.Context, a message.Address, ans WKDAnswer) error {
	now := f.ring.now()
	for _, fp := range ans.Revoked { // the key's own word, wherever else it was found
		if err := f.ring.Checked(ctx, fp, now, "by its owner, says its domain's key directory"); err != nil && !isUnknown(err) {
			return err
		}
	}
	var keys []Key
	if ans.Key != nil {
		keys = []Key{{Kind: OpenPGP, Data: ans.Key, Trust: f.trust, Why: "web key directory of " + a.Domain, Checked: now}}
	}
	err := f.ring.Told(ctx, a.Key(), WKD, keys)
	if odd := (*Error)(nil); errors.As(err, &odd) {
		ans = WKDAnswer{Why: odd.Error(), Refused: true}
	} else if err != nil {
		return err
	}
	result := "none"
	switch {
	case ans.Key != nil:
		result = "found"
	case ans.Refused:
		result = "refused"
		f.log.Info("what a key directory gave is of no use", "address", a, "why", line(ans.Why))
	}
	mSought.WithLabelValues(result).Inc()
	err = f.ring.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM keyring_asked WHERE at < ?`, now.Add(-seekKept).Unix()); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT OR REPLACE INTO keyring_asked (address, at, found, why) VALUES (?, ?, ?, ?)`, a.Key(), now.Unix(), ans.Key != nil, line(ans.Why))
		return err
	})
	if err != nil {
		return fmt.Errorf("note what a key directory said: %w", err)
	}
	return nil
}

// isUnknown: the ring does not hold the key.
func isUnknown(err error) bool { return errors.As(err, new(*Error)) }
