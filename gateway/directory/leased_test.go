package directory

import (
	"context"
	"testing"
	"time"

	"passerelle/gateway/message"
)

// What only a former state asks is closed when nobody needs it any more, and not before: not under a message that holds it, not under a
// question in hand. What the new state asks as well goes on.
func TestRemoteClosedByTheLastUser(t *testing.T) {
	c, f := &clock{t: day.Add(time.Hour)}, &far{as: "ldap", answer: lists}
	d := withFar(t, t.TempDir(), c, f, Asking{Verifies: true, OnMail: true, Timeout: 10 * time.Second})
	spec := remoteSpec{key: "ldap of a test", config: 1, Asking: Asking{Verifies: true, OnMail: true, About: anybody}}
	same, err := d.With(t.Context(), Config{remotes: []remoteSpec{spec}})
	if err != nil {
		t.Fatal(err)
	}
	d.Retire()
	d.Retire() // twice is once
	if got := same.Ask(t.Context(), address(t, "a@x.test")); got.Verdict != Verified || f.closed.Load() != 0 {
		t.Fatalf("%+v, closed %d times: the new state asks it too", got, f.closed.Load())
	}

	release := same.Hold() // a message in hand
	other := &far{as: "ldap", answer: none}
	spec.config, spec.open = 2, func(*fhirLimit) (remote, error) { return other, nil }
	next, err := same.With(t.Context(), Config{remotes: []remoteSpec{spec}})
	if err != nil {
		t.Fatal(err)
	}
	same.Retire()
	begun, going := make(chan bool), make(chan bool)
	f.set(func(_ context.Context, a message.Address) ([]Record, error) {
		begun <- true
		<-going
		return lists(context.Background(), a)
	})
	asked := make(chan Answer)
	go func() { asked <- same.Ask(t.Context(), address(t, "b@x.test")) }()
	<-begun
	release()
	if f.closed.Load() != 0 {
		t.Error("closed under a question in hand")
	}
	close(going)
	if got := <-asked; got.Verdict != Verified {
		t.Errorf("the question in hand: %+v", got)
	}
	until(t, "never closed", func() bool { return f.closed.Load() == 1 })
	if got := same.Ask(t.Context(), address(t, "c@x.test")); got.Verdict != CouldNotAsk || f.asked.Load() != 2 {
		t.Errorf("asked %d times, the last behind its end: %+v", f.asked.Load(), got)
	}
	if got := same.Ask(t.Context(), address(t, "b@x.test")); got.Verdict != Verified {
		t.Errorf("what it said before: %+v", got)
	}
	if got := next.Ask(t.Context(), address(t, "d@x.test")); got.Verdict != NotListed || other.closed.Load() != 0 {
		t.Errorf("%+v, closed %d times", got, other.closed.Load())
	}
	none, err := next.With(t.Context(), Config{}) // the source is gone from the config
	if err != nil {
		t.Fatal(err)
	}
	next.Retire()
	until(t, "a source that is gone stays open", func() bool { return other.closed.Load() == 1 })
	none.Close()
	if f.closed.Load() != 1 || other.closed.Load() != 1 {
		t.Errorf("closed %d and %d times", f.closed.Load(), other.closed.Load())
	}
}

// A question that waits in the queue is asked of the source in force when its turn comes, and about nobody whom that one is not asked about.
func TestRemoteNarrowedByReload(t *testing.T) {
	c, f := &clock{t: day.Add(time.Hour)}, &far{as: "ldap", answer: down}
	d := withFar(t, t.TempDir(), c, f, Asking{Verifies: true, Every: 40 * time.Millisecond})
	a := address(t, "a@x.test")
	d.Ask(t.Context(), a)
	until(t, "never asked", func() bool { return f.asked.Load() > 0 })
	spec := remoteSpec{key: "ldap of a test", config: 1, Asking: Asking{Verifies: true, Every: 40 * time.Millisecond, About: func(domain string) bool { return domain == "y.test" }}}
	n, err := d.With(t.Context(), Config{remotes: []remoteSpec{spec}})
	if err != nil {
		t.Fatal(err)
	}
	d.Retire()
	f.set(lists)
	c.add(time.Hour)
	before := f.asked.Load()
	b := address(t, "b@y.test")
	until(t, "the other domain is not asked about", func() bool { return n.Ask(t.Context(), b).Verdict == Verified })
	d.asking.Load().sweep()
	time.Sleep(3 * pace)
	if got := f.asked.Load() - before; got != 1 {
		t.Errorf("asked %d times, want about the one address of its domain alone", got)
	}
	if got := n.Ask(t.Context(), a); len(got.Sources) != 1 {
		t.Errorf("%+v", got.Sources)
	}
}
