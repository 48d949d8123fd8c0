package gateway_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// correspondent has a certificate for an address, in a folder of his own.
func correspondent(t *testing.T, address string) *gatewaytest.Correspondent {
	t.Helper()
	c, err := gatewaytest.NewCorrespondent(t.TempDir(), gatewaytest.CorrespondentOptions{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKeyring: what the operator imports beside the serving gateway is sealed to within seconds, and no longer once he says so; the clinic's own list
// goes first; a keyring that cannot be read is "later" for people outside, and nothing for those inside.
func TestKeyring(t *testing.T) {
	listed, kept, whole := correspondent(t, "listed@dest.test"), correspondent(t, "kept@dest.test"), correspondent(t, "office@partner.test")
	list := filepath.Join(t.TempDir(), "list.yaml")
	if err := os.WriteFile(list, []byte("- {address: listed@dest.test, certificate: "+listed.CertFile+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := custom(t, withRules("directory: {list: \"{list}\"}\npickup: {url: \"http://{portal}\"}\n"+
		"rules:\n  - {name: keys, has: [smime, openpgp], route: encrypt}\n  - {name: rest, route: pickup}\n"), nil, nil, "{list}", list)
	keys, err := gateway.OpenKeys(t.Context(), h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	const secret = "MARQUEUR-4712"
	text := "From: <dr@clinic.test>\nTo: <x@dest.test>\nSubject: s\nDate: Mon, 23 Nov 2026 11:00:00 +0000\nMessage-ID: <1@clinic.test>\n\n" + secret + "\n"
	sent := 0
	// last is what to gets of a message now: "smime", "notice", "" for nothing.
	last := func(to string) (string, []byte) {
		t.Helper()
		sent++
		before := len(h.sink.To(to))
		got := h.send(h.lmtp, "dr@clinic.test", strings.Replace(text, "<1@", strings.Repeat("<a", sent)+"@", 1), to)
		ms := h.sink.To(to)
		if len(ms) == before {
			return got[0][:3], nil
		}
		data := ms[len(ms)-1].Data
		if bytes.Contains(data, []byte(secret)) {
			t.Fatalf("left in clear:\n%s", data)
		}
		if bytes.Contains(data, []byte("application/pkcs7-mime")) {
			return "smime", data
		}
		return "notice", data
	}
	await := func(to, want string) (data []byte) {
		t.Helper()
		var got string
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if got, data = last(to); got == want {
				return data
			}
		}
		t.Fatalf("%s gets %s, want %s", to, got, want)
		return nil
	}
	imported := func(c *gatewaytest.Correspondent, address string, trust gateway.KeyTrust) string {
		t.Helper()
		done, err := keys.Import(t.Context(), c.CertFile, gateway.KeyImport{Address: address, Trust: trust}, time.Now())
		if err != nil || len(done) != 1 || done[0].Err != nil {
			t.Fatalf("import: %v, %+v", err, done)
		}
		return done[0].Fingerprint
	}
	opens := func(c *gatewaytest.Correspondent, data []byte) {
		t.Helper()
		if inner, err := c.Open(data); err != nil || !bytes.Contains(inner, []byte(secret)) {
			t.Errorf("open: %v\n%s", err, inner)
		}
	}
	await("kept@dest.test", "notice")

	print := imported(kept, "", "confirmed")
	opens(kept, await("kept@dest.test", "smime"))
	x, err := h.g.Explain(t.Context(), "dr@clinic.test", "kept@dest.test", []byte(strings.ReplaceAll(text, "\n", "\r\n")))
	if err != nil || !x.Facts.SMIME || !strings.Contains(x.Decision.Reason, "smime by key "+print[:16]+", confirmed (import), seen 20") {
		t.Errorf("explain: %v, %+v", err, x.Decision)
	}
	if reason := h.reason(); !strings.Contains(reason, "smime by key "+print[:16]) {
		t.Errorf("the ledger's reason is %q", reason)
	}
	if _, err := keys.Trust(t.Context(), print, "", "seen", ""); err != nil {
		t.Fatal(err)
	}
	await("kept@dest.test", "notice") // below the least trust
	h.reload(t, "pickup: {", "encrypt: {min_trust: seen}\npickup: {")
	await("kept@dest.test", "smime")
	if _, err := keys.Expire(t.Context(), print, time.Now()); err != nil {
		t.Fatal(err)
	}
	await("kept@dest.test", "notice")

	imported(whole, "@partner.test", "confirmed")
	opens(whole, await("anybody@partner.test", "smime"))

	imported(kept, "listed@dest.test", "confirmed")
	opens(listed, await("listed@dest.test", "smime"))

	h.alterKeys("ALTER TABLE keyring_keys RENAME TO gone")
	await("kept@dest.test", "451")
	await("nobody@dest.test", "451")
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "dr@clinic.test"); codes(got) != "250" {
		t.Errorf("mail inside the clinic: %v", got)
	}
	h.alterKeys("ALTER TABLE gone RENAME TO keyring_keys")
	await("anybody@partner.test", "smime")
	if log := h.log.String(); strings.Contains(log, secret) {
		t.Error("the log tells content")
	}
}

// alterKeys does something to the keyring's database that no program of ours does; a serving gateway looks at it anew.
func (h *house) alterKeys(statement string) {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.cfg.StateDir, "keys.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement + "; UPDATE keyring_state SET generation = generation + 1"); err != nil {
		h.t.Fatal(err)
	}
}
