package gateway_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"passerelle/gateway/gatewaytest"
)

const mdn = `From: AUTHOR
To: marie.durand@peer.mssante.test
Subject: Lu: avis
Message-ID: <mdn@PC-MARTIN>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=disposition-notification; boundary=b

--b
Content-Type: text/plain

secret: lu par dr@clinic.test
--b
Content-Type: message/disposition-notification

Reporting-UA: PC-MARTIN.clinic.test; Outlook
Final-Recipient: rfc822;dr@clinic.test
Original-Message-ID: <q@peer.mssante.test>
Disposition: manual-action/MDN-sent-manually; displayed

--b--
`

// Reports leave without an envelope sender, from the mailbox of who reports or the one for reports, and their parts tell nothing of the
// inside. Nobody writes letters that way in another's name.
func TestReportsIntoTheSpace(t *testing.T) {
	h := newMapped(t, "", nil)
	for _, c := range []struct{ name, envelope, content, from string }{
		{"of a reader", "", strings.Replace(mdn, "AUTHOR", "dr@clinic.test", 1), "Dr_Jean_MARTIN_Cardiologie <jean.martin@mss.clinic.test>"},
		{"with an envelope sender", "dr@clinic.test", strings.Replace(mdn, "AUTHOR", "dr@clinic.test", 1), "Dr_Jean_MARTIN_Cardiologie <jean.martin@mss.clinic.test>"},
		{"of a machine", "", strings.Replace(mdn, "AUTHOR", "MAILER-DAEMON@exchange.clinic.test", 1), "Clinique Test <postmaster@mss.clinic.test>"},
		{"of who is refused", "", strings.Replace(mdn, "AUTHOR", "rh@clinic.test", 1), "Clinique Test <postmaster@mss.clinic.test>"},
		{"a letter in the doctor's name", "", letter("dr@clinic.test", ""), "Clinique Test <postmaster@mss.clinic.test>"},
	} {
		if got := h.send(h.lmtp, c.envelope, c.content, "marie.durand@peer.mssante.test"); codes(got) != "250" {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		m := last(h.peer.Messages())
		if fieldOf(t, m, "From") != c.from || (m.Sender == "") != (c.envelope == "") {
			t.Errorf("%s: from %q\n%s", c.name, m.Sender, headOf(m))
		}
		if s := inner(string(m.Data)); s != "" || bytes.Contains(m.Data, []byte("secret")) {
			t.Errorf("%s: %q is seen in\n%s", c.name, s, m.Data)
		}
		if strings.Contains(c.content, "report") && (!bytes.Contains(m.Data, []byte("Original-Message-ID: <q@peer.mssante.test>\r\n")) || !bytes.Contains(m.Data, []byte("displayed"))) {
			t.Errorf("%s: the status is lost:\n%s", c.name, m.Data)
		}
	}
}

// What the clinic's server says of its people is not for the trust space, at RCPT and behind the message.
func TestRepliesHideTheInside(t *testing.T) {
	var asked atomic.Int32
	h := newMapped(t, "", func(h *house) {
		h.clinicReply = func(to string) gatewaytest.Reply {
			if strings.HasPrefix(to, "dr@") || strings.HasPrefix(to, "cardio@") && asked.Add(1) > 1 {
				return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "<" + to + ">: unknown on exchange.clinic.test, not dr@clinic.test; see PC-MARTIN"}
			}
			return gatewaytest.Reply{}
		}
	})
	w := h.space.dial(t, h.house)
	w.want("250", "MAIL FROM:<marie.durand@peer.mssante.test>")
	got := w.say("RCPT TO:<jean.martin@mss.clinic.test>")
	w.want("250", "RCPT TO:<cardio@mss.clinic.test>")
	for _, reply := range []string{got, w.data("From: marie.durand@peer.mssante.test\nSubject: avis\n\nbonjour\n")} {
		if !strings.HasPrefix(reply, "550 5.1.1 Relais clinic: <") || inner(reply) != "" || !strings.Contains(reply, "not jean.martin@mss.clinic.test; see ...") {
			t.Errorf("the peer reads %q", reply)
		}
	}
}

// Observe mode maps what comes in all the same: the clinic's server does not know the mailboxes. And an entry of the clinic's own list
// confirms a mailbox that the directory does not show.
func TestInboundInObserveAndOwnList(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list.csv")
	if err := os.WriteFile(list, []byte("address;name\nluc@mss.clinic.test;Luc\n@mss.clinic.test;tous\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := ", pattern: \"{local}@mss.clinic.test\", verify: pattern"
	own := func(h *house) {
		edit := h.edit
		h.edit = func(text string) string {
			return strings.Replace(edit(text), "directory: {", "directory: {list: \""+list+"\", ", 1)
		}
	}
	h := newMapped(t, verify, own)
	for who, want := range map[string]string{"luc@clinic.test": "250", "eve@clinic.test": "550"} {
		if got := h.send(h.lmtp, who, letter(who, ""), "x@peer.mssante.test"); codes(got) != want {
			t.Errorf("%s: %q", who, got)
		}
	}
	h = newMapped(t, verify, func(h *house) {
		own(h)
		edit := h.edit
		h.edit = func(text string) string { return "mode: observe\n" + edit(text) }
	})
	w := h.space.dial(t, h.house)
	w.want("250", "MAIL FROM:<marie.durand@peer.mssante.test>")
	w.want("250", "RCPT TO:<jean.martin@mss.clinic.test>")
	if got := w.data("From: marie.durand@peer.mssante.test\nTo: jean.martin@mss.clinic.test\nSubject: avis\n\nbonjour\n"); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	if m := last(h.clinic.To("dr@clinic.test")); fieldOf(t, m, "To") != "<dr@clinic.test>" {
		t.Errorf("came as\n%s", headOf(m))
	}
	if reason := h.reason(); !strings.Contains(reason, "to dr@clinic.test") {
		t.Errorf("the ledger says %q", reason)
	}
	if got := h.send(h.lmtp, "dr@clinic.test", letter("dr@clinic.test", ""), "x@peer.mssante.test"); codes(got) != "250" || len(h.sink.Messages()) != 1 || len(h.peer.Messages()) != 0 {
		t.Errorf("observe: %q", got)
	}
	if m := last(h.sink.Messages()); m.Sender != "dr@clinic.test" || fieldOf(t, m, "From") != "dr@clinic.test" {
		t.Errorf("observe changed it: %s\n%s", m.Sender, headOf(m))
	}
}
