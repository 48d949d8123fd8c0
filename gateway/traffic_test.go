package gateway

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"passerelle/config"
	"passerelle/gateway/ledger"
)

// Everything that a client waits for has an end before Postfix's own: 600 s for the reply to a message (smtp_data_done_timeout), 300 s
// for that to RCPT. The longest relay.timeout that the config takes counts.
func TestSessionsEndBeforePostfixGivesUp(t *testing.T) {
	base := "clinic: {domains: [clinic.test]}\nhops: {clinic: {addr: \"127.0.0.1:10026\"}, internet: {addr: \"192.0.2.1:25\"}}\npickup: {url: \"https://p.clinic.test\"}\n"
	longest := time.Duration(0)
	for d := time.Minute; d <= time.Hour; d += time.Minute {
		if _, err := config.Parse("x", fmt.Appendf(nil, "%srelay: {timeout: %s}\n", base, d), func(string) (string, bool) { return "", false }); err == nil {
			longest = d
		}
	}
	if longest < time.Minute {
		t.Fatalf("longest relay.timeout: %s", longest)
	}
	// claim, hand on, note, a report of success, a bounce; the notes of both are part of the errand
	if sum := ledger.Patience + longest + ledger.Patience + 2*errandPatience; sum >= 600*time.Second {
		t.Errorf("a message may hold its session for %s", sum)
	}
	if errandPatience >= 300*time.Second {
		t.Errorf("a recipient may hold his session for %s", errandPatience)
	}
}

func TestStalledHopIsTriedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTraffic(30*time.Second, 5*time.Second)
		admit := func(client, hop string) bool { return tr.admit(&flight{hop: hop, client: client}, 20) }
		for i := range 19 {
			if !admit("a", "x") {
				t.Fatalf("message %d refused although nothing is slow yet", i)
			}
		}
		time.Sleep(6 * time.Second)
		for name, c := range map[string]struct {
			client, hop string
			want        bool
		}{"the stalled hop": {"a", "x", false}, "another hop": {"a", "y", true}, "another client": {"b", "x", true}} {
			if got := admit(c.client, c.hop); got != c.want {
				t.Errorf("%s: admitted %t", name, got)
			}
		}
		time.Sleep(30 * time.Second)
		if !admit("a", "x") || admit("a", "x") {
			t.Error("not exactly one message tries the hop in each relay.timeout")
		}
		tr.answered("x")
		if !admit("a", "x") {
			t.Error("an answer does not open the hop")
		}
	})
}

// A quarter of the sessions waits; the release of one lets the next wait.
func TestQuarterOfTheSessions(t *testing.T) {
	tr := newTraffic(30*time.Second, 5*time.Second)
	for sessions, want := range map[int]int{1: 1, 7: 1, 20: 5, 21: 5, 100: 25} {
		f := &flight{hop: fmt.Sprint("hop", sessions), client: "a"}
		var releases []func()
		for range sessions {
			if release, ok := tr.wait(f, sessions); ok {
				releases = append(releases, release)
			}
		}
		if len(releases) != want {
			t.Errorf("%d of %d sessions wait, want %d", len(releases), sessions, want)
		}
		releases[0]()
		release, ok := tr.wait(f, sessions)
		if !ok {
			t.Errorf("%d sessions: a free place is not given", sessions)
		}
		for _, r := range append(releases[1:], release) {
			r()
		}
	}
}

// One hop for all mail, each twentieth letter hangs 20 s, 20 sessions: the other letters keep their speed and none is refused.
func TestHangingLettersDoNotStallTheirHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions, letters = 20, 4000
		tr := newTraffic(30*time.Second, 5*time.Second)
		r := rand.New(rand.NewPCG(1, 2))
		work := make(chan time.Duration)
		refused, done := 0, make(chan int, sessions)
		began := time.Now()
		for range sessions {
			go func() {
				mine := 0
				for d := range work {
					f := &flight{hop: "internet", client: "a"}
					if !tr.admit(f, sessions) {
						mine++
						continue
					}
					ended := make(chan struct{})
					go func() {
						time.Sleep(d)
						tr.answered(f.hop)
						tr.leave(f)
						close(ended)
					}()
					select {
					case <-ended:
						continue
					case <-time.After(tr.slow):
					}
					if release, ok := tr.wait(f, sessions); ok {
						select {
						case <-ended:
						case <-time.After(tr.timeout - tr.slow):
						}
						release()
					}
				}
				done <- mine
			}()
		}
		for range letters {
			d := 20 * time.Millisecond
			if r.IntN(20) == 0 {
				d = 20 * time.Second
			}
			work <- d
		}
		close(work)
		for range sessions {
			refused += <-done
		}
		took := time.Since(began)
		// 200 hang: five sessions wait 20 s for theirs, the others leave theirs behind after 5 s. Waiting for all would take 200 s.
		if refused > 0 || took > 100*time.Second {
			t.Errorf("%d refused, %s for %d letters", refused, took, letters)
		}
		time.Sleep(time.Minute)
	})
}

// A lane that did not begin before its session left never begins; those that did are told of one by one.
func TestFlightLeavesItsSession(t *testing.T) {
	const lanes = lanesAtOnce + 2
	goOn, began, behind, over := make(chan struct{}), make(chan int, lanes), make(chan int, lanes), make(chan struct{})
	f := &flight{after: func(g []int) { behind <- g[0] }, over: func() { close(over) }}
	for i := range lanes {
		f.lanes = append(f.lanes, []int{i})
	}
	f.carry = func(g []int) {
		began <- g[0]
		if g[0] > 0 {
			<-goOn
		}
	}
	f.start(make(crew))
	for range lanesAtOnce + 1 { // the first ends, another takes its place
		<-began
	}
	var kept []int
	on, never := f.leave(func(on []int) { kept = slices.Clone(on) })
	if len(on) != lanesAtOnce || !slices.Equal(on, kept) || slices.Contains(on, 0) || !slices.Equal(never, []int{lanes - 1}) {
		t.Errorf("on %v, kept %v, never %v", on, kept, never)
	}
	close(goOn)
	<-over
	if len(behind) != len(on) || len(began) > 0 {
		t.Errorf("%d lanes told of behind the reply, %d began late", len(behind), len(began))
	}
}
