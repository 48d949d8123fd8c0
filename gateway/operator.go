package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"passerelle/config"
	"passerelle/gateway/message"
	"passerelle/gateway/relay"
	"passerelle/gateway/trust"
)

// operatorName is the hop of client mode in logs, metrics, replies and the ledger.
const operatorName = "mssante-operator"

// submission is the clinic's MSSanté operator in client mode: all mail for listed domains goes there, as from one of the clinic's mailboxes.
type submission struct {
	addr, host string
	mailbox    string // of trust.submission
	implicit   bool
	mechanisms []string
	size       int64
	maxConns   int                    // of one mailbox
	general    *credential            // for who has none of his own; nil: nobody else writes
	mailboxes  map[string]*credential // by Address.Key
}

// credential is how one mailbox says who it is.
type credential struct {
	identity string // what keeps its connections apart from others'
	user     string // "" where the certificate says it
	pair     *keyPair
	tokens   *trust.Tokens
}

// newSubmission gives nil where the clinic is no operator's client. Certificates are read now, so that a wrong one is said at once.
func newSubmission(cfg *config.Config, log *slog.Logger) (*submission, error) {
	c := cfg.Trust.Submission
	if !cfg.Trust.Client() {
		return nil, nil
	}
	s := &submission{addr: c.Addr, mailbox: c.Mailbox, host: hostOf(c.Addr), implicit: c.TLS == "implicit", size: int64(c.Size), maxConns: c.MaxConns, mailboxes: map[string]*credential{}}
	switch c.Auth {
	case "external":
		s.mechanisms = []string{relay.External}
	case "xoauth2":
		s.mechanisms = []string{relay.XOAuth2, relay.OAuthBearer}
	case "oauthbearer":
		s.mechanisms = []string{relay.OAuthBearer, relay.XOAuth2}
	}
	var err error
	if c.ByToken() == (len(c.TokenCommand) > 0) && (c.ByToken() || c.Cert != "" || cfg.Trust.Cert != "") {
		if s.general, err = newCredential(c.ByToken(), "", c.Mailbox, c.Cert, c.Key, c.TokenCommand, log); err != nil {
			return nil, fmt.Errorf("trust.submission.cert: %w", err)
		}
	}
	for who, m := range c.Mailboxes {
		a, err := message.ParseAddress(who, true)
		if err != nil {
			return nil, fmt.Errorf("trust.submission.mailboxes.%s: %w", who, err)
		}
		user := "" // its certificate says it
		if c.ByToken() {
			user = a.String()
		}
		if s.mailboxes[a.Key()], err = newCredential(c.ByToken(), a.Key(), user, m.Cert, m.Key, m.TokenCommand, log); err != nil {
			return nil, fmt.Errorf("trust.submission.mailboxes.%s: %w", who, err)
		}
	}
	return s, nil
}

func newCredential(byToken bool, identity, user, cert, key string, command []string, log *slog.Logger) (*credential, error) {
	c := &credential{identity: identity, user: user}
	if cert != "" {
		c.pair = &keyPair{cert: cert, key: key, log: log}
		if _, err := c.pair.get(nil); err != nil {
			return nil, err
		}
	}
	if byToken {
		c.tokens = trust.NewTokens(command, log.With("hop", operatorName))
	}
	return c, nil
}

// credential is that of a sender.
func (s *submission) credential(sender message.Address) *credential {
	if c := s.mailboxes[sender.Key()]; c != nil {
		return c
	}
	return s.general
}

// mailbox is whose session a message for the trust space goes in: its writer's mailbox, of reports too, or the sender where nobody is mapped.
func (m *mail) mailbox() message.Address {
	if m.writer != nil && m.writer.trouble == "" {
		return m.writer.as.Mailbox
	}
	return m.env.Sender
}

// operatorHop is the operator's server in a session of the sender's mailbox.
func (g *Gateway) operatorHop(sender message.Address) (relay.Hop, error) {
	s := g.submission
	c := s.credential(sender)
	if c == nil {
		return relay.Hop{}, refuse(550, [3]int{5, 7, 1}, "Destinataire MSSante: votre adresse d'expedition n'a pas de boite declaree chez l'operateur, l'administrateur peut l'ajouter",
			errors.New("no credentials for this sender in trust.submission"))
	}
	return g.hopAs(c)
}

// hopAs is the operator's server under a credential. The operator must show a valid certificate of the trust space with its host's name,
// whatever the white list says of its DN; that is asked again for each letter over a kept connection.
func (g *Gateway) hopAs(c *credential) (relay.Hop, error) {
	s := g.submission
	var cert *tls.Certificate
	if c.pair != nil {
		var err error
		if cert, err = c.pair.get(nil); err != nil {
			return relay.Hop{}, fmt.Errorf("certificate of trust.submission: %w", err) // not once it was read: the old one stays
		}
	}
	tc := g.space.OperatorTLS(s.host, cert)
	return relay.Hop{Name: operatorName, Addr: s.addr, Helo: g.spaceName(), MaxConns: s.maxConns, MaxSize: s.size,
		TLS:  relay.TLS{Mode: relay.Verify, Implicit: s.implicit, Config: tc, Check: tc.VerifyConnection},
		Auth: &relay.Auth{Identity: c.identity, Mechanisms: s.mechanisms, User: c.user, Tokens: c.tokens}}, nil
}

// days is how long the certificate that ends first is still good, infinite where none is shown.
func (s *submission) days(now time.Time) float64 {
	least := math.Inf(1)
	for _, c := range s.all() {
		least = min(least, c.days(now))
	}
	return least
}

func (s *submission) all() (list []*credential) {
	if s.general != nil {
		list = append(list, s.general)
	}
	for _, c := range s.mailboxes {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *credential) int {
		if a.identity < b.identity {
			return -1
		}
		return 1
	})
	return list
}

func (c *credential) days(now time.Time) float64 {
	if c.pair == nil {
		return math.Inf(1)
	}
	pair, err := c.pair.get(nil)
	if err != nil {
		return 0
	}
	return pair.Leaf.NotAfter.Sub(now).Hours() / 24
}

// CheckOperator tells what client mode is configured to do, and, where ask is set, opens one session for each mailbox as a letter would and
// names those that were not let in. Nothing of a message is sent; a token command is run.
func (g *Gateway) CheckOperator(ctx context.Context, cfg *config.Config, ask bool) (shown, warnings []string) {
	s := g.submission
	if s == nil {
		return nil, nil
	}
	c := cfg.Trust.Submission
	how := "TLS by STARTTLS"
	if s.implicit {
		how = "implicit TLS"
	}
	shown = append(shown, fmt.Sprintf("MSSante: client of the operator at %s (%s, auth: %s)", c.Addr, how, c.Auth))
	for _, cred := range s.all() {
		who, days := cred.who(c.Mailbox), cred.days(g.now())
		with := "certificate of trust.cert"
		switch {
		case cred.pair != nil:
			with = fmt.Sprintf("certificate %s, %.0f days left", cred.pair.cert, days)
		case cred.tokens != nil && cfg.Trust.Cert == "":
			with = "no certificate"
		default:
			days = g.space.DaysLeft()
			with += fmt.Sprintf(", %.0f days left", days)
		}
		if cred.tokens != nil {
			with += ", token by command"
		}
		shown = append(shown, fmt.Sprintf("  as %s: %s", who, with))
		if days < certificateAlarm {
			warnings = append(warnings, fmt.Sprintf("trust.submission: the certificate of %s ends in %.0f days: order the next one while it is valid", who, days))
		}
	}
	if ask {
		for _, seen := range g.greetOperator(ctx) {
			if seen.err != nil {
				warnings = append(warnings, fmt.Sprintf("trust.submission: MSSante mail of %s waits: %v", seen.who, seen.err))
			}
		}
	}
	slices.Sort(warnings)
	return shown, warnings
}

// who is the mailbox in words; general is that of trust.submission.
func (c *credential) who(general string) string {
	return cmp.Or(c.identity, general, "any sender")
}

// greeted is how the operator took one mailbox.
type greeted struct {
	who string
	err error
}

// greetOperator opens one session for each mailbox as a letter would, side by side: one that is slow must not take the others' time. Nothing of a
// message is sent; a token command is run.
func (g *Gateway) greetOperator(ctx context.Context) []greeted {
	r := relay.New(relay.Config{Log: g.log})
	defer r.Close()
	all := g.submission.all()
	seen := make([]greeted, len(all))
	var wg sync.WaitGroup
	for i, cred := range all {
		seen[i].who = cred.who(g.submission.mailbox)
		wg.Go(func() {
			hop, err := g.hopAs(cred)
			if err == nil {
				err = r.Greet(ctx, hop)
			}
			seen[i].err = err
		})
	}
	wg.Wait()
	return seen
}

// certificateAlarm is how many days before its end a certificate is spoken of: IGC-Santé renews only what is still valid, on request.
const certificateAlarm = 60
