package gateway_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"passerelle/gateway/message"
	"passerelle/gateway/protect"
)

const inboundRules = "rules:\n  - {name: notices, sender: [\"postmaster@clinic.test\"], auto: true, route: plain}\n  - {name: space, trust_domain: true, route: trust}\n  - {name: rest, route: plain}\n"

// newArrivals is a clinic that the trust space writes to: doctors of peer.mssante.test, patients at patient.test, and ano.mssante.test, which
// belongs to another operator. keys are of the config beside, directory keys of directory.
func newArrivals(t *testing.T, keys, directory string, prepare ...func(*house)) *inSpace {
	t.Helper()
	return newInSpace(t, inboundRules+keys+"#directory:"+directory+"\n", nil, func(h *house) {
		h.edit = func(text string) string {
			return strings.NewReplacer("  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", `domains: {peer.mssante.test: `,
				`patient_domain: patient.test`+"\n  "+`domains: {patient.test: ["CN=mss.peer.test,O=PEER,C=FR"], ano.mssante.test: ["CN=ano.test,C=FR"], peer.mssante.test: `,
				`hosts: {peer`, `hosts: {patient.test: "{peer}", ano.mssante.test: "{peer}", peer`).Replace(text)
		}
		for _, f := range prepare {
			f(h)
		}
	})
}

// receive hands a message in from the peer and gives the replies of RCPT and of the dot, "" where nobody was accepted.
func (h *inSpace) receive(t *testing.T, from, content string, to ...string) (rcpt []string, dot string) {
	t.Helper()
	w := h.space.dial(t, h.house)
	w.want("250", "MAIL FROM:<%s>", from)
	some := false
	for _, r := range to {
		got := w.say("RCPT TO:<%s>", r)
		rcpt = append(rcpt, got)
		some = some || got[0] == '2'
	}
	if some {
		dot = w.data(content)
	}
	return rcpt, dot
}

// last is what the clinic got last, with bare line ends.
func (h *inSpace) last(t *testing.T) string {
	t.Helper()
	ms := h.clinic.Messages()
	if len(ms) == 0 {
		t.Fatal("the clinic got nothing")
	}
	return strings.ReplaceAll(string(ms[len(ms)-1].Data), "\r\n", "\n")
}

// mark is the value of the one mark on a message.
func mark(t *testing.T, data string) string {
	t.Helper()
	h, _, err := message.ReadHeader(message.BytesBody([]byte(strings.ReplaceAll(data, "\n", "\r\n"))), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	v := h.Values(protect.MarkField)
	if len(v) != 1 {
		t.Fatalf("%d marks on\n%s", len(v), data)
	}
	return v[0]
}

func peerLetter(from, subject string) string {
	return "From: " + from + "\nTo: <b@mss.clinic.test>\nSubject: " + subject + "\nMessage-ID: <7@peer.mssante.test>\nDate: Mon, 23 Nov 2026 10:00:00 +0100\n\nbonjour\n"
}

// The mark says who handed the message over, under which certificate, and what the directory knows of the author; it lends nobody a name.
func TestInboundMarkTellsOfTheSender(t *testing.T) {
	h := newArrivals(t, "", "")
	const to = "b@mss.clinic.test"
	sum := sha256.Sum256(h.space.peer.Cert.Raw)
	for name, c := range map[string]struct{ envelope, from, want string }{
		"verified":              {"marie.durand@peer.mssante.test", "Dr Marie Durand <Marie.Durand@peer.mssante.test>", "sender=professional, verified, extraction 2"},
		"profession":            {"marie.durand@peer.mssante.test", "marie.durand@peer.mssante.test", ", M%C3%A9decin; id="},
		"not listed":            {"labo@peer.mssante.test", "labo@peer.mssante.test", "sender=professional, not listed; id="},
		"for another":           {"labo@peer.mssante.test", "marie.durand@peer.mssante.test", "sender=professional, verified, extraction 2"},
		"report":                {"", "marie.durand@peer.mssante.test", "sender=professional, verified, extraction 2"},
		"another's domain":      {"labo@peer.mssante.test", "x@ano.mssante.test", "sender=unproven; id="},
		"from the Internet":     {"labo@peer.mssante.test", "x@dest.test", "sender=unproven; id="},
		"two authors":           {"labo@peer.mssante.test", "marie.durand@peer.mssante.test, x@peer.mssante.test", "sender=unproven; id="},
		"two From":              {"labo@peer.mssante.test", "marie.durand@peer.mssante.test\nFrom: x@peer.mssante.test", "sender=unproven; id="},
		"a name like an author": {"labo@peer.mssante.test", `"marie.durand@peer.mssante.test" <labo@peer.mssante.test>`, "sender=professional, not listed; id="},
		"no From":               {"labo@peer.mssante.test", "", "sender=unproven; id="},
		"patient":               {patientA + "@patient.test", "Zoe <" + patientA + "@patient.test>", "sender=patient, INS valid; id="},
		"patient, wrong key":    {"279035121518980@patient.test", "279035121518980@patient.test", "sender=patient, INS not valid; id="},
	} {
		rcpt, dot := h.receive(t, c.envelope, peerLetter(c.from, name), to)
		if !strings.HasPrefix(dot, "250") {
			t.Fatalf("%s: %q %q", name, rcpt, dot)
		}
		v := mark(t, h.last(t))
		if !strings.HasPrefix(v, "v2; trust; verified=peer CN=mss.peer.test,O=PEER,C=FR; cert="+fmt.Sprintf("%x", sum)+"; sender=") || !strings.Contains(v, c.want) {
			t.Errorf("%s: want %q in %q", name, c.want, v)
		}
		if strings.Contains(v, "2790351") {
			t.Errorf("%s: the number of a patient stands in the mark: %s", name, v)
		}
	}
	h.mirror(false)
	if _, dot := h.receive(t, "marie.durand@peer.mssante.test", peerLetter("marie.durand@peer.mssante.test", "x"), to); dot[:3] != "250" || !strings.Contains(mark(t, h.last(t)), "sender=professional, could not ask; id=") {
		t.Errorf("without the directory: %q, %s", dot, mark(t, h.last(t)))
	}
	if log := h.log.String(); strings.Contains(log, "2790351") {
		t.Error("the number of a patient stands in the log")
	}
}

// listed_unverified: refuse is about whom the clinic writes to: who writes to it is delivered, and marked as not listed.
func TestInboundUnknownPersonIsMarked(t *testing.T) {
	for _, how := range []string{"trust", "refuse"} {
		s := newSpace(t)
		text := strings.Replace(withRules("rules:\n  - {name: rest, route: plain}\n"), "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1) + trustText + "  listed_unverified: " + how + "\n"
		h := &inSpace{space: s, house: custom(t, text, nil, nil, "{tls}", s.dir)}
		if _, dot := h.receive(t, "labo@peer.mssante.test", peerLetter("labo@peer.mssante.test", "resultat"), "b@mss.clinic.test"); dot[:3] != "250" || !strings.Contains(mark(t, h.last(t)), "sender=professional, ") {
			t.Errorf("%s: %s, %s", how, dot, mark(t, h.last(t)))
		}
	}
}

// What came from the trust space leaves by it or not at all, in observe mode too; on its way round in the clinic it keeps its one mark.
func TestNoRelayOutOfTheTrustSpace(t *testing.T) {
	for _, mode := range []string{"enforce", "observe"} {
		t.Run(mode, func(t *testing.T) {
			h := newArrivals(t, "mode: "+mode+"\n", "")
			const doctor = "marie.durand@peer.mssante.test"
			if _, dot := h.receive(t, doctor, peerLetter(doctor, "avis"), "b@mss.clinic.test"); dot[:3] != "250" {
				t.Fatal(dot)
			}
			marked := h.last(t)
			for _, c := range []struct {
				name, from, to, want string
			}{
				{"a mailbox that forwards keeps the sender", doctor, "b@gmail.test", "550"},
				{"or takes its own", "b@clinic.test", "b@gmail.test", "550"},
				{"a report of the clinic's server", "", "b@gmail.test", "550"},
				{"with a sender of the trust space", "b@mss.clinic.test", "b@gmail.test", "550"},
				{"to a listed domain under a stranger's name", doctor, "d1@peer.mssante.test", "550"},
				{"to a listed domain under an ordinary name", "b@clinic.test", "d1@peer.mssante.test", "550"},
				{"to a listed domain under our own", "b@mss.clinic.test", "d1@peer.mssante.test", "250"},
				{"to a colleague", doctor, "c@clinic.test", "250"},
			} {
				got := h.send(h.lmtp, c.from, marked, c.to)
				if codes(got) != c.want {
					t.Errorf("%s: %q", c.name, got)
				}
			}
			if n := len(h.sink.Messages()); n != 0 {
				t.Errorf("%d messages left for the Internet", n)
			}
			if n := len(h.peer.To("d1@peer.mssante.test")); n != 1 {
				t.Errorf("%d in the trust space, want the one under our own name", n)
			} else if strings.Contains(string(h.peer.To("d1@peer.mssante.test")[0].Data), protect.MarkField) {
				t.Error("our mark went out")
			}
			colleague := h.clinic.To("c@clinic.test")
			if len(colleague) != 1 || mark(t, strings.ReplaceAll(string(colleague[0].Data), "\r\n", "\n")) != mark(t, marked) {
				t.Error("the colleague's copy does not bear the one mark")
			}
			// An old mark vouches for nothing, and binds all the same; a mark of v1 too.
			for _, to := range []string{"b@dest.test", "nobody@unlisted.mssante.test"} {
				if rcpt, _ := h.receive(t, doctor, marked, to); !strings.HasPrefix(rcpt[0], "550 5.7.1") {
					t.Errorf("the trust space was given a relay to %s: %q", to, rcpt)
				}
			}
		})
	}
}

// The mark of the subject is for people: once, on whatever way the subject is written; where software reads the subject it stays.
func TestInboundSubjectMark(t *testing.T) {
	h := newArrivals(t, "inbound: {subject_mark: \"[MSSanté]\"}\n", "")
	const doctor = "marie.durand@peer.mssante.test"
	const m = "=?utf-8?q?[MSSant=C3=A9]?="
	for subject, want := range map[string]string{
		"avis":                                 m + "\n avis",
		"":                                     m,
		"=?utf-8?q?r=C3=A9sultat?=":            "=?utf-8?q?[MSSant=C3=A9]_?=\n =?utf-8?q?r=C3=A9sultat?=",
		"Re: " + m + " avis":                   "Re: " + m + " avis",
		"=?utf-8?b?UmU6IFtNU1NhbnTDqV0gYQ==?=": "=?utf-8?b?UmU6IFtNU1NhbnTDqV0gYQ==?=",
		"Re: [mssanté] avis":                   "Re: [mssanté] avis",
		ddm:                                    ddm,
		"[Annule et remplace] " + ddm:          "[Annule et remplace] " + ddm,
		"[FIN]":                                "[FIN]",
		"a long one\n =?utf-8?q?plus_long?=":   m + "\n a long one\n =?utf-8?q?plus_long?=",
		"\n on its own line":                   m + "\n on its own line",
		strings.Repeat("x", 900):               m + "\n " + strings.Repeat("x", 900),
	} {
		if _, dot := h.receive(t, doctor, peerLetter(doctor, subject), "b@mss.clinic.test"); dot[:3] != "250" {
			t.Fatal(dot)
		}
		got := h.last(t)
		if !strings.Contains(got, "\nSubject: "+want+"\nMessage-ID:") && !strings.Contains(got, "\nSubject:"+want+"\nMessage-ID:") {
			t.Errorf("%q: want %q in\n%s", subject, want, got)
		}
		if !strings.HasSuffix(got, "\n\nbonjour\n") {
			t.Errorf("%q: the body changed", subject)
		}
	}
	if _, dot := h.receive(t, doctor, strings.Replace(peerLetter(doctor, "x"), "Subject: x\n", "", 1), "b@mss.clinic.test"); dot[:3] != "250" || !strings.Contains(h.last(t), "\nSubject: "+m+"\n") {
		t.Errorf("no subject: %s\n%s", dot, h.last(t))
	}
	// A signature covers its parts, not the subject: those stay to the byte.
	signed := strings.Replace(peerLetter(doctor, "signe"), "\n\nbonjour\n", "\nMIME-Version: 1.0\nContent-Type: multipart/signed; boundary=b; protocol=\"application/pkcs7-signature\"\n\n--b\nContent-Type: text/plain\n\nx \n--b\nContent-Type: application/pkcs7-signature\n\nAAAA\n--b--\n", 1)
	_, body, _ := strings.Cut(signed, "\n\n")
	if _, dot := h.receive(t, doctor, signed, "b@mss.clinic.test"); dot[:3] != "250" || !strings.HasSuffix(h.last(t), "\n\n"+body) || !strings.Contains(h.last(t), m+"\n signe") {
		t.Errorf("signed: %s\n%s", dot, h.last(t))
	}
}

// A retry of the peer gets the same as the first attempt: nothing is marked twice.
func TestInboundIsMarkedOnce(t *testing.T) {
	h := newArrivals(t, "inbound: {subject_mark: \"[MSS]\"}\n", "")
	const doctor = "marie.durand@peer.mssante.test"
	if _, dot := h.receive(t, doctor, peerLetter(doctor, "avis"), "b@mss.clinic.test", "c@clinic.test"); dot[:3] != "250" {
		t.Fatal(dot)
	}
	first := h.last(t)
	if n := len(h.clinic.Messages()); n != 1 || strings.Count(first, "[MSS]") != 1 {
		t.Errorf("%d messages\n%s", n, first)
	}
	// The clinic's server sends the marked message round once more through the trust space: the old mark goes, one comes.
	if _, dot := h.receive(t, doctor, first, "b@mss.clinic.test"); dot[:3] != "250" {
		t.Fatal(dot)
	}
	if again := h.last(t); mark(t, again) == mark(t, first) || strings.Count(again, "[MSS]") != 1 || !strings.Contains(again, "bonjour") {
		t.Errorf("came round:\n%s", again)
	}
}

// What came from the Internet enters the trust space by no mailbox that sends it on.
func TestNoRelayIntoTheTrustSpace(t *testing.T) {
	h := newArrivals(t, "", "")
	foreign := strings.Replace(hello, "dr@clinic.test", "someone@dest.test", 1)
	report := "MIME-Version: 1.0\nContent-Type: multipart/report; boundary=b; report-type=delivery-status\n"
	for _, c := range []struct{ name, from, content, want string }{
		{"redirected", "someone@dest.test", foreign, "550"},
		{"redirected under a rewritten sender", "srs0=x@clinic.test", foreign, "550"},
		{"redirected under the mailbox's own", "b@mss.clinic.test", "Delivered-To: b@clinic.test\n" + foreign, "550"},
		{"or from a border", "b@mss.clinic.test", "dkim-signature: v=1\n" + foreign, "550"},
		{"with two authors", "b@mss.clinic.test", "Return-Path: <>\n" + strings.Replace(hello, "<dr@clinic.test>", "<dr@clinic.test>, <someone@dest.test>", 1), "550"},
		{"without a sender", "", foreign, "550"},
		{"without a sender or an author", "", strings.Replace(hello, "From: <dr@clinic.test>\n", "", 1), "550"},
		{"a name like ours", "", strings.Replace(hello, "dr@clinic.test", "dr@xclinic.test", 1), "550"},
		{"somebody's away message", "", hello, "250"},
		{"a message delivered before and sent anew", "b@mss.clinic.test", "Delivered-To: b@clinic.test\n" + hello, "250"},
		{"a report of the clinic's server", "", strings.Replace(hello, "dr@clinic.test", "MAILER-DAEMON@mail.clinic.test", 1), "250"},
		{"a report under another name", "", report + strings.Replace(foreign, "\n\nbonjour\n", "\n\n--b\nContent-Type: text/plain\n\nbonjour\n--b--\n", 1), "250"},
	} {
		got := h.send(h.lmtp, c.from, strings.Replace(c.content, "<1@clinic.test>", "<"+strings.ReplaceAll(c.name, " ", ".")+"@clinic.test>", 1), "d1@peer.mssante.test")
		if codes(got) != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if n := len(h.peer.Messages()); n != 4 || len(h.sink.Messages()) != 0 {
		t.Errorf("%d in the trust space, %d elsewhere", n, len(h.sink.Messages()))
	}
}
