package gateway_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/gateway/gatewaytest"
)

const formsMarker = "MARQUEUR-4711"

// formsLetter has a readable text and an attachment with the marker, of about size bytes.
func formsLetter(size int) string {
	file := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(file)
	e := base64.StdEncoding.EncodeToString(append([]byte(strings.Repeat(formsMarker+" ", 9)), file...))
	var lines strings.Builder
	for ; len(e) > 76; e = e[76:] {
		lines.WriteString(e[:76] + "\n")
	}
	return "Received: from poste-12.interne.test by mx.clinic.test; Mon, 23 Nov 2026 10:59:00 +0100\nFrom: <dr@clinic.test>\nTo: <a@dest.test>\nCc: <tiers@autre.test>\n" +
		"Subject: " + formsMarker + "\nDate: Mon, 23 Nov 2026 11:00:00 +0000\nMessage-ID: <1@clinic.test>\nDisposition-Notification-To: <dr@clinic.test>\nMIME-Version: 1.0\n" +
		"Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: text/plain\n\nBonjour docteur\n\n--m\nContent-Type: application/dicom; name=" + formsMarker + ".dcm\n" +
		"Content-Transfer-Encoding: base64\n\n" + lines.String() + e + "\n--m--\n"
}

// formsHouse knows one holder of each form at dest.test: both, pgp, zip (form and telephone), secret (no form).
func formsHouse(t *testing.T, text string) (*house, *gatewaytest.Correspondent, *openpgp.Entity) {
	t.Helper()
	dir := t.TempDir()
	c, err := gatewaytest.NewCorrespondent(dir, gatewaytest.CorrespondentOptions{Address: "both@dest.test"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := openpgp.NewEntity("P. Leroy", "", "pgp@dest.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	var key bytes.Buffer
	if err := e.Serialize(&key); err != nil {
		t.Fatal(err)
	}
	keyFile, list := filepath.Join(dir, "leroy.pgp"), filepath.Join(dir, "list.yaml")
	entries := fmt.Sprintf("- {address: both@dest.test, certificate: %q, openpgp: %q}\n- {address: pgp@dest.test, openpgp: %q}\n", c.CertFile, keyFile, keyFile) +
		"- {address: zip@dest.test, form: zip, secret: corail-menthe-sillon-7421}\n- {address: pdf@dest.test, form: pdf, secret: corail-menthe-sillon-7421}\n- {address: secret@dest.test, secret: corail-menthe-sillon-7421}\n"
	for path, content := range map[string]string{keyFile: key.String(), list: entries} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := custom(t, withRules("directory: {list: \"{list}\"}\npickup: {url: \"http://{portal}\"}\n"+text), nil, nil, "{list}", list)
	return h, c, e
}

// left is the one message that a recipient got; nothing that may not leave on a protecting route is in it.
func (h *house) left(t *testing.T, name string) []byte {
	t.Helper()
	ms := h.sink.To(name + "@dest.test")
	if len(ms) == 0 {
		t.Fatalf("%s got nothing", name)
	}
	data := ms[len(ms)-1].Data
	flat := bytes.ReplaceAll(data, []byte("\r\n"), nil)
	for _, s := range []string{"MARQUEUR", "tiers@", "poste-12", "Disposition-Notification-To", base64.StdEncoding.EncodeToString([]byte(strings.Repeat(formsMarker+" ", 3)))[:48]} {
		if bytes.Contains(data, []byte(s)) || bytes.Contains(flat, []byte(s)) {
			t.Errorf("%s: %q left:\n%.1500s", name, s, data)
		}
	}
	for _, other := range []string{"both", "pgp", "zip", "pdf", "secret", "nobody"} { // who else gets it, as Bcc does, is nobody's to know
		if other != name && bytes.Contains(data, []byte(other+"@dest.test")) {
			t.Errorf("%s: %s@dest.test is named:\n%.800s", name, other, data)
		}
	}
	if to := "\r\nTo: <" + name + "@dest.test>\r\n"; !bytes.Contains(data, []byte(to)) {
		t.Errorf("%s: no %q in\n%.800s", name, to, data)
	}
	return data
}

func openArmoured(t *testing.T, data []byte, e *openpgp.Entity) []byte {
	t.Helper()
	i := bytes.Index(data, []byte("-----BEGIN PGP MESSAGE-----"))
	if i < 0 {
		t.Fatalf("no armour in\n%.1500s", data)
	}
	b, err := armor.Decode(bytes.NewReader(data[i:]))
	if err != nil {
		t.Fatal(err)
	}
	m, err := openpgp.ReadMessage(b.Body, openpgp.EntityList{e}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(m.UnverifiedBody)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestLadder: a message goes by the best form that it is not too large for, and by pickup at the end; a passphrase form only where it is asked
// for. What is mandatory is refused with a remedy, and nothing leaves.
func TestLadder(t *testing.T) {
	h, c, e := formsHouse(t, "encrypt: {limits: {smime: 64KiB, openpgp: 128KiB, zip: 64KiB}}\nrules:\n"+
		"  - {name: must, sender: [\"must@*\"], route: encrypt, fallback: refuse}\n"+
		"  - {name: own, sender: [\"own@*\"], route: encrypt, form: smime, fallback: refuse, text: \"Demandez son certificat\"}\n  - {name: all, route: encrypt}\n")
	small, middle, large := formsLetter(1000), formsLetter(50<<10), formsLetter(100<<10)
	for _, step := range []struct{ name, text, want string }{
		{"both", small, "pkcs7-mime"}, {"both", middle, "multipart/encrypted"}, {"both", large, "http://"},
		{"pgp", small, "multipart/encrypted"}, {"zip", small, "message.zip"}, {"zip", large, "http://"}, {"pdf", small, "message.pdf"}, {"secret", small, "http://"}, {"nobody", small, "http://"},
	} {
		if got := h.send(h.lmtp, "dr@clinic.test", step.text, step.name+"@dest.test"); codes(got) != "250" {
			t.Fatal(step.name, got)
		}
		data := h.left(t, step.name)
		if !bytes.Contains(data, []byte(step.want)) {
			t.Errorf("%s, %d bytes: no %q in\n%.1200s", step.name, len(step.text), step.want, data)
		}
		switch step.want {
		case "pkcs7-mime":
			if inner, err := c.Open(data); err != nil || !bytes.HasSuffix(inner, []byte("\r\n--m--\r\n")) {
				t.Errorf("%s: %v", step.name, err)
			}
		case "multipart/encrypted":
			if inner := openArmoured(t, data, e); !bytes.Contains(inner, []byte("\r\nTo: <"+step.name+"@dest.test>\r\n")) || bytes.Contains(inner, []byte("tiers@")) {
				t.Errorf("%s: inside stands\n%.800s", step.name, inner)
			}
		}
	}
	n := len(h.sink.Messages())
	for _, no := range []struct{ from, to, text, want string }{
		{"must", "secret", small, "Chiffrement obligatoire et impossible"}, {"must", "both", large, "Chiffrement obligatoire et message trop volumineux"},
		{"own", "pgp", small, "Demandez son certificat"},
	} {
		got := h.send(h.lmtp, no.from+"@clinic.test", no.text, no.to+"@dest.test")
		if !strings.HasPrefix(got[0], "550 5.7.1 ") || !strings.Contains(got[0], no.want) {
			t.Errorf("%s to %s: %q", no.from, no.to, got)
		}
	}
	if got := h.send(h.lmtp, "must@clinic.test", middle, "both@dest.test"); codes(got) != "250" {
		t.Error("mandatory and possible:", got)
	}
	if got := len(h.sink.Messages()); got != n+1 {
		t.Errorf("%d messages left behind refusals", got-n)
	}
	x, err := h.g.Explain(t.Context(), "dr@clinic.test", "both@dest.test", []byte(strings.ReplaceAll(middle, "\n", "\r\n")))
	if err != nil || x.Decision.Reason != "rule all: always, smime would be over 64KiB, form=openpgp -> encrypt" {
		t.Errorf("explain: %v, %+v", err, x)
	}
}

// TestScopeAttachments: the text stays readable for those whose form can, and what it came with does not leave; the rest is sealed whole.
func TestScopeAttachments(t *testing.T) {
	h, _, e := formsHouse(t, "encrypt: {scope: attachments}\nrules:\n  - {name: all, route: encrypt}\n")
	text := formsLetter(1000)
	if got := h.send(h.lmtp, "dr@clinic.test", text, "pgp@dest.test", "zip@dest.test", "pdf@dest.test", "both@dest.test"); codes(got) != "250 250 250 250" {
		t.Fatal(got)
	}
	for name, want := range map[string]string{"pgp": "piece-01.dcm.pgp", "zip": "documents.zip", "pdf": "message.pdf", "both": "pkcs7-mime"} {
		data := h.left(t, name)
		if !bytes.Contains(data, []byte(want)) || bytes.Contains(data, []byte("Bonjour docteur")) != (name != "both") {
			t.Errorf("%s: what left is\n%.2000s", name, data)
		}
	}
	if file := openArmoured(t, h.left(t, "pgp"), e); !bytes.HasPrefix(file, []byte(formsMarker)) {
		t.Errorf("the file holds %.100q", file)
	}
	alone := strings.Replace(hello, "bonjour", formsMarker, 1)
	if got := h.send(h.lmtp, "dr@clinic.test", alone, "pgp@dest.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	if inner := openArmoured(t, h.left(t, "pgp"), e); !bytes.Contains(inner, []byte(formsMarker)) {
		t.Errorf("without attachments: %s", inner)
	}
	for to, want := range map[string]string{"pgp@dest.test": "the text readable, a short cover text and each file", "both@dest.test": "an S/MIME message"} {
		if x, err := h.g.Explain(t.Context(), "dr@clinic.test", to, []byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil || !strings.HasPrefix(x.Sees, want) {
			t.Errorf("explain %s: %v, %+v", to, err, x)
		}
	}
	h.reload(t, "encrypt: {scope: attachments}", "encrypt: {keep_subject: true}")
	if got := h.send(h.lmtp, "dr@clinic.test", strings.Replace(hello, "essai", "Résultat du 3 mai", 1), "pgp@dest.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	if data := h.left(t, "pgp"); !bytes.Contains(data, []byte("Subject: =?utf-8?q?R=C3=A9sultat_du_3_mai?=\r\n")) {
		t.Errorf("kept subject: %.600s", data)
	}
}

// TestAlreadyEncrypted: what its sender has encrypted leaves as it is, also to whom nothing is known of; what only says so is sealed.
func TestAlreadyEncrypted(t *testing.T) {
	h, c, e := formsHouse(t, "rules:\n  - {name: sealed, encrypted: true, route: encrypt}\n  - {name: keys, has: [smime, openpgp], route: encrypt}\n  - {name: rest, route: pickup}\n")
	if got := h.send(h.lmtp, "dr@clinic.test", formsLetter(1000), "pgp@dest.test", "both@dest.test"); codes(got) != "250 250" {
		t.Fatal(got)
	}
	top := "Received: from poste-12.interne.test by mx.clinic.test\nCc: <tiers@autre.test>\nDisposition-Notification-To: <dr@clinic.test>\n"
	for _, made := range []string{"pgp", "both"} { // what we seal is as good as anybody's
		sealed := string(h.left(t, made))
		sealed = sealed[strings.Index(sealed, "From: "):]
		i := strings.Index(sealed, "\r\nSubject: ")
		sealed = top + strings.ReplaceAll(sealed[:i]+"\r\nSubject: "+formsMarker+sealed[i+strings.Index(sealed[i+2:], "\r\n")+2:], "\r\n", "\n")
		for _, to := range []string{"nobody", "pgp"} {
			if got := h.send(h.lmtp, "dr@clinic.test", sealed, to+"@dest.test"); codes(got) != "250" {
				t.Fatal(got)
			}
			data := h.left(t, to)
			var inner []byte
			if made == "both" {
				var err error
				if inner, err = c.Open(data); err != nil {
					t.Fatal(err)
				}
			} else {
				inner = openArmoured(t, data, e)
			}
			if !bytes.Contains(inner, []byte("Bonjour docteur")) {
				t.Errorf("%s to %s: inside stands %.500s", made, to, inner)
			}
		}
		x, err := h.g.Explain(t.Context(), "dr@clinic.test", "nobody@dest.test", []byte(strings.ReplaceAll(sealed, "\n", "\r\n")))
		if err != nil || x.Decision.Reason != "rule sealed: encrypted=yes, encrypted end to end by its sender, form=as-is -> encrypt" || !strings.HasPrefix(x.Sees, "the message as its sender") {
			t.Errorf("explain: %v, %+v", err, x)
		}
	}
	fake := "From: <dr@clinic.test>\nMIME-Version: 1.0\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n\n" + formsMarker + "\n"
	if got := h.send(h.lmtp, "dr@clinic.test", fake, "pgp@dest.test", "nobody@dest.test"); codes(got) != "250 250" {
		t.Fatal(got)
	}
	if inner := openArmoured(t, h.left(t, "pgp"), e); !bytes.Contains(inner, []byte(formsMarker)) {
		t.Errorf("a fake is not sealed: %s", inner)
	}
	if data := h.left(t, "nobody"); !bytes.Contains(data, []byte("http://")) {
		t.Errorf("a fake left: %s", data)
	}
}

// TestFormDoesNotCarry: an archive, which no PDF carries, waits in the vault instead; where encryption is mandatory its sender is told.
func TestFormDoesNotCarry(t *testing.T) {
	h, _, _ := formsHouse(t, "rules:\n  - {name: must, sender: [\"must@*\"], route: encrypt, form: pdf, fallback: refuse}\n  - {name: all, route: encrypt, form: pdf}\n")
	text := strings.NewReplacer("application/dicom", "application/zip", ".dcm", ".zip").Replace(formsLetter(100))
	if got := h.send(h.lmtp, "must@clinic.test", text, "secret@dest.test"); !strings.HasPrefix(got[0], "550 5.7.1 Chiffrement obligatoire et impossible sous la forme prevue") {
		t.Error(got)
	}
	if got := h.reason(); !strings.HasSuffix(got, ", form=pdf -> encrypt, but not possible as pdf, by refuse") {
		t.Errorf("the ledger says %q", got)
	}
	if n := len(h.sink.Messages()); n != 0 {
		t.Errorf("%d messages left", n)
	}
	if got := h.send(h.lmtp, "dr@clinic.test", text, "secret@dest.test"); codes(got) != "250" {
		t.Error(got)
	}
	if got := h.reason(); !strings.HasSuffix(got, ", form=pdf -> encrypt, but not possible as pdf, by pickup") {
		t.Errorf("the ledger says %q", got)
	}
	if data := h.left(t, "secret"); !bytes.Contains(data, []byte("http://")) {
		t.Errorf("no notice:\n%s", data)
	}
}
