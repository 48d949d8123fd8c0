package gateway_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// theirs is a certificate and key as gatewaytest makes them, for an address.
func theirs(t *testing.T, address string, o gatewaytest.CorrespondentOptions) *gatewaytest.Correspondent {
	t.Helper()
	o.Address = address
	c, err := gatewaytest.NewCorrespondent(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func keyLine(c *gatewaytest.Correspondent, address string) string {
	return "  - {cert: \"" + c.CertFile + "\", key: \"" + c.KeyFile + "\", addresses: [\"" + address + "\"]}\n"
}

const entityOf8Bits = "Content-Type: multipart/mixed;\n boundary=\"b\"\nX-Dossier: 7\nContent-Language: fr\n\n--b\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nr\xe9sultat  \n.\n\n--b\nContent-Type: application/octet-stream\n\nabc\n--b--\n\n"

// writes is a letter of the doctor's into the trust space.
func writes(entity string) string {
	return "From: Jean Martin <dr@clinic.test>\nTo: <marie.durand@peer.mssante.test>\nSubject: avis\nMessage-ID: <s@clinic.test>\nDate: Mon, 23 Nov 2026 10:00:00 +0100\nMIME-Version: 1.0\n" + entity
}

// What goes into the trust space is signed as the mailbox that it leaves from, after the header was written anew. OpenSSL verifies it as the
// peer got it through the real relay, and every byte of the entity stands inside.
func TestSignedIntoTheSpace(t *testing.T) {
	for name, o := range map[string]gatewaytest.CorrespondentOptions{"RSA": {}, "elliptic": {EC: true}} {
		jean := theirs(t, "jean.martin@mss.clinic.test", o)
		h := newMapped(t, "", func(h *house) {
			edit := h.edit
			h.edit = func(text string) string {
				return edit(text) + "keys:\n" + keyLine(jean, "jean.martin@mss.clinic.test") + "sign: {smime: {routes: [trust]}}\n"
			}
		})
		send := func(text string) gatewaytest.Message {
			t.Helper()
			if got := h.send(h.lmtp, "dr@clinic.test", text, "marie.durand@peer.mssante.test"); codes(got) != "250" {
				t.Fatalf("got %q", got)
			}
			return last(h.peer.Messages())
		}
		for what, entity := range map[string]string{"8 bits": entityOf8Bits, "no content fields": "\nbonjour\n", "no end of line": "Content-Type: text/plain\n\nbonjour", "empty": "\n",
			"large": "Content-Type: text/plain\n\n" + strings.Repeat(strings.Repeat("x", 76)+"\n", 40_000)} {
			m := send(writes(entity))
			inside, err := jean.Verify(m.Data)
			if err != nil {
				t.Errorf("%s, %s: %v\n%.2000s", name, what, err, m.Data)
				continue
			}
			want := strings.TrimSuffix(strings.Replace(entity, "X-Dossier: 7\n", "", 1), "\n") // the dot's line end may be ours
			if got := strings.ReplaceAll(string(inside), "\r\n", "\n"); strings.TrimSuffix(got, "\n") != want {
				t.Errorf("%s, %s: inside stands\n%q, want\n%q", name, what, got, want)
			}
			head := headOf(m)
			if !strings.Contains(head, "From: Dr_Jean_MARTIN_Cardiologie <jean.martin@mss.clinic.test>") || strings.Contains(head, "Content-Language") || strings.Contains(head, "dr@clinic") {
				t.Errorf("%s, %s: the header is\n%s", name, what, head)
			}
			if eight := strings.Contains(head, "Content-Transfer-Encoding: 8bit"); eight != (what == "8 bits") {
				t.Errorf("%s, %s: it says of its bits\n%s", name, what, head)
			}
			if r := h.reason(); !strings.Contains(r, ", signed by CN=jean.martin@mss.clinic.test") {
				t.Errorf("%s, %s: the ledger says %s", name, what, r)
			}
		}
		if name != "RSA" {
			continue
		}
		x, err := h.g.Explain(t.Context(), "dr@clinic.test", "marie.durand@peer.mssante.test", crlf(writes(entityOf8Bits)))
		if err != nil || !strings.Contains(x.Decision.Reason, "signed by CN=jean.martin@mss.clinic.test") {
			t.Errorf("explain: %v %s", err, x.Decision.Reason)
		}
		invitation := "Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\nEND:VCALENDAR\n"
		for what, c := range map[string]struct{ entity, why string }{
			"signed":     {entityBelow(fromDoctor), "signed already"},
			"encrypted":  {"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\nAAAA\n", "encrypted already"},
			"PGP text":   {"\n-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n", "OpenPGP text already"},
			"invitation": {invitation, "an invitation"},
			"documents":  {xdmFields + "\n" + archive(t, "IHE_XDM/SUBSET01/METADATA.XML", "<a/>"), "health documents"},
			"unclear":    {"Content-Type: text/plain\nContent-Type: text/html\n\nx\n", "its parts cannot be read unambiguously"},
		} {
			m := send(writes(c.entity))
			_, was, _ := strings.Cut(writes(c.entity), "\n\n")
			if _, got, _ := bytes.Cut(m.Data, []byte("\r\n\r\n")); string(got) != string(crlf(was)) {
				t.Errorf("%s: it changed\n%.1000s", what, m.Data)
			}
			if r := h.reason(); !strings.Contains(r, "not signed: "+c.why) {
				t.Errorf("%s: the ledger says %s", what, r)
			}
		}
		// A colleague has no key.
		cardio := strings.Replace(writes("\nbonjour\n"), "dr@clinic.test", "cardio@clinic.test", 1)
		if got := h.send(h.lmtp, "cardio@clinic.test", cardio, "marie.durand@peer.mssante.test"); codes(got) != "250" || bytes.Contains(last(h.peer.Messages()).Data, []byte("pkcs7")) || !strings.Contains(h.reason(), "not signed: no key for the author") {
			t.Errorf("without a key: %q, %s", got, h.reason())
		}
		replies := readReplyTable(t)
		h.reload(t, "routes: [trust]", "routes: [trust], required: true")
		got := h.send(h.lmtp, "cardio@clinic.test", cardio, "marie.durand@peer.mssante.test")
		replies.hear(t, got[0], "Signature S/MIME obligatoire: aucune cle")
		got = h.send(h.lmtp, "dr@clinic.test", writes("Content-Type: text/plain\nContent-Type: text/html\n\nx\n"), "marie.durand@peer.mssante.test")
		replies.hear(t, got[0], "Signature S/MIME obligatoire: la forme")
		if got := h.send(h.lmtp, "dr@clinic.test", writes(invitation), "marie.durand@peer.mssante.test"); codes(got) != "250" {
			t.Errorf("an invitation under required: %q", got)
		}
		h.reload(t, "required: true", "required: true, from: [\"jean.*@mss.clinic.test\"]")
		if got := h.send(h.lmtp, "cardio@clinic.test", cardio, "marie.durand@peer.mssante.test"); codes(got) != "250" {
			t.Errorf("who is not among from: %q", got)
		}
		if m := send(writes("\nbonjour\n")); !bytes.Contains(m.Data, []byte("pkcs7-signature")) {
			t.Error("who is among from is not signed")
		}
	}
}

// entityBelow is a message's content fields and body.
func entityBelow(text string) string {
	return text[strings.Index(text, "Content-Type: "):]
}

// On the Internet routes: DKIM comes after the signature, and within what is encrypted it stands for who opens it.
func TestSignedOnTheInternet(t *testing.T) {
	dr, friend := theirs(t, "dr@clinic.test", gatewaytest.CorrespondentOptions{}), theirs(t, "friend@dest.test", gatewaytest.CorrespondentOptions{})
	list := filepath.Join(t.TempDir(), "list.yaml")
	if err := os.WriteFile(list, []byte("- {address: friend@dest.test, certificate: \""+friend.CertFile+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var dkim []config.DKIM
	h := custom(t, withRules("keys:\n"+keyLine(dr, "@clinic.test")+"sign: {smime: {routes: [plain, encrypt]}}\ndkim:"+dkimYAML(t, &dkim)+"\ndirectory: {list: \""+list+"\"}\npickup: {url: \"http://{portal}\"}\n"+
		"rules:\n  - {name: sealed, has: [smime], route: encrypt}\n  - {name: rest, route: plain}\n"), nil, nil)
	records, err := gateway.DKIMRecords(&config.Config{DKIM: dkim})
	if err != nil {
		t.Fatal(err)
	}
	before := "DKIM-Signature: v=1; a=rsa-sha256; d=clinic.test; s=inner; h=from; bh=OLDHASH=; b=eA==\n"
	if got := h.send(h.lmtp, "dr@clinic.test", before+writes(entityOf8Bits), "x@dest.test", "friend@dest.test"); codes(got) != "250 250" {
		t.Fatal(got)
	}
	plain := last(h.sink.To("x@dest.test")).Data
	if got := gateway.VerifyDKIM(t, plain, records); !slices.Equal(got, []string{"pass1", "pass2"}) || bytes.Contains(plain, []byte("OLDHASH")) {
		t.Errorf("DKIM: %q in\n%s", got, plain)
	}
	if inside, err := dr.Verify(plain); err != nil || !bytes.Contains(inside, []byte("r\xe9sultat  \r\n.\r\n")) {
		t.Errorf("plain: %v\n%s", err, inside)
	}
	inner, err := friend.Open(last(h.sink.To("friend@dest.test")).Data)
	if err != nil {
		t.Fatal(err)
	}
	if inside, err := dr.Verify(inner); err != nil || !bytes.Contains(inside, []byte("r\xe9sultat  \r\n.\r\n")) {
		t.Errorf("encrypted: %v\n%s", err, inner)
	}
	for _, to := range []string{"x@dest.test", "friend@dest.test"} {
		if r := h.reasonFor(to); !strings.Contains(r, "signed by CN=dr@clinic.test") {
			t.Errorf("the ledger says of %s: %s", to, r)
		}
	}
	if got := h.send(h.lmtp, "", writes("\nabsent\n"), "x@dest.test"); codes(got) != "250" || bytes.Contains(last(h.sink.To("x@dest.test")).Data, []byte("pkcs7")) {
		t.Errorf("a report is signed: %q", got)
	}
	h.reload(t, "clinic: {name", "mode: observe\nclinic: {name")
	if got := h.send(h.lmtp, "dr@clinic.test", writes("\nbonjour\n"), "x@dest.test"); codes(got) != "250" || bytes.Contains(last(h.sink.To("x@dest.test")).Data, []byte("pkcs7")) {
		t.Errorf("observe mode changes mail: %q", got)
	}
}
