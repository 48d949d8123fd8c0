package main

import (
	"os"
	"runtime/debug"

	"passerelle/config"
)

// headroom is what the process may take beside the bodies of messages: buffers, database caches, the collector's own slack.
const headroom = 48 << 20

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
