package gateway

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/duties"
	"passerelle/gateway/keyring"
	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/relay"
	"passerelle/gateway/store"
	"passerelle/gateway/trust"
)

// Option changes what Open takes for granted.
type Option func(*Gateway)

// Clock sets the clock of the flow and its rooms; tests turn it.
func Clock(now func() time.Time) Option { return func(g *Gateway) { g.now = now } }

// KeyPort sets where Web Key Directories are asked, 443 where 0.
func KeyPort(port int) Option { return func(g *Gateway) { g.keyPort = port } }

// Resolver sets who is asked for servers' names and addresses; the system's where nil.
func Resolver(r *net.Resolver) Option { return func(g *Gateway) { g.exchangers.resolver = r } }

// Open builds the rooms from the config and opens the state folder. Nothing listens yet: subcommands work on what it gives.
func Open(ctx context.Context, cfg *config.Config, log *slog.Logger, opts ...Option) (_ *Gateway, err error) {
	g := &Gateway{lasting: &lasting{searches: newSearchLimit(), reloaded: make(chan struct{}, 1)}, log: log, now: time.Now}
	g.exchangers = newExchangers(func() time.Time { return g.now() })
	for _, o := range opts {
		o(g)
	}
	g.clock = &clock{log: log}
	g.clock.steady(g.now)
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if g.key, err = serverKey(cfg, log); err != nil {
		return nil, err
	}
	g.budget = message.NewBudget(int64(cfg.Limits.Memory), "")
	g.budget.LimitSpill(int64(cfg.Limits.Spill))
	if g.db, err = store.Open(ctx, store.Config{Dir: cfg.StateDir, Log: log}); err != nil {
		return nil, err
	}
	g.closers = append(g.closers, g.db.Close)
	if err := g.db.Migrate(ctx, "gateway", knownTables, collectTables); err != nil {
		return nil, err
	}
	if g.ring, err = keyring.Open(ctx, keyring.Config{Dir: cfg.StateDir, Now: g.now, Log: log}); err != nil {
		return nil, err
	}
	g.closers = append(g.closers, g.ring.Close)
	if g.ledger, err = ledger.New(ctx, g.db, ledger.Config{Key: derive(g.key, "ledger"), Now: g.now, Log: log}); err != nil {
		return nil, err
	}
	g.closers = append(g.closers, g.ledger.Close)
	g.traffic = newTraffic(time.Duration(cfg.Relay.Timeout), time.Duration(cfg.Relay.SlowAfter))
	to := g.timeouts
	if to.Slot == 0 { // who finds no free connection is answered so before his session's time is over: nothing of his went on behind the reply
		to.Slot = min(time.Minute, g.traffic.timeout/2)
	}
	g.relay = relay.New(relay.Config{Log: log, Budget: g.budget, Timeouts: to, Resolver: g.exchangers.resolver})
	g.closers = append(g.closers, func() error { g.relay.Close(); return nil })
	if cfg.Listen.Portal.ACME.On() {
		if g.portalCert, err = newPortalCert(cfg, log); err != nil {
			return nil, err
		}
		g.closers = append(g.closers, g.portalCert.close)
	}
	if err := g.furnish(ctx, cfg); err != nil {
		return nil, err
	}
	g.closers = append(g.closers, g.directory.Close, g.traffic.close)
	if g.vault != nil {
		set := duties.Config{Dir: cfg.StateDir, Do: func(ctx context.Context, d duties.Duty) error { return g.current().doDuty(ctx, d) }, Log: log}
		if g.shared != nil {
			set.URL, set.Ready = cfg.Pickup.Database.Reveal(), g.shared.Ready
		}
		if g.queue, err = duties.Open(ctx, set); err != nil {
			return nil, err
		}
		g.closers = append(g.closers, g.queue.Close)
	}
	if g.harvest == nil {
		g.harvest = func(ctx context.Context, from message.Address, chain []*x509.Certificate, verified bool, at time.Time) {
			g.current().harvested(ctx, from, chain, verified, at)
		}
	}
	g.inForce.Store(g)
	mReload.WithLabelValues("ok") // shown from the start: an alarm looks for their growth
	mReload.WithLabelValues("failed")
	mConfig.SetToCurrentTime()
	return g, nil
}

// furnish builds what the config file decides, all that Reload may change. A directory and a vault that are there lend what they hold to
// their successors; nothing built here has to be closed.
func (g *Gateway) furnish(ctx context.Context, cfg *config.Config) (err error) {
	former := g.space
	g.cfg, g.policy, g.space, g.sms = cfg, cfg.Policy, nil, nil
	if g.set, err = newSettings(cfg, g.key); err != nil {
		return err
	}
	if g.keys, err = loadOwnKeys(cfg.Keys, g.log, g.now); err != nil {
		return err
	}
	if g.tls, err = listenersTLS(cfg, g.log); err != nil {
		return err
	}
	if g.portalCert != nil {
		g.tls["portal"] = listenerTLS{config: g.portalCert.config()}
	}
	if inTrust(cfg) || len(cfg.Encrypt.SMIME.Roots) > 0 {
		if g.evidence == nil {
			g.evidence = trust.OpenEvidence(trust.EvidenceConfig{Dir: filepath.Join(cfg.StateDir, "revocation"), Now: g.now, Log: g.log})
			g.closers = append(g.closers, g.evidence.Close)
		}
	}
	if inTrust(cfg) {
		conf := trustConfig(cfg, g.evidence, g.now, g.log)
		conf.Former = former
		if g.space, err = trust.New(conf); err == nil && g.directory != nil {
			err = g.space.Reload() // New bears a broken revocation list; who has a good one keeps it
		}
		if err != nil {
			return fmt.Errorf("trust space: %w", err)
		}
	}
	if err := g.furnishKeys(ctx, cfg); err != nil {
		return err
	}
	if g.submission, err = newSubmission(cfg, &g.tokens, g.log); err != nil {
		return err
	}
	if g.mailboxes, err = newIdentities(cfg, g.key, g); err != nil {
		return err
	}
	if cfg.Pickup.URL != "" {
		if err := g.furnishVault(ctx, cfg); err != nil {
			return err
		}
	}
	if g.collect, g.collectCerts, err = g.boxes(cfg); err != nil {
		return err
	}
	// Last of all that may fail: it brings the config's extraction into the mirror, which the former state reads too.
	if g.directory == nil {
		g.directory, err = directory.Open(ctx, g.directoryConfig(cfg))
	} else {
		g.directory, err = g.directory.With(ctx, g.directoryConfig(cfg))
	}
	if err != nil {
		return err
	}
	g.book, err = g.newBook(cfg) // of what Validate has read
	return err
}

// inTrust tells whether the clinic is in the trust space.
func inTrust(cfg *config.Config) bool {
	return len(cfg.Trust.Domains) > 0 || cfg.Trust.WhiteList.URL != "" || cfg.Trust.Client() || cfg.Listen.Trust.Addr != "" || cfg.Collects()
}

// Close gives everything back, last opened first.
func (g *Gateway) Close() error {
	var errs []error
	for i := len(g.closers) - 1; i >= 0; i-- {
		errs = append(errs, g.closers[i]())
	}
	g.closers = nil
	return errors.Join(errs...)
}

func trustConfig(cfg *config.Config, evidence *trust.Evidence, now func() time.Time, log *slog.Logger) trust.Config {
	t := cfg.Trust
	c := trust.Config{Domains: t.Domains, OwnDomains: t.OwnDomains, CA: t.CA, Cert: t.Cert, Key: t.Key, PatientDomain: t.PatientDomain, StrictDN: t.StrictDN,
		WhiteList: whiteListConfig(cfg), Now: now, Log: log, Evidence: evidence}
	r := t.Revocation
	c.Revocation = trust.Revocation{AcceptNoSource: r.NoSource == "accept", Fetch: t.Fetches(), OCSP: trust.Mode(t.AsksOCSP()), Responder: r.OCSPURL,
		Every: r.Every.Std(), Timeout: r.Timeout.Std(), MaxAge: r.MaxAge.Std()}
	c.CRL, c.Revocation.URLs = t.Lists()
	c.CRLGrace, c.Revocation.Grace = t.Graces()
	c.TLS.Min, c.TLS.Max, c.TLS.Suites = t.TLS.IDs()
	return c
}

// newID names a message in log, ledger and trace: 45 bits of milliseconds, then 55 random ones, in digits that sort as they count. Names
// that follow each other lie side by side in the ledger's index.
func newID() string {
	var b [13]byte
	rand.Read(b[:])
	binary.BigEndian.PutUint64(b[:], uint64(time.Now().UnixMilli())<<19|binary.BigEndian.Uint64(b[:])&(1<<19-1))
	return idDigits.EncodeToString(b[:])[:20]
}

var idDigits = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)
