package directory

import (
	"context"
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

// fhirLimit holds the calls of a process under the rate that its API key is allowed. Every client of the key shares one, beyond a reload too.
type fhirLimit struct {
	bucket *rate.Limiter

	mu    sync.Mutex
	until time.Time // the pause that the service asked for
}

// newFHIRLimit makes the limit of one API key.
func newFHIRLimit() *fhirLimit {
	return &fhirLimit{bucket: rate.NewLimiter(fhirRate, fhirBurst)}
}

// wait returns when a call may leave: at once, behind the pause that the service asked for, as soon as the rate allows. Where ctx has no time for
// that it fails at once: askers must not pile up behind a service that is closed.
func (l *fhirLimit) wait(ctx context.Context) error {
	l.mu.Lock()
	left := time.Until(l.until)
	l.mu.Unlock()
	if end, ok := ctx.Deadline(); left > 0 && ok && time.Until(end) <= left {
		return fmt.Errorf("the service asked for a pause, %s more", left.Round(time.Second))
	}
	if left > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(left):
		}
	}
	return l.bucket.Wait(ctx)
}

// pause lets no call leave for d; a longer pause that runs stays.
func (l *fhirLimit) pause(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := time.Now().Add(d); until.After(l.until) {
		l.until = until
	}
}
