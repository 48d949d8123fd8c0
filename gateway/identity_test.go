package gateway_test

import (
	"bytes"
	"database/sql"
	"mime"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

const identityTable = `adresse;bal;type;titre;prénom;nom;entité;délégués
dr@clinic.test;jean.martin@mss.clinic.test;PER;Dr;Jean;Martin;Cardiologie;sec@clinic.test
cardio@clinic.test;cardio@mss.clinic.test;ORG;;;;Secrétariat de cardiologie;
zoe@clinic.test;cardio@mss.clinic.test;ORG;;;;Secrétariat de cardiologie;
rh@clinic.test;-;;;;;;
`

// newMapped is a clinic whose people write as mailboxes, with its door to the trust space open. more are further keys of trust.identities.
func newMapped(t *testing.T, more string, prepare func(*house)) *inSpace {
	h, _ := newMappedBy(t, more, prepare)
	return h
}

func newMappedBy(t *testing.T, more string, prepare func(*house)) (h *inSpace, table string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "identities.csv")
	if err := os.WriteFile(file, []byte(identityTable), 0o600); err != nil {
		t.Fatal(err)
	}
	return newInSpace(t, plainRules, nil, func(h *house) {
		h.edit = func(text string) string {
			text = strings.Replace(text, "  own_domains:", "  identities: {table: \""+file+"\", hide: [PC-MARTIN]"+more+"}\n  own_domains:", 1)
			return strings.Replace(text, "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1)
		}
		if prepare != nil {
			prepare(h)
		}
	}), file
}

var innerName = regexp.MustCompile(`(?i)(^|[^a-z0-9.-])([a-z0-9-]+\.)*(clinic\.test|pc-martin)`)

// inner finds a name of the clinic's inside in a header, as it stands and decoded; mss.clinic.test is its public one.
func inner(head string) string {
	flat := strings.ReplaceAll(head, "\r\n", "")
	decoded, _ := new(mime.WordDecoder).DecodeHeader(flat)
	for _, s := range []string{head, flat, decoded} {
		if m := innerName.FindString(regexp.MustCompile(`(?i)\bmss\.clinic\.test`).ReplaceAllString(s, "PUBLIC")); m != "" {
			return m
		}
	}
	return ""
}

func headOf(m gatewaytest.Message) string {
	head, _, _ := bytes.Cut(m.Data, []byte("\r\n\r\n"))
	return string(head) + "\r\n"
}

func fieldOf(t *testing.T, m gatewaytest.Message, name string) string {
	t.Helper()
	_, v, ok := strings.Cut("\r\n"+headOf(m), "\r\n"+name+": ")
	if !ok {
		t.Fatalf("no %s in\n%s", name, headOf(m))
	}
	for i := 0; i+2 < len(v); i++ {
		if v[i] == '\r' && v[i+2] != ' ' && v[i+2] != '\t' {
			return strings.ReplaceAll(v[:i], "\r\n", "")
		}
	}
	return strings.TrimSpace(v)
}

func last(ms []gatewaytest.Message) gatewaytest.Message { return ms[len(ms)-1] }

const fromDoctor = `Received: from PC-MARTIN.clinic.test ([10.1.2.3]) by exchange.clinic.test; Mon, 23 Nov 2026 10:00:00 +0100
Return-Path: <dr@clinic.test>
X-Sender: dr@clinic.test
X-Original-To: liste@clinic.test
Authentication-Results: clinic.test; auth=pass smtp.auth=dr
DKIM-Signature: v=1; d=clinic.test; b=AAAA
From: =?utf-8?q?Jean_Martin_=28dr=40clinic.test=29?= <dr@clinic.test>
To: Marie <marie.durand@peer.mssante.test>, cardio@clinic.test, personne@clinic.test
Cc: dr@clinic.test
Bcc: cache@clinic.test
Reply-To: dr@clinic.test
Subject: avis
Date: Mon, 23 Nov 2026 10:00:00 +0100
Message-ID: <premier@PC-MARTIN.clinic.test>
MIME-Version: 1.0
Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary="b"
X-MSS-NIL: 3734

--b
Content-Type: text/plain; charset=utf-8

Bonjour de dr@clinic.test  
--b
Content-Type: application/pkcs7-signature

AAAA
--b--
`

// A letter, its answer and the answer to that: nothing of the inside is seen in the space, the thread holds on both sides, and no byte of a
// body changes.
func TestThreadAcrossTheSpace(t *testing.T) {
	h := newMapped(t, "", nil)
	if got := h.send(h.lmtp, "dr@clinic.test ENVID=1@clinic.test", fromDoctor, "marie.durand@peer.mssante.test NOTIFY=FAILURE ORCPT=rfc822;liste@clinic.test"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	first := last(h.peer.Messages())
	if first.Sender != "jean.martin@mss.clinic.test" || first.Helo != "mss.clinic.test" || strings.Contains(first.DSN, "clinic") || !strings.Contains(first.DSN, "FAILURE") {
		t.Errorf("envelope: %q, EHLO %s, %s", first.Sender, first.Helo, first.DSN)
	}
	if s := inner(headOf(first)); s != "" {
		t.Errorf("%q is seen in\n%s", s, headOf(first))
	}
	_, was, _ := strings.Cut(fromDoctor, "\n\n")
	if _, got, _ := bytes.Cut(first.Data, []byte("\r\n\r\n")); string(got) != strings.ReplaceAll(was, "\n", "\r\n") {
		t.Errorf("the body changed:\n%q", got)
	}
	for name, want := range map[string]string{"From": "Dr_Jean_MARTIN_Cardiologie <jean.martin@mss.clinic.test>", "To": "Marie <marie.durand@peer.mssante.test>, <cardio@mss.clinic.test>",
		"Reply-To": "<jean.martin@mss.clinic.test>", "Cc": "<jean.martin@mss.clinic.test>", "Subject": "avis", "X-MSS-NIL": "3734", "Content-Type": `multipart/signed; protocol="application/pkcs7-signature"; boundary="b"`} {
		if got := fieldOf(t, first, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"Bcc", "DKIM-Signature", "Return-Path", "X-Sender", "Authentication-Results", "Sender"} {
		if strings.Contains(headOf(first), "\r\n"+name+":") {
			t.Errorf("%s left", name)
		}
	}
	outside := fieldOf(t, first, "Message-ID")

	w := h.space.dial(t, h.house)
	w.want("250", "MAIL FROM:<marie.durand@peer.mssante.test>")
	w.want("250", "RCPT TO:<Jean.Martin@mss.clinic.test>")
	w.want("250", "RCPT TO:<autre@mss.clinic.test>")
	w.want("250", "RCPT TO:<postmaster@mss.clinic.test>")
	answer := "From: Marie <marie.durand@peer.mssante.test>\nTo: Dr_Jean_MARTIN <jean.martin@mss.clinic.test>\nCc: cardio@mss.clinic.test\nMessage-ID: <rep@SRV-PEER>\n" +
		"In-Reply-To: " + outside + "\nReferences: " + outside + "\nSubject: Re: avis\nDate: Mon, 23 Nov 2026 11:00:00 +0100\n\nmerci\n"
	if got := w.data(answer); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	home := last(h.clinic.To("dr@clinic.test"))
	if len(h.clinic.To("postmaster@clinic.test")) != 1 {
		t.Error("an answer to a report is lost")
	}
	if len(h.clinic.To("autre@mss.clinic.test")) != 1 {
		t.Error("a mailbox of nobody is not left to the clinic's server")
	}
	for name, want := range map[string]string{"From": "Marie <marie.durand@peer.mssante.test>", "To": "Dr_Jean_MARTIN <dr@clinic.test>", "Cc": "<cardio@clinic.test>",
		"In-Reply-To": "<premier@PC-MARTIN.clinic.test>", "References": "<premier@PC-MARTIN.clinic.test>"} {
		if got := fieldOf(t, home, name); got != want {
			t.Errorf("home, %s: %s, want %s", name, got, want)
		}
	}

	theirs := fieldOf(t, home, "Message-ID")
	again := "From: dr@clinic.test\nTo: marie.durand@peer.mssante.test\nMessage-ID: <second@PC-MARTIN.clinic.test>\nIn-Reply-To: " + theirs +
		"\nReferences: <premier@PC-MARTIN.clinic.test> " + theirs + "\nSubject: Re: avis\nDate: Mon, 23 Nov 2026 12:00:00 +0100\n\nde rien\n"
	if got := h.send(h.smtp, "dr@clinic.test", again, "marie.durand@peer.mssante.test"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	second := last(h.peer.Messages())
	if a, b := fieldOf(t, second, "In-Reply-To"), fieldOf(t, second, "References"); a != "<rep@SRV-PEER>" || b != outside+" <rep@SRV-PEER>" || inner(headOf(second)) != "" {
		t.Errorf("answer to %s, references %s", a, b)
	}
}

// letter is one from author, by sender where there is one.
func letter(author, sender string) string {
	if sender != "" {
		author += "\nSender: " + sender
	}
	return "From: " + author + "\nTo: marie.durand@peer.mssante.test\nSubject: avis\nMessage-ID: <1@x.test>\nDate: Mon, 23 Nov 2026 10:00:00 +0100\n\nbonjour\n"
}

// Who writes is the author, shares his mailbox or is his delegate, and the ledger names both; everybody else is told what to do.
func TestWhoMayWriteAsWhom(t *testing.T) {
	h := newMapped(t, ", login: X-Login, pattern: \"{local}@mss.clinic.test\", verify: pattern", nil)
	for _, c := range []struct{ name, envelope, content, from, sender, said string }{
		{"the author", "dr@clinic.test", letter("dr@clinic.test", ""), "Dr_Jean_MARTIN_Cardiologie <jean.martin@mss.clinic.test>", "", "as jean.martin@mss.clinic.test by table for dr@clinic.test"},
		{"Sender", "dr@clinic.test", letter("dr@clinic.test", "sec@clinic.test"), "Dr_Jean_MARTIN_Cardiologie <jean.martin@mss.clinic.test>", "", "for dr@clinic.test, written by sec@clinic.test"},
		{"envelope", "sec@clinic.test", letter("dr@clinic.test", ""), "Dr_Jean_MARTIN_Cardiologie <jean.martin@mss.clinic.test>", "", "for dr@clinic.test, written by sec@clinic.test"},
		{"login", "dr@clinic.test", "X-Login: sec@clinic.test\n" + letter("dr@clinic.test", ""), "Dr_Jean_MARTIN_Cardiologie <jean.martin@mss.clinic.test>", "", "for dr@clinic.test, written by sec@clinic.test"},
		{"shared", "zoe@clinic.test", letter("cardio@clinic.test", ""), "=?utf-8?q?Secr=C3=A9tariat_de_cardiologie?= <cardio@mss.clinic.test>", "", "as cardio@mss.clinic.test by table for cardio@clinic.test, written by zoe@clinic.test"},
		{"pattern, in the directory", "paul@clinic.test", letter("Paul <paul@clinic.test>", ""), "DR_Paul_PETIT_CABINET DU DR PETIT <paul@mss.clinic.test>", "", "as paul@mss.clinic.test by pattern"},
		{"the mailbox itself", "jean.martin@mss.clinic.test", letter("jean.martin@mss.clinic.test", ""), "Dr_Jean_MARTIN_Cardiologie <jean.martin@mss.clinic.test>", "", "by own address"},
		{"nobody's delegate", "zoe@clinic.test", letter("dr@clinic.test", ""), "", "", "au nom de cet expediteur"},
		{"login of another", "dr@clinic.test", "X-Login: zoe@clinic.test\n" + letter("dr@clinic.test", ""), "", "", "au nom de cet expediteur"},
		{"refused", "rh@clinic.test", letter("rh@clinic.test", ""), "", "", "n'est pas autorisee"},
		{"pattern, not in the directory", "luc@clinic.test", letter("luc@clinic.test", ""), "", "", "absente de l'annuaire"},
		{"redirected", "dr@clinic.test", letter("dr@elsewhere.test", ""), "", "", "au lieu de le rediriger"},
		{"a machine", "root@clinic.test", letter("root@clinic.test", ""), "", "", "pas de boite MSSante"},
		{"two authors", "dr@clinic.test", letter("dr@clinic.test, zoe@clinic.test", ""), "", "", "un seul auteur"},
		{"two From", "dr@clinic.test", "From: dr@clinic.test\n" + letter("zoe@clinic.test", ""), "", "", "un seul auteur"},
		{"two Sender", "dr@clinic.test", "Sender: dr@clinic.test\n" + letter("dr@clinic.test", "sec@clinic.test"), "", "", "un seul auteur"},
	} {
		before := len(h.peer.Messages())
		got := h.send(h.lmtp, c.envelope, c.content, "marie.durand@peer.mssante.test")
		if c.from == "" {
			if codes(got) != "550" || !strings.Contains(got[0], c.said) || len(h.peer.Messages()) != before {
				t.Errorf("%s: %q, %d letters", c.name, got, len(h.peer.Messages())-before)
			}
			continue
		}
		if codes(got) != "250" || len(h.peer.Messages()) != before+1 {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		m := last(h.peer.Messages())
		if from := fieldOf(t, m, "From"); from != c.from || inner(headOf(m)) != "" || strings.Contains(headOf(m), "\r\nSender:") || !strings.Contains(c.from, "<"+m.Sender+">") {
			t.Errorf("%s: left from %s as\n%s", c.name, m.Sender, headOf(m))
		}
		if reason := h.reason(); !strings.Contains(reason, c.said) {
			t.Errorf("%s: the ledger says %q", c.name, reason)
		}
	}
	if log := h.log.String(); strings.Contains(log, "sec@") || strings.Contains(log, "jean.martin") {
		t.Error("the log names people")
	}
	x, err := h.g.Explain(t.Context(), "sec@clinic.test", "marie.durand@peer.mssante.test", []byte(strings.ReplaceAll(letter("dr@clinic.test", ""), "\n", "\r\n")))
	if err != nil || !strings.Contains(x.Sees, "as jean.martin@mss.clinic.test by table for dr@clinic.test, written by sec@clinic.test") {
		t.Errorf("explain: %q %v", x.Sees, err)
	}
}

// reason is that of the ledger's newest row.
func (h *house) reason() (reason string) {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.dir, "state", "passerelle.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT reason FROM ledger_entries ORDER BY seq DESC LIMIT 1").Scan(&reason); err != nil {
		h.t.Fatal(err)
	}
	return reason
}

// A delegate with a mailbox of his own stands in Sender by it.
func TestSenderOfADelegate(t *testing.T) {
	h := newMapped(t, ", delegates: {dr@clinic.test: [zoe@clinic.test]}", nil)
	if got := h.send(h.lmtp, "zoe@clinic.test", letter("dr@clinic.test", "zoe@clinic.test"), "marie.durand@peer.mssante.test"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	if m := last(h.peer.Messages()); fieldOf(t, m, "Sender") != "<cardio@mss.clinic.test>" || m.Sender != "jean.martin@mss.clinic.test" {
		t.Errorf("left from %s as\n%s", m.Sender, headOf(m))
	}
}

// A name that is another's address is no name: some readers show it alone.
func TestLabelIsNoAddress(t *testing.T) {
	h := newMapped(t, ", mailboxes: {luc@clinic.test: luc@mss.clinic.test}", nil)
	for name, want := range map[string]string{`"jean.martin@mss.clinic.test"`: "<luc@mss.clinic.test>", "=?utf-8?q?Jean_=28jean.martin=40mss.clinic.test=29?=": "<luc@mss.clinic.test>", "Luc Petit": "Luc Petit <luc@mss.clinic.test>"} {
		if got := h.send(h.lmtp, "luc@clinic.test", letter(name+" <luc@clinic.test>", ""), "marie.durand@peer.mssante.test"); codes(got) != "250" {
			t.Fatalf("%s: %q", name, got)
		}
		if from := fieldOf(t, last(h.peer.Messages()), "From"); from != want {
			t.Errorf("%s left as %s", name, from)
		}
	}
}

// The address that a recipient stands for leaves if it is no inner one, however it is written.
func TestOriginalRecipient(t *testing.T) {
	h := newMapped(t, "", nil)
	for orcpt, leaves := range map[string]bool{"rfc822;x@peer.mssante.test": true, "rfc822;liste@clinic.test": false, "rfc822;liste@EXCH01": false, "rfc822;liste@srv.local": false, "rfc822;liste@[10.1.2.3]": false} {
		before := len(h.peer.Messages())
		if got := h.send(h.lmtp, "dr@clinic.test", letter("dr@clinic.test", ""), "marie.durand@peer.mssante.test NOTIFY=FAILURE ORCPT="+orcpt); codes(got) != "250" {
			t.Errorf("%s: %q", orcpt, got)
			continue
		}
		if dsn := h.peer.Messages()[before].DSN; strings.HasSuffix(dsn, "ORCPT=") == leaves {
			t.Errorf("%s left as %s", orcpt, dsn)
		}
	}
}

// Whether the mailbox exists could not be asked: the letter waits, and leaves once it can be.
func TestMailboxNotAsked(t *testing.T) {
	h := newMapped(t, ", pattern: \"{local}@mss.clinic.test\", verify: pattern", nil)
	h.mirror(false)
	for who, want := range map[string]string{"paul@clinic.test": "451", "dr@clinic.test": "250"} {
		if got := h.send(h.lmtp, who, letter(who, ""), "marie.durand@peer.mssante.test"); codes(got) != want {
			t.Errorf("%s: %q", who, got)
		}
	}
	h.mirror(true)
	if got := h.send(h.lmtp, "paul@clinic.test", letter("paul@clinic.test", ""), "marie.durand@peer.mssante.test"); codes(got) != "250" {
		t.Errorf("got %q", got)
	}
}

// A changed table is in force within seconds, a broken one leaves the former in force and says so.
func TestIdentityTableBroken(t *testing.T) {
	var ahead atomic.Int64
	h, file := newMappedBy(t, "", func(h *house) {
		h.opts = append(h.opts, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }))
	})
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 { // a change counts once it stood
			ahead.Add(int64(2 * time.Second))
			h.send(h.lmtp, "dr@clinic.test", letter("dr@clinic.test", ""), "marie.durand@peer.mssante.test")
		}
	}
	as := func(want string) {
		t.Helper()
		if got := h.send(h.lmtp, "new@clinic.test", letter("new@clinic.test", ""), "marie.durand@peer.mssante.test"); codes(got) != want {
			t.Errorf("got %q, want %s", got, want)
		}
	}
	as("550")
	write(identityTable + "new@clinic.test;new@mss.clinic.test;;;;;;\n")
	as("250")
	write("adresse;bal\nnew@clinic.test;new@elsewhere.test\n")
	as("250")
	if !strings.Contains(h.log.String(), "table of identities cannot be read") {
		t.Error("the log does not tell of the broken table")
	}
	write(identityTable)
	as("550")
}

// Header tricks of mail programs and of people, each on its own way through the whole gateway: whatever the reply, nothing of the inside is
// seen by the peer.
func TestNoHeaderShowsTheInside(t *testing.T) {
	h := newMapped(t, ", hostname: mss.clinic.test", nil)
	tricks := []string{
		"Resent-From: dr@clinic.test\nResent-Sender: sec@clinic.test\nResent-To: x@peer.mssante.test\nResent-Message-ID: <r@clinic.test>",
		"X-Original-To: dr@clinic.test\nDelivered-To: dr@clinic.test\nX-Envelope-From: <dr@clinic.test>\nErrors-To: dr@clinic.test",
		"Authentication-Results: mx.clinic.test; spf=pass\nReceived-SPF: pass (clinic.test)\nARC-Seal: i=1; d=clinic.test",
		"X-Mailer: Outlook (PC-MARTIN)\nUser-Agent: x/1 (pc-martin.clinic.test)\nOrganization: clinic.test\nX-MS-Exchange-Organization-AuthSource: ex.clinic.test",
		"Cc: =?utf-8?b?ZHJAY2xpbmljLnRlc3Q=?= <x@peer.mssante.test>",
		"Cc: Equipe: dr@clinic.test, sec@clinic.test;, x@peer.mssante.test",
		"Cc: \"dr@clinic.test\"\n <x@peer.mssante.test>",
		"Cc: x@peer.mssante.test (dr@clinic.test)",
		"Cc: dr@CLINIC.TEST, Dr@Clinic.Test.",
		"Cc: dr@[10.1.2.3], dr@PC-MARTIN",
		"Cc: <@exchange.clinic.test:x@peer.mssante.test>",
		"Cc: dr=clinic.test@peer.mssante.test",
		"Cc : dr@clinic.test\nBcc : cache@clinic.test",
		"Subject: dr@clinic.test\n en copie",
		"Subject: =?utf-8?q?dr=40clin?=\n =?utf-8?q?ic=2Etest?=",
		"Subject: =?iso-8859-1?b?ZHJAY2xpbmljLnRlc3Q=?=",
		"Comments: dr@clinic.test\nKeywords: clinic.test\nThread-Topic: =?utf-8?q?clinic=2Etest?=",
		"List-Unsubscribe: <https://listes.clinic.test/x>, <mailto:a%40clinic%2etest>\nList-Id: <a.clinic.test>",
		"X-MSS-NIL: 1 (clinic.test)\nX-MSS-INS: O\nX-Confirm-Reading-To: dr@clinic.test\nReturn-Receipt-To: dr@clinic.test",
		"Disposition-Notification-To: dr@clinic.test, sec@clinic.test",
		"In-Reply-To: Your message of clinic.test <a@PC-MARTIN>\nReferences: <b@ex.clinic.test>\n\t<c@PC-MARTIN>",
		"Content-Type: text/plain; charset=utf-8; name=\"dr@clinic.test\"\nContent-ID: <a@clinic.test>\nContent-Disposition: inline; filename=\"clinic.test.txt\"",
		"Sender: sec@clinic.test\nReply-To: =?utf-8?q?Sec?= <sec@clinic.test>, perso@webmail.test",
		"DKIM-Signature: v=1; d=clinic.test\nAutocrypt: addr=dr@clinic.test\nFace: clinic.test\nNo field at all clinic.test",
	}
	left := 0
	for _, trick := range tricks {
		before := len(h.peer.Messages())
		got := h.send(h.lmtp, "dr@clinic.test", trick+"\n"+letter("=?utf-8?q?dr=40clinic=2Etest?= <dr@clinic.test>", ""), "x@peer.mssante.test")
		ms := h.peer.Messages()
		if len(ms) == before {
			t.Errorf("%q did not leave: %q", trick, got)
			continue
		}
		left++
		if s := inner(headOf(last(ms))); s != "" {
			t.Errorf("%q: %q is seen in\n%s", trick, s, headOf(last(ms)))
		}
		if n := strings.Count("\r\n"+headOf(last(ms)), "\r\nFrom:"); n != 1 {
			t.Errorf("%q: %d From", trick, n)
		}
	}
	if left != len(tricks) {
		t.Errorf("%d of %d left", left, len(tricks))
	}
}
