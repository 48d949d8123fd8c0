package store

import (
	"sync"
	"time"
)

// breaker lets one caller at a time look whether a server is back that was away: a host that swallows packets would else hold each of them, and the
// session behind him, for the whole of connectTime.
type breaker struct {
	mu     sync.Mutex
	err    error // of the last attempt, nil while it is there
	at     time.Time
	trying bool
}

// enter gives the last attempt's error while another one is being made.
func (b *breaker) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil && b.trying {
		return b.err
	}
	b.trying = true
	return nil
}

// leave notes what became of an attempt.
func (b *breaker) leave(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.at, b.trying = err, time.Now(), false
}

// quit ends an attempt that told nothing of the server: who made it went.
func (b *breaker) quit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

// lately tells whether an attempt has failed within the last seconds.
func (b *breaker) lately() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil && time.Since(b.at) < groupTime
}
