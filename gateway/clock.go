package gateway

import (
	"log/slog"
	"sync"
	"time"
)

const (
	jump      = time.Hour      // clocks that are set by NTP drift less
	jumpDoubt = 24 * time.Hour // a person has seen the log by then
)

// clock notices that the wall clock was set ahead. What would then be destroyed or given up waits for a day: a wrong clock is set right
// again, a destroyed deposit and a bounced message are not brought back. A clock set back only makes things last longer.
type clock struct {
	log *slog.Logger

	mu         sync.Mutex
	wall, real time.Time     // at the last look; real is the monotonic clock's
	ahead      time.Duration // how far the wall clock was set ahead
	since      time.Time     // of real
}

// steady tells whether the clock's word may end something for good. It is to be asked often: between two looks it sees jumps.
func (c *clock) steady(clock func() time.Time) bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now, real := clock().Round(0), time.Now()
	if c.real.IsZero() {
		c.wall, c.real = now, real
	}
	d := now.Sub(c.wall) - real.Sub(c.real)
	c.wall, c.real = now, real
	switch was := c.ahead; {
	case d > jump:
		c.ahead, c.since = was+d, real
		c.log.Error("the clock was set ahead: for a day no deposit is destroyed and no waiting message given up", "by", d.Round(time.Second).String())
	case d < -jump:
		c.ahead = max(0, was+d)
		c.log.Error("the clock was set back", "by", (-d).Round(time.Second).String())
	}
	if c.ahead > jump && real.Sub(c.since) > jumpDoubt {
		c.ahead = 0
	}
	return c.ahead <= jump
}
