package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The national service allows an application 17 calls in a second. A bucket lets its burst go beside its rate: 3 and 14 are never more than 17
// in any second, however the service counts.
const (
	fhirRate  = 14
	fhirBurst = 3 // one question is three calls
)

// errPaused: the service asked to be left alone for a while.
var errPaused = errors.New("the service asked for a pause")

// FHIRLimit holds the calls of a process under the rate that its API key is allowed. Every client of the key shares one, beyond a reload too.
type FHIRLimit struct {
	bucket *rate.Limiter

	mu    sync.Mutex
	until time.Time // the pause that the service asked for
}

// NewFHIRLimit makes the limit of one API key.
func NewFHIRLimit() *FHIRLimit {
	return &FHIRLimit{bucket: rate.NewLimiter(fhirRate, fhirBurst)}
}

// wait returns when a call may leave: at once, or as soon as the rate allows. It does not wait for what ctx has no time for, nor for the end of
// a pause: that would only pile up askers.
func (l *FHIRLimit) wait(ctx context.Context) error {
	l.mu.Lock()
	left := time.Until(l.until)
	l.mu.Unlock()
	if left > 0 {
		return fmt.Errorf("%w, %s more", errPaused, left.Round(time.Second))
	}
	return l.bucket.Wait(ctx)
}

// pause lets no call leave for d; a longer pause that runs stays.
func (l *FHIRLimit) pause(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := time.Now().Add(d); until.After(l.until) {
		l.until = until
	}
}
