package gateway

import (
	"context"
	"testing"

	"passerelle/config"
)

// Two gateways one after the other in a process each have their metrics door.
func TestRunTwice(t *testing.T) {
	g := bare()
	cfg := &config.Config{}
	cfg.Listen.Metrics.Addr = "127.0.0.1:0"
	for range 2 {
		ds, err := g.doors(cfg, "test")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, d := range ds {
			if err := d.serve(ctx); err != nil {
				t.Error(err)
			}
		}
	}
}
