package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"passerelle/config"
	"passerelle/gateway"
)

type checkCmd struct {
	configFlag
	Wait time.Duration `default:"5s" help:"How long to look for a hop that leads back (0: do not connect to hops)."`
}

// Run checks in a scratch state folder: the running gateway holds the real one.
func (c checkCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	g, err := openScratch(e.ctx, cfg)
	if err != nil {
		return err
	}
	defer g.Close()
	if c.Wait > 0 {
		ctx, cancel := context.WithTimeout(e.ctx, c.Wait)
		defer cancel()
		if err := g.CheckHops(ctx, cfg); err != nil {
			return err
		}
	}
	wrong := 0
	for _, x := range cfg.Expect {
		ex, err := g.Explain(e.ctx, x.From, x.To, sampleMessage(x.From, x.To))
		if err != nil {
			return fmt.Errorf("expect %s -> %s: %w", x.From, x.To, err)
		}
		if ex.Decision.Route != x.Route {
			wrong++
			fmt.Fprintf(e.stderr, "expect %s -> %s: want %s, got %s (%s)\n", x.From, x.To, x.Route, ex.Decision.Route, ex.Decision.Reason)
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d expect pairs do not hold", wrong, len(cfg.Expect))
	}
	fmt.Fprintf(e.stdout, "%s: no faults; %d rules, %d expect pairs hold; mode %s\n", c.Config, len(cfg.Rules), len(cfg.Expect), cfg.Mode)
	return nil
}

// openScratch opens the gateway's rooms beside a running gateway: look-ups read the real mirror, nothing is written.
func openScratch(ctx context.Context, cfg *config.Config) (*gateway.Gateway, error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	return gateway.OpenReadOnly(ctx, cfg, quiet)
}

// sampleMessage is what expect pairs and explain decide about where the operator gave no message.
func sampleMessage(from, to string) []byte {
	return []byte("From: <" + from + ">\r\nTo: <" + to + ">\r\nSubject: essai\r\nMessage-ID: <explain@passerelle.invalid>\r\n\r\nessai\r\n")
}
