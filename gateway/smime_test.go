package gateway_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// TestSMIME: who has a certificate in the clinic's list gets S/MIME before OpenPGP, in the suite that it announces; a certificate that cannot be
// used is none, and its mail takes the next step of the ladder. Nothing of the text stands anywhere but inside.
func TestSMIME(t *testing.T) {
	dir := t.TempDir()
	holder := func(name string, o gatewaytest.CorrespondentOptions) *gatewaytest.Correspondent {
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		o.Address = name + "@dest.test"
		c, err := gatewaytest.NewCorrespondent(at, o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	holders := map[string]*gatewaytest.Correspondent{
		"old": holder("old", gatewaytest.CorrespondentOptions{}), "leroy": holder("leroy", gatewaytest.CorrespondentOptions{EC: true}),
		"new": holder("new", gatewaytest.CorrespondentOptions{Modern: true}),
	}
	over := holder("over", gatewaytest.CorrespondentOptions{NotAfter: time.Now().Add(-time.Hour)})
	list := filepath.Join(dir, "list.yaml")
	var b strings.Builder
	for name, c := range holders {
		fmt.Fprintf(&b, "- {address: %s@dest.test, certificate: %q}\n", name, c.CertFile)
	}
	fmt.Fprintf(&b, "- {address: over@dest.test, certificate: %q, form: smime}\n", over.CertFile)
	if err := os.WriteFile(list, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	h := custom(t, withRules("encrypt: {keys: {leroy@dest.test: \"{key}\"}}\ndirectory: {list: \"{list}\"}\npickup: {url: \"http://{portal}\"}\n"+
		"rules:\n  - {name: keys, has: [smime, openpgp], route: encrypt}\n  - {name: rest, route: pickup}\n"), nil,
		func(h *house) { h.key = recipientKey(t, h.dir, "leroy@dest.test") }, "{list}", list)
	const secret = "MARQUEUR-4711 tension artérielle"
	text := "From: <dr@clinic.test>\nTo: <old@dest.test>, <leroy@dest.test>\nCc: <tiers@clinic.test>\nSubject: " + secret + "\nDate: Mon, 23 Nov 2026 11:00:00 +0000\n" +
		"Message-ID: <1@clinic.test>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + secret + "\n"
	if got := h.send(h.lmtp, "dr@clinic.test", text, "old@dest.test", "leroy@dest.test", "new@dest.test", "over@dest.test"); codes(got) != "250 250 250 250" {
		t.Fatal(got)
	}
	for name, c := range holders {
		ms := h.sink.To(name + "@dest.test")
		if len(ms) != 1 || len(ms[0].Recipients) != 1 {
			t.Fatalf("%s: %d copies", name, len(ms))
		}
		data := ms[0].Data
		kind := "smime-type=enveloped-data"
		if name == "new" {
			kind = "smime-type=authEnveloped-data"
		}
		if !bytes.Contains(data, []byte(kind)) || bytes.Contains(data, []byte("MARQUEUR")) || bytes.Contains(data, []byte("tiers@")) {
			t.Errorf("%s: what left is\n%.1500s", name, data)
		}
		inner, err := c.Open(data)
		if err != nil || !bytes.HasSuffix(inner, []byte("\r\n\r\n"+secret+"\r\n")) || !bytes.Contains(inner, []byte("To: <"+name+"@dest.test>")) {
			t.Errorf("%s: %v\n%s", name, err, inner)
		}
	}
	if ms := h.sink.To("over@dest.test"); len(ms) != 1 || bytes.Contains(ms[0].Data, []byte("pkcs7-mime")) || !bytes.Contains(ms[0].Data, []byte("http://")) {
		t.Error("a certificate that ran out does not lead to a notice")
	}
	for to, want := range map[string]string{"old@dest.test": "an S/MIME message", "over@dest.test": "a neutral notice"} {
		x, err := h.g.Explain(t.Context(), "dr@clinic.test", to, []byte(strings.ReplaceAll(text, "\n", "\r\n")))
		if err != nil || !strings.HasPrefix(x.Sees, want) || x.Facts.SMIME != (to == "old@dest.test") {
			t.Errorf("explain %s: %v, %+v", to, err, x)
		}
	}
	if got := h.send(h.lmtp, "", strings.Replace(text, "From: ", "Auto-Submitted: auto-replied\nFrom: ", 1), "new@dest.test"); codes(got) != "250" {
		t.Error(got)
	}
	if ms := h.sink.To("new@dest.test"); len(ms) != 2 || !bytes.Contains(ms[1].Data, []byte("pkcs7-mime")) {
		t.Error("an automatic answer needs no code where a certificate is known")
	}
	h.reload(t, "encrypt: {", "encrypt: {smime: {cipher: cbc}, ")
	if got := h.send(h.lmtp, "dr@clinic.test", text, "new@dest.test"); codes(got) != "250" {
		t.Error(got)
	}
	if ms := h.sink.To("new@dest.test"); len(ms) != 3 || !bytes.Contains(ms[2].Data, []byte("smime-type=enveloped-data")) {
		t.Error("encrypt.smime.cipher is not obeyed")
	}
	if log := h.log.String(); strings.Contains(log, "MARQUEUR") {
		t.Error("the log tells content")
	}
}
