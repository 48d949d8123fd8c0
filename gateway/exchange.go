package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/relay"
	"passerelle/policy"
)

// exchangers finds the servers of the trust space's domains in the DNS (RFC 5321 section 5.1). Its answers need not be believed: a server
// is asked for the certificate of the domain that it is to serve, so a forged answer makes mail wait, or come back to its sender (null MX).
type exchangers struct {
	resolver *net.Resolver // nil: the system's
	now      func() time.Time
	mu       sync.Mutex
	known    map[string]exchange
}

type exchange struct {
	hosts []string // by preference; none: the domain takes no mail (RFC 7505)
	asked time.Time
}

const (
	mxTimeout = 5 * time.Second
	mxFresh   = 5 * time.Minute // how long an answer is used without asking again
	mxKept    = 24 * time.Hour  // how long where the DNS cannot be asked
	mxHosts   = 5               // servers of one domain that are tried
	mxDomains = 10_000          // answers kept
)

var errNullMX = errors.New("null MX")

func newExchangers(now func() time.Time) *exchangers {
	return &exchangers{now: now, known: map[string]exchange{}}
}

// hosts gives the names of a domain's servers, the preferred first. Without an MX it is the domain itself.
func (e *exchangers) hosts(ctx context.Context, domain string) ([]string, error) {
	now := e.now()
	e.mu.Lock()
	x, had := e.known[domain]
	e.mu.Unlock()
	age := now.Sub(x.asked)
	if !had || age < 0 || age > mxFresh {
		hosts, err := e.ask(ctx, domain)
		switch {
		case err == nil:
			x = exchange{hosts, now}
			e.mu.Lock()
			if len(e.known) >= mxDomains {
				clear(e.known)
			}
			e.known[domain] = x
			e.mu.Unlock()
		case !had || age < 0 || age > mxKept:
			return nil, err
		}
	}
	if len(x.hosts) == 0 {
		return nil, errNullMX
	}
	return x.hosts, nil
}

func (e *exchangers) ask(ctx context.Context, domain string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, mxTimeout)
	defer cancel()
	mxs, err := e.resolver.LookupMX(ctx, domain+".")
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && dns.IsNotFound {
		return []string{domain}, nil
	}
	if len(mxs) == 0 && err != nil { // with both, the names that are no names were left out
		return nil, err
	}
	if len(mxs) == 1 && mxs[0].Host == "." {
		return nil, nil
	}
	var hosts []string
	for _, mx := range mxs {
		h, err := message.ParseDomain(strings.TrimSuffix(mx.Host, "."))
		if err == nil && !slices.Contains(hosts, h) && len(hosts) < mxHosts {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("MX of %s: no usable name among %d", domain, len(mxs))
	}
	return hosts, nil
}

// trustHops gives the servers that may take a sender's letter for a domain of the trust space, to be tried in this order: the clinic's operator
// where it is his client, the one that the config names (trust.hosts), else those of the DNS.
func (g *Gateway) trustHops(ctx context.Context, domain string, sender message.Address) ([]relay.Hop, error) {
	hop, err := g.trustHop(domain)
	if err == nil && g.submission != nil { // a listed domain
		hop, err = g.operatorHop(sender)
	}
	if err != nil {
		return nil, err
	}
	return g.serversOf(ctx, hop, domain)
}

// serversOf gives the servers of a hop towards a domain: itself where it has an address, else those of the DNS.
func (g *Gateway) serversOf(ctx context.Context, hop relay.Hop, domain string) ([]relay.Hop, error) {
	if hop.Addr != "" {
		return []relay.Hop{hop}, nil
	}
	hosts, err := g.exchangers.hosts(ctx, domain)
	switch {
	case errors.Is(err, errNullMX):
		return nil, refuse(556, [3]int{5, 1, 10}, "Ce domaine MSSante dit ne recevoir aucun message (MX nul), verifiez l'adresse", err)
	case err != nil:
		return nil, refuse(451, [3]int{4, 4, 3}, "Serveur du domaine MSSante introuvable (DNS), nouvel essai plus tard", err)
	}
	hops := make([]relay.Hop, len(hosts))
	for i, h := range hosts {
		hops[i] = hop
		hops[i].Addr = net.JoinHostPort(h, strconv.Itoa(g.set.trustPort))
	}
	return hops, nil
}

// trust hands the message to the first of a domain's servers that can be spoken with: one that is away, or cannot prove who it is, was told
// nothing yet.
func (g *Gateway) trust(ctx context.Context, m *mail, ways []way, group []int) error {
	domain := m.env.Recipients[group[0]].Domain
	l, err := g.spaceLetter(ctx, m)
	if err != nil {
		return err
	}
	top, err := g.inSpace(ctx, m, ways, group)
	if err != nil {
		return err
	}
	l.Header = slices.Concat(top, l.Header)
	l, done, err := g.signLetter(ctx, m, l, policy.Trust, ways, group)
	if err != nil {
		return err
	}
	defer done()
	if limit := int64(g.set.trustLimit(domain).Size); limit > 0 && l.Size() > limit {
		return refuse(552, [3]int{5, 3, 4}, fmt.Sprintf("Message de %d octets, %s en accepte %d: envoyez les pieces jointes en plusieurs messages", l.Size(), domain, limit), nil)
	}
	hops, err := g.trustHops(ctx, domain, m.mailbox())
	if err != nil {
		return err
	}
	for i, hop := range hops {
		g.send(ctx, m, ways, group, hop, l)
		if i == len(hops)-1 || ctx.Err() != nil || !unspoken(ways, group) {
			break
		}
		g.log.Info("next server of the domain is tried", "id", m.env.ID, "hop", hop.Name, "failed", hop.Addr)
	}
	if i := group[0]; ways[i].facts.PatientINS && g.noMailbox(&ways[i]) {
		return g.withoutMailbox(ctx, m, ways, i)
	}
	return nil
}

// unspoken tells whether a server heard nothing of the letter, for any of its recipients.
func unspoken(ways []way, group []int) bool {
	for _, i := range group {
		var e *relay.Error
		if f := ways[i].fault; f == nil || !errors.As(f.err, &e) || !slices.Contains([]string{"connect", "banner", "hello", "starttls"}, e.Step) {
			return false
		}
	}
	return true
}
