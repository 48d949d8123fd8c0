package gateway_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"passerelle/config"
	"passerelle/gateway/gatewaytest"
)

// traces is where words of s can be read on the gateway's side: its log, its metrics, the files below its state and temp folders, and open
// files without a name; as bytes, hexadecimal, or base64 at any alignment.
func (h *house) traces(t *testing.T, s []byte) (found []string) {
	t.Helper()
	forms := [][]byte{s, []byte(hex.EncodeToString(s))}
	for shift := range 3 { // the first and last characters depend on the neighbours
		e := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), s...))
		forms = append(forms, []byte(e[(shift*8+5)/6:len(e)-1]))
	}
	look := func(where string, p []byte) {
		flat := bytes.ReplaceAll(bytes.ReplaceAll(p, []byte("\r"), nil), []byte("\n"), nil)
		for _, f := range forms {
			if bytes.Contains(p, f) || bytes.Contains(flat, f) {
				found = append(found, where)
				return
			}
		}
	}
	look("log", []byte(h.log.String()))
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Error(err)
	}
	look("metrics", []byte(fmt.Sprint(families)))
	for _, dir := range []string{filepath.Join(h.dir, "state"), os.TempDir()} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // it went away meanwhile
			}
			p, err := os.ReadFile(path)
			if err == nil {
				look(filepath.Base(path), p)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	for _, e := range open {
		path := "/proc/self/fd/" + e.Name()
		if to, err := os.Readlink(path); err == nil && strings.HasPrefix(to, os.TempDir()) && strings.HasSuffix(to, "(deleted)") {
			if p, err := os.ReadFile(path); err == nil {
				look("temp file without a name", p)
			}
		}
	}
	return found
}

// TestNothingStays: whatever the form, no content, passphrase, agreed secret or private key stands in the log, the metrics, the ledger, the state
// or a temp file, neither while the message is in hand nor afterwards.
func TestNothingStays(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	const content, secret = "MARQUEUR-8812 tension arterielle elevee", "corail-menthe-sillon-7421"
	dir := t.TempDir()
	c, err := gatewaytest.NewCorrespondent(dir, gatewaytest.CorrespondentOptions{Address: "cbc@dest.test"})
	if err != nil {
		t.Fatal(err)
	}
	modern := filepath.Join(dir, "modern")
	if err := os.Mkdir(modern, 0o700); err != nil {
		t.Fatal(err)
	}
	m, err := gatewaytest.NewCorrespondent(modern, gatewaytest.CorrespondentOptions{Address: "gcm@dest.test", EC: true, Modern: true})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "list.yaml")
	text := fmt.Sprintf("- {address: cbc@dest.test, certificate: %q}\n- {address: gcm@dest.test, certificate: %q}\n- {address: agreed@zip.test, secret: %q}\n- {address: told@zip.test, phone: \"+33612345678\"}\n", c.CertFile, m.CertFile, secret)
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sms := gatewaytest.StartSMS()
	t.Cleanup(func() { sms.Close() })
	var keys []config.DKIM
	dkim := dkimYAML(t, &keys)
	var h *house
	var inHand, spilled atomic.Int64
	h = custom(t, withRules("limits: {memory: 1MiB}\nencrypt: {keys: {leroy@dest.test: \"{key}\"}}\ndirectory: {list: \"{list}\"}\nsms: {url: \"{sms}\"}\npickup: {url: \"http://{portal}\", code: sender}\ndkim:"+dkim+"\n"+
		"rules:\n  - {name: zip, recipient: [\"*@zip.test\"], route: encrypt, form: zip}\n  - {name: keys, has: [smime, openpgp], route: encrypt}\n  - {name: rest, route: pickup}\n"),
		func(to string) gatewaytest.Reply { // the hop is asked while the message is in hand
			inHand.Add(1)
			if found := h.traces(t, []byte(content)); len(found) > 0 {
				t.Errorf("while %s is in hand, its content stands in %q", to, found)
			}
			if h.openFiles() {
				spilled.Add(1)
			}
			return gatewaytest.Reply{}
		}, func(h *house) { h.key = recipientKey(t, h.dir, "leroy@dest.test") }, "{list}", list, "{sms}", sms.URL())
	needles := map[string][]byte{"the content": []byte(content), "the agreed secret": []byte(secret)}
	for _, k := range keys {
		p, err := os.ReadFile(k.Key)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := pem.Decode(p); b != nil {
			needles["the private key "+k.Selector] = b.Bytes[len(b.Bytes)-30:]
		}
	}
	letter := "From: <dr@clinic.test>\nSubject: " + content + "\nDate: Mon, 23 Nov 2026 11:00:00 +0000\nMessage-ID: <%s@clinic.test>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" +
		"--b\n\n" + content + "\n--b\nContent-Type: application/octet-stream; name=\"" + content + "\"\nContent-Transfer-Encoding: base64\n\n" +
		strings.Repeat(base64.StdEncoding.EncodeToString([]byte(content+" un deux trois qua"))+"\n", 30_000) + "--b--\n"
	all := []string{"cbc@dest.test", "gcm@dest.test", "leroy@dest.test", "agreed@zip.test", "told@zip.test", "patient@dest.test"}
	for i, to := range all {
		if got := h.send(h.lmtp, "dr@clinic.test", fmt.Sprintf(letter, fmt.Sprint(i)), to); codes(got) != "250" {
			t.Fatalf("%s: %q", to, got)
		}
	}
	if inHand.Load() < int64(len(all)) || spilled.Load() == 0 {
		t.Errorf("the hop was asked %d times, %d times with a temp file open: this shows nothing", inHand.Load(), spilled.Load())
	}
	told := sms.Messages()
	if len(told) != 1 {
		t.Fatalf("%d passphrases were told", len(told))
	}
	needles["the passphrase that was told"] = []byte(told[0].Text[strings.LastIndex(told[0].Text, " ")+1:])
	if n := len(needles["the passphrase that was told"]); n < 12 {
		t.Fatalf("a passphrase of %d characters", n)
	}
	for what, s := range needles {
		if found := h.traces(t, s); len(found) > 0 {
			t.Errorf("%s stands in %q", what, found)
		}
		for _, m := range h.sink.Messages() {
			if bytes.Contains(m.Data, s) {
				t.Errorf("%s left readable for %q", what, m.Recipients)
			}
		}
	}
	// The search is one that finds.
	if err := os.WriteFile(filepath.Join(h.dir, "state", "planted"), []byte(base64.StdEncoding.EncodeToString([]byte("x"+secret+"y"))), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := h.traces(t, []byte(secret)); len(found) != 1 || found[0] != "planted" {
		t.Errorf("planted, and found in %q", found)
	}
}

// openFiles tells whether a temp file without a name is open.
func (h *house) openFiles() bool {
	open, _ := os.ReadDir("/proc/self/fd")
	for _, e := range open {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, os.TempDir()) && strings.HasSuffix(to, "(deleted)") {
			return true
		}
	}
	return false
}
