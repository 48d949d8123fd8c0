package duties_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/duties"
)

// log collects what was done.
type record struct {
	mu   sync.Mutex
	seen map[duties.Duty]int
	fail map[duties.Duty]int // so many times
	came chan duties.Duty
}

func (r *record) do(_ context.Context, d duties.Duty) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[d]++
	if r.fail[d] >= r.seen[d] {
		return errors.New("to dr@clinic.test: not now")
	}
	r.came <- d
	return nil
}

func (r *record) wait(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-r.came:
		case <-time.After(40 * time.Second):
			t.Fatalf("not all was done: %v", r.seen)
		}
	}
}

func startQueue(t *testing.T, dir string, r *record) (q *duties.Queue, stop func()) {
	t.Helper()
	q, err := duties.Open(t.Context(), duties.Config{Dir: dir, Do: r.do, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	return q, sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Each duty is done once, however often it is added before, also by the next process; another step is another duty.
func TestOnceEach(t *testing.T) {
	dir := t.TempDir()
	r := &record{seen: map[duties.Duty]int{}, came: make(chan duties.Duty, 100)}
	q, err := duties.Open(t.Context(), duties.Config{Dir: dir, Do: r.do, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	a, b, a2 := duties.Duty{What: "remind", Of: "1", Step: 1}, duties.Duty{What: "remind", Of: "2", Step: 1}, duties.Duty{What: "remind", Of: "1", Step: 2}
	for range 3 {
		if err := q.Add(t.Context(), a, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil { // it never ran
		t.Fatal(err)
	}
	q, stop := startQueue(t, dir, r)
	defer stop()
	if err := q.Add(t.Context(), a2); err != nil {
		t.Fatal(err)
	}
	r.wait(t, 3)
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, n := range r.seen {
		if n != 1 {
			t.Errorf("%v was done %d times", d, n)
		}
	}
	if len(r.seen) != 3 {
		t.Errorf("done: %v", r.seen)
	}
}

// What was added and not done when the process ended is done by the next one. The file is the service's alone, and no error's text,
// which may name people, gets into it.
func TestOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	r := &record{seen: map[duties.Duty]int{}, came: make(chan duties.Duty, 100)}
	bad := duties.Duty{What: "remind", Of: "bad", Step: 1}
	r.fail = map[duties.Duty]int{bad: 100}
	q, err := duties.Open(t.Context(), duties.Config{Dir: dir, Do: r.do, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	good := duties.Duty{What: "receipt", Of: "7"}
	if err := q.Add(t.Context(), bad, good); err != nil { // it never ran
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	_, stop := startQueue(t, dir, r)
	r.wait(t, 1)
	stop()
	for _, name := range []string{duties.File, duties.File + "-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !(os.IsNotExist(err) && name != duties.File) {
			t.Fatal(err)
		}
		if i := string(b); len(i) > 0 && strings.Contains(i, "clinic.test") {
			t.Errorf("%s names a person", name)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, duties.File)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode of the queue: %v %v", fi.Mode(), err)
	}
}

// What was done and is due again, as a receipt whose message another recipient joined, is done again at once.
func TestDueAgain(t *testing.T) {
	r := &record{seen: map[duties.Duty]int{}, came: make(chan duties.Duty, 100)}
	q, stop := startQueue(t, t.TempDir(), r)
	defer stop()
	d := duties.Duty{What: "receipt", Of: "1", Step: 1}
	for n := 1; n < 3; n++ {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // until the queue knows that it was done
			if err := q.Add(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			r.mu.Lock()
			seen := r.seen[d]
			r.mu.Unlock()
			if seen >= n {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("done %d times, want %d", seen, n)
			}
		}
	}
}

// What a killed process had in hand is done by the next one at once, not after River's time for the stuck.
func TestTakenOver(t *testing.T) {
	dir := t.TempDir()
	begun, release := make(chan struct{}), make(chan struct{})
	dead, err := duties.Open(t.Context(), duties.Config{Dir: dir, Log: slog.New(slog.DiscardHandler), Do: func(context.Context, duties.Duty) error {
		close(begun)
		<-release // like one that is dead: no context ends it
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dead.Run(ctx) }()
	if err := dead.Add(t.Context(), duties.Duty{What: "receipt", Of: "1"}); err != nil {
		t.Fatal(err)
	}
	<-begun
	r := &record{seen: map[duties.Duty]int{}, came: make(chan duties.Duty, 100)}
	start := time.Now()
	_, stop := startQueue(t, dir, r)
	r.wait(t, 1)
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("taken over after %v", d)
	}
	stop()
	close(release)
	cancel()
	if err := errors.Join(<-ended, dead.Close()); err != nil {
		t.Error(err)
	}
}
