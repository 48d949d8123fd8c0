package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"time"

	"passerelle/config"
	"passerelle/gateway/collect"
	"passerelle/gateway/message"
	"passerelle/gateway/trust"
)

// boxes are the mailboxes of the config in force. Their TLS settings are those of the moment of each session.
func (g *Gateway) boxes(cfg *config.Config) (out []collect.Box, certs map[string]*keyPair, err error) {
	certs = map[string]*keyPair{}
	for i, c := range cfg.Collect {
		if c.Addr == "" {
			continue
		}
		to, err := message.ParseAddress(c.DeliverTo, true)
		if err != nil {
			return nil, nil, fmt.Errorf("collect[%d].deliver_to: %w", i, err)
		}
		b := collect.Box{Name: c.Name, Mailbox: c.Mailbox, Folder: c.Folder, Addr: c.Addr, Implicit: c.TLS == "implicit", Auth: collect.Auth(c.Auth),
			After: collect.After(c.After), MoveTo: c.MoveTo, Every: time.Duration(c.Every), DeliverTo: to, Same: fmt.Sprintf("%+v", c)}
		var own *keyPair
		if c.Cert != "" {
			own = &keyPair{cert: c.Cert, key: c.Key, log: g.log}
			if _, err := own.get(nil); err != nil {
				return nil, nil, fmt.Errorf("collect[%d].cert: %w", i, err)
			}
			certs[c.Name] = own
		}
		host := hostOf(c.Addr)
		b.TLS = func() (*tls.Config, error) {
			if own == nil {
				return g.current().space.OperatorTLS(host, nil), nil
			}
			pair, err := own.get(nil)
			if err != nil {
				return nil, fmt.Errorf("certificate of the mailbox: %w", err)
			}
			return g.current().space.OperatorTLS(host, pair), nil
		}
		if len(c.TokenCommand) > 0 {
			t := trust.NewTokens(c.TokenCommand, g.log)
			b.Token, b.Evict = t.Get, t.Evict
		}
		out = append(out, b)
	}
	return out, certs, nil
}

// tried is how the operator let us in to one mailbox.
type tried struct {
	name, addr string
	err        error
}

// tryMailboxes logs in to each mailbox and opens its folder, side by side: one that is silent must not take the others' time. Nothing is fetched.
func (g *Gateway) tryMailboxes(ctx context.Context, cfg *config.Config) ([]tried, error) {
	boxes, _, err := g.boxes(cfg)
	if err != nil {
		return nil, err
	}
	all := make([]tried, len(boxes))
	var wg sync.WaitGroup
	for i, b := range boxes {
		wg.Go(func() { all[i] = tried{b.Name, b.Addr, collect.Try(ctx, b)} })
	}
	wg.Wait()
	return all, nil
}

// CheckMailboxes names those whose mail waits.
func (g *Gateway) CheckMailboxes(ctx context.Context, cfg *config.Config) (waiting []string) {
	all, err := g.tryMailboxes(ctx, cfg)
	if err != nil {
		return []string{err.Error()}
	}
	for _, b := range all {
		if b.err != nil {
			waiting = append(waiting, fmt.Sprintf("collect: mail of %s waits: %v", b.name, b.err))
		}
	}
	slices.Sort(waiting)
	return waiting
}

// collecting runs the mailboxes until ctx ends; a reload starts, stops or changes some. Each ends with the message in hand.
func (g *Gateway) collecting(ctx context.Context) {
	set := collect.New(collect.Config{State: collectState{g.db, g.now}, Budget: g.budget.Part(), Max: int64(g.cfg.Limits.Message), Log: g.log,
		Take: func(ctx context.Context, b *collect.Box, id collect.ID, body *message.Body) collect.Verdict {
			return g.current().Collected(context.WithoutCancel(ctx), b, id, body)
		},
		Tell: func(ctx context.Context, b *collect.Box, id collect.ID) error {
			return g.current().tellRefused(ctx, b, id)
		}})
	defer set.Stop()
	expire := time.NewTimer(keptFor)
	defer expire.Stop()
	for {
		set.Apply(g.current().collect)
		select {
		case <-ctx.Done():
			return
		case <-g.reloaded:
		case <-expire.C:
			g.pledges.expire()
		}
	}
}
