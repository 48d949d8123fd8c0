package gateway_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// Under LMTP each recipient has a reply of its own, and what Postfix repeats is only the one that waits.
func TestLMTPEachRecipientItsOwnReply(t *testing.T) {
	h := newHouse(t, "5d", later)
	got := h.send(h.lmtp, "dr@clinic.test", hello, "ok@dest.test", "later@dest.test", "bad@dest.test", "never@dest.test", "colleague@clinic.test")
	if codes(got) != "250 451 550 550 250" {
		t.Errorf("got %q", got)
	}
	if !strings.Contains(got[3], "Interdit par la clinique") {
		t.Errorf("refusal says %q", got[3])
	}
	if n := len(h.sink.To("ok@dest.test")); n != 1 {
		t.Errorf("ok got %d copies", n)
	}
	if n := len(h.clinic.To("colleague@clinic.test")); n != 1 {
		t.Errorf("the colleague got %d copies", n)
	}
}

// A repeat of a message that was answered 4xx as a whole never reaches again whom it reached; after the final reply the same bytes
// are a new message.
func TestSMTPRetryMemory(t *testing.T) {
	wait := make(chan struct{})
	h := newHouse(t, "5d", func(to string) gatewaytest.Reply {
		select {
		case <-wait:
			return gatewaytest.Reply{}
		default:
			return later(to)
		}
	})
	for range 3 {
		if got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "later@dest.test"); codes(got) != "451" {
			t.Fatalf("got %q", got)
		}
	}
	if n := len(h.sink.To("ok@dest.test")); n != 1 {
		t.Fatalf("served recipient got %d copies while the other waits", n)
	}
	h.stop() // the memory survives a restart
	h.start()
	close(wait)
	if got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "later@dest.test"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	if a, b := len(h.sink.To("ok@dest.test")), len(h.sink.To("later@dest.test")); a != 1 || b != 1 {
		t.Fatalf("copies: %d and %d, want 1 and 1", a, b)
	}
	if got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "later@dest.test"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	if a, b := len(h.sink.To("ok@dest.test")), len(h.sink.To("later@dest.test")); a != 2 || b != 2 {
		t.Errorf("sent twice on purpose: copies %d and %d, want 2 and 2", a, b)
	}
}

// What failed for good beside a served recipient gets one bounce, handed to Postfix before the 250; while it cannot be handed over
// the reply is 4xx, and nobody is served twice.
func TestSMTPMixedOutcomeBounces(t *testing.T) {
	h := newHouse(t, "5d", later)
	away := true
	h.clinicRefuses = func() bool { return away }
	secret := hello + "le contenu medical\n"
	for range 2 {
		if got := h.send(h.smtp, "dr@clinic.test", secret, "ok@dest.test", "bad@dest.test"); codes(got) != "451" {
			t.Fatalf("got %q while the bounce cannot be handed over", got)
		}
	}
	away = false
	if got := h.send(h.smtp, "dr@clinic.test", secret, "ok@dest.test", "bad@dest.test"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	if n := len(h.sink.To("ok@dest.test")); n != 1 {
		t.Errorf("served recipient got %d copies", n)
	}
	bounces := h.clinic.To("dr@clinic.test")
	if len(bounces) != 1 {
		t.Fatalf("%d bounces", len(bounces))
	}
	b := string(bounces[0].Data)
	if bounces[0].Sender != "" || !strings.Contains(b, "multipart/report") || !strings.Contains(b, "bad@dest.test") || !strings.Contains(b, "no such user") {
		t.Errorf("bounce from %q:\n%s", bounces[0].Sender, b)
	}
	if strings.Contains(b, "contenu medical") || strings.Contains(b, "bonjour") {
		t.Error("the bounce holds the body")
	}
}

func TestSMTPAllFailedIsTheClientsToTell(t *testing.T) {
	h := newHouse(t, "5d", later)
	if got := h.send(h.smtp, "dr@clinic.test", hello, "bad@dest.test", "never@dest.test"); codes(got) != "550" {
		t.Errorf("got %q", got)
	}
	if len(h.clinic.Messages()) != 0 {
		t.Error("a bounce was sent although the client was told")
	}
}

// Before the client's own queue lifetime ends, the gateway gives up the waiting ones itself: a served one is never bounced.
func TestSMTPGivesUpBeforeTheClient(t *testing.T) {
	var clock atomic.Int64
	h := newHouse(t, "1h", later, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }))
	if got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "later@dest.test"); codes(got) != "451" {
		t.Fatalf("got %q", got)
	}
	clock.Add(int64(55 * time.Minute))
	if got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "later@dest.test"); codes(got) != "250" {
		t.Fatalf("near the end of the client's patience: %q", got)
	}
	if n := len(h.sink.To("ok@dest.test")); n != 1 {
		t.Errorf("served recipient got %d copies", n)
	}
	b := h.clinic.To("dr@clinic.test")
	if len(b) != 1 || !strings.Contains(string(b[0].Data), "later@dest.test") || strings.Contains(string(b[0].Data), "ok@dest.test\r\nAction: failed") {
		t.Errorf("%d bounces", len(b))
	}
}

// While a message is in hand, a second copy of it is answered 451; but one that comes within a second, the first client still there, is
// a message of its own.
func TestSecondCopyInHand(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{})
	var begun atomic.Bool
	h := newHouse(t, "5d", func(string) gatewaytest.Reply {
		if begun.CompareAndSwap(false, true) {
			close(held)
			<-hold
		}
		return gatewaytest.Reply{}
	})
	first, beside := make(chan []string), h.upToDot(h.lmtp, "dr@clinic.test", hello, "ok@dest.test")
	go func() { first <- h.send(h.lmtp, "dr@clinic.test", hello, "ok@dest.test") }()
	<-held
	if got := beside(); codes(got) != "250" {
		t.Errorf("the same bytes side by side: %q", got)
	}
	time.Sleep(1100 * time.Millisecond)
	if got := h.once(h.lmtp, "dr@clinic.test", hello, "ok@dest.test"); codes(got) != "451" || !strings.Contains(got[0], "deja en cours") {
		t.Errorf("second copy: %q", got)
	}
	close(hold)
	if got := <-first; codes(got) != "250" {
		t.Errorf("first copy: %q", got)
	}
	if n := len(h.sink.To("ok@dest.test")); n != 2 {
		t.Errorf("%d copies", n)
	}
}

// A circle is cut: by Received fields, and by our own passes.
func TestLoops(t *testing.T) {
	h := newHouse(t, "5d", nil)
	if got := h.send(h.smtp, "dr@clinic.test", strings.Repeat("Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0100\n", 120)+hello, "ok@dest.test"); codes(got) != "554" {
		t.Errorf("120 Received fields: %q", got)
	}
	content := hello
	for range 8 {
		got := h.send(h.smtp, "dr@clinic.test", content, "ok@dest.test")
		if codes(got) == "554" {
			return
		}
		ms := h.sink.To("ok@dest.test")
		content = strings.ReplaceAll(string(ms[len(ms)-1].Data), "\r\n", "\n")
	}
	t.Error("a message came round eight times")
}

// The log tells the admin what happened without telling who.
func TestLogHidesPeople(t *testing.T) {
	h := newHouse(t, "5d", later)
	h.send(h.lmtp, "dr.secret@clinic.test", strings.Replace(hello, "essai", "grossesse", 1), "patiente@dest.test", "later.martin@dest.test")
	log := h.log.String()
	for _, s := range []string{"dr.secret", "patiente", "later.martin", "grossesse", "bonjour"} {
		if strings.Contains(log, s) {
			t.Errorf("the log tells %q:\n%s", s, log)
		}
	}
	if !strings.Contains(log, `"route":"plain"`) || !strings.Contains(log, `"code":451`) {
		t.Errorf("the log says too little:\n%s", log)
	}
}
