package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/smtp"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

const person = "person@clinic.test" // of the clinic: internal mail

// TestEndToEnd is the main job on real input: a real Postfix with a shipped snippet, the real binary, the real Postfix again.
func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Log("real Postfix instances are left to the full run")
		return
	}
	for _, x := range []struct {
		name   string
		opt    worldOptions
		faults []string // of the mirror
		only   bool     // the first story alone
	}{
		{"lmtp", worldOptions{snippet: "lmtp"}, []string{"removed", "truncated", "unreadable", "too old"}, false},
		{"smtp-relayhost", worldOptions{snippet: "smtp-relayhost", sms: true}, []string{"removed"}, false},
		{"content_filter", worldOptions{snippet: "content_filter"}, []string{"truncated"}, false},
		{"two Postfix", worldOptions{snippet: "smtp-relayhost", border: true}, nil, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, x.opt)
			t.Run("five ways", w.fiveWays)
			if x.only {
				return
			}
			for _, f := range x.faults {
				t.Run("mirror "+f, func(t *testing.T) { w.mirrorLost(t, f) })
			}
			t.Run("sent twice on purpose", w.twice)
			t.Run("from the trust space", w.inbound)
			t.Run("gateway away", w.away)
			t.Run("observe", w.observe)
		})
	}
}

// submit hands a report in as the clinic's people do.
func (w *world) submit(t *testing.T, subject string, to ...string) {
	t.Helper()
	if err := smtp.SendMail(w.postfix.SubmissionAddr(), nil, staff, to, report(subject, to...)); err != nil {
		t.Fatalf("submit: %v", err)
	}
}

func (w *world) reset() {
	for _, h := range []*gatewaytest.NextHop{w.peer, w.internet, w.mailbox} {
		h.Reset()
	}
}

// settled waits until no Postfix keeps anything. showq walks the queue's folders one by one, so that a message which moves
// meanwhile may be missed: empty is what was empty twice.
func (w *world) settled(t *testing.T) {
	t.Helper()
	for _, p := range []*gatewaytest.Postfix{w.postfix, w.border} {
		if p == nil {
			continue
		}
		empty, looks := 0, 0
		if q, err := p.WaitQueue(within(t), func(q []gatewaytest.Queued) bool {
			empty, looks = empty+1, looks+1
			if len(q) > 0 {
				empty = 0
			}
			if looks%20 == 0 { // see flushUntil
				p.Flush(t.Context())
			}
			return empty >= 2
		}); err != nil {
			t.Fatalf("%v: %+v", err, q)
		}
	}
}

// flushUntil asks Postfix for another attempt until a hop has what ok wants. Once is not enough: a flush that meets the message
// while its last attempt is being put away ("skipped, still being delivered") passes over it, for a minute.
func (w *world) flushUntil(t *testing.T, h *gatewaytest.NextHop, ok func([]gatewaytest.Message) bool) {
	t.Helper()
	ctx := within(t)
	for {
		if err := w.postfix.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		_, err := h.WaitFor(short, ok)
		cancel()
		switch {
		case err == nil:
			return
		case ctx.Err() != nil:
			t.Fatal(err)
		}
	}
}

// arrived waits until a hop has a message for each, however long they take.
func arrived(t *testing.T, h *gatewaytest.NextHop, to ...string) {
	t.Helper()
	ctx := within(t)
	for _, r := range to {
		if _, err := h.WaitFor(ctx, has(r)); err != nil {
			t.Fatalf("%s: %v", r, err)
		}
	}
}

// counts compares how many copies each recipient has at a hop; who is not named may have none.
func counts(t *testing.T, name string, h *gatewaytest.NextHop, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, m := range h.Messages() {
		for _, r := range m.Recipients {
			got[r]++
		}
	}
	for _, r := range slices.Concat(sealedSide, []string{doctor, staff, person}) {
		if got[r] != want[r] {
			t.Errorf("%s: %s has %d copies, want %d", name, r, got[r], want[r])
		}
		delete(got, r)
	}
	if len(got) > 0 {
		t.Errorf("%s: mail for others: %v", name, got)
	}
}

// told is how many mails the sender gets for one message that went to all: the code, and the passphrase unless it goes by SMS.
func (w *world) told() int {
	if w.opt.sms {
		return 1
	}
	return 2
}

func each(n int, to ...string) map[string]int {
	m := map[string]int{}
	for _, r := range to {
		m[r] = n
	}
	return m
}

// once checks that everybody has his copy, once.
func (w *world) once(t *testing.T) {
	t.Helper()
	counts(t, "trust peer", w.peer, each(1, doctor))
	counts(t, "internet", w.internet, each(1, sealedSide...))
	counts(t, "mailbox", w.mailbox, map[string]int{staff: w.told(), person: 1})
}

func everybody() []string { return append([]string{doctor, person}, sealedSide...) }

func (w *world) fiveWays(t *testing.T) {
	const subject = "Dossier-5V"
	w.submit(t, subject, everybody()...)
	arrived(t, w.peer, doctor)
	arrived(t, w.internet, sealedSide...)
	arrived(t, w.mailbox, person)
	w.settled(t)
	w.once(t)
	if t.Failed() {
		return
	}
	m := w.peer.To(doctor)[0]
	if m.TLS == nil || len(m.TLS.PeerCertificates) == 0 || m.TLS.PeerCertificates[0].Subject.CommonName != "mss.clinic.test" {
		t.Error("the trust peer got it without our certificate")
	}
	for who, m := range map[string]gatewaytest.Message{doctor: m, shop: w.internet.To(shop)[0], person: w.mailbox.To(person)[0]} {
		if want := body(report(subject)); !bytes.Equal(body(m.Data), want) {
			t.Errorf("%s got other bytes:\n%q\nwant\n%q", who, body(m.Data), want)
		}
	}
	w.openPGP(t, w.internet.To(holder)[0].Data, subject)
	openZIP(t, w.internet.To(lab)[0].Data, w.passphrase(t), subject)
	w.openPickup(t, w.internet.To(patient)[0].Data, w.codes(t), subject)
}

// passphrase is what the ZIP's recipient was told: by SMS, or by the sender who has it in his mailbox.
func (w *world) passphrase(t *testing.T) string {
	t.Helper()
	if w.opt.sms {
		texts, err := w.sms.Wait(within(t), 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(texts) != 1 {
			t.Errorf("%d SMS came, want 1", len(texts))
		}
		return passphrase.FindString(texts[0].Text)
	}
	for _, m := range w.mailbox.To(staff) {
		if s := text(t, m.Data); strings.Contains(s, lab) {
			return passphrase.FindString(s)
		}
	}
	t.Fatal("the sender was not told the passphrase")
	return ""
}

// mirrorLost: what reads the directory stays in Postfix's queue and says why; the others of the same message go; afterwards it
// arrives, and nobody has it twice.
func (w *world) mirrorLost(t *testing.T, fault string) {
	w.reset()
	whole, err := os.ReadFile(w.mirror())
	if err != nil {
		t.Fatal(err)
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var reason string
	var mend func()
	switch fault {
	case "removed":
		do(os.Remove(w.mirror()))
		reason, mend = "annuaire national absent", func() { w.importDirectory(t, time.Now()) }
	case "truncated":
		do(os.Truncate(w.mirror(), int64(len(whole)/2)))
		reason, mend = "annuaire national endommage", func() { // restored from a backup, by rename as restic and rsync do
			do(os.WriteFile(w.mirror()+".back", whole, 0o600))
			do(os.Rename(w.mirror()+".back", w.mirror()))
		}
	case "unreadable":
		do(os.Chmod(w.mirror(), 0))
		reason, mend = "annuaire national illisible", func() { do(os.Chmod(w.mirror(), 0o600)) }
	case "too old":
		w.importDirectory(t, time.Now().AddDate(0, 0, -30))
		reason, mend = "annuaire national trop ancien", func() { w.importDirectory(t, time.Now()) }
	}
	w.submit(t, "Dossier-MI", everybody()...)
	arrived(t, w.internet, sealedSide...)
	arrived(t, w.mailbox, person)
	q, err := w.postfix.WaitQueue(within(t), func(q []gatewaytest.Queued) bool {
		return len(q) == 1 && len(q[0].Recipients) == 1 && q[0].Recipients[0].Address == doctor && strings.Contains(q[0].Recipients[0].Reason, reason)
	})
	if err != nil {
		t.Fatalf("want %s alone to wait for %q: %v: %+v", doctor, reason, err, q)
	}
	if n := len(w.peer.Messages()); n != 0 {
		t.Errorf("the trust peer has %d messages without a directory", n)
	}
	mend()
	w.flushUntil(t, w.peer, has(doctor))
	w.settled(t)
	w.once(t)
}

// twice: the same bytes, handed in twice, are two messages.
func (w *world) twice(t *testing.T) {
	w.reset()
	for range 2 {
		w.submit(t, "Dossier-2X", doctor, shop, holder)
	}
	w.settled(t)
	counts(t, "trust peer", w.peer, each(2, doctor))
	counts(t, "internet", w.internet, each(2, shop, holder))
	counts(t, "mailbox", w.mailbox, nil)
}

// away: Postfix keeps what it cannot hand over, the gateway ended as by a power cut, and hands it over once afterwards.
func (w *world) away(t *testing.T) {
	w.reset()
	w.kill(t)
	w.submit(t, "Dossier-AW", doctor, shop, patient)
	if q, err := w.postfix.WaitQueue(within(t), func(q []gatewaytest.Queued) bool {
		return len(q) == 1 && len(q[0].Recipients) == 3 && q[0].Recipients[0].Reason != ""
	}); err != nil {
		t.Fatalf("%v: %+v", err, q)
	}
	w.start(t)
	w.flushUntil(t, w.peer, has(doctor))
	arrived(t, w.internet, shop, patient)
	w.settled(t)
	counts(t, "trust peer", w.peer, each(1, doctor))
	counts(t, "internet", w.internet, each(1, shop, patient))
	counts(t, "mailbox", w.mailbox, each(1, staff))
}

// observe: decided and noted as ever, and everything leaves as it came.
func (w *world) observe(t *testing.T) {
	w.reset()
	w.stop(t)
	before := len(w.logText(t))
	w.writeConfig(t, "observe")
	w.start(t)
	const subject = "Dossier-OB"
	w.submit(t, subject, everybody()...)
	all := append([]string{doctor}, sealedSide...)
	arrived(t, w.internet, all...)
	arrived(t, w.mailbox, person)
	w.settled(t)
	counts(t, "internet", w.internet, each(1, all...))
	counts(t, "trust peer", w.peer, nil)
	counts(t, "mailbox", w.mailbox, each(1, person))
	for _, r := range all {
		for _, m := range w.internet.To(r) {
			if want := body(report(subject)); !bytes.Equal(body(m.Data), want) || !bytes.Contains(m.Data, []byte("Subject: "+subject+"\r\n")) {
				t.Errorf("%s got it changed:\n%s", r, m.Data)
			}
		}
	}
	if got := w.metric(t, "passerelle_gateway_left_in_clear_total"); got != fmt.Sprint(len(all)) {
		t.Errorf("left in clear: %s, want %d", got, len(all))
	}
	log := w.logText(t)[before:]
	for domain, route := range map[string]string{"mss.test": "trust", "key.test": "encrypt", "zip.test": "encrypt", "mail.test": "pickup", "plain.test": "plain"} {
		if want := fmt.Sprintf(`"to":"*@%s","route":"%s"`, domain, route); !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
}

func (w *world) metric(t *testing.T, name string) string {
	t.Helper()
	res, err := http.Get("http://" + w.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindSubmatch(page)
	if m == nil {
		t.Fatalf("no %s in /metrics", name)
	}
	return string(m[1])
}
