package gateway_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// gnupg is a home with the keys of ana, of the clinic, and of the doctor and a stranger, of outside.
type gnupg struct{ home, private, doctor string }

func newGnuPG(t *testing.T) *gnupg {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	p := &gnupg{home: home, private: filepath.Join(home, "ana.asc"), doctor: filepath.Join(home, "doctor.asc")}
	t.Cleanup(func() {
		tool(t, "gpgconf", nil, "--homedir", home, "--kill", "all")
		os.RemoveAll(home)
	})
	for _, who := range []string{"ana@clinic.test", "doctor@dest.test", "stranger@dest.test"} {
		p.run(t, nil, "--passphrase", "", "--quick-generate-key", who, "future-default", "default", "never")
	}
	for file, args := range map[string][]string{p.private: {"--armor", "--export-secret-keys", "ana@clinic.test"}, p.doctor: {"--armor", "--export", "doctor@dest.test"}} {
		if err := os.WriteFile(file, p.run(t, nil, args...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *gnupg) run(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	return tool(t, "gpg", in, append([]string{"--homedir", p.home, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--trust-model", "always"}, args...)...)
}

// mime is PGP/MIME around an armoured message.
func pgpMIME(armour []byte) []byte {
	return []byte("MIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"x\"\n\n--x\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n" +
		"--x\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\n\n" + string(armour) + "\n--x--\n")
}

func (p *gnupg) house(t *testing.T) *opens {
	return newOpens(t, "encrypt: {keys: {doctor@dest.test: \""+p.doctor+"\"}}\n", "  - {openpgp: \""+p.private+"\"}\n")
}

// TestOpenPGP is the matrix of what GnuPG and RNP make.
func TestOpenPGP(t *testing.T) {
	p := newGnuPG(t)
	o := p.house(t)
	entity := strings.ReplaceAll(plainEntity, "text/plain", "text/html")
	to := []string{"--armor", "--recipient", "ana@clinic.test"}
	good := p.run(t, []byte(entity), append(to, "--encrypt")...)
	signed := func(by string) []byte {
		return p.run(t, []byte(entity), append(to, "--local-user", by, "--sign", "--encrypt")...)
	}
	altered := func() []byte {
		raw := p.run(t, []byte(entity+strings.Repeat("x", 5000)), "--compress-algo", "none", "--recipient", "ana@clinic.test", "--encrypt")
		raw[len(raw)-2000] ^= 1
		return raw
	}
	rnp := t.TempDir()
	public := filepath.Join(rnp, "ana.pub")
	if err := os.WriteFile(public, p.run(t, nil, "--export", "ana@clinic.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	detached := func(by, text string) []byte {
		sig := p.run(t, crlf(text), "--armor", "--local-user", by, "--detach-sign")
		return []byte("MIME-Version: 1.0\nContent-Type: multipart/signed; micalg=pgp-sha256; protocol=\"application/pgp-signature\"; boundary=\"y\"\n\n--y\n" + text +
			"\n--y\nContent-Type: application/pgp-signature; name=\"signature.asc\"\n\n" + string(sig) + "\n--y--\n")
	}
	for name, c := range map[string]struct {
		entity        []byte
		field         []string
		shown, hidden string
	}{
		"gpg":               {pgpMIME(good), []string{"form=openpgp; result=opened; encrypted=openpgp, authenticated; key="}, "\r\n\r\nMARQUEUR-TEXTE", "BEGIN PGP"},
		"signed":            {pgpMIME(signed("doctor@dest.test")), []string{"result=opened; ", "signed=key ", "verified=valid: key of the author"}, "MARQUEUR-TEXTE", "BEGIN PGP"},
		"signed, stranger":  {pgpMIME(signed("stranger@dest.test")), []string{"result=opened; ", "verified=not valid: a key that the clinic does not have"}, "MARQUEUR-TEXTE", "BEGIN PGP"},
		"signed inside":     {pgpMIME(p.run(t, crlf(string(detached("doctor@dest.test", "Content-Type: text/plain\n\nMARQUEUR-TEXTE\n"))), append(to, "--encrypt")...)), []string{"form=openpgp+openpgp; result=opened; ", "verified=valid: "}, "MARQUEUR-TEXTE\r\n\r\n--y", "BEGIN PGP MESSAGE"},
		"rnp":               {pgpMIME(tool(t, "rnp", []byte(entity), "--encrypt", "--armor", "--keyfile", public, "-r", "ana@clinic.test", "--output", "-")), []string{"result=opened; "}, "MARQUEUR-TEXTE", "BEGIN PGP"},
		"altered":           {pgpMIME(enarmor(t, p, altered())), []string{"result=wrapped, altered; "}, "modifié, abîmé", "MARQUEUR"},
		"cut":               {pgpMIME([]byte(strings.Replace(string(good), "-----END", "\n-----END", 1)[:len(good)/2] + "\n-----END PGP MESSAGE-----\n")), []string{"result=wrapped, altered; "}, "modifié, abîmé", "MARQUEUR"},
		"without MDC":       {pgpMIME(p.run(t, []byte(entity), append(to, "--rfc2440", "--encrypt")...)), []string{"result=wrapped, not authenticated; "}, "d'origine est joint", "MARQUEUR"},
		"for a stranger":    {pgpMIME(p.run(t, []byte(entity), "--armor", "--recipient", "stranger@dest.test", "--encrypt")), []string{"result=wrapped, no key; "}, "aucune des clés", "MARQUEUR"},
		"bomb":              {pgpMIME(p.run(t, append([]byte("Content-Type: text/plain\n\n"), bytes.Repeat([]byte("MARQUEUR\n"), 8<<20)...), append(to, "--encrypt")...)), []string{"result=wrapped, too large; "}, "trop grand", "MARQUEUR"},
		"no parts":          {[]byte("Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=x\n\n--x\n\n" + string(good) + "\n--x--\n"), []string{"result=wrapped, malformed; "}, "illisible", "MARQUEUR"},
		"inline":            {append([]byte("Content-Type: text/plain\n\n"), p.run(t, []byte("MARQUEUR-TEXTE é\n"), append(to, "--encrypt")...)...), []string{"form=openpgp-inline; result=opened; "}, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nMARQUEUR-TEXTE é\r\n", "BEGIN PGP"},
		"inline, and words": {append([]byte("Content-Type: text/plain\n\n"), append(bytes.Clone(good), "\nau revoir\n"...)...), nil, "au revoir", "MARQUEUR"},
		"signed alone":      {detached("doctor@dest.test", "Content-Type: text/plain\n\nMARQUEUR-TEXTE\n"), []string{"form=openpgp; result=unchanged; signed=key ", "verified=valid: key of the author"}, "MARQUEUR-TEXTE", "BEGIN PGP MESSAGE"},
		"signed, altered":   {bytes.Replace(detached("doctor@dest.test", "Content-Type: text/plain\n\nMARQUEUR-TEXTE\n"), []byte("TEXTE"), []byte("FAUX"), 1), []string{"result=unchanged; ", "verified=not valid: "}, "MARQUEUR-FAUX", "BEGIN PGP MESSAGE"},
	} {
		t.Run(name, func(t *testing.T) {
			text := fromAfar(c.entity)
			o.receive(t, text, "ana@clinic.test")
			data := o.got(t, "ana@clinic.test")
			_, body, _ := bytes.Cut(data, []byte("\r\n\r\n"))
			f := field(t, data)
			for _, w := range c.field {
				if !strings.Contains(f, w) {
					t.Errorf("the field is\n%s\nwant %q", f, w)
				}
			}
			if c.field == nil && f != "" {
				t.Errorf("the field is\n%s", f)
			}
			if !shows(data, c.shown) || bytes.Contains(body, []byte(c.hidden)) {
				t.Errorf("want %q, not %q in\n%.3000s", c.shown, c.hidden, data)
			}
			if strings.Contains(f, "wrapped") && !bytes.HasSuffix(original(t, data), crlf(text)) {
				t.Errorf("the original is not whole:\n%.1000s", original(t, data))
			}
		})
	}
	if log := o.log.String(); strings.Contains(log, "MARQUEUR") {
		t.Error("the log tells content")
	}
}

func enarmor(t *testing.T, p *gnupg, raw []byte) []byte {
	t.Helper()
	out := string(p.run(t, raw, "--enarmor"))
	return []byte(fmt.Sprint(strings.NewReplacer("BEGIN PGP ARMORED FILE", "BEGIN PGP MESSAGE", "END PGP ARMORED FILE", "END PGP MESSAGE", "Comment: Use \"gpg --dearmor\" for unpacking\n", "").Replace(out)))
}
