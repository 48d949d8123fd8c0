package main

import (
	"fmt"

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
	log.Info("passerelle starts", "version", version, "mode", cfg.Mode)
	err = g.Run(e.ctx, cfg, version)
	if cerr := g.Close(); err == nil {
		err = cerr
	}
	log.Info("passerelle has stopped")
	return err
}
