package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"passerelle/gateway/store"
)

// "after one failed note the gate answers 451 before any hop is contacted, until a probe write succeeds."
func TestFailedNoteShutsTheGate(t *testing.T) {
	log, again := heard("ledger can be written again")
	h := newHouse(t, t.TempDir(), func(c *Config) { c.Log, c.Probe = log, 5*time.Millisecond })
	a := asks("body", "a@x.test", "b@x.test")
	c := h.claim(a)
	unlock := h.lock()
	var notReady *NotReadyError
	if err := c.Note(t.Context(), []Entry{entry(0, Delivered), entry(1, Deferred)}); err == nil {
		t.Fatal("noted in a locked database")
	}
	c.Settled(-1, false, true)
	if err := h.Ready(); !errors.As(err, &notReady) {
		t.Errorf("ready: %v", err)
	}
	if _, err := h.Claim(t.Context(), asks("other", "z@x.test"), nil); !errors.As(err, &notReady) {
		t.Errorf("claim: %v", err)
	}
	unlock()
	<-again
	if err := h.Ready(); err != nil {
		t.Errorf("after the probe: %v", err)
	}
	// the deed of the failed note was done: it was written late, and the next attempt does not repeat it
	h.wantServed(a, true, false)
	h.restart()
	h.wantServed(a, true, false)
	if es, err := h.Query(t.Context(), Filter{}); err != nil || len(es) != 1 || es[0].Outcome != Delivered {
		t.Errorf("got %+v, %v", es, err)
	}
}

// A claim that proved the ledger before another's note failed takes nothing in hand behind it: what that note says is not known yet.
func TestClaimBehindAFailedNote(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test")
	c := h.claim(a)
	unlock := h.lock()
	defer unlock()
	if err := c.Note(t.Context(), []Entry{entry(0, Delivered)}); err == nil {
		t.Fatal("noted in a locked database")
	}
	c.Settled(-1, false, true)
	late := &Claim{l: h.Ledger, keys: []key{hashAsk(h.key, a[0])}, memos: make([]memo, 1), held: make([]bool, 1), kept: make([]bool, 1)}
	var notReady *NotReadyError
	if _, err := h.take(late); !errors.As(err, &notReady) { // as Claim does once it has proved
		t.Errorf("taken in hand again although it was delivered: %v", err)
		late.Release()
	}
}

// A late mark of a report does not bring a memory back that a written reply has ended.
func TestLateMarkOfOneWhoWasTold(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test")
	c := h.claim(a)
	h.note(c, entry(0, Delivered))
	unlock := h.lock()
	if err := c.Bounced(t.Context(), 0); err == nil {
		t.Fatal("noted in a locked database")
	}
	c.Settled(-1, true, true) // the report is given up (gateway/relayed.go)
	unlock()
	h.reopen(t.Context())
	h.wantServed(a, false)
	h.restart()
	h.wantServed(a, false)
}

// "Nothing is handed on unless the ledger has just proved writable": under load the last commit is the proof and a claim writes
// nothing; after a silence it must write, and cannot in a locked database.
func TestClaimProvesAfterASilenceOnly(t *testing.T) {
	h := newHouse(t, t.TempDir())
	unlock := h.lock()
	h.claim(asks("body", "a@x.test")).Release() // just proved: no write
	h.pass(2 * time.Minute)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var notReady *NotReadyError
			if _, err := h.Claim(context.Background(), asks("body", strconv.Itoa(i)), nil); !errors.As(err, &notReady) {
				t.Errorf("silent for long, locked: got %v", err)
			}
		})
	}
	wg.Wait()
	unlock()
	h.reopen(t.Context())
	h.claim(asks("body", "a@x.test")).Release()
	h.pass(-time.Hour) // a clock set back proves nothing, but a write does
	h.claim(asks("body", "a@x.test")).Release()
}

// A disk that answers nothing holds nobody for long and shuts the gate; the write that hung opens it again.
func TestStalledDiskShutsTheGate(t *testing.T) {
	h := newHouse(t, t.TempDir(), func(c *Config) { c.Stall, c.Probe = 500*time.Millisecond, 10*time.Millisecond })
	begun, release, answered := make(chan struct{}), make(chan struct{}), make(chan struct{}, 8)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.db.Write(context.Background(), func(store.Tx) error { close(begun); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-begun
	h.pass(2 * time.Minute)
	for i := range 8 {
		wg.Go(func() {
			var notReady *NotReadyError
			if _, err := h.Claim(context.Background(), asks("body", strconv.Itoa(i)), nil); !errors.As(err, &notReady) {
				t.Errorf("the writer stalls: got %v", err)
			}
			if h.Ready() == nil {
				t.Error("the gate is open")
			}
			answered <- struct{}{}
		})
	}
	for range 8 {
		<-answered
	}
	close(release)
	wg.Wait()
	for end := time.Now().Add(20 * time.Second); h.Ready() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the gate stays shut")
		}
	}
	h.claim(asks("body", "a@x.test")).Release()
}

// "repeated later [...] never delays the reply": not even while nothing can be written.
func TestRepeatNeverWaits(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test")
	c := h.claim(a)
	h.note(c, entry(0, Deferred))
	c.Release()
	c = h.claim(a)
	unlock := h.lock()
	h.note(c, entry(0, Deferred)) // fails the test if it cannot
	h.note(c, entry(0, Deferred))
	if _, n, _ := c.Waiting(0); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
	h.flush(t.Context()) // cannot
	if h.Ready() == nil {
		t.Error("a failed background write left the gate open")
	}
	c.Release()
	unlock()
	h.restart() // Close probes and writes what waits
	c = h.claim(a)
	if _, n, ok := c.Waiting(0); !ok || n != 3 {
		t.Errorf("after a restart: %d, %v", n, ok)
	}
	c.Release()
}

func TestRepeatsAreBounded(t *testing.T) {
	h := newHouse(t, t.TempDir())
	h.writes.Alone(t.Context(), func() error { // so the background takes none of them
		for i := range maxRepeats + 10 {
			h.again(key{byte(i), byte(i >> 8), 1}, repeat{memo: memo{n: 2}})
		}
		if n := len(h.repeat); n != maxRepeats {
			t.Errorf("%d wait, want %d", n, maxRepeats)
		}
		h.again(key{0, 0, 1}, repeat{memo: memo{n: 3}})
		if got := h.repeat[key{0, 0, 1}].memo.n; got != 3 {
			t.Errorf("a newer repeat of one that waits: n=%d, want 3", got)
		}
		return nil
	})
}

func TestEndedContextDoesNotUndoTheDeed(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test")
	c := h.claim(a)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Note(ctx, []Entry{entry(0, Delivered)}); err != nil {
		t.Fatal(err)
	}
	c.Release()
	h.wantServed(a, true)
}

func TestDiskFull(t *testing.T) {
	if testing.Short() {
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount a small tmpfs: %v (this test must run as root with CAP_SYS_ADMIN; -short leaves it out)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	h := newHouse(t, dir)
	served := 0
	var failed []Ask
	for i := 0; i < 20000 && failed == nil; i++ {
		a := asks("body", fmt.Sprint("r", i))
		c, err := h.Claim(t.Context(), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := entry(0, Delivered)
		e.Text = strings.Repeat("x", 1000)
		if err := c.Note(t.Context(), []Entry{e}); err != nil {
			failed = a
		} else {
			served++
		}
		c.Settled(0, false, true)
	}
	if failed == nil || served == 0 {
		t.Fatal("the disk did not get full")
	}
	if _, err := h.Claim(t.Context(), asks("next", "r"), nil); err == nil {
		t.Fatal("the gate is open on a full disk")
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	h.reopen(t.Context())
	h.wantServed(failed, true)
	h.restart()
	for i := range served {
		h.wantServed(asks("body", fmt.Sprint("r", i)), true)
	}
}

// heard is closed when a line with the given words is logged.
func heard(words string) (*slog.Logger, <-chan struct{}) {
	ch := make(chan struct{})
	var once sync.Once
	return slog.New(listener{slog.DiscardHandler, func(r slog.Record) {
		if r.Message == words {
			once.Do(func() { close(ch) })
		}
	}}), ch
}

type listener struct {
	slog.Handler
	f func(slog.Record)
}

func (l listener) Enabled(context.Context, slog.Level) bool { return true }
func (l listener) Handle(_ context.Context, r slog.Record) error {
	l.f(r)
	return nil
}

// child delivers for ever and says what was noted; its parent kills it.
func child(dir string) {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{Dir: dir})
	if err != nil {
		panic(err)
	}
	l, err := New(ctx, db, Config{Key: [32]byte{1}})
	if err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	for w := range 10 {
		wg.Go(func() {
			for i := w; ; i += 10 {
				c, err := l.Claim(ctx, asks("body", "told"+strconv.Itoa(i), "untold"+strconv.Itoa(i)), nil)
				if err != nil {
					panic(err)
				}
				if err := c.Note(ctx, []Entry{{I: 0, Outcome: Delivered}, {I: 1, Outcome: Delivered}}); err != nil {
					panic(err)
				}
				fmt.Println(i)
				c.Settled(0, true, true)
				c.Settled(1, true, false)
			}
		})
	}
	wg.Wait()
}

func TestKillLeavesEveryUntoldRecipientServed(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var noted []int
	sc := bufio.NewScanner(pipe)
	for sc.Scan() {
		i, err := strconv.Atoi(sc.Text())
		if err != nil {
			t.Errorf("child: %s", sc.Text())
		}
		if noted = append(noted, i); len(noted) == 1500 {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	h := newHouse(t, dir, func(c *Config) { c.Now = time.Now })
	h.counts() // each entry is to be found
	told := 0
	for _, i := range noted {
		c := h.claim(asks("body", "told"+strconv.Itoa(i), "untold"+strconv.Itoa(i)))
		if _, ok := c.Served(1); !ok {
			t.Errorf("%d: noted, reply never written, and forgotten", i)
		}
		if _, ok := c.Served(0); ok {
			told++
		}
		c.Release()
	}
	// the limit admitted at Config.Idle: only what was settled in the last moment before the kill
	if told > len(noted)/2 {
		t.Errorf("%d of %d told recipients are still remembered", told, len(noted))
	}
	t.Logf("%d noted, %d told ones still remembered", len(noted), told)
}

func BenchmarkMessage(b *testing.B) {
	for _, workers := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			h := newHouse(b, b.TempDir(), func(c *Config) { c.Now, c.Idle, c.Proof, c.Probe = nil, 0, 0, 0 })
			var wg sync.WaitGroup
			b.ResetTimer()
			for w := range workers {
				wg.Go(func() {
					for i := w; i < b.N; i += workers {
						c, err := h.Claim(context.Background(), asks(strconv.Itoa(i), "someone@peer.test"), nil)
						if err != nil {
							b.Error(err)
							return
						}
						e := Entry{MessageID: strconv.Itoa(i), Sender: "doc@clinic.test", Recipient: "someone@peer.test", Route: "trust", Rule: "professionals",
							Reason: "verified", Source: "extraction", Outcome: Delivered, Code: 250, Enhanced: "2.0.0", Text: "2.0.0 Ok: queued as 4X7",
							Hop: "trust", PeerSubject: "CN=mx.peer.test,O=PEER", PeerFingerprint: strings.Repeat("ab", 32), TLS: "TLS1.3"}
						if err := c.Note(context.Background(), []Entry{e}); err != nil {
							b.Error(err)
						}
						c.Settled(0, true, true)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
