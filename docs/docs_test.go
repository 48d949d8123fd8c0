// Package docs_test holds docs against the program: what stands in an example block is loaded, what stands in a table is compared.
package docs_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/store"
	"passerelle/gateway/trust"
	"passerelle/gateway/vault"
	"passerelle/policy"
)

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("formats", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var fence = regexp.MustCompile("(?ms)^```(\\w+) ?([\\w-]*)\n(.*?)^```$")

// blocks gives the example blocks of a page whose language and name are these.
func blocks(t *testing.T, file, language, name string) []string {
	t.Helper()
	var out []string
	for _, m := range fence.FindAllStringSubmatch(page(t, file), -1) {
		if m[1] == language && m[2] == name {
			out = append(out, m[3])
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no block %s %s", file, language, name)
	}
	return out
}

// column gives the words in backticks of the first column of all tables of a text.
func column(text string) []string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "| `") {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				out = append(out, m[1])
			}
		}
	}
	return out
}

const small = `
clinic: {domains: [clinique.example]}
listen: {lmtp: {addr: "127.0.0.1:0"}, smtp: {addr: ""}, portal: {addr: "127.0.0.1:0"}, metrics: {addr: ""}}
hops: {clinic: {addr: "127.0.0.1:10026"}, internet: {addr: "127.0.0.1:10027"}}
pickup: {url: "https://courrier.clinique.example"}
`

func parse(text string) (*config.Config, error) {
	return config.Parse("block.yaml", []byte(small+text), func(string) (string, bool) { return "", false })
}

// TestList: the same three entries in both languages and both forms.
func TestList(t *testing.T) {
	for _, form := range []string{"yaml", "csv"} {
		file := filepath.Join(t.TempDir(), "list."+form)
		if err := os.WriteFile(file, []byte(blocks(t, "list.md", form, "list")[0]), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := directory.Open(t.Context(), directory.Config{StateDir: t.TempDir(), ListFile: file})
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		defer d.Close()
		ask := func(s string) *directory.Contact {
			a, err := message.ParseAddress(s, true)
			if err != nil {
				t.Fatal(err)
			}
			c := d.Ask(t.Context(), a).Contact
			if c == nil {
				t.Fatalf("%s: no entry for %s", form, s)
			}
			return c
		}
		if c := ask("zoe.noel@courrier.example"); c.Name != "Zoé Noël" || c.Person != "patient" || c.Phone != "+33612345678" || c.Opposed {
			t.Errorf("%s: %+v", form, c)
		}
		if c := ask("anyone@assurance.example"); c.Person != "partner" || c.Prefer != "plain" {
			t.Errorf("%s: %+v", form, c)
		}
		if c := ask("jean.petit@courrier.example"); !c.Opposed || c.Label != "opposition du 12/03/2026" {
			t.Errorf("%s: %+v", form, c)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.csv")
	if err := os.WriteFile(bad, []byte(blocks(t, "list.md", "csv", "bad-list")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Open(t.Context(), directory.Config{StateDir: t.TempDir(), ListFile: bad}); err == nil || strings.Count(err.Error(), "bad.csv:") != 3 {
		t.Errorf("want three faults, got %v", err)
	}
}

// TestListNames: every name of a field that the page gives is one, alone in a header row beside an address.
func TestListNames(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\|([^|]*)\\|").FindAllStringSubmatch(page(t, "list.md"), -1)
	if len(rows) != 21 {
		t.Fatalf("%d fields on the page", len(rows))
	}
	for _, r := range rows {
		for _, name := range append(strings.Split(strings.TrimSpace(r[2]), ", "), r[1]) {
			if name == "" {
				continue
			}
			head := "address;" + name + "\n"
			if r[1] == "address" {
				head = name + "\n"
			}
			file := filepath.Join(t.TempDir(), "list.csv")
			if err := os.WriteFile(file, []byte(head), 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := directory.Open(t.Context(), directory.Config{StateDir: t.TempDir(), ListFile: file})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			d.Close()
		}
	}
}

// TestRules: the examples load, their expect pairs hold, the faulty ones are refused rule for rule, and no key of a rule is left out.
func TestRules(t *testing.T) {
	for _, b := range blocks(t, "rules.md", "yaml", "rules") {
		c, err := parse(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range policy.Verify(c.Policy, c.Expect, func(from, to string) (policy.Facts, error) {
			return policy.Facts{Sender: from, Recipient: to, RecipientDomain: to[strings.IndexByte(to, '@')+1:], Verdict: policy.NotListed, Recipients: 1}, nil
		}) {
			t.Error(m)
		}
	}
	_, err := parse(blocks(t, "rules.md", "yaml", "bad-rules")[0])
	for i := range 4 {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("rules[%d].", i)) {
			t.Errorf("no fault for rule %d in %v", i, err)
		}
	}
	on := column(page(t, "rules.md"))
	keys := regexp.MustCompile("yaml:\"(\\w+)\"").FindAllStringSubmatch(source(t, "../policy/rule.go"), -1)
	for _, k := range keys {
		if !slices.Contains(on, k[1]) && k[1] != "from" && k[1] != "to" && k[1] != "rule" {
			t.Errorf("rules.md lacks %s", k[1])
		}
	}
	names := regexp.MustCompile("expr:\"(\\w+)\"").FindAllStringSubmatch(source(t, "../policy/when.go"), -1)
	_, when, _ := strings.Cut(page(t, "rules.md"), "## when")
	for _, n := range names {
		if !regexp.MustCompile(`\b` + n[1] + `\b`).MatchString(when) {
			t.Errorf("rules.md, when, lacks %s", n[1])
		}
	}
}

func source(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSMS sends by each example and compares what a provider receives.
func TestSMS(t *testing.T) {
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = string(b)
	}))
	defer srv.Close()
	sent := blocks(t, "sms.md", "text", "sent")
	for i, b := range blocks(t, "sms.md", "yaml", "sms") {
		c, err := parse(strings.Replace(b, "http://127.0.0.1:9", srv.URL, 1))
		if err != nil {
			t.Fatal(err)
		}
		s, err := vault.NewSMS(vault.SMSConfig{URL: c.SMS.URL.Reveal(), Method: c.SMS.Method, Body: c.SMS.Body.Reveal(), ContentType: c.SMS.ContentType})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), "+33612345678", "«Code» & 12"); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if want := strings.TrimSpace(sent[i]); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestMarks: the examples are true marks under the key and time that the page names.
func TestMarks(t *testing.T) {
	key, now := [32]byte(bytes.Repeat([]byte{7}, 32)), time.Unix(1795435200, 0)
	v2 := protect.Origin{Origin: protect.FromTrust, Verified: "peer CN=mx.hopital.example,O=Hôpital", Cert: strings.Repeat("0123456789abcdef", 4),
		Sender: "professional, verified, extraction 2026-11-20, Médecin", ID: "abcdefgh"}
	for name, want := range map[string]protect.Origin{"marked": v2, "marked-v1": {Origin: protect.FromTrust, Verified: "peer CN=mx.hopital.example", ID: "abcdefgh"}} {
		raw := strings.ReplaceAll(blocks(t, "marks.md", "eml", name)[0], "\n", "\r\n") + "\r\n"
		h, _, err := message.ReadHeader(message.BytesBody([]byte(raw)), 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		if o, err := protect.VerifyMark(key, h, now); err != nil || o != want {
			v, _ := protect.Mark(key, want, h, now)
			t.Errorf("%s: %v, %+v; v2 is\n%s", name, err, o, v)
		}
	}
}

// TestProtectionField: the example is a true field under the key and time that the page names.
func TestProtectionField(t *testing.T) {
	key, now := [32]byte(bytes.Repeat([]byte{7}, 32)), time.Unix(1795435200, 0)
	want := protect.Protection{Form: "smime+smime", Result: protect.ResultOpened, Encrypted: "aes-256-gcm, authenticated", Key: "Clinique serial 1A2B", Signed: "CN=Dr Martin,O=Hôpital",
		Verified: "valid: chain to CN=AC Exemple", Subject: "restored", ID: "abcdefgh"}
	raw := strings.ReplaceAll(blocks(t, "marks.md", "eml", "protected")[0], "\n", "\r\n") + "\r\n"
	h, _, err := message.ReadHeader(message.BytesBody([]byte(raw)), 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := protect.VerifyProtection(key, h, now); err != nil || p != want {
		t.Errorf("%v, %+v; it is\n%s", err, p, protect.FormatProtection(key, want, h, now))
	}
}

// TestLedgerRow: the page has the table's columns in their order and every outcome, and its queries run.
func TestLedgerRow(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l, err := ledger.New(t.Context(), db, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var want []string
	rows, err := db.Read().Query(`SELECT name FROM pragma_table_info('ledger_entries')`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		want = append(want, s)
	}
	for _, o := range []ledger.Outcome{ledger.Delivered, ledger.Deferred, ledger.Failed, ledger.Refused, ledger.Bounced, ledger.Reported} {
		want = append(want, string(o))
	}
	if got := column(page(t, "ledger-row-v1.md")); !slices.Equal(got, want) {
		t.Errorf("page has %q\nwant     %q", got, want)
	}
	for _, q := range fence.FindAllStringSubmatch(page(t, "ledger-row-v1.md"), -1) {
		var rows *sql.Rows
		if rows, err = db.Read().Query(q[3]); err != nil {
			t.Errorf("%v: %s", err, q[3])
			continue
		}
		rows.Close()
	}
}

// download fetches the extraction twice: once whole, once cut in the middle.
func download(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile("../testdata/directory/extraction-sample.txt")
	if err != nil {
		t.Fatal(err)
	}
	changed, cut := time.Now().Add(-2*time.Hour), false
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		w.Header().Set("Last-Modified", changed.UTC().Format(http.TimeFormat))
		if !cut {
			w.Write(b)
			return
		}
		w.Write(b[:len(b)/2])
	}))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := directory.Open(t.Context(), directory.Config{StateDir: dir, Fetch: directory.FetchConfig{URL: s.URL, CA: ca}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	changed, cut = changed.Add(time.Hour), true
	if d.Refresh(t.Context()) == nil {
		t.Fatal("a file that was cut was taken")
	}
}

// lists fetches a white list, and one that is much smaller and waits.
func lists(t *testing.T, dir string) {
	ca, err := gatewaytest.NewCA("AC test")
	if err != nil {
		t.Fatal(err)
	}
	own, err := ca.IssueLocal(pkix.Name{CommonName: "mss.clinic.test"})
	if err != nil {
		t.Fatal(err)
	}
	pems := t.TempDir()
	if err := ca.WriteDir(pems, own); err != nil {
		t.Fatal(err)
	}
	signer, err := ca.ListSigner()
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(raw) }))
	s.TLS = ca.ServerTLS(own, false)
	s.StartTLS()
	defer s.Close()
	file := func(name string) string { return filepath.Join(pems, name) }
	space, err := trust.New(trust.Config{CA: []string{file("ca.pem")}, Cert: file("cert.pem"), Key: file("key.pem"), CRL: []string{file("crl.pem")},
		WhiteList: &trust.WhiteListConfig{URL: s.URL, StateDir: dir, CA: file("ca.pem"), CN: gatewaytest.WhiteListSigner, Issuer: "AC test", EKU: x509.ExtKeyUsageEmailProtection}})
	if err != nil {
		t.Fatal(err)
	}
	entries := []gatewaytest.ListEntry{{Domain: "a.test", DN: "CN=a"}, {Domain: "b.test", DN: "CN=b"}}
	for _, step := range []struct {
		n    int
		want string
	}{{2, "taken"}, {1, "waiting"}} {
		if raw, err = signer.Sign(gatewaytest.WhiteList(time.Now().Add(-time.Duration(step.n)*time.Minute), entries[:step.n]...)); err != nil {
			t.Fatal(err)
		}
		if got, err := space.RefreshList(t.Context()); got != step.want {
			t.Fatalf("got %s %v, want %s", got, err, step.want)
		}
	}
}
