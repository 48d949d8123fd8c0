package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const marker = "contenu-medical-7Q4Z"

// automatic are the mails that no person writes. Each holds the marker where a client would put content.
var automatic = map[string]struct{ from, content string }{
	"dsn": {"", report("delivery-status", "message/delivery-status", "Reporting-MTA: dns; mx.clinic.test\n\nFinal-Recipient: rfc822; dr@clinic.test\nAction: failed\nStatus: 5.1.1\n")},
	"mdn": {"", report("disposition-notification", "message/disposition-notification", "Final-Recipient: rfc822; dr@clinic.test\nOriginal-Message-ID: <9@dest.test>\nDisposition: manual-action/MDN-sent-manually; displayed\n")},
	"mdn with a sender": {"dr@mss.clinic.test", report("disposition-notification", "message/disposition-notification",
		"Final-Recipient: rfc822; dr@clinic.test\nDisposition: manual-action/MDN-sent-manually; displayed\n")},
	"absence":                {"", "Auto-Submitted: auto-replied\n" + letterWith()},
	"absence with a sender":  {"dr@mss.clinic.test", "Auto-Submitted: auto-replied (vacation)\nX-Auto-Response-Suppress: All\n" + letterWith()},
	"absence of an old kind": {"dr@mss.clinic.test", "Precedence: auto_reply\n" + letterWith()},
	"calendar": {"dr@mss.clinic.test", "MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n" + strings.Replace(letterWith(), "\n\n", "\n\n--b\nContent-Type: text/plain\n\n", 1) +
		"--b\nContent-Type: text/calendar; method=REPLY; charset=utf-8\n\nBEGIN:VCALENDAR\nMETHOD:REPLY\nSUMMARY:" + marker + "\nEND:VCALENDAR\n--b--\n"},
	"list":      {"dr@mss.clinic.test", "List-Id: <info.clinic.test>\n" + letterWith()},
	"bulk list": {"dr@mss.clinic.test", "Precedence: bulk\n" + letterWith()},
}

func letterWith() string { return strings.Replace(hello, "bonjour", marker, 1) }

func report(kind, typ, status string) string {
	return "From: <dr@clinic.test>\nTo: <a@dest.test>\nSubject: rapport " + marker + "\nMessage-ID: <2@clinic.test>\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=" + kind +
		"; boundary=b\n\n--b\nContent-Type: text/plain\n\n" + marker + "\n--b\nContent-Type: " + typ + "\n\n" + status + "\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\n" + marker + "\n--b--\n"
}

// Mail without a person behind it: never a deposit, never a code, no content in clear but by a rule that says plain.
func TestAutomaticMail(t *testing.T) {
	e, err := openpgp.NewEntity("P. Leroy", "", "key@dest.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	var key string
	h := newInSpace(t, "encrypt: {keys: {key@dest.test: \"{key}\"}}\npickup: {url: \"http://{portal}\"}\nrules:\n  - {name: open, recipient: [\"open@*\"], route: plain}\n"+
		"  - {name: named, recipient: [\"named@*\"], auto: true, route: plain}\n", nil, func(h *house) {
		var b bytes.Buffer
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		key = filepath.Join(h.dir, "key.pgp")
		h.key = key
		if err := os.WriteFile(key, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	for name, a := range automatic {
		null, isReport := a.from == "", strings.Contains(a.content, "multipart/report")
		for _, to := range []string{"colleague@clinic.test", "marie.durand@peer.mssante.test", "open@dest.test", "key@dest.test", "patient@dest.test"} {
			h.clinic.Reset()
			h.sink.Reset()
			h.peer.Reset()
			got := h.send(h.lmtp, a.from, a.content, to)
			what := fmt.Sprintf("%s to %s", name, to)
			atHome, atPeer, outside := h.clinic.Messages(), h.peer.Messages(), h.sink.Messages()
			leaves, whole := true, false
			switch {
			case to == "colleague@clinic.test" || strings.HasPrefix(to, "marie"):
				whole = true
			case !null: // a rule that does not name automatic mail does not let it out
				leaves = false
			case to == "open@dest.test":
				whole = !isReport
			}
			if !leaves {
				if codes(got) != "550" || !strings.Contains(got[0], "Envoi automatique ou de liste refuse") || len(atHome)+len(atPeer)+len(outside) != 0 {
					t.Errorf("%s: %q, %d messages left", what, got, len(atHome)+len(atPeer)+len(outside))
				}
				continue
			}
			all := append(append(atHome, atPeer...), outside...)
			if codes(got) != "250" || len(all) != 1 { // one: no code for anybody
				t.Errorf("%s: %q, %d messages", what, got, len(all))
				continue
			}
			data := string(all[0].Data)
			if strings.Contains(data, marker) != whole || strings.Contains(data, "http://") {
				t.Errorf("%s: the content is in clear, want %t:\n%s", what, whole, data)
			}
			if null && all[0].Sender != "" {
				t.Errorf("%s: left from %q: a report must not be answered", what, all[0].Sender)
			}
			if isReport && !whole && to != "key@dest.test" && !strings.Contains(data, "Final-Recipient: rfc822; dr@clinic.test") {
				t.Errorf("%s: the status was lost:\n%s", what, data)
			}
		}
	}
	if got := h.send(h.lmtp, "dr@mss.clinic.test", automatic["absence with a sender"].content, "named@dest.test"); codes(got) != "250" {
		t.Errorf("a rule that names automatic mail: %q", got)
	}
	left, err := os.ReadDir(filepath.Join(h.dir, "state", "deposits"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if !f.IsDir() {
			t.Errorf("a deposit was made: %s", f.Name())
		}
	}
}

// The bounce is read by a stranger's eyes: a mail client, a list of headers, a machine.
func TestBounceReadsWell(t *testing.T) {
	h := newHouse(t, "5d", later)
	content := "Received: from poste-12.interne.test by mx\n" + strings.Replace(hello, "bonjour", marker, 1)
	tab := readReplyTable(t)
	l := tab.dial(t, h.smtp).hello()
	for _, s := range []string{"MAIL FROM:<dr@clinic.test> RET=FULL ENVID=QQ314", "RCPT TO:<ok@dest.test>", "RCPT TO:<bad@dest.test> ORCPT=rfc822;old+2Bx@dest.test NOTIFY=FAILURE",
		"RCPT TO:<never@dest.test> NOTIFY=NEVER", "DATA"} {
		if got := l.say(s); got[0] > '3' {
			t.Fatalf("%s: %s", s, got)
		}
	}
	if got := l.say(strings.ReplaceAll(content, "\n", "\r\n") + "."); got[:3] != "250" {
		t.Fatal(got)
	}
	ms := h.clinic.To("dr@clinic.test")
	if len(ms) != 1 {
		t.Fatalf("%d bounces", len(ms))
	}
	m, err := netmail.ReadMessage(bytes.NewReader(ms[0].Data))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Auto-Submitted": "^auto-replied$", "In-Reply-To": "^<1@clinic.test>$", "References": "^<1@clinic.test>$", "To": "^<dr@clinic.test>$",
		"From": "MAILER-DAEMON@gw.clinic.test", "Date": ".", "Message-Id": "^<.+@gw.clinic.test>$"} {
		if got := m.Header.Get(name); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q", name, got)
		}
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || params["report-type"] != "delivery-status" {
		t.Fatalf("%v %v", err, params)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	var parts []string
	for {
		p, err := r.NextPart()
		if err != nil {
			break
		}
		b, err := io.ReadAll(p) // quoted-printable is undone by the reader
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, string(b))
	}
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	if fr, en := strings.Index(parts[0], "Bonjour"), strings.Index(parts[0], "Hello"); fr < 0 || en < fr || !strings.Contains(parts[0], "no such user") {
		t.Errorf("text:\n%s", parts[0])
	}
	if want := regexp.MustCompile("^Reporting-MTA: dns; gw.clinic.test\r\nOriginal-Envelope-Id: QQ314\r\nArrival-Date: [^\r]+\r\n\r\n" +
		"Original-Recipient: rfc822;old\\+x@dest.test\r\nFinal-Recipient: rfc822; bad@dest.test\r\nAction: failed\r\nStatus: 5.1.1\r\n" +
		"Remote-MTA: x-passerelle-hop; internet\r\nLast-Attempt-Date: [^\r]+\r\nDiagnostic-Code: smtp; 550 5.1.1 Relais internet: no such user\r\n$"); !want.MatchString(parts[1]) {
		t.Errorf("status:\n%q", parts[1])
	}
	if !strings.Contains(parts[2], "Subject: essai") {
		t.Errorf("headers:\n%s", parts[2])
	}
	if whole := strings.Join(parts, ""); strings.Contains(whole, marker) || strings.Contains(whole, "127.0.0.1") || strings.Contains(whole, "never@") {
		t.Errorf("the bounce tells too much:\n%s", whole)
	}
}
