package vault

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How fast codes may be tried. The limits in the database hold over restarts; these only slow down.
const (
	codeEvery = 3 * time.Second // per link, after a burst of
	codeBurst = 5
	peerEvery = 2 * time.Second // per address range, after a burst of
	peerBurst = 10

	maxBuckets = 20_000 // about 3 MB; beyond that the oldest half is forgotten
)

// Limiter is one token bucket per key, bounded in memory.
type Limiter struct {
	every time.Duration
	burst int
	mu    sync.Mutex
	m     map[string]*rate.Limiter
	old   map[string]*rate.Limiter // the generation before
}

// NewLimiter gives a limiter that lets one through every so often, and burst of them at once.
func NewLimiter(every time.Duration, burst int) *Limiter {
	return &Limiter{every: every, burst: burst, m: map[string]*rate.Limiter{}}
}

// Allow takes one token of the key's bucket.
func (l *Limiter) Allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.m[key]
	if b == nil {
		if b = l.old[key]; b == nil {
			b = rate.NewLimiter(rate.Every(l.every), l.burst)
		}
		if len(l.m) >= maxBuckets/2 {
			l.old, l.m = l.m, map[string]*rate.Limiter{}
		}
		l.m[key] = b
	}
	return b.AllowN(now, 1)
}

// Range gives the network that one subscriber's addresses lie in: /24 of IPv4, /56 of IPv6.
func Range(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := 56
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "?"
	}
	return p.String()
}
