package ledger

import (
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// known is what the design says must be remembered of one recipient.
type known struct {
	outcome     Outcome
	bounced     bool
	n           int
	first, last time.Time
}

// TestModel: whatever attempts, replies, waits and restarts follow each other, the ledger remembers what the design says.
func TestModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			r.Fatal(err)
		}
		h := &house{t: t, dir: dir, at: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
		h.cfg = Config{Now: h.now, Proof: time.Hour, Probe: time.Hour, Idle: time.Hour}
		h.start()
		defer func() { h.end() }()
		model := map[string]known{}
		for range rapid.IntRange(1, 15).Draw(r, "steps") {
			attempt(r, h, model)
			switch rapid.IntRange(0, 5).Draw(r, "then") {
			case 0:
				h.restart()
			case 1:
				h.flush(t.Context())
			case 2:
				h.purge(t.Context())
			}
			h.pass(time.Duration(rapid.IntRange(0, 72).Draw(r, "hours")) * time.Hour)
		}
	})
}

func attempt(r *rapid.T, h *house, model map[string]known) {
	body := rapid.SampledFrom([]string{"one", "two"}).Draw(r, "body")
	rcpts := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID).Draw(r, "recipients")
	c, err := h.Claim(h.t.Context(), asks(body, rcpts...), nil)
	if err != nil {
		r.Fatal(err)
	}
	var notes []Entry
	var bounce []int
	deferred := false
	for i, rcpt := range rcpts {
		k := model[body+rcpt]
		if k.last.Before(h.now().Add(-7 * 24 * time.Hour)) {
			k = known{}
		}
		wantServed := k.outcome != "" && k.outcome != Deferred
		e, served := c.Served(i)
		if served != wantServed || served && (e.Outcome != k.outcome || e.Bounced != k.bounced) {
			r.Fatalf("%s %s: got served %v %s bounced %v, want %+v", body, rcpt, served, e.Outcome, e.Bounced, k)
		}
		first, n, waiting := c.Waiting(i)
		if waiting != (k.outcome == Deferred) || waiting && (n != k.n || !first.Equal(k.first)) {
			r.Fatalf("%s %s: got waiting %v %d since %v, want %+v", body, rcpt, waiting, n, first, k)
		}
		if !served {
			k.outcome, k.last = rapid.SampledFrom([]Outcome{Delivered, Deferred, Failed, Refused}).Draw(r, "outcome"), h.now()
			if k.outcome == Deferred {
				if k.n++; k.n == 1 {
					k.first = h.now()
				}
			}
			notes = append(notes, entry(i, k.outcome))
		}
		if k.outcome == Failed && !k.bounced && rapid.Bool().Draw(r, "bounce") {
			k.bounced = true
			bounce = append(bounce, i)
		}
		deferred = deferred || k.outcome == Deferred
		model[body+rcpt] = k
	}
	if err := c.Note(h.t.Context(), notes); err != nil {
		r.Fatal(err)
	}
	if err := c.Bounced(h.t.Context(), bounce...); err != nil {
		r.Fatal(err)
	}
	written := rapid.Bool().Draw(r, "written")
	switch rapid.SampledFrom([]string{"smtp", "lmtp", "died"}).Draw(r, "reply") {
	case "smtp": // one reply: 4xx while any of them must come again
		c.Settled(-1, !deferred, written)
		for _, rcpt := range rcpts {
			if !deferred && written {
				delete(model, body+rcpt)
			}
		}
	case "lmtp":
		for i, rcpt := range rcpts {
			final := model[body+rcpt].outcome.final()
			c.Settled(i, final, written)
			if final && written {
				delete(model, body+rcpt)
			}
		}
	case "died":
		c.Release()
	}
	h.Ledger.mu.Lock()
	defer h.Ledger.mu.Unlock()
	if len(h.hand) != 0 {
		r.Fatalf("%d still in hand", len(h.hand))
	}
}
