package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/keyring"
	"passerelle/gateway/message"
)

// discovery looks for recipients' keys at their own domains. nil asks nobody.
type discovery struct {
	finder  *keyring.Finder
	about   func(domain string) bool
	wait    bool // who could not be asked is waited for
	timeout time.Duration
}

// sought is what the look-ups for one message came to: all its recipients' at once, in one time.
type sought struct {
	once  sync.Once
	until time.Time
	mu    sync.Mutex
	came  map[string]error // by address
}

// atOnce is how many domains are asked side by side for one message.
const atOnce = 8

// furnishKeys builds what finds and judges correspondents' keys.
func (g *Gateway) furnishKeys(ctx context.Context, cfg *config.Config) (err error) {
	if g.certs, err = newCertificates(cfg, g.evidence, g.now, g.log); err != nil {
		return err
	}
	g.harvester = nil
	if cfg.Encrypt.Harvest == "verified" {
		g.harvester = keyring.NewHarvester(g.ring)
	}
	g.discovery, err = g.newDiscovery(ctx, cfg)
	return err
}

func (g *Gateway) newDiscovery(ctx context.Context, cfg *config.Config) (*discovery, error) {
	w := cfg.Encrypt.WKD
	if !w.Enabled || g.ring == nil {
		return nil, nil
	}
	web, err := keyring.NewWKD(keyring.WKDConfig{CA: w.CA, Networks: w.Networks, Timeout: w.Timeout.Std(), Port: g.keyPort, Resolver: g.exchangers.resolver, Now: g.now})
	if err != nil {
		return nil, err
	}
	finder, err := keyring.NewFinder(ctx, g.ring, web, keyring.Trust(w.Trust))
	if err != nil {
		return nil, err
	}
	all, some := slices.Contains(w.Domains, "all"), set(w.Domains)
	ours := func(domain string) bool { // who a clinic writes to there is nobody's business, and another way is taken anyway
		return g.set.ownDomains[domain] || domain == g.set.patientDomain || g.space != nil && (g.space.Listed(domain) || g.space.Own(domain))
	}
	about := func(domain string) bool {
		if ours(domain) {
			return false
		}
		for d := domain; !all && !some[d]; {
			_, above, ok := strings.Cut(d, ".")
			if !ok {
				return false
			}
			d = above
		}
		return true
	}
	return &discovery{finder: finder, about: about, wait: w.Unreachable == "wait", timeout: w.Timeout.Std()}, nil
}

// seek has the domain of a recipient asked for his key; the other recipients' are asked beside it, so that all of a message wait no longer than one
// would. The error is a *keyring.Unasked where nobody could be asked; any other is the keyring's own.
func (g *Gateway) seek(ctx context.Context, m *mail, to message.Address) error {
	d := g.discovery
	if d == nil || !d.about(to.Domain) {
		return nil
	}
	s := &m.sought
	s.once.Do(func() {
		s.until, s.came = time.Now().Add(d.timeout), map[string]error{}
		ctx, cancel := context.WithDeadline(ctx, s.until)
		defer cancel()
		var all sync.WaitGroup
		places := make(chan struct{}, atOnce)
		ask := func(a message.Address) {
			all.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				err := d.finder.Seek(ctx, a)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.came[a.Key()] = err
			})
		}
		ask(to)
		for _, r := range m.env.Recipients {
			if r.Key() != to.Key() && d.about(r.Domain) && !g.hasKey(ctx, r.Address) {
				ask(r.Address)
			}
		}
		all.Wait()
	})
	s.mu.Lock()
	err, done := s.came[to.Key()]
	s.mu.Unlock()
	if !done { // an alias's target, or one whose key was there a moment ago
		ctx, cancel := context.WithDeadline(ctx, s.until)
		defer cancel()
		err = d.finder.Seek(ctx, to)
	}
	return err
}

// hasKey tells whether the keyring has a key for a recipient from elsewhere.
func (g *Gateway) hasKey(ctx context.Context, to message.Address) bool {
	keys, err := g.ring.For(ctx, to, g.now(), g.set.minTrust)
	return err == nil && slices.ContainsFunc(keys, func(k keyring.Key) bool { return k.Source != keyring.WKD })
}

// keepTold puts into the keyring what a source of the directory says are a recipient's keys, and takes out what it says no more.
func (g *Gateway) keepTold(ctx context.Context, ans directory.Answer, to message.Address) error {
	if ans.KeysFrom == "" || g.ring == nil {
		return nil
	}
	var keys []keyring.Key
	now := g.now()
	for _, raw := range ans.Keys {
		found, err := keyring.Read(raw, now)
		if err != nil {
			g.log.Info("what the directory holds as a key is none", "source", ans.KeysFrom, "address", to, "err", err)
			continue
		}
		for _, f := range found {
			if !f.Names(to.Key()) || f.Fault != nil && f.Revoked == "" {
				continue
			}
			k := keyring.Key{Kind: f.Kind, Data: f.Data, Trust: g.set.ldapTrust, Why: "in the directory (" + ans.KeysFrom + ")", Checked: ans.KeysAsOf}
			if chain, err := x509.ParseCertificates(f.Data); f.Kind == keyring.SMIME && err == nil && g.certs != nil {
				if verdict := g.certs.judge(chain, to); verdict == nil || isDoubt(verdict) { // its chain is proved; revocation is asked for again when it is used
					k.Trust = keyring.Verified
				}
			}
			keys = append(keys, k)
		}
	}
	err := g.ring.Told(ctx, to.Key(), keyring.LDAP, keys)
	if odd := (*keyring.Error)(nil); errors.As(err, &odd) {
		g.log.Info("a key of the directory is not taken", "source", ans.KeysFrom, "address", to, "why", odd.Reason)
		return nil
	}
	return err
}

// harvested is told of a signature on mail from outside. Whom the caller believes is not enough: what is sealed to has its chain to encrypt.smime.roots.
func (g *Gateway) harvested(ctx context.Context, from message.Address, chain []*x509.Certificate, verified bool, at time.Time) {
	if g.harvester == nil || !verified || len(chain) == 0 || g.certs.judge(chain, from) != nil {
		return
	}
	if _, err := g.harvester.Harvest(ctx, from, chain, verified, at); err != nil {
		g.log.Warn("a certificate of signed mail could not be kept", "from", from, "err", err)
	}
}
