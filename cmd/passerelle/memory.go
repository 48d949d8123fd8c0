package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"passerelle/config"
)

// headroom is what the process may take beside the bodies of messages: buffers, database caches, the collector's own slack.
const headroom = 24 << 20

// tuneMemory lets the collector work a third as often as Go's default while little is in use (ordinary mail makes garbage and keeps
// nothing), and as often as needed where the bodies in hand come near limits.memory. GOGC and GOMEMLIMIT win over it.
func tuneMemory(cfg *config.Config) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(cfg.Limits.Memory) + headroom)
	}
}

const (
	giveBackEvery = 15 * time.Second
	giveBackOver  = 12 << 20 // a gateway at rest has less; above it lies garbage, up to three times what lives
)

// giveBack returns to the system what bodies of a burst left, until ctx ends. The runtime does so over many minutes and only down to a
// tenth above its next goal; a clinic's machine has other work for that memory, and an operator who sees it grow cannot tell why. A
// collection of so small a heap takes some ten milliseconds.
func giveBack(ctx context.Context) {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	t := time.NewTicker(giveBackEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		metrics.Read(heap)
		if heap[0].Value.Uint64()+heap[1].Value.Uint64() > giveBackOver {
			debug.FreeOSMemory()
		}
	}
}
