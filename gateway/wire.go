package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/duties"
	"passerelle/gateway/keyring"
	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/portal"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/gateway/store"
	"passerelle/gateway/trust"
	"passerelle/gateway/vault"
)

// settings are the plain values that the flow reads; no room knows the config.
type settings struct {
	observe          bool
	knownAs          string // knownOff, knownSuggest, knownRedirect
	hostname         string
	clinicName       string
	postmaster       string
	maxHeader        int
	maxText          int64
	maxReceived      int
	patience         time.Duration // the client's queue lifetime less a margin
	networks         []netip.Prefix
	recipientDomains map[string]bool
	inboundDomains   map[string]bool
	hops             map[string]relay.Hop
	hopClinic        relay.Hop
	hopInternet      relay.Hop
	noticeFrom       message.Address
	codeMode         vault.Mode
	protect          protect.Options
	markKey          [32]byte
	passphraseKey    [32]byte
	sealsFiles       bool // some rule seals attachments alone
	pdfMode          string
	formLimits       map[string]config.Size // of a sealed message; 0 is none
	minTrust         keyring.Trust          // of a key of the keyring
	ldapTrust        keyring.Trust          // of one that the directory told of
	loopToken        string
	refuseUnclear    bool
	partners         partners
	trustPort        int
	documents        documents
	patients         config.TrustPatients
	patientDomain    string
	patientBox       *regexp.Regexp  // an address there, its local part first
	ownDomains       map[string]bool // clinic.domains
	inbound          inbound
	trustLimits      map[string]config.TrustLimit
	opens            opens
	sign             config.SignSMIME
	dkim             dkimKeys // by author's domain; empty: nothing is signed here
}

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
	if err := g.furnish(ctx, cfg); err != nil {
		return nil, err
	}
	g.closers = append(g.closers, g.directory.Close, g.traffic.close)
	if g.vault != nil {
		g.queue, err = duties.Open(ctx, duties.Config{Dir: cfg.StateDir, Do: func(ctx context.Context, d duties.Duty) error { return g.current().doDuty(ctx, d) }, Log: log})
		if err != nil {
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
	if g.directory == nil {
		g.directory, err = directory.Open(ctx, g.directoryConfig(cfg))
	} else {
		g.directory, err = g.directory.With(ctx, g.directoryConfig(cfg))
	}
	if err != nil {
		return err
	}
	if g.collect, g.collectCerts, err = g.boxes(cfg); err != nil {
		return err
	}
	g.book, err = g.newBook(cfg)
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

func (g *Gateway) furnishVault(ctx context.Context, cfg *config.Config) (err error) {
	if g.sms, err = newSMS(cfg); err != nil {
		return err
	}
	set := vault.Config{Key: derive(g.key, "vault"), PublicURL: strings.TrimSuffix(cfg.Pickup.URL, "/"),
		Expiry: time.Duration(cfg.Pickup.Expiry), Strict: cfg.Pickup.Strict, Reminders: durations(cfg.Pickup.Reminders), Report: time.Duration(cfg.Pickup.Report), Clinic: vault.Clinic{Name: cfg.Clinic.Name, Phone: cfg.Clinic.Phone},
		SMS: g.sms, ToSender: func(ctx context.Context, to message.Address, body *message.Body) error {
			return g.toClinic(ctx, message.Address{}, to, nil, body)
		}, Now: g.now, Log: g.log}
	if g.vault != nil {
		g.vault, err = g.vault.With(set)
	} else {
		var blobs *store.Blobs
		if blobs, err = store.OpenBlobs(filepath.Join(cfg.StateDir, "deposits")); err != nil {
			return err
		}
		g.vault, err = vault.New(ctx, g.db, vaultBlobs{blobs}, set)
	}
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	g.portal, err = portal.New(portal.Config{Vault: g.vault, Answer: g.Answer, Resend: g.Resend, Complete: g.Complete, Refused: g.Refused, Budget: g.budget.Part(), Proxies: localProxies, Log: g.log})
	if err != nil {
		return fmt.Errorf("portal: %w", err)
	}
	return nil
}

func durations(ds []config.Duration) []time.Duration {
	out := make([]time.Duration, len(ds))
	for i, d := range ds {
		out[i] = time.Duration(d)
	}
	return out
}

// localProxies: what comes to the portal from this machine comes through a proxy in front, and the patient is the last one in its
// X-Forwarded-For. Without it one stranger's wrong codes would slow down everybody.
var localProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// newSMS gives the provider's interface, nil where none is configured.
func newSMS(cfg *config.Config) (vault.SMS, error) {
	if cfg.SMS.URL.Reveal() == "" {
		return nil, nil
	}
	headers := make(map[string]string, len(cfg.SMS.Headers))
	for k, v := range cfg.SMS.Headers {
		headers[k] = v.Reveal()
	}
	return vault.NewSMS(vault.SMSConfig{URL: cfg.SMS.URL.Reveal(), Method: cfg.SMS.Method, Headers: headers,
		Body: cfg.SMS.Body.Reveal(), ContentType: cfg.SMS.ContentType, Timeout: time.Duration(cfg.SMS.Timeout)})
}

// vaultBlobs shows the folder of blobs as the vault wants it.
type vaultBlobs struct{ *store.Blobs }

type vaultBlob struct{ b *store.Blob }

func (v vaultBlobs) Open(id string) (vault.Blob, error) {
	b, err := v.Blobs.Open(id)
	if err != nil {
		return nil, err
	}
	return vaultBlob{b}, nil
}

func (v vaultBlobs) Delete(_ context.Context, ids ...string) error { return v.Blobs.Delete(ids...) }

func (v vaultBlobs) List(_ context.Context, f func(ids []string) error) error { return v.Blobs.List(f) }

func (v vaultBlob) ReadAt(p []byte, off int64) (int, error) { return v.b.ReadAt(p, off) }
func (v vaultBlob) Size() int64                             { return v.b.Size }
func (v vaultBlob) Close() error                            { return v.b.Close() }

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

func newSettings(cfg *config.Config, key [32]byte) (settings, error) {
	s := settings{
		observe: cfg.Mode == "observe", knownAs: cfg.Directory.KnownAs, hostname: cfg.Hostname, clinicName: cfg.Clinic.Name, postmaster: cfg.Clinic.Postmaster,
		maxHeader: 256 << 10, maxText: 1 << 20, maxReceived: cfg.Limits.Received,
		patience:         time.Duration(cfg.Clinic.QueueLifetime) * 9 / 10,
		recipientDomains: set(cfg.Recipients.Domains), inboundDomains: set(append(cfg.Clinic.Domains, cfg.Trust.OwnDomains...)),
		hops: map[string]relay.Hop{}, partners: newPartners(cfg.Hops), trustPort: cfg.Trust.Port, ownDomains: set(cfg.Clinic.Domains),
		inbound: newInbound(cfg), patients: cfg.Trust.Patients, patientDomain: cfg.Trust.PatientDomain, patientBox: regexp.MustCompile(`(?i)([^\s<>"(),:;@]+)@` + regexp.QuoteMeta(cfg.Trust.PatientDomain)),
		documents:   documents{product: cfg.Trust.Documents.Product, refuse: cfg.Trust.Documents.Check == "refuse", fill: cfg.Trust.Documents.Fill},
		trustLimits: cfg.Trust.Limits, sign: cfg.Sign.SMIME, markKey: derive(key, "mark"), passphraseKey: derive(key, "passphrase"), loopToken: protect.LoopToken(cfg.Hostname),
		refuseUnclear: cfg.Encrypt.Unclear == "refuse", sealsFiles: cfg.Policy.SealsAttachments(), pdfMode: cfg.Encrypt.PDF.Mode, formLimits: cfg.Encrypt.Limits.ByForm(),
		ldapTrust: keyring.Trust(cfg.Directory.LDAP.KeyTrust),
		minTrust:  keyring.Trust(cfg.Encrypt.MinTrust),
		protect:   protect.Options{Keep: cfg.Headers.Keep, Subject: cfg.Encrypt.Subject, Cipher: cfg.Encrypt.SMIME.Cipher, KeepSubject: cfg.Encrypt.KeepSubject, Clinic: cfg.Clinic.Name, Phone: cfg.Clinic.Phone},
	}
	for domain, addr := range cfg.Trust.Hosts { // never a hop that a rule could name: the colon is not allowed there
		s.hops["trust:"+domain] = relay.Hop{Addr: addr}
	}
	for name, h := range cfg.Hops {
		hop, err := newHop(name, s.hostname, h)
		if err != nil {
			return s, err
		}
		s.hops[name] = hop
	}
	var err error
	if s.networks, err = prefixes(cfg.Clinic.Networks); err != nil {
		return s, err
	}
	if s.noticeFrom, err = message.ParseAddress(s.postmaster, false); err != nil {
		return s, fmt.Errorf("clinic.postmaster: %w", err)
	}
	if s.dkim, err = loadDKIM(cfg.DKIM); err != nil {
		return s, err
	}
	if s.opens, err = newOpens(cfg.Inbound.Decrypt); err != nil {
		return s, err
	}
	s.codeMode = vault.Mode(cfg.Pickup.Code)
	s.hopClinic, s.hopInternet = s.hops["clinic"], s.hops["internet"]
	return s, nil
}

func newHop(name, helo string, h config.Hop) (relay.Hop, error) {
	hop := relay.Hop{Name: name, Addr: h.Addr, Helo: helo, LMTP: h.LMTP, MaxConns: h.MaxConns}
	switch h.TLS {
	case "none":
		hop.TLS.Mode = relay.None
	case "encrypt":
		hop.TLS.Mode = relay.Encrypt
	case "verify":
		hop.TLS.Mode = relay.Verify
	default:
		hop.TLS.Mode = relay.Opportunistic
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: h.ServerName}
	if tc.ServerName == "" {
		tc.ServerName = hostOf(h.Addr)
	}
	if h.CA != "" {
		pem, err := os.ReadFile(h.CA)
		if err != nil {
			return hop, fmt.Errorf("hops.%s.ca: %w", name, err)
		}
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(pem) {
			return hop, fmt.Errorf("hops.%s.ca: no certificate in %s", name, h.CA)
		}
	}
	if h.Cert != "" {
		pair, err := tls.LoadX509KeyPair(h.Cert, h.Key)
		if err != nil {
			return hop, fmt.Errorf("hops.%s.cert: %w", name, err)
		}
		tc.Certificates = []tls.Certificate{pair}
	}
	hop.TLS.Config = tc
	return hop, nil
}

// trustHop is the next hop of a domain of the trust space, with the certificate that it must show; without an address where the DNS is to
// be asked for one.
func (g *Gateway) trustHop(domain string) (relay.Hop, error) {
	if g.space == nil {
		return relay.Hop{}, later("Incident interne de la passerelle, nouvel essai plus tard", errors.New("route trust outside of the trust space"))
	}
	tc, check, err := g.space.ClientTLS(domain)
	if err != nil {
		return relay.Hop{}, refuse(451, [3]int{4, 7, 1}, "Domaine MSSante sorti de la liste blanche entre-temps, nouvel essai plus tard", err)
	}
	return relay.Hop{Name: "trust " + domain, Addr: g.set.hops["trust:"+domain].Addr, Helo: g.spaceName(), MaxConns: g.set.trustLimit(domain).MaxConns, TLS: relay.TLS{Mode: relay.Verify, Config: tc, Check: check}}, nil
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		if d, err := message.ParseDomain(n); err == nil {
			m[d] = true
		}
	}
	return m
}

func hostOf(addr string) string {
	if i := strings.LastIndexByte(addr, ':'); i >= 0 {
		return strings.Trim(addr[:i], "[]")
	}
	return addr
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
