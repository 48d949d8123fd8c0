package gateway

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"passerelle/config"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
	"passerelle/gateway/relay"
)

// MakeDKIM writes an RSA and an Ed25519 key of clinic.test into dir, and gives the config's list of them.
func MakeDKIM(t *testing.T, dir string) []config.DKIM {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(e)
	if err != nil {
		t.Fatal(err)
	}
	return []config.DKIM{
		{Domain: "clinic.test", Selector: "pass1", Key: writePEM(t, dir, "pass1.pem", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r))},
		{Domain: "clinic.test", Selector: "pass2", Key: writePEM(t, dir, "pass2.pem", "PRIVATE KEY", der)},
	}
}

func writePEM(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secondOpinion is dkimpy, which shares nothing with the library that signs. It prints True or False for each signature.
const secondOpinion = `
import sys, json, dkim
records = json.loads(sys.argv[1])
message = sys.stdin.buffer.read()
for i in range(int(sys.argv[2])):
    try:
        print(dkim.DKIM(message).verify(i, dnsfunc=lambda name, timeout=5: records[name.decode()].encode()))
    except dkim.ValidationError:
        print(False)
    except dkim.MessageFormatError: # it takes no obsolete header syntax
        print(None)
`

// VerifyDKIM has two verifiers look at each signature of a message, under the records that `passerelle check` prints. It gives the
// selectors in the order of the signatures, with a ! where the verifiers find it broken, and fails where they disagree.
func VerifyDKIM(t *testing.T, data []byte, records []string) []string {
	t.Helper()
	txt := map[string]string{}
	for _, r := range records {
		name, value, ok := strings.Cut(r, " IN TXT ")
		if !ok {
			t.Fatalf("record %q", r)
		}
		txt[name] = strings.ReplaceAll(strings.Trim(value, `"`), `" "`, "")
	}
	found, err := dkim.VerifyWithOptions(bytes.NewReader(data), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		if v, ok := txt[strings.TrimSuffix(name, ".")+"."]; ok {
			return []string{v}, nil
		}
		return nil, fmt.Errorf("no record %s", name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		return nil
	}
	dns, err := json.Marshal(txt)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", secondOpinion, string(dns), fmt.Sprint(len(found)))
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("install the Debian packages python3-dkim and python3-nacl: %v\n%s", err, out)
	}
	second := strings.Fields(string(out))
	h, _, err := message.ReadHeader(message.BytesBody(data), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, v := range found {
		if second[i] != "None" && (v.Err == nil) != (second[i] == "True") {
			t.Errorf("signature %d: %v, second opinion %s", i, v.Err, second[i])
		}
		_, s, _ := strings.Cut(h.Values("DKIM-Signature")[i], " s=")
		s, _, _ = strings.Cut(s, ";")
		if v.Err != nil {
			t.Logf("signature %d: %v", i, v.Err)
			s += "!"
		}
		got = append(got, s)
	}
	return got
}

// signing is a gateway with both keys and a hop that keeps what comes.
func signing(t *testing.T) (*Gateway, *gatewaytest.NextHop, relay.Hop, []string) {
	t.Helper()
	list := MakeDKIM(t, t.TempDir())
	keys, err := loadDKIM(list)
	if err != nil {
		t.Fatal(err)
	}
	records, err := DKIMRecords(&config.Config{DKIM: list})
	if err != nil {
		t.Fatal(err)
	}
	g := bare()
	g.set.dkim = keys
	g.relay = relay.New(relay.Config{})
	t.Cleanup(func() { g.relay.Close() })
	hop, err := gatewaytest.StartNextHop(gatewaytest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hop.Close() })
	return g, hop, relay.Hop{Name: "internet", Addr: hop.Addr()}, records
}

const author = "From: Dr <dr@Clinic.test>\nTo: a@dest.test\nSubject: essai\nDate: Mon, 23 Nov 2026 10:00:00 +0100\nMessage-ID: <1@clinic.test>\n"

// What leaves verifies, whatever the body looks like; a header and a body that were touched do not.
func TestSignedLettersVerify(t *testing.T) {
	g, sink, hop, records := signing(t)
	for name, raw := range map[string]string{
		"7-bit":             author + "\nbonjour\n",
		"8-bit":             author + "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nété à Liège\n",
		"8-bit name":        strings.Replace(author, "Dr <", "Docteur Lef\xe8vre <", 1) + "\nx\n",
		"8-bit comment":     strings.Replace(author, "Dr <dr@Clinic.test>", "dr@Clinic.test (Docteur Lef\xe8vre)", 1) + "\nx\n",
		"8-bit, no address": strings.Replace(author, "Dr <dr@Clinic.test>", "Lef\xe8vre dr@Clinic.test", 1) + "\nx\n",
		"long lines":        author + "\n" + strings.Repeat("mot ", 2000) + "\n" + strings.Repeat("x", 3000) + "\n",
		"dots":              author + "\n.\n..\n.x\n\n.\n",
		"blanks":            author + "\n  a \t b  \n \t\n\t\nc\t\n",
		"empty body":        author + "\n",
		"blank lines only":  author + "\n\n\n\n",
		"trailing blanks":   author + "\nx\n\n\n \n\n",
		"no last line end":  author + "\nx\ny",
		"leading blank":     author + "\n\n\nx\n",
		"folds":             author + "References: <a@b>\n\t<c@d>\n  <e@f>\nX-Other: x\n\nx\n",
		"a line of no name": "no field at all\n" + author + "another: \n\nx\n",
		"blank before colon": strings.Replace(author, "Subject:", "Subject :", 1) +
			"\nx\n",
		"two of one name": author + "To: b@dest.test\nComments: x\nSubject: encore\n\nx\n",
		"large":           author + "\n" + strings.Repeat(strings.Repeat("abc def ", 9)+"\n", 20000),
	} {
		t.Run(name, func(t *testing.T) {
			sink.Reset()
			m := take(t, g, raw, "a@dest.test")
			ways := make([]way, 1)
			l := m.unchanged()
			g.sendOut(t.Context(), m, ways, []int{0}, hop, l, true)
			if ways[0].fault != nil {
				t.Fatal(ways[0].fault)
			}
			data := sink.Messages()[0].Data
			if got := VerifyDKIM(t, data, records); !slices.Equal(got, []string{"pass1", "pass2"}) {
				t.Fatalf("signatures %q in:\n%.1500s", got, data)
			}
			if !bytes.HasPrefix(data, []byte("DKIM-Signature: ")) || bytes.Contains(data, []byte(" l=")) {
				t.Errorf("top: %.200s", data)
			}
			if name != "7-bit" && name != "two of one name" {
				return
			}
			for what, touched := range map[string][]byte{
				"another From":    append([]byte("From: x@evil.test\r\n"), data...),
				"another Subject": append([]byte("Subject: x\r\n"), data...),
				"more body":       append(bytes.Clone(data), "\r\nplus\r\n"...),
			} {
				if got := VerifyDKIM(t, touched, records); !slices.Equal(got, []string{"pass1!", "pass2!"}) {
					t.Errorf("%s: %q", what, got)
				}
			}
			// What a relay on the way adds does no harm.
			if got := VerifyDKIM(t, append([]byte("Received: from a by b; now\r\nX-Spam: no\r\n"), data...), records); !slices.Equal(got, []string{"pass1", "pass2"}) {
				t.Errorf("behind a relay: %q", got)
			}
		})
	}
}

// The author's domain decides, not the envelope; what bears its domain's signature already leaves with that one alone.
func TestWhoseLettersAreSigned(t *testing.T) {
	g, sink, hop, _ := signing(t)
	old := "DKIM-Signature: v=1; a=rsa-sha256; d=clinic.test; s=postfix; h=from:to; bh=eA==;\n\tb=eA==\n"
	for name, c := range map[string]struct {
		raw  string
		as   bool
		want int
	}{
		"author":                     {author + "\nx\n", true, 2},
		"another domain":             {strings.Replace(author, "Clinic.test", "other.test", 1) + "\nx\n", true, 0},
		"a domain below":             {strings.Replace(author, "Clinic.test", "sub.clinic.test", 1) + "\nx\n", true, 0},
		"one of two authors":         {strings.Replace(author, "From: ", "From: x@other.test, ", 1) + "\nx\n", true, 2},
		"signed by Postfix":          {old + author + "\nx\n", true, 1},
		"signed, then changed":       {old + author + "\nx\n", false, 3},
		"signed by another":          {strings.Replace(old, "d=clinic.test", "d=other.test", 1) + author + "\nx\n", true, 3},
		"no signature at all":        {"DKIM-Signature: d=clinic.test\n" + author + "\nx\n", true, 3},
		"does not cover the author":  {strings.Replace(old, "h=from:to", "h=to", 1) + author + "\nx\n", true, 3},
		"no author":                  {"Subject: x\n\nx\n", true, 0},
		"the domain in a name alone": {strings.Replace(author, "Dr <dr@Clinic.test>", `"dr@clinic.test" <x@other.test>`, 1) + "\nx\n", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			sink.Reset()
			m := take(t, g, c.raw, "a@dest.test")
			ways := make([]way, 1)
			g.sendOut(t.Context(), m, ways, []int{0}, hop, m.unchanged(), c.as)
			if got := bytes.Count(sink.Messages()[0].Data, []byte("DKIM-Signature:")); got != c.want {
				t.Errorf("%d signatures, want %d", got, c.want)
			}
		})
	}
}

// A header of a stranger may hold tens of thousands of fields, and signing looks for each among all.
func TestTooManyFieldsToSign(t *testing.T) {
	g, sink, hop, _ := signing(t)
	raw := []byte(strings.ReplaceAll(author+strings.Repeat("To:\nX:\n", 5000)+"\nbody\n", "\n", "\r\n"))
	m, ways := &mail{env: &message.Envelope{Recipients: make([]message.Recipient, 1)}}, make([]way, 1)
	began := time.Now()
	g.sendOut(t.Context(), m, ways, []int{0}, hop, relay.Letter{Body: message.BytesBody(raw)}, false)
	if f := ways[0].fault; f == nil || f.Code != 554 || len(sink.Messages()) != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("got %v after %s, %d letters left", f, time.Since(began), len(sink.Messages()))
	}
}

// A letter that cannot be signed waits: the body is gone here, as a temp file may be.
func TestUnsignedNeverLeaves(t *testing.T) {
	g, sink, hop, _ := signing(t)
	m := take(t, g, author+"\nx\n", "a@dest.test")
	b := message.NewBudget(0, t.TempDir()).NewWriter(0)
	fmt.Fprint(b, strings.ReplaceAll(author+"\n"+strings.Repeat("x\n", 1<<18), "\n", "\r\n"))
	body, err := b.Body()
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	ways := make([]way, 1)
	g.sendOut(t.Context(), m, ways, []int{0}, hop, m.letter(m.trace, body, 0), false)
	if f := ways[0].fault; f == nil || f.Code != 451 || !strings.Contains(f.Text, "DKIM") {
		t.Errorf("got %v", ways[0].fault)
	}
	if n := len(sink.Messages()); n != 0 {
		t.Errorf("%d left", n)
	}
}

// A faulty key ends the start, and what is said of it shows nothing of it.
func TestFaultyDKIMKeys(t *testing.T) {
	dir := t.TempDir()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	for want, path := range map[string]string{
		"1024 bits":             writePEM(t, dir, "weak", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(weak)),
		`"PUBLIC KEY"`:          writePEM(t, dir, "public", "PUBLIC KEY", spki),
		"cannot be read":        writePEM(t, dir, "broken", "PRIVATE KEY", []byte("not a key")),
		"no PEM block":          filepath.Join(dir, "text"),
		"no such file":          filepath.Join(dir, "missing"),
		"ENCRYPTED PRIVATE KEY": writePEM(t, dir, "locked", "ENCRYPTED PRIVATE KEY", []byte("x")),
	} {
		if strings.HasSuffix(path, "text") {
			if err := os.WriteFile(path, []byte("SECRETSECRET"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := loadDKIM([]config.DKIM{{Domain: "clinic.test", Selector: "s", Key: path}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "dkim[0].key: "+path) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A large body is signed in pieces: the most that is held at a time does not grow with it.
func TestSigningStreams(t *testing.T) {
	g, _, _, _ := signing(t)
	raw := []byte(strings.ReplaceAll(author, "\n", "\r\n") + "\r\n" + strings.Repeat(strings.Repeat("abc def ", 9)+"\r\n", 500_000))
	l := relay.Letter{Body: message.BytesBody(raw)}
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	runtime.GC()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	before, most := ms.HeapAlloc, uint64(0)
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- g.sign(&l, false) }()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d MB under two keys: %v, at most %d kB more than before", len(raw)>>20, time.Since(start), most>>10)
			if most > uint64(len(raw)/2) {
				t.Errorf("holds %d bytes of %d", most, len(raw))
			}
			return
		case <-time.After(time.Millisecond):
			if runtime.ReadMemStats(&ms); ms.HeapAlloc > before {
				most = max(most, ms.HeapAlloc-before)
			}
		}
	}
}
