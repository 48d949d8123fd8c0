package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"passerelle/config"
	"passerelle/gateway/addressbook"
	"passerelle/gateway/directory"
	"passerelle/gateway/smtpd"
	"passerelle/gateway/trust"
)

// Sockets are listeners that were handed to the process (systemd), by door: lmtp, smtp, trust, portal, metrics, addressbook, ldap. Run serves them in the place of
// the door's own address, and fails on one that has no door.
func Sockets(byDoor map[string]net.Listener) Option {
	return func(g *Gateway) { g.sockets = byDoor }
}

// OnReady is called by Run once all doors serve.
func OnReady(f func()) Option { return func(g *Gateway) { g.ready = f } }

// Run opens the doors and serves until ctx ends; then it takes no new work, finishes what is in DATA and returns. The first door
// that fails ends the others.
func (g *Gateway) Run(ctx context.Context, cfg *config.Config, version string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	doors, err := g.doors(cfg, version)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, d := range doors {
		g.log.Info("listening", "door", d.name, "addr", d.addr)
		wg.Go(func() {
			if err := d.serve(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", d.name, err))
			}
		})
	}
	wg.Go(func() { g.duties(ctx) })
	if g.queue != nil {
		wg.Go(func() {
			if err := g.queue.Run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Go(func() { g.collecting(ctx) })
	wg.Go(func() { directory.KeepFresh(ctx, func() *directory.Directory { return g.current().directory }) })
	wg.Go(func() { trust.KeepFresh(ctx, func() *trust.Space { return g.current().space }) })
	wg.Go(func() { trust.KeepListFresh(ctx, func() *trust.Space { return g.current().space }) })
	g.serving.Store(true)
	if g.ready != nil {
		g.ready()
	}
	<-ctx.Done()
	g.serving.Store(false)
	g.log.Info("stopping: no new work, finishing what is in hand")
	grace, end := context.WithTimeout(context.WithoutCancel(ctx), min(g.traffic.timeout, stopTimeout))
	defer end()
	wg.Wait()
	g.traffic.stop(grace)
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// stopTimeout is what messages in hand have after the signal to stop, behind their replies too.
const stopTimeout = 30 * time.Second

// door is one listener.
type door struct {
	name, addr string
	serve      func(context.Context) error
}

// doors binds every address before any is served, so that a wrong one is said at once and nothing was half open. A socket that was handed
// over goes before the address.
func (g *Gateway) doors(cfg *config.Config, version string) (ds []door, err error) {
	var bound []net.Listener
	defer func() {
		if err != nil {
			for _, l := range bound {
				l.Close()
			}
		}
	}()
	given := maps.Clone(g.sockets)
	open := func(key, addr string) bool { return addr != "" || given[key] != nil }
	bind := func(key, addr string) net.Listener {
		if l := given[key]; l != nil {
			delete(given, key)
			bound = append(bound, l)
			return l
		}
		l, lerr := net.Listen("tcp", addr)
		if lerr != nil {
			err = errors.Join(err, fmt.Errorf("listen.%s: %w", key, lerr))
			return nil
		}
		bound = append(bound, l)
		return l
	}
	mail := func(key, addr string, lmtp bool, t *tls.Config, clientCert, requireTLS, implicitTLS bool, nets func() []netip.Prefix, begin func() smtpd.Handler) {
		l := bind(key, addr)
		if l == nil {
			return
		}
		budget, name := g.budget, g.set.hostname
		if key == "trust" { // the strangers' door: their bodies never take all the room
			budget, name = budget.Part(), g.spaceName()
		}
		s, serr := smtpd.New(smtpd.Config{Name: key, Listener: l, LMTP: lmtp, Hostname: name, Networks: nets, TLS: t, RequireTLS: requireTLS, ImplicitTLS: implicitTLS,
			RequireClientCert: clientCert, MaxMessage: int64(cfg.Limits.Message), MaxRecipients: cfg.Limits.Recipients,
			MaxSessions: cfg.Limits.Sessions, MaxSessionsPerClient: cfg.Limits.SessionsPerClient, IdleTimeout: time.Duration(cfg.Limits.Idle), StopTimeout: stopTimeout,
			Budget: budget, Log: g.log, NewID: newID, Begin: begin})
		if serr != nil {
			err = errors.Join(err, fmt.Errorf("listen.%s: %w", key, serr))
			return
		}
		ds = append(ds, door{key, l.Addr().String(), s.Serve})
	}
	nets := func() []netip.Prefix { return g.current().set.networks }
	if c := cfg.Listen.LMTP; open("lmtp", c.Addr) {
		mail("lmtp", c.Addr, true, g.liveTLS("lmtp"), c.ClientCA != "", c.RequireTLS, c.ImplicitTLS, nets, func() smtpd.Handler { return clinicDoor{g.current(), true} })
	}
	if c := cfg.Listen.SMTP; open("smtp", c.Addr) {
		mail("smtp", c.Addr, false, g.liveTLS("smtp"), c.ClientCA != "", c.RequireTLS, c.ImplicitTLS, nets, func() smtpd.Handler { return clinicDoor{g.current(), false} })
	}
	if c := cfg.Listen.Trust; open("trust", c.Addr) && g.space != nil {
		t := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return g.current().space.ServerTLS(), nil }}
		mail("trust", c.Addr, false, t, true, true, false, nil, func() smtpd.Handler { return trustDoor{g.current()} })
	}
	if c := cfg.Listen.Portal; open("portal", c.Addr) && g.portal != nil {
		if l := bind("portal", c.Addr); l != nil {
			pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.current().portal.ServeHTTP(w, r) })
			ds = append(ds, webDoor("portal", newCrowd(l, g.log), g.liveTLS("portal"), pages, 30*time.Minute))
		}
	}
	if c := cfg.Listen.Addressbook; open("addressbook", c.Addr) {
		if l := bind("addressbook", c.Addr); l != nil {
			page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.current().book.ServeHTTP(w, r) })
			ds = append(ds, webDoor("addressbook", newCrowd(l, g.log), g.liveTLS("addressbook"), page, 30*time.Second))
		}
	}
	if c := cfg.Listen.LDAP; open("ldap", c.Addr) {
		if l := bind("ldap", c.Addr); l != nil {
			s, serr := addressbook.NewServer(addressbook.ServerConfig{Listener: l, TLS: g.liveTLS("ldap"), ImplicitTLS: c.ImplicitTLS, Idle: time.Duration(cfg.Limits.Idle),
				Book: func() *addressbook.Book { return g.current().book }, Log: g.log})
			if serr != nil {
				err = errors.Join(err, fmt.Errorf("listen.ldap: %w", serr))
			} else {
				ds = append(ds, door{"ldap", l.Addr().String(), s.Serve})
			}
		}
	}
	if c := cfg.Listen.Metrics; open("metrics", c.Addr) {
		if l := bind("metrics", c.Addr); l != nil && err == nil { // last: its gauges go with its door
			page, remove, perr := g.console(version)
			if perr != nil {
				return nil, perr
			}
			d := webDoor("metrics", l, nil, page, 30*time.Second)
			serve := d.serve
			d.serve = func(ctx context.Context) error { defer remove(); return serve(ctx) }
			ds = append(ds, d)
		}
	}
	if g.queue != nil && err == nil {
		d, cerr := g.controlDoor()
		if cerr != nil {
			return nil, cerr
		}
		ds = append(ds, d)
	}
	for name, l := range given {
		bound = append(bound, l)
		err = errors.Join(err, fmt.Errorf("socket %q was handed over, but there is no such listener: lmtp, smtp, trust (with trust.domains), portal (with pickup.url), metrics, addressbook, ldap", name))
	}
	return ds, err
}

// webDoor serves HTTP with limits on every phase; long lets a patient on a slow line load a large file.
func webDoor(name string, l net.Listener, t *tls.Config, h http.Handler, long time.Duration) door {
	var hand sync.WaitGroup // requests: Close of the server ends their connections, but does not wait for them
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hand.Add(1)
		defer hand.Done()
		h.ServeHTTP(w, r)
	})
	s := &http.Server{Handler: counted, ReadHeaderTimeout: 15 * time.Second, ReadTimeout: long, WriteTimeout: long, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10}
	if t != nil {
		t = t.Clone()
		t.NextProtos = webProtos
		l = tls.NewListener(l, t)
		s.TLSConfig = t
	}
	return door{name, l.Addr().String(), func(ctx context.Context) error {
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			<-ctx.Done()
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if s.Shutdown(grace) != nil {
				s.Close()
			}
		}()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		<-stopped
		hand.Wait() // the rooms are closed behind us
		return nil
	}}
}

// duties tends the vault: expired and abandoned deposits lose their content for good, reminders and receipts leave. It reads the files of the trust space again:
// a revocation list lives for days, and with an old one every peer waits.
func (g *Gateway) duties(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for n := 0; ; n++ {
		now := g.current()
		steady := g.clock.steady(g.now)
		if now.vault != nil && steady {
			if err := now.tendVault(ctx); err != nil && ctx.Err() == nil {
				g.log.Error("duties of the vault failed, they are tried again in a minute", "err", err)
			}
		}
		if now.lasting != nil && now.ring != nil {
			if err := now.ring.Watch(ctx, now.set.minTrust); err != nil && ctx.Err() == nil {
				g.log.Error("the keys of correspondents cannot be read: mail to outside waits", "err", err)
			}
		}
		if now.space != nil && n%trustEvery == trustEvery-1 {
			if err := now.space.Reload(); err != nil {
				g.log.Error("trust space keeps its old files", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// trustEvery is how many minutes lie between two readings; each ends the kept connections of the trust space.
const trustEvery = 15

// listenerTLS is the TLS side of a listener: nothing where no certificate is set.
type listenerTLS struct {
	pair   *keyPair
	config *tls.Config
}

// listenersTLS reads the certificates of the doors that have one.
func listenersTLS(cfg *config.Config, log *slog.Logger) (map[string]listenerTLS, error) {
	l, out := cfg.Listen, map[string]listenerTLS{}
	for _, d := range [][4]string{{"lmtp", l.LMTP.Cert, l.LMTP.Key, l.LMTP.ClientCA}, {"smtp", l.SMTP.Cert, l.SMTP.Key, l.SMTP.ClientCA},
		{"portal", l.Portal.Cert, l.Portal.Key, ""}, {"addressbook", l.Addressbook.Cert, l.Addressbook.Key, ""}, {"ldap", l.LDAP.Cert, l.LDAP.Key, ""}} {
		if d[1] == "" {
			continue
		}
		t, err := serverTLS(d[1], d[2], d[3], log)
		if err != nil {
			return nil, fmt.Errorf("listen.%s: %w", d[0], err)
		}
		out[d[0]] = t
	}
	for _, web := range []string{"portal", "addressbook"} {
		if t := out[web]; t.config != nil {
			t.config.NextProtos = webProtos
		}
	}
	return out, nil
}

var webProtos = []string{"h2", "http/1.1"}

// liveTLS is what a door holds: each new session gets the certificate and the client CA of the state in force.
func (g *Gateway) liveTLS(door string) *tls.Config {
	if g.tls[door].config == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return g.current().tls[door].config, nil
	}}
}

// serverTLS gives the TLS side of a listener. The files of the pair are read again when they change, so that a renewed certificate needs
// neither a restart nor a reload.
func serverTLS(cert, key, clientCA string, log *slog.Logger) (listenerTLS, error) {
	t := listenerTLS{pair: &keyPair{cert: cert, key: key, log: log}}
	if _, err := t.pair.get(nil); err != nil {
		return t, err
	}
	t.config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: t.pair.get}
	if clientCA != "" {
		pem, err := os.ReadFile(clientCA)
		if err != nil {
			return t, fmt.Errorf("client_ca: %w", err)
		}
		t.config.ClientCAs = x509.NewCertPool()
		if !t.config.ClientCAs.AppendCertsFromPEM(pem) {
			return t, fmt.Errorf("client_ca: no certificate in %s", clientCA)
		}
		t.config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}

type keyPair struct {
	cert, key string
	mu        sync.Mutex
	changed   time.Time
	pair      *tls.Certificate
	log       *slog.Logger
	told      string // what was complained about last
}

// get keeps the old certificate where the new files do not fit together.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st, err := os.Stat(p.cert)
	if err == nil && p.pair != nil && st.ModTime().Equal(p.changed) {
		return p.pair, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(p.cert, p.key); err == nil {
			p.pair, p.changed = &pair, st.ModTime()
		}
	}
	if err != nil && p.log != nil && p.pair != nil && p.told != err.Error() { // not at every handshake
		p.log.Error("new certificate cannot be used, the old one stays", "cert", p.cert, "err", err)
		p.told = err.Error()
	}
	if p.pair == nil {
		return nil, err
	}
	return p.pair, nil
}

func prefixes(nets []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(nets))
	for _, n := range nets {
		p, err := config.ParsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("clinic.networks: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}
