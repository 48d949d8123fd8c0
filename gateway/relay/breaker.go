package relay

import (
	"fmt"
	"sync"
	"time"
)

// breaker spares a hop that cannot be reached, and our clients the wait: after some failures in a row it refuses at once, then lets one
// probe through; each probe that fails doubles the pause.
type breaker struct {
	after    int
	min, max time.Duration

	mu      sync.Mutex
	failing int           // failures in a row
	pause   time.Duration // the present pause, 0 while closed
	until   time.Time
	probing bool
	last    error
}

// allow gives an error while the hop is to be left alone. After nil exactly one of succeeded, failed and undecided must follow.
func (b *breaker) allow(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return nil
	}
	if now.Before(b.until) || b.probing {
		return fmt.Errorf("left alone until %s: %w", b.until.UTC().Format(time.RFC3339), b.last)
	}
	b.probing = true
	return nil
}

// succeeded: the hop was reached.
func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failing, b.pause, b.probing, b.last = 0, 0, false, nil
}

// undecided: the attempt was given up by us.
func (b *breaker) undecided() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

// failed gives the pause that begins now, 0 if none does. Attempts that were under way when the pause began do not lengthen it.
func (b *breaker) failed(now time.Time, err error) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failing++
	b.last = err
	switch {
	case b.pause == 0 && b.failing >= b.after:
		b.pause = b.min
	case b.pause > 0 && b.probing && !now.Before(b.until):
		b.pause = min(2*b.pause, b.max)
	default:
		return 0
	}
	b.until, b.probing = now.Add(b.pause), false
	return b.pause
}
