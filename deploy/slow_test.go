package deploy_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// TestSlowDestination: real Postfix with its 20 sessions, 19 messages for a hop that takes everything and answers nothing. Ordinary mail
// for another hop is late by one relay.timeout at most, once; what goes on behind the replies is delivered once, also by a client that
// repeats every few seconds; and a gateway killed meanwhile loses nothing.
func TestSlowDestination(t *testing.T) {
	if testing.Short() {
		t.Log("real Postfix instances are left to the full run")
		return
	}
	for _, snippet := range []string{"lmtp", "smtp-relayhost"} {
		t.Run(snippet, func(t *testing.T) { newSlowWorld(t, snippet).run(t) })
	}
}

const (
	relayTimeout = 2 * time.Second
	slowLetters  = 19 // of Postfix's 20 sessions
)

// slowWorld is a world with one hop that stalls and one that does not.
type slowWorld struct {
	*world
	slow   *gatewaytest.NextHop
	stall  sync.RWMutex // held: the slow hop answers nothing
	sent   map[string]time.Time
	number int
}

func newSlowWorld(t *testing.T, snippet string) *slowWorld {
	t.Helper()
	w := &slowWorld{world: &world{dir: t.TempDir(), opt: worldOptions{snippet: snippet, main: []string{"initial_destination_concurrency = 20"}}}, sent: map[string]time.Time{}}
	for _, a := range []*string{&w.lmtp, &w.smtp, &w.metrics, &w.in, &w.out} {
		*a = freeAddr(t)
	}
	w.mailbox, w.internet = must(gatewaytest.StartNextHop(gatewaytest.Options{}))(t), must(gatewaytest.StartNextHop(gatewaytest.Options{}))(t)
	w.slow = must(gatewaytest.StartNextHop(gatewaytest.Options{Data: func(int, string, string) gatewaytest.Reply {
		w.stall.RLock()
		defer w.stall.RUnlock()
		return gatewaytest.Reply{}
	}}))(t)
	for _, h := range []*gatewaytest.NextHop{w.mailbox, w.internet, w.slow} {
		t.Cleanup(func() { h.Close() })
	}
	w.startPostfix(t)
	w.config = filepath.Join(w.dir, "passerelle.yaml")
	text := fmt.Sprintf(`
hostname: passerelle.clinic.test
state_dir: %s/state
clinic: {name: Clinique de test, domains: [clinic.test], queue_lifetime: 1h}
listen: {lmtp: {addr: %q}, smtp: {addr: %q}, portal: {addr: ""}, metrics: {addr: %q}}
hops:
  clinic: {addr: %q, tls: none}
  internet: {addr: %q, tls: none}
  slow: {addr: %q, tls: none}
relay: {timeout: %s, slow_after: 500ms}
rules:
  - {name: slow, domain: [slow.test], route: plain, hop: slow}
  - {name: rest, route: plain}
`, w.dir, w.lmtp, w.smtp, w.metrics, w.in, w.internet.Addr(), w.slow.Addr(), relayTimeout)
	if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// serve starts the binary. Without a directory /readyz stays at 503, so its doors are asked.
func (w *slowWorld) serve(t *testing.T) {
	t.Helper()
	w.launch(t)
	benchUntil(t, within(t), "the gateway serves", func() bool {
		res, err := http.Get("http://" + w.metrics + "/healthz")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
}

// ordinary submits mail for the good hop every 40 ms for so long, and gives each message's time to its arrival, by when it was sent.
func (w *slowWorld) ordinary(t *testing.T, d time.Duration) (late []time.Duration) {
	t.Helper()
	var names []string
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(40 * time.Millisecond) {
		w.number++
		to := fmt.Sprintf("ok%d@dest.test", w.number)
		names, w.sent[to] = append(names, to), time.Now()
		send(t, w.postfix.SubmissionAddr(), staff, "", to)
	}
	at := map[string]time.Time{}
	_, err := w.internet.WaitFor(within(t), func(all []gatewaytest.Message) bool {
		clear(at)
		for _, m := range all {
			at[m.Recipients[0]] = m.At
		}
		return !slices.ContainsFunc(names, func(to string) bool { return at[to].IsZero() })
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range names {
		late = append(late, at[to].Sub(w.sent[to]))
	}
	return late
}

func p99(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)*99/100]
}

func (w *slowWorld) run(t *testing.T) {
	w.serve(t)
	t.Cleanup(func() {
		w.stop(t)
		if t.Failed() {
			t.Logf("%.20000s", w.logText(t))
		}
	})
	before := p99(w.ordinary(t, 2*time.Second))

	w.stall.Lock()
	locked := true
	goOn := func() {
		if locked {
			w.stall.Unlock()
			locked = false
		}
	}
	defer goOn()
	var slow []string
	for i := range slowLetters {
		slow = append(slow, fmt.Sprintf("slow%d@slow.test", i))
		send(t, w.postfix.SubmissionAddr(), staff, "", slow[i])
	}
	first := p99(w.ordinary(t, relayTimeout+time.Second))
	then := p99(w.ordinary(t, 5*time.Second))
	t.Logf("p99 of ordinary mail: %s before, %s as the hop stalls, %s from then on", before, first, then)
	if first > before+relayTimeout {
		t.Errorf("ordinary mail is %s late as the hop stalls, want one relay.timeout at most", first)
	}
	if then > before+relayTimeout/2 { // a machine that is busy elsewhere was so before too
		t.Errorf("ordinary mail is %s late while the hop stalls", then)
	}
	benchUntil(t, within(t), "every letter that reached the hop goes on behind its reply", func() bool {
		n := w.slow.Attempts()
		return n >= slowLetters/2 && w.metric(t, "passerelle_gateway_detached") == fmt.Sprint(n)
	})

	goOn()
	w.empty(t)
	for _, to := range slow {
		if n := len(w.slow.To(to)); n != 1 {
			t.Errorf("%s got %d copies", to, n)
		}
	}

	w.stall.Lock()
	locked = true
	send(t, w.postfix.SubmissionAddr(), staff, "", "killed@slow.test")
	benchUntil(t, within(t), "the letter goes on behind its reply", func() bool { return w.metric(t, "passerelle_gateway_detached") == "1" })
	w.kill(t)
	w.serve(t)
	goOn()
	w.empty(t)
	if n := len(w.slow.To("killed@slow.test")); n < 1 || n > 2 {
		t.Errorf("the letter on its way at the kill was delivered %d times, want once or, as it was in flight, twice", n)
	}
	for _, m := range w.mailbox.Messages() {
		t.Errorf("somebody was told:\n%.1000s", m.Data)
	}
}

func (w *slowWorld) empty(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	if q, err := w.postfix.WaitQueue(ctx, func(q []gatewaytest.Queued) bool { return len(q) == 0 }); err != nil {
		t.Fatalf("%v: %+v", err, q)
	}
}
