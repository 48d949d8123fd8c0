package gateway

import (
	"context"
	"errors"
	"strings"

	"passerelle/config"
	"passerelle/gateway/relay"
)

// partners names the hop of each partner's domain; "*.chu.example" stands for every domain below chu.example.
type partners map[string]string

func newPartners(hops map[string]config.Hop) partners {
	p := partners{}
	for name, h := range hops {
		for _, d := range h.Domains {
			p[d] = name
		}
	}
	return p
}

// hop gives the name of a domain's hop, "" where it has none: its own, else that of the nearest domain above it.
func (p partners) hop(domain string) string {
	if len(p) == 0 {
		return ""
	}
	if name := p[domain]; name != "" {
		return name
	}
	for {
		_, above, ok := strings.Cut(domain, ".")
		if !ok {
			return ""
		}
		if name := p["*."+above]; name != "" {
			return name
		}
		domain = above
	}
}

// internetHop is the hop of a letter that leaves over the Internet for a domain: the one that the rule names, else the partner's own,
// else internet. A partner's hop verifies or waits, whatever it answers: nothing falls back.
func (g *Gateway) internetHop(named, domain string) relay.Hop {
	if named == "" {
		named = g.set.partners.hop(domain)
	}
	if named == "" {
		return g.set.hopInternet
	}
	hop := g.set.hops[named]
	hop.Name = named
	return hop
}

// sendOut hands a letter to an Internet hop, signed where its author's domain has a key (as: see sign). Without the signature it does
// not leave: the domain says by its keys that its mail bears one, and who mends it is the operator.
func (g *Gateway) sendOut(ctx context.Context, m *mail, ways []way, group []int, hop relay.Hop, l relay.Letter, as bool) {
	if err := g.sign(&l, as); err != nil {
		var no *fault
		if !errors.As(err, &no) {
			no = later("Signature DKIM impossible, nouvel essai plus tard", err)
		}
		for _, i := range group {
			ways[i].fault = no
		}
		return
	}
	g.send(ctx, m, ways, group, hop, l)
}
