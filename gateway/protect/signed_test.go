package protect

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/crypto/zipaes"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

// TestSignatureSurvives: what its author signed, with S/MIME or OpenPGP, as a whole or in a part, verifies once the seal is opened, whatever the form and
// the scope.
func TestSignatureSurvives(t *testing.T) {
	gpg := gnupg(t)
	gpg(nil, "--quick-generate-key", "A <a@dest.test>", "future-default", "default", "1y")
	key := gpg(nil, "--armor", "--export")
	author := correspondent(t, gatewaytest.CorrespondentOptions{})
	entity := crlf("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + marker + " \n")
	detached, err := author.Sign([]byte(entity))
	if err != nil {
		t.Fatal(err)
	}
	opaque := signedData(t, author, entity)
	sig := string(gpg([]byte(entity), "--armor", "--detach-sign"))
	byPGP := "Content-Type: multipart/signed; micalg=pgp-sha512; protocol=\"application/pgp-signature\"; boundary=s\r\n\r\n--s\r\n" + entity + "\r\n--s\r\n" +
		"Content-Type: application/pgp-signature; name=signature.asc\r\n\r\n" + crlf(sig) + "\r\n--s--\r\n"
	verifyPGP := func(mail []byte) error {
		_, rest, ok := strings.Cut(string(mail), "--s\r\n")
		part, rest, ok2 := strings.Cut(rest, "\r\n--s\r\n")
		_, asc, ok3 := strings.Cut(rest, "\r\n\r\n")
		if !ok || !ok2 || !ok3 {
			t.Fatalf("no signed parts in %.400q", mail)
		}
		at := filepath.Join(t.TempDir(), "s.asc")
		if err := os.WriteFile(at, []byte(asc[:strings.Index(asc, "\r\n--s--")]), 0o600); err != nil {
			t.Fatal(err)
		}
		gpg([]byte(part), "--verify", at, "-") // fails the test itself
		return nil
	}
	verifyCMS := func(mail []byte) error {
		if mail[0] == 0x30 { // a part of its own lies in an archive as smime.p7m
			mail = []byte(crlf("Content-Type: application/pkcs7-mime; smime-type=signed-data\nContent-Transfer-Encoding: base64\n\n" + b64(string(mail)) + "\n"))
		}
		_, err := author.Verify(mail)
		return err
	}
	trim := func(p []byte) string { // without the field that is not of the entity, in lines of mail
		p = []byte(crlf(strings.ReplaceAll(string(p), "\r\n", "\n")))
		return strings.TrimLeft(strings.TrimPrefix(string(p), "MIME-Version: 1.0"), "\r\n")
	}
	for name, c := range map[string]struct {
		mail   string
		verify func([]byte) error
	}{
		"S/MIME, detached": {trim(detached), verifyCMS}, "S/MIME, opaque": {trim(opaque), verifyCMS}, "PGP/MIME": {byPGP, verifyPGP},
	} {
		whole := crlf(noFlow) + c.mail
		part := crlf(noFlow+"Content-Type: multipart/mixed; boundary=m\n\n--m\n\nBonjour\n--m\n") + c.mail + crlf("\n--m--\n")
		for _, in := range []string{whole, part} {
			b, x := indexed(t, in)
			for _, files := range []bool{false, true} {
				o := options(t)
				o.TextOutside = files
				check := func(form string, got []byte) {
					t.Helper()
					if i := bytes.Index(got, []byte("Content-Type: multipart/mixed")); i >= 0 && i < 2000 { // the signed part of what is opened
						_, ix := indexed(t, string(got))
						got = got[ix.Parts[2].Start:ix.Parts[2].End]
					}
					if err := c.verify(got); err != nil {
						t.Errorf("%s as %s, part %t, text outside %t: %v", name, form, len(in) != len(whole), files, err)
					}
				}
				sealed, err := OpenPGP(ctx, envelope, b, x, dest, [][]byte{key}, o)
				if err != nil {
					t.Fatal(err)
				}
				out := all(t, sealed)
				ob, ox := indexed(t, string(out))
				if files && in == part {
					out = []byte(read(t, message.DecodePart(ob, ox.Parts[ox.Attachments()[0].Part])))
				}
				check("openpgp", gpg(out, "--decrypt"))
				sealed.Close()
				if sealed, err = ZIP(ctx, envelope, b, x, dest, passphrase, o); err != nil {
					t.Fatal(err)
				}
				ob, ox = indexed(t, string(all(t, sealed)))
				raw := read(t, message.DecodePart(ob, ox.Parts[ox.Attachments()[0].Part]))
				opened := 0
				z, err := zip.NewReader(strings.NewReader(raw), int64(len(raw)))
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range z.File {
					if !strings.HasSuffix(f.Name, ".eml") && !strings.HasSuffix(f.Name, ".p7m") {
						continue
					}
					opened++
					r, err := zipaes.Open(f, passphrase)
					if err != nil {
						t.Fatal(err)
					}
					check("zip", []byte(read(t, r)))
				}
				if opened != 1 {
					t.Errorf("%s: %d signed files in the archive", name, opened)
				}
				sealed.Close()
			}
		}
	}
}

// signedData is an entity signed as application/pkcs7-mime; smime-type=signed-data.
func signedData(t *testing.T, c *gatewaytest.Correspondent, entity string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", "cms", "-sign", "-nodetach", "-binary", "-crlfeol", "-signer", c.CertFile, "-inkey", c.KeyFile)
	cmd.Stdin = strings.NewReader(entity)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
