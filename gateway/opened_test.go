package gateway_test

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
)

// Each recipient's copy is opened with his keys alone; who has none gets the message as it came, and nobody sees what is sealed to a colleague.
func TestOpenedForWhomTheKeyIs(t *testing.T) {
	o := newOpens(t, "")
	text := fromAfar(sealed(t, []byte(plainEntity), "aes-256-gcm", o.bea))
	o.receive(t, text, "ana@clinic.test", "bea@clinic.test", "zoe@clinic.test", "bea+labo@clinic.test")
	for to, want := range map[string]string{"ana@clinic.test": "result=wrapped, no key", "bea@clinic.test": "result=opened", "zoe@clinic.test": "", "bea+labo@clinic.test": "result=opened"} {
		data := o.got(t, to)
		if f := field(t, data); !strings.Contains(f, want) || want == "" && f != "" {
			t.Errorf("%s: %q", to, f)
		}
		if shown := bytes.Contains(data, []byte("MARQUEUR")); shown != strings.Contains(want, "opened") {
			t.Errorf("%s sees\n%s", to, data)
		}
		if to == "zoe@clinic.test" && !bytes.HasSuffix(data, crlf(text)) {
			t.Errorf("%s: the message changed\n%s", to, data)
		}
	}
	if x, err := o.g.Explain(t.Context(), "doctor@dest.test", "bea@clinic.test", crlf(text)); err != nil || !strings.HasPrefix(x.Sees, "the message opened") {
		t.Errorf("explain: %v %+v", err, x)
	}
	if n := len(o.clinic.Messages()); n != 3 {
		t.Errorf("%d transactions, want one for each copy", n)
	}
	for who, want := range map[string]string{"ana@clinic.test": "came as smime, unknown, wrapped, no key", "bea@clinic.test": "came as smime, aes-256-gcm, authenticated, opened with the key of bea@clinic.test serial"} {
		if r := o.reasonFor(who); !strings.Contains(r, want) {
			t.Errorf("the ledger says of %s: %s", who, r)
		}
	}
}

// Signed mail is verified and stays byte for byte, so that OpenSSL verifies it at the clinic as well; what is wrong with a signature is said and
// stops nothing.
func TestSignedStays(t *testing.T) {
	option, harvested := gateway.Harvested()
	o := newOpens(t, "")
	o.stop()
	o.opts = append(o.opts, option)
	o.start()
	entity := []byte("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nrésultat  \r\n")
	stranger, err := gatewaytest.NewCorrespondent(t.TempDir(), gatewaytest.CorrespondentOptions{Address: "other@dest.test"})
	if err != nil {
		t.Fatal(err)
	}
	before := ""
	for name, c := range map[string]struct {
		by   *gatewaytest.Correspondent
		edit func(string) string
		want string
	}{
		"good":     {o.doctor, nil, "signed=CN=doctor@dest.test; verified=valid: chain to CN=doctor@dest.test; id="},
		"mine":     {stranger, func(s string) string { return strings.Replace(s, "<doctor@", "<other@", 1) }, "verified=valid, not trusted: "},
		"stranger": {stranger, nil, "signed=CN=other@dest.test; verified=valid, not trusted: "},
		"not From": {o.doctor, func(s string) string { return strings.Replace(s, "<doctor@", "<chef@", 1) }, "verified=valid, not of From: "},
		"altered":  {o.doctor, func(s string) string { return strings.Replace(s, "résultat", "resultat", 1) }, "verified=not valid: the content is not what was signed"},
		"broken":   {o.doctor, func(s string) string { return strings.Replace(s, "smime.p7s\"\n\n", "smime.p7s\"\n\nAAAA", 1) }, "verified=not valid: "},
	} {
		text := fromAfar(sign(t, entity, c.by))
		if c.edit != nil {
			edited := c.edit(text)
			if edited == text {
				t.Fatalf("%s: nothing to edit", name)
			}
			text = edited
		}
		o.receive(t, text, "zoe@clinic.test")
		data := o.got(t, "zoe@clinic.test")
		if f := field(t, data); !strings.Contains(f, "form=smime; result=unchanged; signed=") || !strings.Contains(f, c.want) {
			t.Errorf("%s: %q", name, f)
		}
		_, was, _ := bytes.Cut(crlf(text), []byte("\r\n\r\n"))
		if _, got, _ := bytes.Cut(data, []byte("\r\n\r\n")); !bytes.Equal(got, was) {
			t.Errorf("%s: the body changed", name)
		}
		told := strings.Join(harvested(), "; ")
		if want := map[string]string{"good": "doctor@dest.test doctor@dest.test true true", "mine": "other@dest.test other@dest.test false true"}[name]; !strings.HasSuffix(told, want) || want == "" && told != before {
			t.Errorf("%s: the harvest is %q", name, told)
		}
		before = told
		if name == "good" {
			if out, err := c.by.Verify(data); err != nil || !bytes.Contains(out, []byte("résultat  \r\n")) {
				t.Errorf("openssl: %v %q", err, out)
			}
		}
	}
}

// A forged field is taken off whatever passes; ours stays on a second pass, which opens nothing anew.
func TestProtectionFieldIsOurs(t *testing.T) {
	o := newOpens(t, "")
	forged := "X-Passerelle-Protection: v1; form=smime; result=opened; encrypted=aes-256-gcm, authenticated; signed=CN=Le ministre; verified=valid: chain to CN=AC; id=x; t=1795435200; mac=AAAA\n"
	o.receive(t, forged+"X-Passerelle-Protection : autre\n"+fromAfar([]byte("\nbonjour\n")), "ana@clinic.test")
	if data := o.got(t, "ana@clinic.test"); bytes.Contains(data, []byte("X-Passerelle-Protection")) {
		t.Errorf("a forged field stays on\n%s", data)
	}
	o.receive(t, forged+fromAfar(sealed(t, []byte(plainEntity), "aes-256-gcm", o.ana)), "ana@clinic.test")
	data := o.got(t, "ana@clinic.test")
	f := field(t, data)
	if !strings.Contains(f, "result=opened") || strings.Contains(f, "ministre") {
		t.Fatalf("the field is %q", f)
	}
	again := strings.ReplaceAll(string(data), "\r\n", "\n")
	o.receive(t, again, "bea@clinic.test") // redirected within the clinic, by her rules
	second := o.got(t, "bea@clinic.test")
	if got := field(t, second); got != f || !bytes.HasSuffix(second, data[bytes.Index(data, []byte("From: ")):]) {
		t.Errorf("on the second pass it is %q, was %q", got, f)
	}
	// What is out of reach of the field's words: another author under it.
	o.receive(t, strings.Replace(again, "<doctor@", "<ministre@", 1), "bea@clinic.test")
	if got := field(t, o.got(t, "bea@clinic.test")); got != "" {
		t.Errorf("under another From it stays: %q", got)
	}
}

// What came encrypted does not leave in clear again, whoever sends it on and whatever he does to the header; with the recipient's key it may.
func TestOpenedNeverLeavesInClear(t *testing.T) {
	friend, err := gatewaytest.NewCorrespondent(t.TempDir(), gatewaytest.CorrespondentOptions{Address: "friend@dest.test"})
	if err != nil {
		t.Fatal(err)
	}
	list := t.TempDir() + "/list.yaml"
	if err := os.WriteFile(list, []byte("- {address: friend@dest.test, certificate: \""+friend.CertFile+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newOpens(t, "directory: {list: \""+list+"\"}\n")
	o.receive(t, fromAfar(sealed(t, []byte(plainEntity), "aes-256-gcm", o.ana)), "ana@clinic.test")
	opened := strings.ReplaceAll(string(o.got(t, "ana@clinic.test")), "\r\n", "\n")
	for name, text := range map[string]string{"as it was": opened, "from a list": strings.Replace(opened, "From: Dr Who <doctor@dest.test>", "From: <liste@clinic.test>", 1)} {
		for _, sender := range []string{"doctor@dest.test", "ana@clinic.test", ""} {
			got := o.send(o.lmtp, sender, text, "x@dest.test")
			if !strings.HasPrefix(got[0], "550 5.7.1 Message recu chiffre, a transferer") {
				t.Errorf("%s from %q: %q", name, sender, got)
			}
		}
		if got := o.send(o.lmtp, "ana@clinic.test", text, "friend@dest.test"); codes(got) != "250" {
			t.Errorf("%s, with a key: %q", name, got)
		}
		if data := last(o.sink.To("friend@dest.test")).Data; bytes.Contains(data, []byte("MARQUEUR")) || !bytes.Contains(data, []byte("pkcs7-mime")) {
			t.Errorf("%s: left as\n%s", name, data)
		}
	}
	// A letter that was signed alone is nobody's secret.
	o.receive(t, fromAfar(sign(t, []byte("Content-Type: text/plain\r\n\r\nbonjour\r\n"), o.doctor)), "ana@clinic.test")
	if got := o.send(o.lmtp, "ana@clinic.test", strings.ReplaceAll(string(o.got(t, "ana@clinic.test")), "\r\n", "\n"), "x@dest.test"); codes(got) != "250" {
		t.Errorf("signed alone: %q", got)
	}
	o.reload(t, "clinic: {name", "mode: observe\nclinic: {name")
	if got := o.send(o.lmtp, "ana@clinic.test", opened, "x@dest.test"); codes(got) != "550" {
		t.Errorf("in observe mode: %q", got)
	}
	if ms := o.sink.To("x@dest.test"); len(ms) != 1 {
		t.Errorf("%d letters left", len(ms))
	}
}

// The clinic's own people seal to each other as they like; without a key, in observe mode and with mode: off nothing is touched.
func TestLeftAlone(t *testing.T) {
	o := newOpens(t, "")
	text := fromAfar(sealed(t, []byte(plainEntity), "aes-256-gcm", o.ana))
	inner := strings.Replace(text, "Dr Who <doctor@dest.test>", "<bea@clinic.test>", 1)
	if got := o.send(o.lmtp, "bea@clinic.test", inner, "ana@clinic.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	same := func(name, text string) {
		t.Helper()
		if data := o.got(t, "ana@clinic.test"); !bytes.HasSuffix(data, crlf(text)) || field(t, data) != "" {
			t.Errorf("%s: it changed\n%s", name, data)
		}
	}
	same("internal", inner)
	within := fromAfar([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nun texte\r\n--b\r\n" + string(sealed(t, []byte(plainEntity), "aes-256-gcm", o.ana)) + "\r\n--b--\r\n"))
	o.receive(t, within, "ana@clinic.test")
	same("an encrypted part among texts", within)
	o.reload(t, "decrypt: {", "decrypt: {mode: off, ")
	o.receive(t, text, "ana@clinic.test")
	same("off", text)
	o.reload(t, "mode: off, ", "", "clinic: {name", "mode: observe\nclinic: {name")
	o.receive(t, text, "ana@clinic.test")
	same("observe", text)
}

// A message far larger than the memory is opened through encrypted temp files; one that the clinic's server refuses for its size goes as it came.
func TestOpenedHuge(t *testing.T) {
	o := newOpens(t, "")
	entity := "Content-Type: text/plain\r\n\r\n" + strings.Repeat(strings.Repeat("MARQUEUR", 9)+"\r\n", 250_000)
	text := fromAfar(sealed(t, []byte(entity), "aes-256-gcm", o.ana))
	o.receive(t, text, "ana@clinic.test")
	if data := o.got(t, "ana@clinic.test"); !bytes.HasSuffix(data, []byte(entity[strings.Index(entity, "\r\n\r\n"):])) || !strings.Contains(field(t, data), "result=opened") {
		t.Errorf("%d octets came", len(data))
	}
	o.clinicReply = func(string) gatewaytest.Reply {
		if o.refused++; o.refused == 1 {
			return gatewaytest.Reply{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: "too big"}
		}
		return gatewaytest.Reply{}
	}
	small := fromAfar(sealed(t, []byte(plainEntity), "aes-256-gcm", o.ana))
	o.receive(t, small, "ana@clinic.test")
	if data := o.got(t, "ana@clinic.test"); !bytes.HasSuffix(data, crlf(small)) || field(t, data) != "" {
		t.Errorf("refused opened, it came as\n%s", data)
	}
	o.clinicReply = func(string) gatewaytest.Reply {
		return gatewaytest.Reply{Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "virus"}
	}
	if got := o.send(o.lmtp, "doctor@dest.test", small, "ana@clinic.test"); codes(got) != "554" || len(o.clinic.Messages()) != 2 {
		t.Errorf("what the clinic's server refuses for a virus passed in its envelope: %q", got)
	}
	if r := o.reasonFor("ana@clinic.test"); !strings.Contains(r, "opened with") || !strings.Contains(r, "handed on as it came") {
		t.Errorf("the ledger says %s", r)
	}
}

// The mark of origin and the field stand beside each other on mail of the trust space; the subject that was sealed bears the words for people too.
func TestOpenedFromTheTrustSpace(t *testing.T) {
	ana, err := gatewaytest.NewCorrespondent(t.TempDir(), gatewaytest.CorrespondentOptions{Address: "b@mss.clinic.test"})
	if err != nil {
		t.Fatal(err)
	}
	h := newArrivals(t, "keys: [{cert: \""+ana.CertFile+"\", key: \""+ana.KeyFile+"\", addresses: [\"b@mss.clinic.test\"]}]\ninbound: {subject_mark: \"[MSSanté]\"}\n", "")
	const from = "marie.durand@peer.mssante.test"
	text := strings.Replace(peerLetter(from, "..."), "\n\nbonjour\n", "\n"+strings.ReplaceAll(string(sealed(t, []byte(plainEntity), "aes-256-gcm", ana)), "\r\n", "\n"), 1)
	rcpt, dot := h.receive(t, from, text, "b@mss.clinic.test", "c@mss.clinic.test")
	if !strings.HasPrefix(dot, "250") {
		t.Fatal(rcpt, dot)
	}
	opened := last(h.clinic.To("b@mss.clinic.test")).Data
	head, _, err := message.ReadHeader(message.BytesBody(opened), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if v := mark(t, string(opened)); !strings.Contains(v, "v2; trust; ") {
		t.Errorf("the mark is %q", v)
	}
	if f := field(t, opened); !strings.Contains(f, "result=opened") || head.Text("Subject") != "[MSSanté] Résultat MARQUEUR-SUJET" || !bytes.Contains(opened, []byte("MARQUEUR-TEXTE")) {
		t.Errorf("subject %q, field %q\n%s", head.Text("Subject"), f, opened)
	}
	if other := last(h.clinic.To("c@mss.clinic.test")).Data; bytes.Contains(other, []byte(protect.ProtectionField)) || bytes.Contains(other, []byte("MARQUEUR")) {
		t.Errorf("who has no key sees\n%s", other)
	}
	if got := h.send(h.lmtp, "b@mss.clinic.test", strings.ReplaceAll(string(opened), "\r\n", "\n"), "x@dest.test"); codes(got) != "550" {
		t.Errorf("it leaves again: %q", got)
	}
}

// A guarded mailbox: what was sealed lies opened in the vault, behind the same proof; the notice and the clinic's server see nothing of it.
func TestOpenedInTheVault(t *testing.T) {
	words := theirs(t, "words@mss.clinic.test", gatewaytest.CorrespondentOptions{})
	h, _ := newGuarded(t, "", func(h *house) {
		edit := h.edit
		h.edit = func(text string) string { return edit(text) + "keys:\n" + keyLine(words, "words@mss.clinic.test") }
	})
	const from = "marie.durand@peer.mssante.test"
	text := strings.Replace(peerLetter(from, "..."), "\n\nbonjour\n", "\n"+strings.ReplaceAll(string(sealed(t, []byte(plainEntity), "aes-256-gcm", words)), "\r\n", "\n"), 1)
	if rcpt, dot := h.receive(t, from, text, "words@mss.clinic.test"); !strings.HasPrefix(dot, "250") {
		t.Fatal(rcpt, dot)
	}
	notice := last(h.clinic.To("words@mss.clinic.test")).Data
	if bytes.Contains(notice, []byte("MARQUEUR")) || bytes.Contains(notice, []byte("pkcs7")) {
		t.Errorf("the notice tells\n%s", notice)
	}
	code, page := newBrowser(t).post(linkIn(t, notice), url.Values{"code": {"Le chat noir 7"}})
	if code != 200 || !strings.Contains(page, "MARQUEUR-TEXTE é") || !strings.Contains(page, "Résultat MARQUEUR-SUJET") || strings.Contains(page, "smime.p7m") {
		t.Errorf("%d\n%s", code, page)
	}
	if r := h.reason(); !strings.Contains(r, "opened with the key of words@mss.clinic.test") || strings.Contains(r, "MARQUEUR") {
		t.Errorf("the ledger says %s", r)
	}
}

// protectedReplies: what came encrypted and is sent on, what is to be signed and cannot be.
func protectedReplies(t *testing.T, tab *replyTable) {
	o := newOpens(t, "sign: {smime: {routes: [plain], required: true}}\n")
	o.receive(t, fromAfar(sealed(t, []byte(plainEntity), "aes-256-gcm", o.ana)), "ana@clinic.test")
	tab.hears(t, o.send(o.lmtp, "ana@clinic.test", strings.ReplaceAll(string(o.got(t, "ana@clinic.test")), "\r\n", "\n"), "x@dest.test"), "recu chiffre")
	tab.hears(t, o.send(o.lmtp, "zoe@clinic.test", strings.Replace(hello, "<dr@", "<zoe@", 1), "x@dest.test"), "aucune cle")
	tab.hears(t, o.send(o.lmtp, "ana@clinic.test", strings.Replace(hello, "<dr@clinic.test>", "<ana@clinic.test>, <bea@clinic.test>", 1), "x@dest.test"), "la forme")
	x, err := o.g.Explain(t.Context(), "zoe@clinic.test", "x@dest.test", crlf(strings.Replace(hello, "<dr@", "<zoe@", 1)))
	if err != nil || !strings.Contains(x.Sees, "aucune cle valide") {
		t.Errorf("explain: %v, %+v", err, x)
	}
}

// A message to many, each with a key of his own, is one in memory: else it would find no room, for ever.
func TestOpenedForMany(t *testing.T) {
	var keys, to []string
	var seal []*gatewaytest.Correspondent
	for i := range 12 {
		address := fmt.Sprintf("p%d@clinic.test", i)
		c := theirs(t, address, gatewaytest.CorrespondentOptions{EC: true})
		keys, to = append(keys, keyLine(c, address)), append(to, address)
		if i%2 == 0 {
			seal = append(seal, c)
		}
	}
	o := newOpens(t, "", keys...)
	o.stop()
	o.cfg.Limits.Spill = 24 << 20 // room for the message, what is in it, and the same under an explanation
	o.start()
	entity := "Content-Type: text/plain\r\n\r\n" + strings.Repeat(strings.Repeat("MARQUEUR", 9)+"\r\n", 60_000)
	o.receive(t, fromAfar(sealed(t, []byte(entity), "aes-256-gcm", seal...)), to...)
	for i, who := range to {
		f := field(t, o.got(t, who))
		if want := map[bool]string{true: "key=" + who + " serial", false: "result=wrapped, no key"}[i%2 == 0]; !strings.Contains(f, want) {
			t.Errorf("%s: %s", who, f)
		}
	}
	if n := len(o.clinic.Messages()); n != 7 {
		t.Errorf("%d transactions: one for each who opens it, and one for the others", n)
	}
}

// Recipients with keys of their own are served side by side: each whose opened copy is refused for its size has the message as it came. Under -race it
// tells of what their lanes share.
func TestOpenedRefusedSideBySide(t *testing.T) {
	var keys, to []string
	var seal []*gatewaytest.Correspondent
	for i := range 4 {
		address := fmt.Sprintf("p%d@clinic.test", i)
		c := theirs(t, address, gatewaytest.CorrespondentOptions{EC: true})
		keys, to, seal = append(keys, keyLine(c, address)), append(to, address), append(seal, c)
	}
	o := newOpens(t, "", keys...)
	var mu sync.Mutex
	asked := map[string]bool{}
	o.clinicReply = func(who string) gatewaytest.Reply {
		mu.Lock()
		defer mu.Unlock()
		if asked[who] {
			return gatewaytest.Reply{}
		}
		asked[who] = true
		return gatewaytest.Reply{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: "too big"}
	}
	text := fromAfar(sealed(t, []byte(plainEntity), "aes-256-gcm", seal...))
	o.receive(t, text, to...)
	for _, who := range to {
		if data := o.got(t, who); !bytes.HasSuffix(data, crlf(text)) || field(t, data) != "" {
			t.Errorf("%s: refused opened, it came as\n%s", who, data)
		}
	}
}
