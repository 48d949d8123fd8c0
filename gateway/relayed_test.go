package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// deaf opens a house whose rules lead to a hop that offers no DSN.
func deaf(t *testing.T, prepare func(*house), opts ...gateway.Option) (*house, *gatewaytest.NextHop) {
	t.Helper()
	hop := startHop(t, gatewaytest.Options{NoDSN: true, Rcpt: func(_, to string) gatewaytest.Reply { return later(to) }})
	text := strings.Replace(withRules("rules:\n  - {name: open, recipient: [\"open@*\"], route: plain}\n  - {name: rest, route: plain, hop: deaf}\n"),
		"  internet:", "  deaf: {addr: \""+hop.Addr()+"\", tls: none}\n  internet:", 1)
	h := custom(t, text, nil, func(h *house) {
		h.opts = opts
		if prepare != nil {
			prepare(h)
		}
	})
	return h, hop
}

// reports are what the clinic's server got for the sender.
func (h *house) reports(to string) []gatewaytest.Message { return h.clinic.To(to) }

// RFC 3461 section 5.2.2: who asked for SUCCESS behind a hop without DSN is told that his message was relayed, once, with the envelope's
// id and the recipient as he wrote it; nobody else is told anything.
func TestRelayedReport(t *testing.T) {
	h, hop := deaf(t, nil)
	for _, door := range []string{h.lmtp, h.smtp} {
		h.clinic.Reset()
		hop.Reset()
		h.send(door, "dr@clinic.test ENVID=Lettre+2B7 RET=FULL", hello, "a@dest.test NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Alias+2Ba@clinic.test", "b@dest.test",
			"c@dest.test NOTIFY=NEVER", "d@dest.test NOTIFY=FAILURE,DELAY", "e@dest.test NOTIFY=SUCCESS", "open@dest.test NOTIFY=SUCCESS")
		ms := h.reports("dr@clinic.test")
		if len(ms) != 1 || ms[0].Sender != "" {
			t.Fatalf("%d reports", len(ms))
		}
		report := string(ms[0].Data)
		for _, want := range []string{"Action: relayed\r\nStatus: 2.0.0\r\n", "Original-Envelope-Id: Lettre+7\r\n", "Original-Recipient: rfc822;Alias+a@clinic.test\r\nFinal-Recipient: rfc822; a@dest.test",
			"Final-Recipient: rfc822; e@dest.test", "text/rfc822-headers", "Message-ID: <1@clinic.test>", "Auto-Submitted: auto-replied"} {
			if !strings.Contains(report, want) {
				t.Errorf("no %q in\n%s", want, report)
			}
		}
		for _, no := range []string{"bonjour", "b@dest", "c@dest", "d@dest", "open@dest", "failed"} {
			if strings.Contains(report, no) {
				t.Errorf("%q in\n%s", no, report)
			}
		}
		if n := strings.Count(report, "Action: relayed"); n != 2 {
			t.Errorf("%d recipients relayed, want 2", n)
		}
	}
	h.clinic.Reset()
	h.send(h.lmtp, "", hello, "open@dest.test NOTIFY=SUCCESS", "a@dest.test NOTIFY=SUCCESS") // a report about a report is never sent
	h.send(h.lmtp, "dr@clinic.test", strings.Replace(hello, "bonjour", "encore", 1), "open@dest.test NOTIFY=SUCCESS", "bad@dest.test NOTIFY=SUCCESS")
	if n := len(h.clinic.Messages()); n != 0 {
		t.Errorf("%d reports that nobody asked for", n)
	}
	if ms := h.sink.To("open@dest.test"); !strings.Contains(ms[len(ms)-1].DSN, "NOTIFY=[SUCCESS]") {
		t.Errorf("the hop that offers DSN was told %q", ms[len(ms)-1].DSN)
	}
}

// Where the report cannot be handed over, the client comes again for it alone, a restart later too: the message is not sent twice, the
// report leaves once.
func TestRelayedReportIsKeptAsADebt(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	h, hop := deaf(t, func(h *house) { h.clinicRefuses = away.Load })
	for range 2 {
		if got := h.send(h.lmtp, "dr@clinic.test", hello, "a@dest.test NOTIFY=SUCCESS", "b@dest.test"); codes(got) != "451 250" {
			t.Fatalf("got %q", got)
		}
		h.stop()
		h.start()
		if n := len(hop.To("a@dest.test")); n != 1 {
			t.Fatalf("%d copies", n)
		}
	}
	away.Store(false)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "a@dest.test NOTIFY=SUCCESS"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	if a, b := len(hop.To("a@dest.test")), len(h.reports("dr@clinic.test")); a != 1 || b != 1 {
		t.Errorf("%d copies, %d reports", a, b)
	}
	// After the final reply the same bytes are a new message, with a report of its own.
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "a@dest.test NOTIFY=SUCCESS"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	if a, b := len(hop.To("a@dest.test")), len(h.reports("dr@clinic.test")); a != 2 || b != 2 {
		t.Errorf("sent again: %d copies, %d reports", a, b)
	}
}

// A report that was accepted is not sent again while the message comes again for another recipient under SMTP.
func TestRelayedReportOnceUnderSMTP(t *testing.T) {
	h, hop := deaf(t, nil)
	for range 3 {
		if got := h.send(h.smtp, "dr@clinic.test", hello, "a@dest.test NOTIFY=SUCCESS", "later@dest.test"); codes(got) != "451" {
			t.Fatalf("got %q", got)
		}
		h.stop() // the memory of the report survives a restart
		h.start()
	}
	if a, b := len(hop.To("a@dest.test")), len(h.reports("dr@clinic.test")); a != 1 || b != 1 {
		t.Errorf("%d copies, %d reports", a, b)
	}
}

// A report that is refused for good, or that cannot be handed over until the client's patience ends, is given up: the delivery stands.
func TestRelayedReportIsGivenUp(t *testing.T) {
	h, hop := deaf(t, func(h *house) {
		h.clinicReply = func(string) gatewaytest.Reply {
			return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}
		}
	})
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "a@dest.test NOTIFY=SUCCESS"); codes(got) != "250" || len(hop.To("a@dest.test")) != 1 {
		t.Errorf("refused for good: %q", got)
	}
	var late atomic.Int64
	h, _ = deaf(t, func(h *house) { h.clinicRefuses = func() bool { return true } }, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(late.Load())) }))
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "a@dest.test NOTIFY=SUCCESS"); codes(got) != "451" {
		t.Errorf("not now: %q", got)
	}
	late.Store(int64(5 * 24 * time.Hour))
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "a@dest.test NOTIFY=SUCCESS"); codes(got) != "250" {
		t.Errorf("patience at its end: %q", got)
	}
}

// A deposit is relayed, not delivered, and that its notice was delivered is no success.
func TestDepositIsRelayed(t *testing.T) {
	h := custom(t, withRules("pickup: {url: \"http://{portal}\"}\nrules:\n  - {name: rest, route: pickup}\n"), nil, nil)
	for to, notify := range map[string]string{"p@dest.test NOTIFY=SUCCESS,FAILURE": "NOTIFY=[FAILURE]", "q@dest.test NOTIFY=SUCCESS": "NOTIFY=[NEVER]", "r@dest.test NOTIFY=FAILURE": "NOTIFY=[FAILURE]"} {
		h.clinic.Reset()
		h.sink.Reset()
		if got := h.send(h.lmtp, "dr@clinic.test", hello, to); codes(got) != "250" {
			t.Fatalf("%s: %q", to, got)
		}
		if ms := h.sink.Messages(); len(ms) != 1 || !strings.Contains(ms[0].DSN, notify) {
			t.Errorf("%s: the notice's hop was told %q", to, ms[0].DSN)
		}
		reports := 0
		for _, m := range h.reports("dr@clinic.test") {
			if bytes.Contains(m.Data, []byte("Action: relayed")) {
				reports++
				if !bytes.Contains(m.Data, []byte("page de retrait")) || bytes.Contains(m.Data, []byte("bonjour")) {
					t.Errorf("%s:\n%s", to, m.Data)
				}
			}
		}
		if want := strings.Count(to, "SUCCESS"); reports != want {
			t.Errorf("%s: %d reports, want %d", to, reports, want)
		}
	}
}

// RFC 3461 section 4.1: NEVER, and NOTIFY without FAILURE, suppress our own bounce under SMTP.
func TestNotifyDecidesAboutBounces(t *testing.T) {
	h := newHouse(t, "5d", later)
	for to, want := range map[string]int{"bad1@dest.test": 1, "bad2@dest.test NOTIFY=FAILURE": 1, "bad3@dest.test NOTIFY=NEVER": 0, "bad4@dest.test NOTIFY=SUCCESS,DELAY": 0} {
		h.clinic.Reset()
		if got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", to); codes(got) != "250" {
			t.Fatalf("%s: %q", to, got)
		}
		if n := len(h.reports("dr@clinic.test")); n != want {
			t.Errorf("%s: %d bounces, want %d", to, n, want)
		}
	}
}

// A real Postfix that was told to hide DSN, as many providers' filters do.
func TestRelayedBehindPostfixWithoutDSN(t *testing.T) {
	if testing.Short() {
		t.Skip("a real Postfix is left to the full run")
	}
	world := startHop(t, gatewaytest.Options{})
	host, port, _ := strings.Cut(world.Addr(), ":")
	p, err := gatewaytest.StartPostfix(t.Context(), gatewaytest.PostfixOptions{Name: "deaf", Main: []string{fmt.Sprintf("relayhost = [%s]:%s", host, port), "smtpd_discard_ehlo_keywords = dsn"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	h := newHouse(t, "5d", nil)
	h.stop()
	internet := h.cfg.Hops["internet"]
	internet.Addr = p.Addr()
	h.cfg.Hops["internet"] = internet
	h.start()
	if got := h.send(h.lmtp, "dr@clinic.test ENVID=x", hello, "a@dest.test NOTIFY=SUCCESS", "b@dest.test"); codes(got) != "250 250" {
		t.Fatalf("got %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := world.Wait(ctx, 1); err != nil {
		t.Fatalf("%v\n%s", err, p.LogText())
	}
	if ms := h.reports("dr@clinic.test"); len(ms) != 1 || !bytes.Contains(ms[0].Data, []byte("Action: relayed")) {
		t.Errorf("%d reports", len(ms))
	}
}

// What a peer of the trust space asks of a report goes on to the clinic's server, which answers for it.
func TestInboundPassesDSNOn(t *testing.T) {
	s := newSpace(t)
	h := s.house(t, nil)
	w := s.dial(t, h)
	w.want("250", "MAIL FROM:<dr@peer.mssante.test> RET=HDRS ENVID=Avis+2B7")
	w.want("250", "RCPT TO:<ok@mss.clinic.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;ok@mss.clinic.test")
	if got := w.data(hello); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	ms := h.clinic.Messages()
	if len(ms) != 1 || ms[0].DSN != "RET=HDRS ENVID=Avis+7 NOTIFY=[SUCCESS FAILURE] ORCPT=ok@mss.clinic.test" {
		t.Errorf("%d messages, %+v", len(ms), ms)
	}
}
