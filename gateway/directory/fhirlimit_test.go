package directory

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestFHIRRate: never more than 17 calls in any second, over all clients of a process.
func TestFHIRRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFHIRLimit()
		ch := make(chan time.Time, 200)
		for range 4 {
			go func() {
				for range 50 {
					if l.wait(t.Context()) == nil {
						ch <- time.Now()
					}
				}
			}()
		}
		var at []time.Time
		for range 200 {
			at = append(at, <-ch)
		}
		slices.SortFunc(at, time.Time.Compare)
		most := 0
		for i := range at {
			n := 0
			for _, u := range at[i:] {
				if u.Sub(at[i]) < time.Second {
					n++
				}
			}
			most = max(most, n)
		}
		if took := at[199].Sub(at[0]); most > 17 || most < 14 || took > 15*time.Second {
			t.Fatalf("%d calls in one second, all in %s", most, took)
		}
	})
}

// TestFHIRPause: a pause holds everybody who has time for it, and answers the others at once.
func TestFHIRPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFHIRLimit()
		l.pause(10 * time.Second)
		l.pause(time.Second) // a shorter one does not end it
		began := time.Now()
		short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := l.wait(short); err == nil || time.Since(began) > 0 {
			t.Fatalf("waited %s: %v", time.Since(began), err)
		}
		long, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := l.wait(long); err != nil || time.Since(began) != 10*time.Second {
			t.Fatalf("waited %s: %v", time.Since(began), err)
		}
	})
}

// TestFHIRLeftAlone: while the service wants its pause nobody calls it.
func TestFHIRLeftAlone(t *testing.T) {
	s := startAnnuaire(t, nationalFHIR()...)
	s.trouble = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	f := s.client(t, nil)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if recs, err := f.ask(ctx, address(t, vasseur.address)); err == nil {
			t.Fatalf("got %v", recs)
		}
		cancel()
	}
	if len(s.asked()) > 3 { // those of the first question, under way when the first of them was refused
		t.Fatalf("%d calls", len(s.asked()))
	}
}

func TestRetryAfter(t *testing.T) {
	for s, want := range map[string]time.Duration{"": time.Second, "0": time.Second, "7": 7 * time.Second, "-3": time.Second, "x": time.Second, "999999999": maxFHIRPause,
		"99999999999999999999": time.Second, day.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second, day.Add(-time.Hour).Format(http.TimeFormat): time.Second} {
		if got := retryAfterOf(s, day); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
