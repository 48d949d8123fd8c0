package gateway

import (
	"encoding/base64"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
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
	req, _, err := g.depositRequest(m, &way{}, 0)
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

// A patient gets the files that only Outlook and old readers unpack as ordinary ones; winmail.dat goes along where not all of it was read.
func TestPackedFilesAreFiles(t *testing.T) {
	g := bare()
	g.budget = message.NewBudget(1<<20, t.TempDir())
	uu := gatewaytest.UUEncode("a.pdf", []byte("%PDF"))
	tnef := func(class string) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nle texte\n--b\nContent-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\n" +
			base64.StdEncoding.EncodeToString(gatewaytest.TNEF(class, gatewaytest.TNEFFile{Name: "a.pdf", Content: []byte("%PDF")})) + "\n--b--\n"
	}
	for name, c := range map[string]struct{ raw, want string }{
		"uuencode": {"Subject: x\n\nle texte\n" + uu, "a.pdf=%PDF"},
		"broken":   {"Subject: x\n\nle texte\n" + strings.TrimSuffix(uu, "end\n"), "message.eml"},
		"tnef":     {tnef("IPM.Note"), "a.pdf=%PDF"},
		"meeting":  {tnef("IPM.Schedule.Meeting.Request"), "a.pdf=%PDF winmail.dat"},
	} {
		req, done, err := g.depositRequest(take(t, g, c.raw, "p@dest.test"), &way{}, 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, f := range req.Files {
			content, err := io.ReadAll(f.Open())
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if f.Name == "a.pdf" {
				f.Name += "=" + string(content)
			}
			got = append(got, f.Name)
		}
		if strings.Join(got, " ") != c.want || c.want != "message.eml" && strings.TrimSpace(req.Text) != "le texte" {
			t.Errorf("%s: files %v, text %q", name, got, req.Text)
		}
		done()
		if n := g.budget.Used(); n != 0 {
			t.Errorf("%s: %d bytes of the budget are kept", name, n)
		}
	}
}

// Whatever hides in a letter, a patient gets it: whole, or in a text or a file.
func TestNoTrickLosesForAPatient(t *testing.T) {
	const payload = "Zk7QxW9vRb2MnHgT4LsYp0DcJf8AuEi5KoVw3Gt6XzNq1BhS"
	dresses := gatewaytest.NewDresses(payload)
	g := bare()
	g.set.maxHeader, g.set.maxText, g.budget = 1<<20, 1<<20, message.NewBudget(8<<20, t.TempDir())
	for _, trick := range gatewaytest.Tricks(payload) {
		switch trick.Name {
		case "field-description", "field-id", "field-location", "encoding-base64-plain": // of a part without its content; base64 of something else
			continue
		}
		raw := string(trick.Bytes)
		env := &message.Envelope{Sender: message.Address{Local: "dr", Domain: "clinic.test"}, Recipients: []message.Recipient{{Address: message.Address{Local: "p", Domain: "dest.test"}}}}
		m, err := g.read(env, message.BytesBody(trick.Bytes))
		if err != nil {
			t.Fatalf("%s: %v", trick.Name, err)
		}
		head := dresses.In([]byte(raw[:m.start])) != "" && dresses.In([]byte(raw[m.start:])) == ""
		if head && !strings.Contains(trick.Name, "subject") { // in a field that is not for the patient
			continue
		}
		req, done, err := g.depositRequest(m, &way{}, 0)
		if err != nil {
			t.Fatalf("%s: %v", trick.Name, err)
		}
		all := []byte(req.Subject + "\n" + req.Text + "\n" + req.HTML)
		for _, f := range req.Files {
			content, _ := io.ReadAll(f.Open())
			all = append(append(all, "\n"+f.Name+"\n"...), content...)
		}
		done()
		if len(req.Files) == 1 && req.Files[0].Name == "message.eml" && strings.HasSuffix(string(all), raw[m.start:]) {
			continue
		}
		if dresses.In(all) == "" {
			t.Errorf("%s: lost\n%.2000s", trick.Name, all)
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
		req, _, err := g.depositRequest(take(t, g, raw, "p@dest.test"), &way{}, 0)
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
