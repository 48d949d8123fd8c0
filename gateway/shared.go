package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"passerelle/config"
	"passerelle/crypto/seal"
	"passerelle/gateway/portal"
	"passerelle/gateway/store"
	"passerelle/gateway/vault"
)

// shares tells whether deposits lie where other gateways have them too.
func shares(cfg *config.Config) bool { return cfg.Pickup.Database != "" }

// vaultPlace opens where deposits lie: in the state folder, or in a database and a bucket that several gateways share. Those may be away: then what
// needs the vault waits, and everything else goes on. Ledger, directory and keyring are this gateway's own.
func (g *Gateway) vaultPlace(ctx context.Context, cfg *config.Config) (vault.Database, vault.Blobs, error) {
	if !shares(cfg) {
		blobs, err := store.OpenBlobs(filepath.Join(cfg.StateDir, "deposits"))
		return g.db, vaultBlobs{blobs}, err
	}
	if n := g.leftBehind(ctx); n > 0 {
		g.log.Error("deposits wait in the state folder and nobody can open them: pickup.database was set before they had ended", "deposits", n)
	}
	var err error
	if g.shared, err = store.OpenPostgres(ctx, sharedConfig(cfg, g.key, g.log)); err != nil {
		return nil, nil, fmt.Errorf("pickup.database: %w", err)
	}
	g.closers = append(g.closers, g.shared.Close)
	b, err := openBucket(cfg, g.shared.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("pickup.blobs: %w", err)
	}
	g.closers = append(g.closers, b.Close)
	look, done := context.WithTimeout(ctx, 10*time.Second) // a start does not wait for it
	defer done()
	if err := b.Ready(look); err != nil {
		g.log.Error("the bucket of deposits cannot be used, what needs it is put off", "err", err)
	}
	return g.shared, sharedBlobs{b}, nil
}

// leftBehind counts deposits with content in the state folder.
func (g *Gateway) leftBehind(ctx context.Context) (n int) {
	g.db.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM vault_deposits WHERE state IN (?, ?, ?)`, vault.Held, vault.Waiting, vault.Opened).Scan(&n) // without the table there are none
	return n
}

func sharedConfig(cfg *config.Config, key [32]byte, log *slog.Logger) store.SharedConfig {
	return store.SharedConfig{URL: cfg.Pickup.Database.Reveal(), Check: seal.Mark(derive(key, "vault"), "shared database"), Log: log}
}

func openBucket(cfg *config.Config, owner func(context.Context) (string, error)) (*store.Bucket, error) {
	b, err := config.ParseBucket(cfg.Pickup.Blobs.Reveal())
	if err != nil {
		return nil, err
	}
	return store.OpenBucket(store.BucketConfig{Endpoint: b.Endpoint, Region: b.Region, Bucket: b.Name, Prefix: b.Prefix, Key: b.Key, Secret: b.Secret.Reveal(), CA: b.CA, Owner: owner})
}

// CheckShared tells whether the database and the bucket that several gateways share can be used from here, and are this gateway's: never, where
// time does not mend it, and away. It changes nothing. Who may not read the server key does not see whether they are made with it.
func CheckShared(ctx context.Context, cfg *config.Config) (never, away error) {
	if cfg.Pickup.URL == "" || !shares(cfg) {
		return nil, nil
	}
	probe := store.SharedConfig{URL: cfg.Pickup.Database.Reveal()}
	if cfg.KeyFile != "" { // else the first start makes one
		if key, err := serverKey(cfg, slog.New(slog.DiscardHandler)); err == nil {
			probe = sharedConfig(cfg, key, nil)
		}
	}
	// What a start would refuse too, but for files that this user may not read and the service's may.
	if _, err := store.ParseSharedURL(probe.URL); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("pickup.database: %w", err), nil
	}
	if err := store.ProbePostgres(ctx, probe); err != nil {
		if err = fmt.Errorf("pickup.database: %w", err); errors.Is(err, store.ErrRefused) {
			return err, nil
		}
		away = err
	}
	b, err := openBucket(cfg, nil)
	if errors.Is(err, fs.ErrPermission) {
		return nil, errors.Join(away, fmt.Errorf("pickup.blobs: %w", err))
	}
	if err != nil {
		return fmt.Errorf("pickup.blobs: %w", err), nil
	}
	if err := errors.Join(b.Ready(ctx), b.Close()); err != nil {
		away = errors.Join(away, fmt.Errorf("pickup.blobs: %w", err))
	}
	return nil, away
}

// sharedVault looks at the database and the bucket of several gateways.
func (d *doctor) sharedVault(ctx context.Context, s *sheet) {
	if d.cfg.Pickup.URL == "" || !shares(d.cfg) {
		s.ok("", "not configured: deposits lie in state_dir")
		return
	}
	if never, away := CheckShared(ctx, d.cfg); never != nil || away != nil {
		s.fail("", fmt.Sprintf("patients' mail waits: %v", errors.Join(never, away)), "look at PostgreSQL, the S3 server and the way to them (docs/operations.md, \"Several gateways\")")
		return
	}
	s.ok("", "the database and the bucket of deposits answer, and are this gateway's")
}

// alone runs f on one of the gateways that share the vault at a time; on the others it is somebody else's.
func (g *Gateway) alone(ctx context.Context, what string, f func() error) error {
	if g.shared == nil {
		return f()
	}
	_, err := g.shared.Alone(ctx, what, f)
	return err
}

// noteSent notes a mail that has left. While the shared database is away it tries again for as long as the duty may last: else the mail would leave twice.
func (g *Gateway) noteSent(ctx context.Context, note func() error) error {
	for {
		err := note()
		if err == nil || g.shared == nil || vault.Why(err) != "" || errors.Is(err, store.ErrRefused) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

// handPatience is how long a person waits for another gateway that has in hand what he asks for, and for a shared database that is away.
const handPatience = 20 * time.Second

// take takes a deed that gateways share the vault for: a browser that lost its connection comes to another one with it. portal.ErrAnswered: it is done.
func (g *Gateway) take(ctx context.Context, key [32]byte) (vault.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, handPatience)
	defer cancel()
	for {
		whose, lease, err := g.vault.Take(ctx, key)
		switch {
		case err != nil:
			return lease, g.sharedAway(err)
		case whose == vault.Ours:
			return lease, nil
		case whose == vault.Done:
			return lease, portal.ErrAnswered
		}
		select {
		case <-ctx.Done():
			return lease, errors.New("another gateway has it in hand")
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// leave ends what take began.
func (g *Gateway) leave(ctx context.Context, key [32]byte, lease vault.Lease, done bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handPatience)
	defer cancel()
	if err := g.noteSent(ctx, func() error { return g.vault.Leave(ctx, key, lease, done) }); err != nil {
		g.log.Error("other gateways do not know what became of what was in hand here, and wait before they take it", "done", done, "err", err)
	}
}

// sharedAway says what a sender reads while the vault that gateways share is away.
func (g *Gateway) sharedAway(err error) error {
	var known *fault
	if g.shared == nil || err == nil || errors.As(err, &known) {
		return err
	}
	return later("Coffre des messages indisponible, nouvel essai plus tard", err)
}

// sharedBlobs shows a bucket as the vault wants it.
type sharedBlobs struct{ *store.Bucket }

func (s sharedBlobs) Open(id string) (vault.Blob, error) {
	b, err := s.Bucket.Open(id)
	if err != nil {
		return nil, err
	}
	return b, nil
}
