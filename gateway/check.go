package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"passerelle/config"
	"passerelle/gateway/console"
	"passerelle/gateway/directory"
	"passerelle/gateway/keyring"
	"passerelle/gateway/message"
	"passerelle/gateway/trust"
)

// OpenReadOnly builds what decides (directory, policy, trust space) and nothing that hands on or notes; it may run beside a gateway
// that serves. Where no mirror was made yet, the extraction file is read into a scratch folder, removed by Close.
func OpenReadOnly(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Gateway, error) {
	return openBeside(ctx, cfg, log, true)
}

// openBeside is OpenReadOnly; without read, an extraction file that no mirror was made of stays unread.
func openBeside(ctx context.Context, cfg *config.Config, log *slog.Logger, read bool) (_ *Gateway, err error) {
	g := &Gateway{lasting: &lasting{}, log: log, now: time.Now, policy: cfg.Policy}
	g.exchangers = newExchangers(g.now)
	g.budget = message.NewBudget(int64(cfg.Limits.Memory), "")
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if g.set, err = newSettings(cfg, [32]byte{}); err != nil {
		return nil, err
	}
	if _, err := newSMS(cfg); err != nil { // its template is filled in once
		return nil, err
	}
	if cfg.KeyFile != "" { // systemd hands it to the service alone; who may read it here is told where it is malformed
		if _, err := serverKey(cfg, log); err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
	}
	// As for the server key: who may not read them is shown what mail would be without.
	if g.keys, err = loadOwnKeys(cfg.Keys, slog.New(slog.DiscardHandler), g.now); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	if inTrust(cfg) {
		if g.space, err = trust.New(trustConfig(cfg, nil, g.now, log)); err != nil {
			return nil, fmt.Errorf("trust space: %w", err)
		}
	}
	if g.submission, err = newSubmission(cfg, &g.tokens, log); err != nil {
		return nil, err
	}
	if g.mailboxes, err = newIdentities(cfg, [32]byte{}, g); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(cfg.StateDir, keyring.File)); err == nil {
		if g.ring, err = keyring.Open(ctx, keyring.Config{Dir: cfg.StateDir, Log: log}); err != nil {
			return nil, err
		}
		g.closers = append(g.closers, g.ring.Close)
	}
	dir := g.directoryConfig(cfg)
	dir.ReadOnly = true
	if _, err := os.Stat(filepath.Join(cfg.StateDir, directory.MirrorName)); err == nil {
		dir.ExtractionFile = ""
	} else {
		if !read {
			dir.ExtractionFile = ""
		}
		scratch, err := os.MkdirTemp("", "passerelle-check-")
		if err != nil {
			return nil, err
		}
		g.closers = append(g.closers, func() error { return os.RemoveAll(scratch) })
		dir.MirrorDir = scratch
		if _, err := os.Stat(cfg.StateDir); err != nil { // else what its downloads and its sources last said is told
			dir.StateDir = scratch
		}
	}
	if g.directory, err = directory.Open(ctx, dir); err != nil {
		return nil, err
	}
	g.closers = append(g.closers, g.directory.Close)
	return g, nil
}

// console gives the operator's pages and the numbers that nobody counts.
func (g *Gateway) console(version string) (page *console.Console, remove func(), err error) {
	page = console.New(console.Config{Version: version, Log: g.log, Ready: []console.Check{
		{Name: "ledger", Func: func(context.Context) error { return g.ledger.Ready() }},
		{Name: "directory", Func: func(context.Context) error {
			if s := g.current().directory.Status(); s.Configured && s.Fault != "" {
				return errors.New(s.Fault)
			}
			return nil
		}},
		{Name: "white list", Func: g.listSound},
		{Name: "listeners", Func: func(context.Context) error {
			if !g.serving.Load() {
				return errors.New("not serving")
			}
			return nil
		}},
	}})
	gauges := console.Gauges{
		Ready: func() float64 { return bit(page.Readiness(context.Background()).Ready) },
		Memory: func() map[string]float64 {
			u := g.budget.Usage()
			return map[string]float64{"bodies": float64(u.Bodies), "buffers": float64(u.Buffers), "work": float64(u.Work), "spilled": float64(u.Spilled)}
		},
		Observe: func() float64 { return bit(g.current().set.observe) },
		OldestWaiting: func() map[string]float64 {
			out := map[string]float64{}
			for reason, first := range g.ledger.OldestWaiting() {
				out[reason] = g.now().Sub(first).Seconds()
			}
			return out
		},
	}
	gauges.CertificateDays = g.certificateDays
	remove, err = gauges.Register(nil)
	return page, remove, err
}

// certificateDays tells of every certificate of ours; those of the listeners as their files are now.
func (g *Gateway) certificateDays() map[string]float64 {
	g = g.current()
	days := map[string]float64{}
	for door, t := range g.tls {
		if pair, err := t.pair.get(nil); err == nil {
			days["listen."+door] = pair.Leaf.NotAfter.Sub(g.now()).Hours() / 24
		}
	}
	for name, hop := range g.set.hops {
		if tc := hop.TLS.Config; tc != nil && len(tc.Certificates) > 0 {
			days["hops."+name] = tc.Certificates[0].Leaf.NotAfter.Sub(g.now()).Hours() / 24
		}
	}
	if g.space != nil && !math.IsInf(g.space.DaysLeft(), 1) {
		days["trust"] = g.space.DaysLeft()
	}
	for name, pair := range g.collectCerts {
		if cert, err := pair.get(nil); err == nil {
			days["collect."+name] = cert.Leaf.NotAfter.Sub(g.now()).Hours() / 24
		}
	}
	for name, cert := range g.keys.certificates() {
		days[name] = cert.NotAfter.Sub(g.now()).Hours() / 24
	}
	if g.submission != nil {
		if d := g.submission.days(g.now()); !math.IsInf(d, 1) {
			days["trust.submission"] = d
		}
	}
	return days
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
