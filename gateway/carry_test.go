package gateway

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/policy"
)

func take(t *testing.T, g *Gateway, raw string, to ...string) *mail {
	t.Helper()
	env := &message.Envelope{ID: "id", Client: "192.0.2.1", Helo: "inner.clinic.test", Sender: message.Address{Local: "dr", Domain: "clinic.test"}}
	for _, s := range to {
		a, err := message.ParseAddress(s, false)
		if err != nil {
			t.Fatal(err)
		}
		env.Recipients = append(env.Recipients, message.Recipient{Address: a, Raw: s})
	}
	m, err := g.read(env, message.BytesBody([]byte(strings.ReplaceAll(raw, "\n", "\r\n"))))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func bare() *Gateway {
	return &Gateway{lasting: &lasting{}, traffic: newTraffic(time.Minute, time.Minute), log: slog.New(slog.DiscardHandler), now: time.Now, set: settings{hostname: "gw.test", maxHeader: 1 << 16, maxText: 1000, maxReceived: 10}}
}

// A panic in one lane is that lane's "later"; the process and the other lanes live on. The relay is missing, so every hand-over panics.
func TestPanicOnALane(t *testing.T) {
	g := bare()
	g.set.hopClinic.Addr, g.set.hopInternet.Addr = "127.0.0.1:1", "127.0.0.1:1"
	m := take(t, g, "Subject: x\n\nx\n", "a@clinic.test", "b@dest.test", "c@dest.test")
	ways := []way{{decision: policy.Decision{Route: policy.Local}}, {decision: policy.Decision{Route: policy.Plain}}, {decision: policy.Decision{Route: policy.Refuse}}}
	g.handOn(t.Context(), m, ways)
	for i, want := range []int{451, 451, 550} {
		if ways[i].fault == nil || ways[i].fault.Code != want {
			t.Errorf("recipient %d: %v, want %d", i, ways[i].fault, want)
		}
	}
}

// What is kept whole for a patient bears no Bcc, no list of others and no inner trace.
func TestWholeDepositHidesTheOthers(t *testing.T) {
	g := bare()
	m := take(t, g, "Received: from secret-host by x; y\nTo: autre@dest.test\nBcc : cache@dest.test\nSubject: x\nContent-Type: multipart/mixed; boundary=a; boundary=b\n\n--a\n\nle texte\n--a--\n", "p@dest.test")
	req, err := g.depositRequest(m, &way{}, 0)
	if err != nil || len(req.Files) != 1 || req.Files[0].Name != "message.eml" {
		t.Fatalf("%v, %d files", err, len(req.Files))
	}
	got, err := io.ReadAll(req.Files[0].Open())
	if err != nil || int64(len(got)) != req.Files[0].Size || !strings.Contains(string(got), "le texte") {
		t.Errorf("%v, %d bytes of %d:\n%s", err, len(got), req.Files[0].Size, got)
	}
	for _, s := range []string{"secret-host", "autre@", "cache@"} {
		if strings.Contains(string(got), s) {
			t.Errorf("the patient reads %q", s)
		}
	}
}

// A text that no page can show is kept as a file; it does not wait for ever.
func TestTextThatNoPageShows(t *testing.T) {
	g := bare()
	for name, raw := range map[string]string{
		"too long":        "Content-Type: text/plain\n\n" + strings.Repeat("mot ", 300) + "\n",
		"unknown charset": "Content-Type: text/plain; charset=x-klingon\n\nmot\n",
	} {
		req, err := g.depositRequest(take(t, g, raw, "p@dest.test"), &way{}, 0)
		if err != nil || req.Text != "" || len(req.Files) != 1 {
			t.Errorf("%s: %v, text %q, %d files", name, err, req.Text, len(req.Files))
		}
	}
}

// What leaves sealed says nothing of the clinic's inside; what is kept of the header by the operator's wish never tells content.
func TestSealedLeavesDiscreetly(t *testing.T) {
	g := bare()
	g.set.protect = protect.Options{Keep: []string{"X-Dossier", "Subject", "Bcc"}}
	m := take(t, g, "Subject: grossesse\nBcc: autre@dest.test\nX-Dossier: 7\n\nx\n", "p@dest.test")
	if s := string(m.discreet); strings.Contains(s, "inner.clinic.test") || strings.Contains(s, "192.0.2.1") || !strings.HasPrefix(s, "Received: ") {
		t.Errorf("trace: %s", s)
	}
	if got := string(g.keep(m)); got != "X-Dossier: 7\r\n" {
		t.Errorf("kept %q", got)
	}
	if g.passphrase(m, m.env.Recipients[0]) != g.passphrase(take(t, g, "Subject: grossesse\nBcc: autre@dest.test\nX-Dossier: 7\n\nx\n", "p@dest.test"), m.env.Recipients[0]) {
		t.Error("a repeat tells another passphrase")
	}
}

// What hides from the index is still seen by a rule on attachments.
func TestUnclearCountsAsAttachment(t *testing.T) {
	for raw, want := range map[string]int{"Subject: x\n\nhello\n": 0, "Subject: x\n\nbegin 644 x.exe\n#86)C\n`\nend\n": 1} {
		f, err := bare().messageFacts(t.Context(), take(t, bare(), raw, "a@dest.test"))
		if err != nil || len(f.Attachments) != want || want == 1 && f.Attachments[0].Type != "message/rfc822" {
			t.Errorf("%q: %v, %+v", raw, err, f.Attachments)
		}
	}
}
