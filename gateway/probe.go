package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"passerelle/config"
	"passerelle/gateway/relay"
)

// hopSeen is what a look at a hop found.
type hopSeen struct {
	name string
	relay.Seen
	err error
}

// ours tells whether it is this gateway that answers: its greeting bears our own host name.
func (h hopSeen) ours(hostname string) bool {
	name, _, _ := strings.Cut(h.Banner, " ")
	return name != "" && strings.EqualFold(name, hostname)
}

// lookAtHops connects to hops and reads greetings, side by side: one that is silent must not take the others' time. Nothing of a
// message is sent.
func lookAtHops(ctx context.Context, r *relay.Relay, hops []relay.Hop) []hopSeen {
	seen := make([]hopSeen, len(hops))
	var wg sync.WaitGroup
	for i, hop := range hops {
		seen[i].name = hop.Name
		wg.Go(func() { seen[i].Seen, seen[i].err = r.Examine(ctx, hop) })
	}
	wg.Wait()
	return seen
}

// hopsOf are the config's hops by name, at its addresses.
func (g *Gateway) hopsOf(cfg *config.Config) (hops []relay.Hop) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Hops)) {
		hop := g.set.hops[name]
		hop.Addr = cfg.Hops[name].Addr
		hops = append(hops, hop)
	}
	return hops
}

// CheckHops looks whether a hop leads straight back to us. A hop that does not answer is no fault of the config.
func (g *Gateway) CheckHops(ctx context.Context, cfg *config.Config) error {
	r := relay.New(relay.Config{Log: slog.New(slog.DiscardHandler)})
	defer r.Close()
	var errs []error
	for _, h := range lookAtHops(ctx, r, g.hopsOf(cfg)) {
		if h.ours(g.set.hostname) {
			errs = append(errs, fmt.Errorf("hops.%s.addr: %s answers as %s, which is this gateway: mail would go round in a circle", h.name, cfg.Hops[h.name].Addr, g.set.hostname))
		}
	}
	return errors.Join(errs...)
}

// CheckPartners asks each hop that has domains of its own for its certificate, and names those whose mail would wait.
func (g *Gateway) CheckPartners(ctx context.Context) (waiting []string) {
	r := relay.New(relay.Config{Log: g.log})
	defer r.Close()
	names := map[string][]string{}
	for d, name := range g.set.partners {
		names[name] = append(names[name], d)
	}
	var hops []relay.Hop
	for _, name := range slices.Sorted(maps.Keys(names)) {
		hops = append(hops, g.set.hops[name])
	}
	for _, h := range lookAtHops(ctx, r, hops) {
		if h.err != nil {
			slices.Sort(names[h.name])
			waiting = append(waiting, fmt.Sprintf("hops.%s: mail for %s waits: %v", h.name, strings.Join(names[h.name], ", "), h.err))
		}
	}
	return waiting
}
