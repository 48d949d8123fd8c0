package ledger

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/store"
)

func TestFirstSeenSurvivesRestartsAndRepeatsCollapse(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test")
	start := h.now()
	for n := range 4 {
		c := h.claim(a)
		first, times, ok := c.Waiting(0)
		if ok != (n > 0) || times != n || ok && !first.Equal(start) {
			t.Errorf("attempt %d: got %v %d %v", n, first, times, ok)
		}
		e := entry(0, Deferred)
		e.Text = fmt.Sprintf("words of attempt %d", n)
		h.note(c, e)
		c.Settled(-1, false, true)
		if n == 2 {
			h.restart()
		}
		h.pass(time.Hour)
	}
	h.flush(t.Context())
	es, err := h.Query(t.Context(), Filter{MessageID: "m1"})
	if err != nil || len(es) != 1 {
		t.Fatalf("got %d rows, %v; want one", len(es), err)
	}
	if e := es[0]; !e.First.Equal(start) || !e.Last.Equal(start.Add(3*time.Hour)) || e.Count != 4 || e.Text != "words of attempt 3" {
		t.Errorf("got %+v", e)
	}
	if got := h.OldestWaiting(); len(got) != 1 || !got["hop-away"].Equal(start) {
		t.Errorf("oldest waiting: %v", got)
	}
	c := h.claim(a)
	h.note(c, entry(0, Delivered))
	if got := h.OldestWaiting(); len(got) != 0 {
		t.Errorf("delivered and still waiting: %v", got)
	}
	c.Settled(-1, true, true)
	if es, _ := h.Query(t.Context(), Filter{}); len(es) != 2 || es[0].Outcome != Delivered || es[1].Count != 4 {
		t.Errorf("got %+v", es)
	}
}

func TestOldestWaitingForgetsClientsThatStayAway(t *testing.T) {
	h := newHouse(t, t.TempDir())
	c := h.claim(asks("body", "a@x.test"))
	h.note(c, entry(0, Deferred))
	c.Release()
	h.pass(7 * time.Hour)
	if got := h.OldestWaiting(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// "A bounce that cannot be handed over is 4xx, and that state is remembered."
func TestBounceStateIsRemembered(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test", "b@x.test")
	c := h.claim(a)
	h.note(c, entry(0, Delivered), entry(1, Failed))
	c.Settled(-1, false, true) // the bounce was not accepted
	h.restart()
	c = h.claim(a)
	if e, ok := c.Served(1); !ok || e.Outcome != Failed || e.Bounced {
		t.Fatalf("got %+v, %v", e, ok)
	}
	if err := c.Bounced(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	h.restart() // died between the bounce and the reply
	c = h.claim(a)
	if e, ok := c.Served(1); !ok || e.Outcome != Failed || !e.Bounced {
		t.Fatalf("got %+v, %v", e, ok)
	}
	if e, ok := c.Served(0); !ok || e.Bounced {
		t.Errorf("the other: %+v, %v", e, ok)
	}
	c.Settled(-1, true, true)
	h.restart()
	h.wantServed(a, false, false)
	got, err := h.Counts(t.Context(), time.Time{})
	if err != nil || got[Delivered] != 1 || got[Failed] != 1 || got[Bounced] != 1 {
		t.Errorf("counts: %v, %v", got, err)
	}
	// in one attempt
	c = h.claim(a)
	if err := c.Bounced(t.Context(), 1); err == nil {
		t.Error("a bounce of what did not fail was noted")
	}
	h.note(c, entry(0, Delivered), entry(1, Failed))
	if err := c.Bounced(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	c.Release()
	c = h.claim(a)
	if e, ok := c.Served(1); !ok || !e.Bounced {
		t.Errorf("got %+v, %v", e, ok)
	}
	c.Release()
}

// A repeat that comes before its memory has a row: the row that is written meanwhile must not outlive the reply that ends the memory, or a
// later message with the same bytes would be swallowed.
func TestRepeatBesideItsOwnMemoryRow(t *testing.T) {
	for name, write := range map[string]func(*house, func() *Claim) *Claim{
		"claimed before the row is written": func(h *house, claim func() *Claim) *Claim {
			c := claim()
			h.flush(h.t.Context())
			return c
		},
		"claimed while the row is written": func(h *house, claim func() *Claim) *Claim {
			begun, goOn := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { h.db.Write(context.Background(), func(store.Tx) error { close(begun); <-goOn; return nil }) })
			<-begun
			wg.Go(func() { h.flush(context.Background()) })
			moved, last := make(chan struct{}), make(chan struct{})
			for busy := false; !busy; { // the flush is behind us in the writer's queue, or soon
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				busy = h.writes.Alone(ctx, func() error { return nil }) != nil
				cancel()
			}
			time.Sleep(20 * time.Millisecond)
			wg.Go(func() { h.db.Write(context.Background(), func(store.Tx) error { close(moved); <-last; return nil }) })
			time.Sleep(20 * time.Millisecond)
			close(goOn)
			<-moved
			c := claim()
			close(last)
			wg.Wait()
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, t.TempDir())
			a := asks("body", "a@x.test")
			c := h.claim(a)
			h.note(c, entry(0, Failed))
			c.Release()
			c = write(h, func() *Claim { return h.claim(a) })
			if _, ok := c.Served(0); !ok {
				t.Fatal("forgotten")
			}
			if err := c.Bounced(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			c.Settled(-1, true, true)
			h.wantServed(a, false)
			h.restart()
			h.wantServed(a, false)
			if n := h.rows("ledger_memory"); n != 0 {
				t.Errorf("%d memory rows are left", n)
			}
		})
	}
}

func TestEntryKeepsEveryField(t *testing.T) {
	h := newHouse(t, t.TempDir())
	want := Entry{MessageID: "m", Sender: "s@x.test", Recipient: "R@x.test", Route: "trust", Rule: "pros", Reason: "verified", Source: "extraction",
		AsOf: h.now().Add(-time.Hour), Outcome: Delivered, Code: 250, Enhanced: "2.0.0", Text: "ok", Hop: "trust", PeerSubject: "CN=peer",
		PeerFingerprint: "ab", TLS: "TLS1.3", DepositID: "d", Clear: true, Size: 1 << 40, Form: "zip", HeaderMessageID: "<x@y>"}
	c := h.claim(asks("body", "a", "b"))
	other := want
	other.I, other.Recipient, other.Text = 1, "other@x.test", "\xff"+strings.Repeat("é", 2000)
	h.note(c, want, other)
	c.Release()
	for name, f := range map[string]Filter{
		"recipient": {Recipient: "r@X.test"},
		"all":       {MessageID: "m", Sender: "S@x.test", Recipient: "R@x.test", Since: h.now(), Until: h.now().Add(time.Microsecond)},
	} {
		es, err := h.Query(t.Context(), f)
		if name == "all" {
			want.First, want.Last, want.Count = h.now(), h.now(), 1
		}
		if err != nil || len(es) != 1 {
			t.Fatalf("%s: %d rows, %v", name, len(es), err)
		}
		got := es[0]
		if got.Salt == [16]byte{} {
			t.Error("no salt")
		}
		want.First, want.Last, want.Count, want.Seq, want.Salt = h.now(), h.now(), 1, got.Seq, got.Salt
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	es, _ := h.Query(t.Context(), Filter{Limit: 1})
	if len(es) != 1 || len(es[0].Text) > maxText+1 || es[0].Salt == want.Salt {
		t.Errorf("got %+v", es)
	}
	if es, err := h.Query(t.Context(), Filter{Until: h.now()}); err != nil || len(es) != 0 {
		t.Errorf("until: %v, %v", es, err)
	}
}

func TestNoteRefusesNonsense(t *testing.T) {
	h := newHouse(t, t.TempDir())
	c := h.claim(asks("body", "a"))
	defer c.Release()
	for _, e := range []Entry{{I: 1, Outcome: Delivered}, {I: -1, Outcome: Delivered}, {Outcome: "gone"}, {}} {
		if err := c.Note(t.Context(), []Entry{e}); err == nil {
			t.Errorf("%+v was noted", e)
		}
	}
	if err := h.Ready(); err != nil {
		t.Errorf("a caller's fault shut the gate: %v", err)
	}
}
