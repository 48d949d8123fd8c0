package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"
	"passerelle/gateway/message"
)

// far is a source whose answers a test sets.
type far struct {
	as     string
	mu     sync.Mutex
	answer func(context.Context, message.Address) ([]Record, error)
	asked  atomic.Int32
	closed atomic.Int32
}

func (f *far) name() string { return f.as }
func (f *far) close() error { f.closed.Add(1); return nil }
func (f *far) set(answer func(context.Context, message.Address) ([]Record, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}
func (f *far) ask(ctx context.Context, a message.Address) ([]Record, error) {
	f.asked.Add(1)
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	return answer(ctx, a)
}

func lists(_ context.Context, a message.Address) ([]Record, error) {
	return []Record{{Address: strings.ToUpper(a.String()), Kind: "PER", LastName: "DURAND", IDType: "RPPS", ID: "10003456785"}, {Address: "other@x.test", Kind: "PER"}}, nil
}
func none(context.Context, message.Address) ([]Record, error) { return nil, nil }
func down(context.Context, message.Address) ([]Record, error) {
	return nil, errors.New("503\nwith a long page")
}
func silent(ctx context.Context, _ message.Address) ([]Record, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// withFar opens a directory whose extraction lists 10 people, and f.
func withFar(t *testing.T, dir string, c *clock, f *far, a Asking) *Directory {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, MirrorName)); err != nil {
		if _, err := importText(t, dir, "e.txt", text(t, extraction.Options{Lines: 10}), Options{AsOf: day}); err != nil {
			t.Fatal(err)
		}
	}
	a.About = func(d string) bool { return d != "private.test" }
	d, err := Open(t.Context(), Config{StateDir: dir, Now: c.now,
		remotes: []remoteSpec{{key: f.as + " of a test", config: 1, Asking: a, open: func(*fhirLimit) (remote, error) { return f, nil }}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func anybody(string) bool { return true }

// until waits for the worker.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestRemoteInTheBackground(t *testing.T) {
	dir, c, f := t.TempDir(), &clock{t: day.Add(time.Hour)}, &far{as: "fhir", answer: lists}
	d := withFar(t, dir, c, f, Asking{Every: 24 * time.Hour, MaxAge: 4 * 24 * time.Hour, Verifies: true})
	a := address(t, "red.list@x.test")
	first := d.Ask(t.Context(), a)
	if first.Verdict != CouldNotAsk || !strings.Contains(first.Why, "not been asked") || first.Reply == "" {
		t.Fatalf("before anybody asked: %+v", first)
	}
	until(t, "never verified", func() bool { return d.Ask(t.Context(), a).Verdict == Verified })
	got := d.Ask(t.Context(), a)
	if got.Source != "fhir" || !got.AsOf.Equal(c.now()) || len(got.Records) != 1 || got.Records[0].Address != a.Key() || got.Records[0].Source != "fhir" ||
		len(got.Records[0].Flags) != 1 || len(got.Sources) != 2 || len(got.Contradictions) != 1 {
		t.Fatalf("%+v", got)
	}
	n := f.asked.Load()
	for range 100 {
		d.Ask(t.Context(), a)
	}
	if f.asked.Load() != n {
		t.Error("asked again while the answer is fresh")
	}
	if d.Ask(t.Context(), address(t, "patient@private.test")); f.asked.Load() != n {
		t.Error("a private correspondent was told to the national service")
	}

	// A fresh process knows it from the file; the source is away now.
	f.set(down)
	until(t, "never written down", func() bool {
		d.Close()
		d = withFar(t, dir, c, f, Asking{Every: 24 * time.Hour, MaxAge: 4 * 24 * time.Hour, Verifies: true})
		return d.Ask(t.Context(), a).Verdict == Verified
	})
	if fi, err := os.Stat(filepath.Join(dir, RemotesName)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	c.add(2 * 24 * time.Hour) // old enough to be asked again, not too old to count
	before := f.asked.Load()
	if got = d.Ask(t.Context(), a); got.Verdict != Verified {
		t.Errorf("a dated answer while the source is away: %+v", got)
	}
	until(t, "not asked again", func() bool { d.Ask(t.Context(), a); return f.asked.Load() > before })
	c.add(3 * 24 * time.Hour) // too old: never "not listed"
	until(t, "too old", func() bool { return d.Ask(t.Context(), a).Verdict == CouldNotAsk })
	if got = d.Ask(t.Context(), a); !strings.Contains(got.Why, "older than 4 days") || strings.Contains(got.Why, "page") || strings.Contains(got.Why, "red.list") {
		t.Errorf("%q", got.Why)
	}
	f.set(none)
	c.add(time.Hour)
	until(t, "does not come back", func() bool { return d.Ask(t.Context(), a).Verdict == NotListed })
}

func TestRemoteOnTheMailsWay(t *testing.T) {
	c, f := &clock{t: day.Add(time.Hour)}, &far{as: "ldap", answer: lists}
	d := withFar(t, t.TempDir(), c, f, Asking{Every: time.Hour, Timeout: 500 * time.Millisecond, OnMail: true, Verifies: true})
	a := address(t, "a@x.test")
	if got := d.Ask(t.Context(), a); got.Verdict != Verified || got.Source != "ldap" {
		t.Fatalf("%+v", got)
	}
	f.set(silent)
	began := time.Now()
	if got := d.Ask(t.Context(), address(t, "b@x.test")); got.Verdict != CouldNotAsk || !strings.Contains(got.Why, "could not be asked") {
		t.Errorf("silent: %+v", got)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a silent source held the mail for %s", took)
	}
	n := f.asked.Load()
	for i := range 50 { // it failed a moment ago: no mail waits for it
		if got := d.Ask(t.Context(), address(t, fmt.Sprintf("c%d@x.test", i))); got.Verdict != CouldNotAsk {
			t.Fatalf("%+v", got)
		}
	}
	if m := f.asked.Load() - n; m > 3 { // the worker's
		t.Errorf("asked %d times within a failure's rest", m)
	}
	c.add(2 * time.Hour) // the former answer is due again, and counts while the source is silent
	if got := d.Ask(t.Context(), a); got.Verdict != Verified {
		t.Errorf("fall back: %+v", got)
	}
	f.set(func(context.Context, message.Address) ([]Record, error) { panic("strange answer") })
	c.add(2 * time.Hour)
	if got := d.Ask(t.Context(), address(t, "d@x.test")); got.Verdict != CouldNotAsk {
		t.Errorf("panic: %+v", got)
	}
	// The extraction's people are verified whatever ldap does.
	if got := d.Ask(t.Context(), known(t, d)); got.Verdict != Verified || got.Source != "extraction" {
		t.Errorf("%+v", got)
	}
}

// known is an address of the extraction.
func known(t *testing.T, d *Directory) message.Address {
	t.Helper()
	d.mu.RLock()
	defer d.mu.RUnlock()
	var s string
	if err := d.mirror.db.QueryRow("SELECT address FROM record LIMIT 1").Scan(&s); err != nil {
		t.Fatal(err)
	}
	return address(t, s)
}

func TestRemoteReload(t *testing.T) {
	c, f := &clock{t: day.Add(time.Hour)}, &far{as: "fhir", answer: lists}
	d := withFar(t, t.TempDir(), c, f, Asking{Verifies: true})
	a := address(t, "a@x.test")
	until(t, "never verified", func() bool { return d.Ask(t.Context(), a).Verdict == Verified })
	opened := 0
	spec := remoteSpec{key: "fhir of a test", config: 1, Asking: Asking{Verifies: true, About: anybody}, open: func(*fhirLimit) (remote, error) { opened++; return f, nil }}
	n, err := d.With(t.Context(), Config{remotes: []remoteSpec{spec}})
	if err != nil || opened != 0 {
		t.Fatalf("%v, opened %d times", err, opened)
	}
	if got := n.Ask(t.Context(), a); got.Verdict != Verified {
		t.Errorf("after a reload: %+v", got)
	}
	other := &far{as: "fhir", answer: none}
	spec.key, spec.config, spec.open = "fhir of another", 2, func(*fhirLimit) (remote, error) { return other, nil }
	if n, err = n.With(t.Context(), Config{remotes: []remoteSpec{spec}}); err != nil {
		t.Fatal(err)
	}
	if got := n.Ask(t.Context(), a); got.Verdict != CouldNotAsk {
		t.Errorf("another server's answer counts: %+v", got)
	}
	until(t, "the other is not asked", func() bool { return n.Ask(t.Context(), a).Verdict == NotListed })
	if got := d.Ask(t.Context(), a); got.Verdict != Verified { // a message under the former state
		t.Errorf("the former directory: %+v", got)
	}
	if f.closed.Load() != 0 {
		t.Error("closed under the state before")
	}
	spec.key, spec.config, spec.open = "fhir of a broken", 3, func(*fhirLimit) (remote, error) { return nil, errors.New("no such CA file") }
	if _, err = n.With(t.Context(), Config{remotes: []remoteSpec{spec}}); err == nil || !strings.Contains(err.Error(), "no such CA file") {
		t.Errorf("%v", err)
	}
	n.Close()
	d.Close()
	if f.closed.Load() != 1 || other.closed.Load() != 1 {
		t.Errorf("closed %d and %d times", f.closed.Load(), other.closed.Load())
	}
	if got := d.Ask(t.Context(), a); got.Verdict == NotListed {
		t.Errorf("a closed directory: %+v", got)
	}
}

func TestRemoteReadOnlyBesideAnother(t *testing.T) {
	dir, c, f := t.TempDir(), &clock{t: day.Add(time.Hour)}, &far{as: "fhir", answer: lists}
	d := withFar(t, dir, c, f, Asking{Verifies: true})
	a := address(t, "a@x.test")
	until(t, "never verified", func() bool { return d.Ask(t.Context(), a).Verdict == Verified })
	away := &far{as: "fhir", answer: down}
	spec := remoteSpec{key: "fhir of a test", config: 1, Asking: Asking{Verifies: true, About: anybody}, open: func(*fhirLimit) (remote, error) { return away, nil }}
	until(t, "never seen from beside", func() bool {
		beside, err := Open(t.Context(), Config{StateDir: dir, ReadOnly: true, Now: c.now, remotes: []remoteSpec{spec}})
		if err != nil {
			t.Fatal(err)
		}
		defer beside.Close()
		return beside.Ask(t.Context(), a).Verdict == Verified
	})
	empty := t.TempDir()
	beside, err := Open(t.Context(), Config{StateDir: empty, ReadOnly: true, Now: c.now, remotes: []remoteSpec{spec}})
	if err != nil {
		t.Fatal(err)
	}
	beside.Close()
	if left, _ := os.ReadDir(empty); len(left) != 0 {
		t.Errorf("a look left %v", left)
	}
}

// What is kept is bounded, whatever mail is sent to.
func TestRemoteBounded(t *testing.T) {
	a := &asking{answers: make(map[answerKey]*dated)}
	for i := range maxAnswers + 500 {
		a.makeRoom()
		a.answers[answerKey{"s", fmt.Sprint(i)}] = &dated{used: day.Add(time.Duration(i) * time.Second)}
	}
	if len(a.answers) != maxAnswers {
		t.Errorf("%d answers kept", len(a.answers))
	}
	if a.answers[answerKey{"s", fmt.Sprint(maxAnswers + 499)}] == nil {
		t.Error("the newest is gone")
	}
}

func TestAskedSourcesOnly(t *testing.T) {
	dir, c, f := t.TempDir(), &clock{t: day.Add(time.Hour)}, &far{as: "fhir", answer: lists}
	d := withFar(t, dir, c, f, Asking{Verifies: true})
	spec := remoteSpec{key: "fhir of a test", config: 1, Asking: Asking{Verifies: true, About: anybody}}
	n, err := d.With(t.Context(), Config{Precedence: []string{"fhir"}, remotes: []remoteSpec{spec}})
	if err != nil {
		t.Fatal(err)
	}
	a := known(t, d)
	until(t, "fhir alone", func() bool { got := n.Ask(t.Context(), a); return got.Verdict == Verified && len(got.Sources) == 1 })
}
