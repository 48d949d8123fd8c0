package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

const signedWays = "encrypt: {keys: {leroy@dest.test: \"{key}\"}}\npickup: {url: \"http://{portal}\"}\ndkim:{dkim}\n" +
	"rules:\n  - {name: keys, has: [openpgp], route: encrypt, form: openpgp}\n  - {name: plain, recipient: [\"plain@*\"], route: plain}\n  - {name: rest, route: pickup}\n"

// signed opens a house that signs, with a correspondent's OpenPGP key, and gives the records to publish.
func signed(t *testing.T, text string) (*house, []string) {
	t.Helper()
	var list []config.DKIM
	h := custom(t, strings.Replace(withRules(text), "{dkim}", dkimYAML(t, &list), 1), nil, func(h *house) {
		h.key = recipientKey(t, h.dir, "leroy@dest.test")
	})
	records, err := gateway.DKIMRecords(&config.Config{DKIM: list})
	if err != nil {
		t.Fatal(err)
	}
	return h, records
}

// recipientKey writes a fresh OpenPGP key of a correspondent into dir.
func recipientKey(t *testing.T, dir, address string) string {
	t.Helper()
	e, err := openpgp.NewEntity("P. Leroy", "", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	var key bytes.Buffer
	if err := e.Serialize(&key); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "leroy.pgp")
	if err := os.WriteFile(path, key.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func dkimYAML(t *testing.T, list *[]config.DKIM) string {
	*list = gateway.MakeDKIM(t, t.TempDir())
	var b strings.Builder
	for _, k := range *list {
		fmt.Fprintf(&b, "\n  - {domain: %s, selector: %s, key: %q}", k.Domain, k.Selector, k.Key)
	}
	return b.String()
}

// Every Internet way is signed after its transformation, and bears no signature of what it was before: its bh= would let a stranger
// test guesses of the text. Local mail is not signed.
func TestEveryInternetWayIsSigned(t *testing.T) {
	h, records := signed(t, signedWays)
	before := "DKIM-Signature: v=1; a=rsa-sha256; d=clinic.test; s=inner; h=from; bh=OLDHASH=; b=eA==\n" + hello
	for to, want := range map[string][]string{
		"leroy@dest.test": {"pass1", "pass2"}, "patient@dest.test": {"pass1", "pass2"}, "plain@dest.test": {"!"},
	} {
		if got := h.send(h.lmtp, "dr@clinic.test", before, to); codes(got) != "250" {
			t.Fatalf("%s: %q", to, got)
		}
		data := h.sink.To(to)[0].Data
		if want[0] == "!" {
			if n := bytes.Count(data, []byte("DKIM-Signature")); n != 1 || !bytes.Contains(data, []byte("OLDHASH")) {
				t.Errorf("%s: %d signatures where the clinic's server signed", to, n)
			}
			continue
		}
		if got := gateway.VerifyDKIM(t, data, records); !slices.Equal(got, want) || bytes.Contains(data, []byte("OLDHASH")) {
			t.Errorf("%s: %q in\n%s", to, got, data)
		}
	}
	if got := h.send(h.lmtp, "", strings.Replace(hello, "From: ", "Auto-Submitted: auto-replied\nFrom: ", 1), "patient@dest.test"); codes(got) != "250" {
		t.Fatalf("automatic answer: %q", got)
	}
	ms := h.sink.To("patient@dest.test")
	if got := gateway.VerifyDKIM(t, ms[len(ms)-1].Data, records); !slices.Equal(got, []string{"pass1", "pass2"}) {
		t.Errorf("automatic answer: %q in\n%s", got, ms[len(ms)-1].Data)
	}
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "colleague@clinic.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	if data := h.clinic.To("colleague@clinic.test")[0].Data; bytes.Contains(data, []byte("DKIM-Signature")) {
		t.Error("local mail is signed")
	}
	if log := h.log.String(); strings.Contains(log, "PRIVATE") || strings.Contains(log, "pass1.pem") {
		t.Error("the log names a key")
	}
}

// What a real Postfix delivers behind us still verifies.
func TestSignedThroughPostfix(t *testing.T) {
	if testing.Short() {
		t.Skip("a real Postfix is left to the full run")
	}
	world, err := gatewaytest.StartNextHop(gatewaytest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	host, port, _ := strings.Cut(world.Addr(), ":")
	p, err := gatewaytest.StartPostfix(t.Context(), gatewaytest.PostfixOptions{Name: "border", Main: []string{fmt.Sprintf("relayhost = [%s]:%s", host, port)}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	h, records := signed(t, strings.Replace(signedWays, "encrypt:", "limits: {memory: 1MiB}\nencrypt:", 1))
	h.stop()
	internet := h.cfg.Hops["internet"]
	internet.Addr = p.Addr()
	h.cfg.Hops["internet"] = internet
	h.start()
	body := func(text string) string { return hello[:strings.Index(hello, "\n\n")] + text }
	for name, text := range map[string]string{
		"7-bit": "\n\nbonjour\n.\n..x\n  \n\n", "8-bit": "\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nété\n",
		"long": "\n\n" + strings.Repeat("x", 990) + "\n", "empty": "\n\n", "large": "\n\n" + strings.Repeat(strings.Repeat("abc def ", 9)+"\n", 30000),
		"no Date": "\n\nx\n", "trailing blank lines": "\n\nx\n\n\n\n",
	} {
		for _, to := range []string{"leroy@dest.test", "patient@dest.test", "plain@dest.test"} {
			world.Reset()
			raw := body(text)
			if name == "no Date" { // Postfix adds one, and a Message-ID
				raw = "From: <dr@clinic.test>\nSubject: essai\n\nx\n"
			}
			if got := h.send(h.lmtp, "dr@clinic.test", raw, to); codes(got) != "250" {
				t.Fatalf("%s to %s: %q", name, to, got)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			ms, err := world.Wait(ctx, 1)
			cancel()
			if err != nil {
				t.Fatalf("%v\n%s", err, p.LogText())
			}
			if got := gateway.VerifyDKIM(t, ms[0].Data, records); !slices.Equal(got, []string{"pass1", "pass2"}) {
				t.Errorf("%s to %s: %q in\n%.2000s", name, to, got, ms[0].Data)
			}
		}
	}
}
