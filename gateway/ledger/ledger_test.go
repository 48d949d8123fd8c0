package ledger

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"passerelle/gateway/store"
)

const childEnv = "LEDGER_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// house is a ledger on a real folder with a clock of its own; it can be restarted. The background does nothing by itself.
type house struct {
	*Ledger
	t   testing.TB
	dir string
	db  *store.DB
	cfg Config
	mu  sync.Mutex
	at  time.Time
}

func (h *house) now() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.at }
func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

func newHouse(t testing.TB, dir string, change ...func(*Config)) *house {
	t.Helper()
	h := &house{t: t, dir: dir, at: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	h.cfg = Config{Key: [32]byte{1}, Now: h.now, Proof: time.Minute, Probe: time.Hour, Idle: time.Hour}
	for _, f := range change {
		f(&h.cfg)
	}
	h.start()
	t.Cleanup(h.end)
	return h
}

func (h *house) start() {
	h.t.Helper()
	var err error
	if h.db, err = store.Open(context.Background(), store.Config{Dir: h.dir, Busy: 100 * time.Millisecond}); err != nil {
		h.t.Fatal(err)
	}
	if h.Ledger, err = New(context.Background(), h.db, h.cfg); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) end() {
	if err := errors.Join(h.Close(), h.db.Close()); err != nil {
		h.t.Error(err)
	}
}

func (h *house) restart() { h.t.Helper(); h.end(); h.start() }

// lock takes the database's write lock as a foreign process would.
func (h *house) lock() (unlock func()) {
	h.t.Helper()
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.Join(h.dir, "passerelle.db"), RawQuery: "_txlock=immediate&_pragma=busy_timeout(5000)"}
	other, err := sql.Open("sqlite", u.String())
	if err != nil {
		h.t.Fatal(err)
	}
	tx, err := other.Begin()
	if err != nil {
		h.t.Fatal(err)
	}
	return func() { tx.Rollback(); other.Close() }
}

func asks(body string, rcpts ...string) []Ask {
	out := make([]Ask, len(rcpts))
	for i, r := range rcpts {
		out[i] = Ask{Client: "192.0.2.1", Sender: "doc@clinic.test", Recipient: r, Body: sha256.Sum256([]byte(body))}
	}
	return out
}

func (h *house) claim(a []Ask) *Claim { h.t.Helper(); return h.claimHere(a, nil) }

func (h *house) claimHere(a []Ask, here func() bool) *Claim {
	h.t.Helper()
	c, err := h.Claim(h.t.Context(), a, here)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func entry(i int, o Outcome) Entry {
	e := Entry{I: i, MessageID: "m1", Sender: "doc@clinic.test", Recipient: fmt.Sprintf("R%d@peer.test", i), Outcome: o, Code: 250, Hop: "internet"}
	if o == Deferred {
		e.Code, e.Reason = 451, "hop-away"
	}
	return e
}

func (h *house) note(c *Claim, es ...Entry) {
	h.t.Helper()
	if err := c.Note(h.t.Context(), es); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) wantServed(a []Ask, want ...bool) {
	h.t.Helper()
	c := h.claim(a)
	defer c.Release()
	for i, w := range want {
		if e, ok := c.Served(i); ok != w {
			h.t.Errorf("recipient %d: got served %v (%+v), want %v", i, ok, e, w)
		}
	}
}

// "A recipient counts as served only if an earlier attempt [...] was answered 4xx as a whole, or its reply was never written.
// After a written final reply the same bytes are a new message."
func TestServedOnlyIfTheClientWasNotTold(t *testing.T) {
	for _, c := range []struct {
		name           string
		final, written bool
		served         bool
	}{
		{"answered 250 or 5xx", true, true, false},
		{"answered 4xx as a whole", false, true, true},
		{"final reply never written", true, false, true},
		{"4xx never written", false, false, true},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restart=%v", c.name, restart), func(t *testing.T) {
				h := newHouse(t, t.TempDir())
				a := asks("body", "a@x.test", "b@x.test")
				one := h.claim(a)
				h.note(one, entry(0, Delivered), entry(1, Deferred))
				one.Settled(-1, c.final, c.written)
				if restart {
					h.restart()
				}
				h.wantServed(a, c.served, false)
				two := h.claim(a)
				if _, _, ok := two.Waiting(1); ok != c.served {
					t.Errorf("recipient 1 waits: %v, want %v", ok, c.served)
				}
				two.Release()
			})
		}
	}
}

func TestDeathBeforeTheReplyLeavesServed(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test")
	c := h.claim(a)
	e := entry(0, Failed)
	e.Code, e.Enhanced, e.Text = 550, "5.1.1", "inconnu"
	h.note(c, e)
	h.restart() // no Settled, no Release
	c = h.claim(a)
	got, ok := c.Served(0)
	if !ok || got.Outcome != Failed || got.Code != 550 || got.Enhanced != "5.1.1" || got.Text != "inconnu" || got.Bounced {
		t.Errorf("got %+v, %v", got, ok)
	}
	c.Settled(-1, true, true) // now the client was told
	h.wantServed(a, false)
	h.restart()
	h.wantServed(a, false)
}

// Under LMTP each recipient has a reply of its own.
func TestLMTPRepliesSettleOneByOne(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test", "b@x.test", "c@x.test")
	c := h.claim(a)
	h.note(c, entry(0, Delivered), entry(1, Delivered), entry(2, Deferred))
	c.Settled(0, true, true)
	h.wantServed(a[:1], false) // settled, so no longer in hand, and forgotten
	if _, err := h.Claim(t.Context(), a[1:2], nil); !errors.Is(err, ErrInHand) {
		t.Errorf("before its reply: got %v, want ErrInHand", err)
	}
	c.Settled(1, true, false) // the connection broke
	c.Settled(2, false, false)
	h.wantServed(a, false, true, false)
	h.restart()
	h.wantServed(a, false, true, false)
}

// "While a message is in hand, a second copy of it is answered 451."
func TestInHand(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test", "b@x.test")
	c := h.claim(a)
	if _, err := h.Claim(t.Context(), a[1:], nil); !errors.Is(err, ErrInHand) {
		t.Errorf("second copy: got %v", err)
	}
	other := asks("body", "c@x.test", "b@x.test")
	if _, err := h.Claim(t.Context(), other, nil); !errors.Is(err, ErrInHand) {
		t.Errorf("one of two: got %v", err)
	}
	h.claim(other[:1]).Release() // all or none: c was not taken
	h.claim(asks("other body", "a@x.test")).Release()
	c.Release()
	c.Release()
	second := h.claim(a)
	c.Settled(-1, true, true) // late words of an ended claim do not touch the next one
	if _, err := h.Claim(t.Context(), a, nil); !errors.Is(err, ErrInHand) {
		t.Errorf("got %v, want still in hand", err)
	}
	second.Release()
}

// A recipient whose copy goes on behind its reply stays in hand until Free, and what was noted meanwhile is found then.
func TestKeptBeyondTheReply(t *testing.T) {
	for name, reply := range map[string]func(*Claim){
		"own replies": func(c *Claim) { c.Settled(0, false, true); c.Settled(1, true, true) },
		"one reply":   func(c *Claim) { c.Settled(-1, false, true) },
		"no reply":    func(c *Claim) { c.Release() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, t.TempDir())
			a := asks("body", "slow@x.test", "b@x.test")
			c := h.claim(a)
			c.Keep(0)
			h.note(c, entry(0, Deferred), entry(1, Delivered))
			reply(c)
			if _, err := h.Claim(t.Context(), a[:1], nil); !errors.Is(err, ErrInHand) {
				t.Errorf("repeat of the kept one: got %v", err)
			}
			h.claim(a[1:]).Release()
			h.note(c, entry(0, Delivered))
			c.Free(0)
			c.Free(0)
			h.wantServed(a[:1], true)
			again := h.claim(a[:1])
			c.Free(0) // late words of an ended claim do not touch the next one
			if _, err := h.Claim(t.Context(), a[:1], nil); !errors.Is(err, ErrInHand) {
				t.Errorf("got %v, want still in hand", err)
			}
			again.Settled(0, true, true)
			h.wantServed(a[:1], false)
		})
	}
}

// "client, envelope sender, recipient as written and hash of the bytes received"; "HMACs under a server key".
func TestEveryPartOfTheAskCounts(t *testing.T) {
	dir := t.TempDir()
	h := newHouse(t, dir)
	base := asks("body", "a@x.test")
	c := h.claim(base)
	h.note(c, entry(0, Delivered))
	c.Release()
	h.wantServed(base, true)
	for name, change := range map[string]func(*Ask){
		"client":               func(a *Ask) { a.Client = "192.0.2.2" },
		"sender":               func(a *Ask) { a.Sender = "" },
		"recipient as written": func(a *Ask) { a.Recipient = "A@x.test" },
		"body":                 func(a *Ask) { a.Body[31]++ },
		"shifted border":       func(a *Ask) { a.Client, a.Sender = a.Client+"d", a.Sender[1:] },
	} {
		a := base[0]
		change(&a)
		t.Run(name, func(t *testing.T) { h.wantServed([]Ask{a}, false) })
	}
	h.cfg.Key[0]++
	h.restart()
	h.wantServed(base, false)
}

func TestOneRecipientNamedTwiceHasTwoLives(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test", "a@x.test")
	c := h.claim(a)
	h.note(c, entry(0, Delivered), entry(1, Deferred))
	c.Release()
	h.wantServed(a, true, false)
}

// "kept 7 days".
func TestMemoryEndsAfterSevenDays(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test", "b@x.test")
	c := h.claim(a)
	h.note(c, entry(0, Delivered), entry(1, Deferred))
	c.Settled(-1, false, true)
	h.pass(7 * 24 * time.Hour)
	h.wantServed(a, true, false)
	h.pass(time.Second)
	h.wantServed(a, false, false)
	h.purge(t.Context())
	if n := h.rows("ledger_memory"); n != 0 || len(h.index) != 0 {
		t.Errorf("%d memory rows and %d index entries left", n, len(h.index))
	}
	if n := h.rows("ledger_entries"); n != 2 {
		t.Errorf("%d ledger rows, want 2: the trace outlives the memory", n)
	}
}

func (h *house) rows(table string) (n int) {
	h.t.Helper()
	if err := h.db.Read().QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// A forgetting that still waits to be written must not take the memory of a newer message with the same bytes.
func TestLateForgettingSparesTheNextMessage(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("scanner page", "a@x.test")
	c := h.claim(a)
	h.note(c, entry(0, Deferred)) // has a row of its own, ordinary mail has none
	c.Settled(0, false, true)
	c = h.claim(a)
	h.note(c, entry(0, Delivered))
	c.Settled(0, true, true)
	c = h.claim(a)
	if _, ok := c.Served(0); ok {
		t.Fatal("a deliberate resend was swallowed")
	}
	h.Ledger.mu.Lock()
	old := map[key]int64{}
	for k, v := range h.forget {
		old[k] = v
	}
	h.Ledger.mu.Unlock()
	if len(old) != 1 {
		t.Fatalf("%d waiting to be forgotten, want 1", len(old))
	}
	h.note(c, entry(0, Delivered)) // takes the forgetting with it
	h.putBack(old, nil)            // as if that commit had failed after the second was noted
	h.flush(t.Context())
	c.Settled(0, true, false)
	h.restart()
	h.wantServed(a, true)
}

func TestCloseWritesWhatIsToBeForgotten(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test")
	c := h.claim(a)
	h.note(c, entry(0, Delivered))
	c.Settled(0, true, true)
	h.end()
	db, err := store.Open(t.Context(), store.Config{Dir: h.dir})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.Read().QueryRow(`SELECT count(*) FROM ledger_memory`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows (%v), want 0", n, err)
	}
	db.Close()
	h.start()
}
