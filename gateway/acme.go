package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"passerelle/config"
)

// portalCert gets the portal's certificate by ACME and renews it. Its account, keys and certificates lie in state_dir/acme. A process that
// has begun to ask an authority keeps one idle goroutine of certmagic's rate limiter to its end: nothing there stops it.
type portalCert struct {
	cache   *certmagic.Cache
	magic   *certmagic.Config
	domains []string
	issuer  certmagic.ACMEIssuer
}

// newPortalCert reads what is kept from before; nobody is asked before run.
func newPortalCert(cfg *config.Config, log *slog.Logger) (*portalCert, error) {
	a := cfg.Listen.Portal.ACME
	dir := filepath.Join(cfg.StateDir, "acme")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("listen.portal.acme: %w", err)
	}
	p := &portalCert{domains: a.Domains}
	p.issuer = certmagic.ACMEIssuer{CA: a.CA, TestCA: a.CA, Email: a.Email, Agreed: true, Logger: zap.New(&zapLog{log: log, email: a.Email}),
		DisableHTTPChallenge: a.HTTPAddr == "", DisableTLSALPNChallenge: a.HTTPAddr != ""}
	if a.CARoot != "" {
		pem, err := os.ReadFile(a.CARoot)
		if err != nil {
			return nil, fmt.Errorf("listen.portal.acme.ca_root: %w", err)
		}
		p.issuer.TrustedRoots = x509.NewCertPool()
		if !p.issuer.TrustedRoots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("listen.portal.acme.ca_root: no certificate in %s", a.CARoot)
		}
	}
	if a.HTTPAddr != "" {
		host, port, err := hostPort(a.HTTPAddr)
		if err != nil {
			return nil, fmt.Errorf("listen.portal.acme.http_addr: %w", err)
		}
		p.issuer.ListenHost, p.issuer.AltHTTPPort = host, port
	}
	store := &acmeStore{FileStorage: &certmagic.FileStorage{Path: dir}, held: map[string]chan struct{}{}}
	p.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: p.issuer.Logger,
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return p.magic, nil }})
	p.magic = certmagic.New(p.cache, certmagic.Config{Storage: store, Logger: p.issuer.Logger})
	if len(a.Domains) > 0 { // a browser too old to name whom it wants
		p.magic.DefaultServerName = a.Domains[0]
	}
	return p, nil
}

// run asks for what is missing until ctx ends; portal is the address of the listener that proves a name by TLS-ALPN-01.
func (p *portalCert) run(ctx context.Context, portal string) error {
	if p.issuer.DisableHTTPChallenge {
		host, port, err := hostPort(portal)
		if err != nil {
			return fmt.Errorf("listen.portal.acme: %w", err)
		}
		p.issuer.ListenHost, p.issuer.AltTLSALPNPort = host, port // it finds the address taken, by us, and leaves the proof to our listener
	}
	p.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(p.magic, p.issuer)}
	if err := p.magic.ManageAsync(ctx, p.domains); err != nil {
		return fmt.Errorf("listen.portal.acme: %w", err)
	}
	return nil
}

// config is the listener's side: the certificate in force, and the proof while one is asked for.
func (p *portalCert) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: append([]string{"acme-tls/1"}, webProtos...), GetCertificate: p.magic.GetCertificate}
}

// leaf is the certificate in force.
func (p *portalCert) leaf() (*x509.Certificate, error) {
	for _, c := range p.cache.AllMatchingCertificates(p.magic.DefaultServerName) {
		if c.Leaf != nil {
			return c.Leaf, nil
		}
	}
	return nil, errors.New("there is no certificate yet")
}

func (p *portalCert) close() error {
	p.cache.Stop()
	return nil
}

func hostPort(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	return host, port, err
}

// acmeStore is certmagic's folder with locks of this process alone: the state folder has one gateway (store.Open). certmagic's own locks are
// files that a killed process leaves, and what it thinks of them it writes to stderr.
type acmeStore struct {
	*certmagic.FileStorage
	mu   sync.Mutex
	held map[string]chan struct{}
}

// Lock is certmagic.Locker.
func (s *acmeStore) Lock(ctx context.Context, name string) error {
	for {
		s.mu.Lock()
		taken, busy := s.held[name]
		if !busy {
			s.held[name] = make(chan struct{})
		}
		s.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Unlock is certmagic.Locker.
func (s *acmeStore) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if taken, ok := s.held[name]; ok {
		delete(s.held, name)
		close(taken)
	}
	return nil
}

// zapLog gives certmagic's lines to our log, with the fields that tell an operator what happens and nothing of who he is.
type zapLog struct {
	log   *slog.Logger
	email string // it stands in the names of files, and so in errors
	with  []zapcore.Field
}

var zapLevels = map[zapcore.Level]slog.Level{zapcore.DebugLevel: slog.LevelDebug, zapcore.InfoLevel: slog.LevelInfo, zapcore.WarnLevel: slog.LevelWarn}

func zapLevel(l zapcore.Level) slog.Level {
	if level, ok := zapLevels[l]; ok {
		return level
	}
	return slog.LevelError
}

// Enabled is zapcore.LevelEnabler.
func (z *zapLog) Enabled(l zapcore.Level) bool {
	return z.log.Enabled(context.Background(), zapLevel(l))
}

// With is zapcore.Core.
func (z *zapLog) With(f []zapcore.Field) zapcore.Core {
	return &zapLog{z.log, z.email, append(append([]zapcore.Field(nil), z.with...), f...)}
}

// Check is zapcore.Core.
func (z *zapLog) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if z.Enabled(e.Level) {
		return c.AddCore(e, z)
	}
	return c
}

// Write is zapcore.Core.
func (z *zapLog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), z.with...), fields...) {
		f.AddTo(m)
	}
	args := []any{}
	for _, name := range []string{"identifier", "identifiers", "subjects", "challenge_type", "ca", "issuer", "error", "attempt", "retrying_in", "remaining"} {
		if v, ok := m.Fields[name]; ok {
			local, _, _ := strings.Cut(z.email, "@")
			args = append(args, slog.String(name, strings.NewReplacer(z.email, "(email)", local, "(email)").Replace(fmt.Sprint(v))))
		}
	}
	z.log.Log(context.Background(), zapLevel(e.Level), "acme: "+e.Message, args...)
	return nil
}

// Sync is zapcore.Core.
func (z *zapLog) Sync() error { return nil }
