package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"passerelle/config"
	"passerelle/gateway"
)

type serveCmd struct{ configFlag }

// Run serves until SIGTERM; SIGHUP reads the config again.
func (c serveCmd) Run(e *env) error {
	hangup := make(chan os.Signal, 1) // one that comes while we start is not lost, and does not end us
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	sockets, kept, err := inherited()
	if err != nil {
		return err
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	tuneMemory(cfg)
	tuneProcessors()
	var level slog.LevelVar
	level.Set(logLevel(cfg))
	log := newLogger(&level, e.stderr)
	m := manager{log}
	ready := make(chan struct{})
	g, err := gateway.Open(e.ctx, cfg, log, gateway.Sockets(sockets), gateway.Keep(keeper(kept, log)), gateway.OnReady(func() { close(ready) }))
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	log.Info("passerelle starts", "version", version, "mode", cfg.Mode)
	ctx, cancel := context.WithCancel(e.ctx)
	alive, end := context.WithCancel(context.WithoutCancel(e.ctx)) // also while it stops
	var wg, watch sync.WaitGroup
	watch.Go(func() { m.watch(alive.Done()) })
	watch.Go(func() { giveBack(alive) })
	wg.Go(func() { // what the manager is told, in its order
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
		m.tell("READY=1", "STATUS=serving, mode "+cfg.Mode)
		for {
			select {
			case <-hangup:
				m.reloading()
				var read *config.Config
				err := g.Reload(ctx, func() (_ *config.Config, err error) { read, err = c.load(); return read, err })
				if err != nil {
					m.tell("READY=1", "STATUS=serving under the former config: the new one is faulty, see the log")
					continue
				}
				level.Set(logLevel(read))
				m.tell("READY=1", "STATUS=serving, mode "+read.Mode)
			case <-ctx.Done():
				m.tell("STOPPING=1", "STATUS=finishing what is in hand")
				return
			}
		}
	})
	err = g.Run(ctx, cfg, version)
	cancel()
	wg.Wait() // before Close: a reload may be under way
	if cerr := g.Close(); err == nil {
		err = cerr
	}
	end()
	watch.Wait()
	log.Info("passerelle has stopped")
	return err
}
