package main

import (
	"fmt"
	"math"
	"runtime/debug"

	"passerelle/gateway"
)

type serveCmd struct{ configFlag }

func (c serveCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	tuneMemory(cfg)
	log := newLogger(cfg, e.stderr)
	g, err := gateway.Open(e.ctx, cfg, log)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	// The collector lets the heap double before it looks: fine for a small one, but a full budget would make it 128 MiB. Beyond the
	// budget and what sessions need it works more instead. GOMEMLIMIT in the environment is the operator's word.
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(int64(cfg.Limits.Memory) + 24<<20)
	}
	log.Info("passerelle starts", "version", version, "mode", cfg.Mode)
	err = g.Run(e.ctx, cfg, version)
	if cerr := g.Close(); err == nil {
		err = cerr
	}
	log.Info("passerelle has stopped")
	return err
}
