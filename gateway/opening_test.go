package gateway_test

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// opens is a clinic with keys of its own: ana and bea have one each, in S/MIME, zoe has none.
type opens struct {
	*house
	ana, bea, doctor *gatewaytest.Correspondent // doctor is of outside, and believed
	refused          int
}

// reasonFor is what the ledger says of a recipient, all of it.
func (h *house) reasonFor(to string) (all string) {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.dir, "state", "passerelle.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT group_concat(reason, '\n') FROM ledger_entries WHERE recipient = ?", to).Scan(&all); err != nil {
		h.t.Fatal(err)
	}
	return all
}

func newOpens(t *testing.T, more string, keys ...string) *opens {
	t.Helper()
	dir := t.TempDir()
	o := &opens{}
	person := func(name, address string) *gatewaytest.Correspondent {
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		c, err := gatewaytest.NewCorrespondent(at, gatewaytest.CorrespondentOptions{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	o.ana, o.bea, o.doctor = person("ana", "ana@clinic.test"), person("bea", "bea@clinic.test"), person("doctor", "doctor@dest.test")
	text := withRules("keys:\n" +
		"  - {cert: \"" + o.ana.CertFile + "\", key: \"" + o.ana.KeyFile + "\", addresses: [ana@clinic.test]}\n" +
		"  - {cert: \"" + o.bea.CertFile + "\", key: \"" + o.bea.KeyFile + "\", addresses: [bea@clinic.test]}\n" + strings.Join(keys, "") +
		"inbound: {decrypt: {ca: \"" + o.doctor.CertFile + "\"}}\nlimits: {message: 30MiB, memory: 8MiB}\npickup: {url: \"http://{portal}\"}\nrules:\n  - {name: keys, has: [smime], route: encrypt}\n  - {name: rest, route: plain}\n" + more)
	o.house = custom(t, text, nil, nil)
	return o
}

// openssl runs it on in.
func openssl(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	return tool(t, "openssl", in, args...)
}

func tool(t *testing.T, name string, in []byte, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if testing.Short() {
			t.Skip(name + " is missing")
		}
		t.Fatalf("%s is missing (Debian packages openssl, gnupg, rnp)", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = bytes.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, errs.String())
	}
	return out.Bytes()
}

func crlf(s string) []byte {
	return []byte(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n"))
}

// sealed is an entity as S/MIME, header and all. cipher is one of openssl's.
func sealed(t *testing.T, entity []byte, cipher string, to ...*gatewaytest.Correspondent) []byte {
	t.Helper()
	args := []string{"cms", "-encrypt", "-binary", "-" + cipher}
	for _, c := range to {
		args = append(args, c.CertFile)
	}
	return openssl(t, entity, args...)
}

func sign(t *testing.T, entity []byte, c *gatewaytest.Correspondent) []byte {
	t.Helper()
	out, err := c.Sign(crlf(string(entity)))
	if err != nil {
		t.Fatal(err)
	}
	return crlf(string(out))
}

const outerFields = "From: Dr Who <doctor@dest.test>\nTo: <ana@clinic.test>\nSubject: ...\nMessage-ID: <1@dest.test>\nDate: Mon, 23 Nov 2026 10:00:00 +0100\n"

// fromAfar is a message from outside around an entity with its header.
func fromAfar(entity []byte) string {
	return outerFields + strings.ReplaceAll(string(entity), "\r\n", "\n")
}

const plainEntity = "Content-Type: text/plain; charset=utf-8; protected-headers=\"v1\"\r\nContent-Transfer-Encoding: 8bit\r\nSubject: =?utf-8?q?R=C3=A9sultat?= MARQUEUR-SUJET\r\nFrom: <faux@clinic.test>\r\n\r\nMARQUEUR-TEXTE é\r\n"
const htmlEntity = "Content-Type: text/html; charset=utf-8\r\n\r\n<p>MARQUEUR-HTML</p><img src=\"http://dest.test/x\">\r\n"

// field is the protection field of a delivered message, on one line.
func field(t *testing.T, data []byte) string {
	t.Helper()
	head, _, _ := bytes.Cut(data, []byte("\r\n\r\n"))
	found := regexp.MustCompile(`(?mi)^X-Passerelle-Protection:((?:.*\r?\n[ \t])*.*)$`).FindAllStringSubmatch(string(head), -1)
	if len(found) > 1 {
		t.Errorf("%d fields in\n%s", len(found), head)
	}
	if len(found) == 0 {
		return ""
	}
	return strings.Join(strings.Fields(found[0][1]), " ")
}

// got is what one recipient's mailbox has last.
func (o *opens) got(t *testing.T, to string) []byte {
	t.Helper()
	ms := o.clinic.To(to)
	if len(ms) == 0 {
		t.Fatalf("%s got nothing", to)
	}
	return ms[len(ms)-1].Data
}

// receive hands a message in from outside.
func (o *opens) receive(t *testing.T, content string, to ...string) {
	t.Helper()
	if got := o.send(o.lmtp, "doctor@dest.test", content, to...); strings.Trim(codes(got), "250 ") != "" {
		t.Fatalf("got %q", got)
	}
}

// shows tells whether a message has these bytes, or its explanation these words.
func shows(data []byte, s string) bool {
	words := regexp.MustCompile("=[0-9A-F]{2}").ReplaceAllFunc(bytes.ReplaceAll(data, []byte("=\r\n"), nil), func(q []byte) []byte {
		b, _ := hex.DecodeString(string(q[1:]))
		return b
	})
	return bytes.Contains(data, []byte(s)) || strings.Contains(strings.Join(strings.Fields(string(words)), " "), s)
}

// original is the attached message of one that was wrapped.
func original(t *testing.T, data []byte) []byte {
	t.Helper()
	mark := regexp.MustCompile(`boundary="([^"]+)"`).FindSubmatch(data)[1]
	parts := bytes.Split(data, append([]byte("\r\n--"), mark...))
	last := parts[len(parts)-2]
	_, inside, ok := bytes.Cut(last, []byte("\r\n\r\n"))
	if !ok || !bytes.Contains(last, []byte("message/rfc822")) {
		t.Fatalf("no original in\n%.2000s", data)
	}
	return inside
}

// TestOpenSMIME is the matrix of what OpenSSL makes, through the real doors: what is shown, what is wrapped, and what the field says of it.
func TestOpenSMIME(t *testing.T) {
	o := newOpens(t, "")
	flip := func(b []byte, back int) []byte { // an octet of the DER, back from its end
		head, body, _ := strings.Cut(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n\n")
		der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		der[len(der)-back] ^= 0x10
		return []byte(head + "\n\n" + lines(der))
	}
	cut := func(b []byte) []byte {
		head, body, _ := strings.Cut(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n\n")
		der, _ := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
		return []byte(head + "\n\n" + lines(der[:len(der)*2/3]))
	}
	long := []byte("Content-Type: text/plain\r\n\r\n" + strings.Repeat("MARQUEUR-TEXTE\r\n", 5000))
	type want struct {
		field  []string // parts of the protection field
		shown  string   // stands in the message's own body
		hidden string   // does not
	}
	for name, c := range map[string]struct {
		entity []byte
		want   want
	}{
		"gcm":                         {sealed(t, []byte(plainEntity), "aes-256-gcm", o.ana), want{[]string{"form=smime; result=opened; encrypted=aes-256-gcm, authenticated; key=ana@clinic.test serial ", "; subject=restored; id="}, "\r\n\r\nMARQUEUR-TEXTE é\r\n", "<faux@clinic.test>"}},
		"cbc":                         {sealed(t, []byte(plainEntity), "aes-256-cbc", o.ana), want{[]string{"result=opened; encrypted=aes-256-cbc, not authenticated; "}, "\r\n\r\nMARQUEUR-TEXTE é\r\n", "MARQUEUR-HTML"}},
		"gcm html":                    {sealed(t, []byte(htmlEntity), "aes-256-gcm", o.ana), want{[]string{"result=opened; "}, "<p>MARQUEUR-HTML", "chiffré"}},
		"cbc html":                    {sealed(t, []byte(htmlEntity), "aes-256-cbc", o.ana), want{[]string{"result=wrapped, not authenticated; encrypted=aes-256-cbc, not authenticated"}, "contenu-dechiffre.eml.txt", "MARQUEUR-HTML"}},
		"cbc html, signed":            {sealed(t, sign(t, []byte(htmlEntity), o.doctor), "aes-256-cbc", o.ana), want{[]string{"form=smime+smime; result=opened; ", "signed=CN=doctor@dest.test; verified=valid: chain to CN=doctor@dest.test"}, "<p>MARQUEUR-HTML", "contenu-dechiffre"}},
		"cbc in two ways":             {sealed(t, []byte("Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nMARQUEUR-HTML\r\n"), "aes-256-cbc", o.ana), want{[]string{"wrapped, not authenticated"}, "contenu-dechiffre", "MARQUEUR-HTML"}},
		"128 bits":                    {sealed(t, []byte(plainEntity), "aes-128-cbc", o.ana), want{[]string{"result=opened; encrypted=aes-128-cbc, not authenticated"}, "MARQUEUR-TEXTE", "chiffré"}},
		"both":                        {sealed(t, []byte(plainEntity), "aes-256-gcm", o.bea, o.ana), want{[]string{"result=opened; ", "key=ana@clinic.test"}, "MARQUEUR-TEXTE", "chiffré"}},
		"another's":                   {sealed(t, []byte(plainEntity), "aes-256-gcm", o.bea), want{[]string{"form=smime; result=wrapped, no key; "}, "aucune des clés", "MARQUEUR"}},
		"altered":                     {flip(sealed(t, long, "aes-256-gcm", o.ana), 200), want{[]string{"result=wrapped, altered; encrypted=aes-256-gcm"}, "modifié, abîmé", "MARQUEUR"}},
		"altered tag":                 {flip(sealed(t, long, "aes-256-gcm", o.ana), 3), want{[]string{"result=wrapped, altered"}, "modifié, abîmé", "MARQUEUR"}},
		"altered padding":             {flip(sealed(t, long, "aes-256-cbc", o.ana), 20), want{[]string{"result=wrapped, "}, "d'origine est joint", "MARQUEUR"}},
		"truncated":                   {cut(sealed(t, long, "aes-256-gcm", o.ana)), want{[]string{"result=wrapped, altered"}, "coupé en route", "MARQUEUR"}},
		"3des":                        {sealed(t, []byte(plainEntity), "des3", o.ana), want{[]string{"result=wrapped, weak; encrypted=3des-cbc, not authenticated"}, "contenu-dechiffre", "MARQUEUR"}},
		"not mail":                    {sealed(t, []byte("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\nMARQUEUR\x00\r\n"), "aes-256-gcm", o.ana), want{[]string{"result=wrapped, binary"}, "contenu-dechiffre", "MARQUEUR"}},
		"line feeds":                  {sealed(t, []byte("Content-Type: text/plain\n\nMARQUEUR-TEXTE\nzwei\n"), "aes-256-gcm", o.ana), want{[]string{"result=opened"}, "\r\n\r\nMARQUEUR-TEXTE\r\nzwei\r\n", "chiffré"}},
		"encrypted twice":             {sealed(t, sealed(t, []byte(plainEntity), "aes-256-gcm", o.ana), "aes-256-cbc", o.ana), want{[]string{"form=smime+smime; result=opened; encrypted=aes-256-cbc+aes-256-gcm, authenticated"}, "MARQUEUR-TEXTE", "chiffré"}},
		"cbc in gcm":                  {sealed(t, sealed(t, []byte(htmlEntity), "aes-256-cbc", o.ana), "aes-256-gcm", o.ana), want{[]string{"result=wrapped, not authenticated; encrypted=aes-256-gcm+aes-256-cbc, not authenticated"}, "contenu-dechiffre", "MARQUEUR"}},
		"triple wrapped":              {sign(t, sealed(t, sign(t, []byte(htmlEntity), o.doctor), "aes-256-cbc", o.ana), o.bea), want{[]string{"form=smime+smime+smime; result=opened; ", "signed=CN=doctor@dest.test; verified=valid: "}, "<p>MARQUEUR-HTML", "contenu-dechiffre"}},
		"signed around by a stranger": {sign(t, sealed(t, []byte(htmlEntity), "aes-256-cbc", o.ana), o.bea), want{[]string{"form=smime+smime; result=wrapped, not authenticated; ", "signed=CN=bea@clinic.test; verified=valid, not trusted: "}, "contenu-dechiffre", "MARQUEUR"}},
		"signed around by its author": {sign(t, sealed(t, []byte(htmlEntity), "aes-256-cbc", o.ana), o.doctor), want{[]string{"form=smime+smime; result=opened; ", "verified=valid: "}, "<p>MARQUEUR-HTML", "contenu-dechiffre"}},
		"opaque inside":               {sealed(t, openssl(t, []byte(plainEntity), "cms", "-sign", "-binary", "-nodetach", "-signer", o.doctor.CertFile, "-inkey", o.doctor.KeyFile), "aes-256-gcm", o.ana), want{[]string{"form=smime+smime; result=opened; ", "verified=valid: "}, "MARQUEUR-TEXTE", "pkcs7-mime"}},
		"six layers":                  {nest(t, 6, o.ana), want{[]string{"result=wrapped, too deep; "}, "trop d'enveloppes", "MARQUEUR"}},
		"garbage":                     {[]byte("MIME-Version: 1.0\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\nContent-Transfer-Encoding: base64\n\n" + lines([]byte("MARQUE garbage that is no DER at all"))), want{[]string{"result=wrapped, "}, "d'origine est joint", "MARQUEUR-"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := fromAfar(c.entity)
			o.receive(t, text, "ana@clinic.test")
			data := o.got(t, "ana@clinic.test")
			head, body, _ := bytes.Cut(data, []byte("\r\n\r\n"))
			if !bytes.Contains(head, []byte("From: Dr Who <doctor@dest.test>")) || bytes.Contains(head, []byte("faux@")) {
				t.Errorf("the header is\n%s", head)
			}
			f := field(t, data)
			for _, w := range c.want.field {
				if !strings.Contains(f, w) {
					t.Errorf("the field is\n%s\nwant %q", f, w)
				}
			}
			if !shows(data, c.want.shown) || bytes.Contains(body, []byte(c.want.hidden)) {
				t.Errorf("want %q, not %q in\n%.3000s", c.want.shown, c.want.hidden, data)
			}
			if strings.Contains(f, "wrapped") {
				if got := original(t, data); !bytes.HasSuffix(got, crlf(text)) {
					t.Errorf("the original is not whole:\n%.1000s", got)
				}
				if strings.Contains(string(data), "contenu-dechiffre.eml.txt\"\r\n\r\n") {
					_, b64, _ := bytes.Cut(data, []byte("contenu-dechiffre.eml.txt\"\r\n\r\n"))
					b64, _, _ = bytes.Cut(b64, []byte("\r\n--"))
					if plain, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(b64), "\r\n", "")); err != nil || !bytes.Contains(plain, []byte("MARQUEUR")) {
						t.Errorf("the decrypted file: %v %q", err, plain)
					}
				}
			}
		})
	}
	if log := o.log.String(); strings.Contains(log, "MARQUEUR") {
		t.Error("the log tells content")
	}
	if strings.Contains(o.reasonFor("ana@clinic.test"), "MARQUEUR") {
		t.Error("the ledger tells content")
	}
}

func nest(t *testing.T, n int, to *gatewaytest.Correspondent) []byte {
	entity := []byte(plainEntity)
	for range n {
		entity = sealed(t, entity, "aes-256-gcm", to)
	}
	return entity
}

// lines is base64 as mail has it.
func lines(der []byte) string {
	var b strings.Builder
	for p := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(der)), 76) {
		fmt.Fprintf(&b, "%s\n", p)
	}
	return b.String()
}
