package gateway

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/config"
)

var (
	mReload = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_gateway_reload_total",
		Help: "Reloads of the config, by result: with failed the former config stays in force."}, []string{"result"}) // ok, failed
	mConfig = promauto.NewGauge(prometheus.GaugeOpts{Name: "passerelle_gateway_config_seconds",
		Help: "When the config in force was read, in seconds since 1970."})
)

// Reload puts a new config in force: rules, hops, trust space, list, keys and certificates. All of it is read, checked and built first; any
// fault leaves the former state as it was and is logged and returned. Messages begun before the switch end under the former state, those
// behind it run under the new one alone; no session is dropped. What a running process cannot change keeps its value, named in a warning.
func (g *Gateway) Reload(ctx context.Context, load func() (*config.Config, error)) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	old := g.current()
	cfg, err := load()
	var kept []string
	var next *Gateway
	if err == nil {
		kept = keepFixed(old.cfg, cfg)
		next, err = old.successor(ctx, cfg)
	}
	if err != nil {
		mReload.WithLabelValues("failed").Inc()
		g.log.Error("reload: the new config is not taken, the former one stays in force", "err", err)
		return fmt.Errorf("reload: %w", err)
	}
	g.inForce.Store(next)
	select {
	case g.reloaded <- struct{}{}:
	default:
	}
	old.directory.Retire()
	mReload.WithLabelValues("ok").Inc()
	mConfig.SetToCurrentTime()
	if len(kept) > 0 {
		g.log.Warn("reload: what takes a restart keeps its former value", "keys", kept)
	}
	g.log.Info("reload: the new config is in force", "mode", cfg.Mode)
	return nil
}

// successor is the same house as another config wants it.
func (g *Gateway) successor(ctx context.Context, cfg *config.Config) (*Gateway, error) {
	if (g.cfg.Pickup.URL == "") != (cfg.Pickup.URL == "") {
		return nil, errors.New("pickup.url: the vault is opened and shut by a restart alone")
	}
	if (g.space != nil) != inTrust(cfg) {
		return nil, errors.New("trust.domains: the trust space is entered and left by a restart alone")
	}
	next := *g
	if err := next.furnish(ctx, cfg); err != nil {
		return nil, err
	}
	return &next, nil
}

// keepFixed puts the former value of what a running process cannot change into cfg, and names the keys that differ.
func keepFixed(old, cfg *config.Config) (differ []string) {
	keep := func(key string, same bool, restore func()) {
		if !same {
			differ = append(differ, key)
			restore()
		}
	}
	text := func(key, old string, now *string) { keep(key, old == *now, func() { *now = old }) }
	text("hostname", old.Hostname, &cfg.Hostname)
	text("state_dir", old.StateDir, &cfg.StateDir)
	text("key_file", old.KeyFile, &cfg.KeyFile)
	keep("pickup.database", old.Pickup.Database == cfg.Pickup.Database, func() { cfg.Pickup.Database = old.Pickup.Database })
	keep("pickup.blobs", old.Pickup.Blobs == cfg.Pickup.Blobs, func() { cfg.Pickup.Blobs = old.Pickup.Blobs })
	o, n := old.Listen, &cfg.Listen
	text("listen.lmtp.addr", o.LMTP.Addr, &n.LMTP.Addr)
	text("listen.smtp.addr", o.SMTP.Addr, &n.SMTP.Addr)
	text("listen.trust.addr", o.Trust.Addr, &n.Trust.Addr)
	text("listen.portal.addr", o.Portal.Addr, &n.Portal.Addr)
	text("listen.metrics.addr", o.Metrics.Addr, &n.Metrics.Addr)
	text("listen.addressbook.addr", o.Addressbook.Addr, &n.Addressbook.Addr)
	text("listen.ldap.addr", o.LDAP.Addr, &n.LDAP.Addr)
	keep("listen.lmtp.require_tls", o.LMTP.RequireTLS == n.LMTP.RequireTLS, func() { n.LMTP.RequireTLS = o.LMTP.RequireTLS })
	keep("listen.smtp.require_tls", o.SMTP.RequireTLS == n.SMTP.RequireTLS, func() { n.SMTP.RequireTLS = o.SMTP.RequireTLS })
	keep("listen.lmtp.implicit_tls", o.LMTP.ImplicitTLS == n.LMTP.ImplicitTLS, func() { n.LMTP.ImplicitTLS = o.LMTP.ImplicitTLS })
	keep("listen.smtp.implicit_tls", o.SMTP.ImplicitTLS == n.SMTP.ImplicitTLS, func() { n.SMTP.ImplicitTLS = o.SMTP.ImplicitTLS })
	both := func(a, b string) bool { return (a == "") == (b == "") } // another file is read, but TLS is not switched on or off
	keep("listen.lmtp.cert", both(o.LMTP.Cert, n.LMTP.Cert), func() { n.LMTP.Cert, n.LMTP.Key = o.LMTP.Cert, o.LMTP.Key })
	keep("listen.smtp.cert", both(o.SMTP.Cert, n.SMTP.Cert), func() { n.SMTP.Cert, n.SMTP.Key = o.SMTP.Cert, o.SMTP.Key })
	keep("listen.portal.cert", both(o.Portal.Cert, n.Portal.Cert), func() { n.Portal.Cert, n.Portal.Key = o.Portal.Cert, o.Portal.Key })
	keep("listen.portal.acme", reflect.DeepEqual(o.Portal.ACME, n.Portal.ACME), func() { n.Portal.ACME = o.Portal.ACME })
	keep("listen.addressbook.cert", both(o.Addressbook.Cert, n.Addressbook.Cert), func() { n.Addressbook.Cert, n.Addressbook.Key = o.Addressbook.Cert, o.Addressbook.Key })
	keep("listen.ldap.cert", both(o.LDAP.Cert, n.LDAP.Cert), func() { n.LDAP.Cert, n.LDAP.Key = o.LDAP.Cert, o.LDAP.Key })
	keep("listen.ldap.implicit_tls", o.LDAP.ImplicitTLS == n.LDAP.ImplicitTLS, func() { n.LDAP.ImplicitTLS = o.LDAP.ImplicitTLS })
	keep("listen.lmtp.client_ca", both(o.LMTP.ClientCA, n.LMTP.ClientCA), func() { n.LMTP.ClientCA = o.LMTP.ClientCA })
	keep("listen.smtp.client_ca", both(o.SMTP.ClientCA, n.SMTP.ClientCA), func() { n.SMTP.ClientCA = o.SMTP.ClientCA })
	lo, ln := old.Limits, &cfg.Limits
	keep("limits.message", lo.Message == ln.Message, func() { ln.Message = lo.Message })
	keep("limits.memory", lo.Memory == ln.Memory, func() { ln.Memory = lo.Memory })
	keep("limits.spill", lo.Spill == ln.Spill, func() { ln.Spill = lo.Spill })
	keep("limits.recipients", lo.Recipients == ln.Recipients, func() { ln.Recipients = lo.Recipients })
	keep("limits.sessions", lo.Sessions == ln.Sessions, func() { ln.Sessions = lo.Sessions })
	keep("limits.sessions_per_client", lo.SessionsPerClient == ln.SessionsPerClient, func() { ln.SessionsPerClient = lo.SessionsPerClient })
	keep("limits.idle", lo.Idle == ln.Idle, func() { ln.Idle = lo.Idle })
	keep("relay.timeout", old.Relay.Timeout == cfg.Relay.Timeout, func() { cfg.Relay.Timeout = old.Relay.Timeout })
	keep("relay.slow_after", old.Relay.SlowAfter == cfg.Relay.SlowAfter, func() { cfg.Relay.SlowAfter = old.Relay.SlowAfter })
	return differ
}
