package gateway_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// gate is a hop whose answer to recipients named slow... or refused... waits behind the final dot until it is opened.
type gate struct {
	hop    *gatewaytest.NextHop
	once   sync.Once
	opened chan struct{}
	held   atomic.Int32 // answers that wait
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{opened: make(chan struct{})}
	var err error
	if g.hop, err = gatewaytest.StartNextHop(gatewaytest.Options{Data: func(n int, _, to string) gatewaytest.Reply {
		if strings.HasPrefix(to, "slow.later") && n == 0 {
			return gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 2, 0}, Text: "not yet"}
		}
		if strings.HasPrefix(to, "slow") || strings.HasPrefix(to, "refused") {
			g.held.Add(1)
			<-g.opened
		}
		if strings.HasPrefix(to, "refused") {
			return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "no"}
		}
		return gatewaytest.Reply{}
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.open(); g.hop.Close() })
	return g
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

const (
	slowTimeout = 2 * time.Second // relay.timeout; a hop that is not slow must answer within it under load too
	slowAfter   = 300 * time.Millisecond
)

// slowHouse has a short relay.timeout, and a hop of its own for the domain slow.test.
func slowHouse(t *testing.T, opts ...gateway.Option) (*house, *gate) {
	t.Helper()
	g := newGate(t)
	text := strings.Replace(withRules("relay: {timeout: 2s, slow_after: 300ms}\nrules:\n  - {name: slow, domain: [slow.test], route: plain, hop: slow}\n  - {name: rest, route: plain}\n"),
		"hops:\n", "hops:\n  slow: {addr: \"{slow}\", tls: none}\n", 1)
	return custom(t, text, nil, func(h *house) { h.opts = opts }, "{slow}", g.hop.Addr()), g
}

// settled repeats until the copy before is no longer in hand.
func (h *house) settled(addr, from string, to ...string) string {
	h.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := h.once(addr, from, hello, to...); !strings.Contains(strings.Join(got, " "), "deja en cours") {
			return codes(got)
		}
	}
	h.t.Fatal("the message stays in hand for ever")
	return ""
}

// A session waits relay.timeout; the copy goes on and its recipient stays in hand; how it ended is what the repeat is told, and nothing is
// delivered twice.
func TestSlowHopGoesOnBehindTheReply(t *testing.T) {
	for name, c := range map[string]struct {
		smtp              bool
		to                []string
		first, then, last string
		bounces           int
	}{
		"lmtp":              {false, []string{"slow@slow.test", "ok@dest.test"}, "451 250", "451", "250", 0},
		"lmtp refused late": {false, []string{"refused@slow.test", "ok@dest.test"}, "451 250", "451", "550", 0},
		"smtp":              {true, []string{"slow@slow.test", "ok@dest.test"}, "451", "451", "250", 0},
		"smtp refused late": {true, []string{"refused@slow.test", "ok@dest.test"}, "451", "451", "250", 1},
		"smtp one refused":  {true, []string{"refused@slow.test"}, "451", "451", "550", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, g := slowHouse(t)
			addr, again := h.lmtp, c.to[:1]
			if c.smtp {
				addr, again = h.smtp, c.to
			}
			began := time.Now()
			first := h.once(addr, "dr@clinic.test", hello, c.to...)
			if took := time.Since(began); codes(first) != c.first || took < slowTimeout || !strings.Contains(first[0], "4.4.2 Relais slow lent") {
				t.Fatalf("first try: %q after %s", first, took)
			}
			began = time.Now()
			then := h.once(addr, "dr@clinic.test", hello, again...)
			if took := time.Since(began); codes(then) != c.then || !strings.Contains(then[0], "4.3.0 Ce message est deja en cours") || took > 5*time.Second {
				t.Errorf("repeat while it goes on: %q after %s", then, took)
			}
			g.open()
			if got := h.settled(addr, "dr@clinic.test", again...); got != c.last {
				t.Errorf("repeat behind its end: %s, want %s", got, c.last)
			}
			if want := map[bool]int{true: 1}[strings.HasPrefix(c.to[0], "slow")]; len(g.hop.Messages()) != want || g.hop.Attempts() != 1 {
				t.Errorf("the slow hop has %d messages in %d attempts, want %d in 1", len(g.hop.Messages()), g.hop.Attempts(), want)
			}
			if n := len(h.sink.Messages()); n != len(c.to)-1 {
				t.Errorf("the other recipient got %d copies", n)
			}
			if n := len(h.clinic.To("dr@clinic.test")); n != c.bounces {
				t.Errorf("%d bounces, want %d", n, c.bounces)
			}
			if log := h.log.String(); !strings.Contains(log, "handing on ended behind its reply") {
				t.Errorf("the log is silent:\n%s", log)
			}
			if c.last == "250" { // the final reply was written: the same bytes are a new message
				if got := h.settled(addr, "dr@clinic.test", again...); got[:3] != "250" || g.hop.Attempts() != 2 {
					t.Errorf("a deliberate resend: %s, %d attempts", got, g.hop.Attempts())
				}
			}
		})
	}
}

// Who is on the way is not given up at the end of the client's patience: he would be bounced and served.
func TestWhoIsOnTheWayIsNotGivenUp(t *testing.T) {
	t.Parallel()
	var days atomic.Int64
	h, g := slowHouse(t, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(days.Load()) * 24 * time.Hour) }))
	to := []string{"ok@dest.test", "slow.later@slow.test"}
	if got := codes(h.once(h.smtp, "dr@clinic.test", hello, to...)); got != "451" {
		t.Fatalf("first try: %s", got)
	}
	days.Store(5) // of the client's 5
	if got := h.settled(h.smtp, "dr@clinic.test", to...); got != "451" {
		t.Errorf("while it is on its way: %s", got)
	}
	g.open()
	if got := h.settled(h.smtp, "dr@clinic.test", to...); got != "250" || len(g.hop.Messages()) != 1 || len(h.clinic.Messages()) != 0 {
		t.Errorf("behind its end: %s, %d delivered, %d bounces", got, len(g.hop.Messages()), len(h.clinic.Messages()))
	}
}

// The message is kept for what goes on, also where it lies in a file.
func TestSlowLetterIsSentWhole(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	h := custom(t, withRules("limits: {memory: 1KiB}\nrelay: {timeout: 2s}\nrules:\n  - {name: rest, route: plain}\n"),
		func(string) gatewaytest.Reply { <-open; return gatewaytest.Reply{} }, nil)
	content := hello + strings.Repeat("une ligne\n", 50000)
	if got := codes(h.once(h.lmtp, "dr@clinic.test", content, "a@dest.test")); got != "451" {
		t.Fatalf("first try: %s", got)
	}
	close(open)
	got, err := h.sink.Wait(t.Context(), 1)
	if err != nil || strings.Count(string(got[0].Data), "une ligne\r\n") != 50000 {
		t.Errorf("%v, %d messages", err, len(got))
	}
}

// A deposit goes on whole: the notice, the code for the sender and the activation; once.
func TestSlowPickupGoesOnBehindTheReply(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	h := custom(t, withRules("pickup: {url: \"http://{portal}\"}\nrelay: {timeout: 2s}\nrules:\n  - {name: rest, route: pickup}\n"),
		func(string) gatewaytest.Reply { <-open; return gatewaytest.Reply{} }, nil)
	if got := codes(h.once(h.lmtp, "dr@clinic.test", hello, "patient@dest.test")); got != "451" {
		t.Fatalf("first try: %s", got)
	}
	close(open)
	if got := h.settled(h.lmtp, "dr@clinic.test", "patient@dest.test"); got != "250" {
		t.Errorf("behind its end: %s", got)
	}
	if a, b := len(h.sink.To("patient@dest.test")), len(h.clinic.To("dr@clinic.test")); a != 1 || b != 1 {
		t.Errorf("%d notices, %d codes for the sender", a, b)
	}
}

// A gateway that stops waits for what goes on, as long as a session would; what has not ended then is nobody's, and the client's repeat
// delivers it.
func TestStopWhileACopyGoesOn(t *testing.T) {
	t.Parallel()
	h, g := slowHouse(t)
	if got := codes(h.once(h.lmtp, "dr@clinic.test", hello, "slow@slow.test")); got != "451" {
		t.Fatalf("first try: %s", got)
	}
	began := time.Now()
	h.stop()
	if took := time.Since(began); took > 10*time.Second { // without an end it waits for the hop
		t.Errorf("stop took %s", took)
	}
	g.open()
	h.start()
	if got := h.settled(h.lmtp, "dr@clinic.test", "slow@slow.test"); got != "250" || g.hop.Attempts() != 2 {
		t.Errorf("repeat behind the restart: %s, %d attempts", got, g.hop.Attempts())
	}
}

// What ends within the time that a stop leaves is noted: the repeat at the next process is not delivered again.
func TestStopWaitsForACopy(t *testing.T) {
	t.Parallel()
	h, g := slowHouse(t)
	if got := codes(h.once(h.lmtp, "dr@clinic.test", hello, "slow@slow.test")); got != "451" {
		t.Fatalf("first try: %s", got)
	}
	go func() {
		defer g.open()
		for end := time.Now().Add(20 * time.Second); !strings.Contains(h.log.String(), "finishing what is in hand") && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
	}()
	h.stop()
	h.start()
	if got := h.settled(h.lmtp, "dr@clinic.test", "slow@slow.test"); got != "250" || len(g.hop.Messages()) != 1 {
		t.Errorf("repeat behind the restart: %s, %d delivered", got, len(g.hop.Messages()))
	}
}

// A hop that answers nothing is not given more: the next recipients get 451 at once, those of other hops are served; its first answer
// opens it again.
func TestStalledHopIsNotGivenMore(t *testing.T) {
	t.Parallel()
	h, g := slowHouse(t)
	var wg sync.WaitGroup
	for i, to := range []string{"slow1@slow.test", "slow2@slow.test"} {
		wg.Go(func() {
			if got := codes(h.once(h.lmtp, "dr@clinic.test", hello, to)); got != "451" {
				t.Errorf("%s: %s", to, got)
			}
		})
		until(t, to+" waits at the hop", func() bool { return g.held.Load() == int32(i)+1 })
	}
	time.Sleep(slowAfter + 50*time.Millisecond)
	began := time.Now()
	got := h.once(h.lmtp, "dr@clinic.test", hello, "slow3@slow.test", "ok@dest.test")
	if took := time.Since(began); codes(got) != "451 250" || !strings.Contains(got[0], "4.4.5 Relais slow sature") || took > 5*time.Second {
		t.Errorf("%q after %s", got, took)
	}
	wg.Wait()
	g.open()
	for _, to := range []string{"slow1@slow.test", "slow2@slow.test", "slow3@slow.test"} {
		if got := h.settled(h.lmtp, "dr@clinic.test", to); got != "250" {
			t.Errorf("%s: %s", to, got)
		}
	}
	if n := len(g.hop.Messages()); n != 3 {
		t.Errorf("%d delivered, want 3", n)
	}
}

// RCPT from the trust space waits for the clinic's server no longer than relay.timeout.
func TestSlowAnswerAtRcpt(t *testing.T) {
	t.Parallel()
	s, open := newSpace(t), make(chan struct{})
	text := strings.Replace(withRules("relay: {timeout: 2s}\nrules:\n  - {name: rest, route: plain}\n"), "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1) + trustText
	h := custom(t, text, nil, func(h *house) {
		h.clinicReply = func(string) gatewaytest.Reply { <-open; return gatewaytest.Reply{} }
	}, "{tls}", s.dir)
	w := s.dial(t, h)
	w.want("250", "MAIL FROM:<dr@peer.mssante.test>")
	began := time.Now()
	w.want("451", "RCPT TO:<ok@mss.clinic.test>")
	if took := time.Since(began); took > 10*time.Second { // the clinic's server answers never
		t.Errorf("RCPT took %s", took)
	}
	close(open)
	w.want("250", "RCPT TO:<ok@mss.clinic.test>")
}

// From the trust space a refusal behind the reply is "later" beside others, as it is before it: a bounce of ours never goes there.
func TestLateRefusalInboundIsNoBounce(t *testing.T) {
	t.Parallel()
	s, open := newSpace(t), make(chan struct{})
	var ok, gone atomic.Int32
	text := strings.Replace(withRules("relay: {timeout: 2s}\nrules:\n  - {name: rest, route: plain}\n"), "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1) + trustText
	h := custom(t, text, nil, func(h *house) {
		h.clinicReply = func(to string) gatewaytest.Reply { // the first RCPT is the probe, the second the letter's
			switch {
			case strings.HasPrefix(to, "ok") && ok.Add(1) == 2:
				<-open
			case strings.HasPrefix(to, "gone") && gone.Add(1) == 2:
				return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "gone"}
			}
			return gatewaytest.Reply{}
		}
	}, "{tls}", s.dir)
	w := s.dial(t, h)
	for try, want := range []string{"451", "250"} {
		var got string
		for got == "" || strings.Contains(got, "deja en cours") {
			w.want("250", "MAIL FROM:<dr@peer.mssante.test>")
			w.want("250", "RCPT TO:<gone@mss.clinic.test>")
			w.want("250", "RCPT TO:<ok@mss.clinic.test>")
			got = w.data(hello)
		}
		if !strings.HasPrefix(got, want) {
			t.Fatalf("try %d: %s", try+1, got)
		}
		if try == 0 {
			close(open)
		}
	}
	for to, n := range map[string]int{"ok@mss.clinic.test": 1, "gone@mss.clinic.test": 1, "dr@peer.mssante.test": 0} {
		if got := len(h.clinic.To(to)); got != n {
			t.Errorf("%s got %d, want %d", to, got, n)
		}
	}
}

// The clinic's server takes a bounce slowly: the message is "later", the bounce goes on, and it is handed over once.
func TestSlowBounceGoesOnBehindTheReply(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	h := custom(t, withRules("relay: {timeout: 2s}\nrules:\n  - {name: rest, route: plain}\n"), later, func(h *house) {
		h.clinicReply = func(string) gatewaytest.Reply { <-open; return gatewaytest.Reply{} }
	})
	if got := h.once(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "bad@dest.test"); codes(got) != "451" {
		t.Fatalf("first try: %q", got)
	}
	if got := h.once(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "bad@dest.test"); !strings.Contains(got[0], "deja en cours") {
		t.Errorf("repeat while the bounce goes on: %q", got)
	}
	close(open)
	if got := h.settled(h.smtp, "dr@clinic.test", "ok@dest.test", "bad@dest.test"); got != "250" {
		t.Errorf("repeat: %s", got)
	}
	if a, b := len(h.clinic.To("dr@clinic.test")), len(h.sink.To("ok@dest.test")); a != 1 || b != 1 {
		t.Errorf("%d bounces, %d copies", a, b)
	}
}

// A failure that an earlier attempt noted is "later" beside others too: the sender in the trust space gets no bounce from us.
func TestRememberedFailureInboundIsNoBounce(t *testing.T) {
	for name, late := range map[string]bool{"beside one that waits": false, "behind the reply": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, open := newSpace(t), make(chan struct{})
			var ok, gone atomic.Int32
			text := strings.Replace(withRules("relay: {timeout: 2s}\nrules:\n  - {name: rest, route: plain}\n"), "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1) + trustText
			h := custom(t, text, nil, func(h *house) {
				h.clinicReply = func(to string) gatewaytest.Reply { // each first RCPT is the probe, each second the letter's
					switch {
					case strings.HasPrefix(to, "ok") && ok.Add(1) == 2 && !late:
						return gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 2, 0}, Text: "not yet"}
					case strings.HasPrefix(to, "gone"):
						if n := gone.Add(1); n%2 == 1 || late && n > 2 {
							return gatewaytest.Reply{}
						}
						if late {
							<-open
						}
						return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "gone"}
					}
					return gatewaytest.Reply{}
				}
			}, "{tls}", s.dir)
			w := s.dial(t, h)
			send := func(to ...string) (got string) {
				t.Helper()
				for got == "" || strings.Contains(got, "deja en cours") {
					w.want("250", "MAIL FROM:<dr@peer.mssante.test>")
					for _, r := range to {
						w.want("250", "RCPT TO:<%s@mss.clinic.test>", r)
					}
					got = w.data(hello)
				}
				return got
			}
			first := []string{"gone", "ok"}
			if late {
				first = first[:1]
			}
			if got := send(first...); !strings.HasPrefix(got, "451") {
				t.Fatalf("first try: %s", got)
			}
			close(open)
			if got := send("gone", "ok"); !strings.HasPrefix(got, "451") {
				t.Errorf("repeat: %s, want later: RCPT is to say it", got)
			}
			for to, n := range map[string]int{"ok@mss.clinic.test": 1, "gone@mss.clinic.test": 0, "dr@peer.mssante.test": 0} {
				if got := len(h.clinic.To(to)); got != n {
					t.Errorf("%s got %d, want %d", to, got, n)
				}
			}
			if got := send("gone"); !strings.HasPrefix(got, "550") {
				t.Errorf("alone: %s", got)
			}
		})
	}
}
