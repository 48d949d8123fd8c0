package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
)

// An address that cannot be asked about holds up nobody else's, is not asked about again and again, and is never "not listed".
func TestRemoteOddAddress(t *testing.T) {
	c, f := &clock{t: day.Add(time.Hour)}, &far{as: "fhir"}
	odd := address(t, "a$b@x.test")
	f.set(func(ctx context.Context, a message.Address) ([]Record, error) {
		if a == odd {
			return nil, oddAddress{errors.New("it cannot be searched for")}
		}
		return lists(ctx, a)
	})
	d := withFar(t, t.TempDir(), c, f, Asking{OnMail: true, Verifies: true})
	for i := range 3 {
		if got := d.Ask(t.Context(), odd); got.Verdict != CouldNotAsk || !strings.Contains(got.Why, "cannot be asked about this address: it cannot be searched for") || got.Reply == "" {
			t.Fatalf("%+v", got)
		}
		if got := d.Ask(t.Context(), address(t, fmt.Sprintf("c%d@x.test", i))); got.Verdict != Verified {
			t.Fatalf("another's mail waits: %+v", got)
		}
	}
	if n := f.asked.Load(); n > 4 {
		t.Errorf("asked %d times about 4 addresses", n)
	}
	f.set(lists)
	c.add(maxBreak)
	if got := d.Ask(t.Context(), odd); got.Verdict != Verified {
		t.Errorf("it can be asked now: %+v", got)
	}
	s := startAnnuaire(t, nationalFHIR()...).client(t, nil)
	if _, err := s.ask(t.Context(), odd); !errors.As(err, new(oddAddress)) {
		t.Errorf("fhir: %v", err)
	}
}

// A client that goes away while its mail is asked about is no fault of the source: the next mail is asked about at once.
func TestRemoteClientGone(t *testing.T) {
	c, f := &clock{t: day.Add(time.Hour)}, &far{as: "fhir"}
	d := withFar(t, t.TempDir(), c, f, Asking{OnMail: true, Verifies: true, Timeout: 10 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	f.set(func(ctx context.Context, _ message.Address) ([]Record, error) {
		cancel()
		<-ctx.Done()
		f.set(lists)
		return nil, ctx.Err()
	})
	if got := d.Ask(ctx, address(t, "a@x.test")); got.Verdict == NotListed { // a second look may have come behind the first
		t.Fatalf("%+v", got)
	}
	if got := d.Ask(t.Context(), address(t, "b@x.test")); got.Verdict != Verified {
		t.Errorf("another's mail waits: %s, %s", got.Verdict, got.Why)
	}
}

// An answer of a date to come, from before a clock was set right, is asked for again: it would be believed in a year and not before.
func TestRemoteClockSetBack(t *testing.T) {
	c, f := &clock{t: day.AddDate(1, 0, 0)}, &far{as: "fhir", answer: lists}
	d := withFar(t, t.TempDir(), c, f, Asking{Verifies: true})
	a := address(t, "a@x.test")
	until(t, "never verified", func() bool { return d.Ask(t.Context(), a).Verdict == Verified })
	c.add(-365 * 24 * time.Hour)
	if got := d.Ask(t.Context(), a); got.Verdict == NotListed {
		t.Fatalf("%+v", got)
	}
	until(t, "never asked again", func() bool { return d.Ask(t.Context(), a).Verdict == Verified })
}

// Questions that fail side by side are one failure: the source rests for seconds, not for the longest time.
func TestRemoteFailuresSideBySide(t *testing.T) {
	c := &clock{t: day}
	a := &asking{now: c.now, log: slog.New(slog.DiscardHandler), ctx: t.Context(), answers: make(map[answerKey]*dated), health: make(map[string]*health)}
	r := &asker{key: "x", leased: &leased{remote: &far{as: "fhir"}}}
	for range atOnce {
		a.note(r, address(t, "a@x.test"), nil, errors.New("503"))
	}
	if h := a.healthOf(r); h.wait != breakFor {
		t.Errorf("it rests for %s", h.wait)
	}
	c.add(breakFor)
	if a.note(r, address(t, "a@x.test"), nil, errors.New("503")); a.healthOf(r).wait != 2*breakFor {
		t.Errorf("it rests for %s", a.healthOf(r).wait)
	}
}
