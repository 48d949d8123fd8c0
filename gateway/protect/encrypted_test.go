package protect

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

const noType = "Received: from poste-12.interne.test by mx\nFrom: Dr Martin <m@clinic.test>\nTo: a@dest.test, autre@patient.test\nCc: tiers@patient.test\n" +
	"Subject: MARQUEUR\nDate: Mon, 23 Nov 2026 11:00:00 +0000\nMessage-ID: <1@clinic.test>\nDisposition-Notification-To: m@clinic.test\nMIME-Version: 1.0\n"

// pgpMail wraps an armour as PGP/MIME, with pieces that a test changes.
func pgpMail(armour string, change ...string) string {
	s := noType + "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"b\"\n\nThis is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\n" +
		"--b\nContent-Type: application/pgp-encrypted\nContent-Description: MARQUEUR\n\nVersion: 1\n\n--b\nContent-Type: application/octet-stream; name=\"MARQUEUR.asc\"\n\n" +
		armour + "\n--b--\n"
	return strings.NewReplacer(change...).Replace(s)
}

func inlineMail(armour string) string {
	return noType + "Content-Type: text/plain; charset=utf-8\n\n" + armour
}

func cmsMail(der []byte, change ...string) string {
	return strings.NewReplacer(change...).Replace(noType + "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=\"MARQUEUR.p7m\"\nContent-Transfer-Encoding: base64\n\n" + b64(string(der)) + "\n")
}

// armoured is what no gateway reads: an armour around any packets.
func armourOf(packets []byte) string {
	return "-----BEGIN PGP MESSAGE-----\n\n" + b64(string(packets)) + "\n-----END PGP MESSAGE-----\n"
}

// sealedInputs are messages that other software has encrypted to somebody, each with what opens it.
func sealedInputs(t *testing.T) (mails map[string]string, open map[string]func([]byte) []byte, gpg func([]byte, ...string) []byte, holder *gatewaytest.Correspondent) {
	t.Helper()
	gpg = gnupg(t)
	gpg(nil, "--quick-generate-key", "A <a@dest.test>", "future-default", "default", "1y")
	entity := []byte(crlf("Content-Type: text/plain; charset=utf-8\n\n" + marker + "\n"))
	encrypt := func(args ...string) string {
		return string(gpg(entity, append([]string{"--trust-model", "always", "--encrypt", "--armor", "-r", "a@dest.test"}, args...)...))
	}
	holder = correspondent(t, gatewaytest.CorrespondentOptions{})
	cmsOf := func(args ...string) []byte {
		dir := t.TempDir()
		in := filepath.Join(dir, "in")
		if err := os.WriteFile(in, entity, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("openssl", append(append([]string{"cms", "-encrypt", "-binary", "-in", in, "-outform", "DER"}, args...), holder.CertFile)...).Output()
		if err != nil {
			t.Fatalf("openssl cms %v: %v", args, err)
		}
		return out
	}
	byPGP := func(p []byte) []byte { return gpg(p, "--decrypt") }
	byCMS := func(p []byte) []byte {
		inner, err := holder.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		return inner
	}
	mails = map[string]string{
		"gpg":                    pgpMail(encrypt()),
		"gpg comment":            pgpMail(encrypt("--comment", "MARQUEUR")),
		"gpg several":            pgpMail(encrypt("--hidden-recipient", "a@dest.test")),
		"inline":                 inlineMail("\n" + encrypt() + "\n\n"),
		"inline qp":              strings.Replace(inlineMail(strings.ReplaceAll(encrypt(), "=", "=3D")), "\n\n", "\nContent-Transfer-Encoding: quoted-printable\n\n", 1),
		"openssl":                cmsMail(cmsOf("-aes256")),
		"openssl 3des":           cmsMail(cmsOf("-des3")),
		"openssl stream":         cmsMail(cmsOf("-aes256", "-stream")),
		"openssl gcm":            cmsMail(cmsOf("-aes-256-gcm")),
		"x-pkcs7, no smime-type": cmsMail(cmsOf("-aes128"), "application/pkcs7-mime; smime-type=enveloped-data", "application/x-pkcs7-mime"),
	}
	open = map[string]func([]byte) []byte{}
	for name := range mails {
		if open[name] = byPGP; strings.Contains(mails[name], "pkcs7") {
			open[name] = byCMS
		}
	}
	return mails, open, gpg, holder
}

// TestAsIs: what other software has encrypted is known, leaves with every sealed byte, opens, and nothing that stood beside the seal is with it.
func TestAsIs(t *testing.T) {
	mails, open, _, _ := sealedInputs(t)
	for name, in := range mails {
		b, x := indexed(t, crlf(in))
		kind, _, err := inspect(ctx, b, x)
		if err != nil || Encrypted(ctx, b, x) != kind {
			t.Errorf("%s: not known: %v", name, err)
			continue
		}
		o := options(t)
		sealed, err := AsIs(ctx, envelope, b, x, dest, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out := all(t, sealed)
		if how := leaks(out); how != "" {
			t.Errorf("%s: readable outside: %s\n%s", name, how, out)
		}
		ob, ox := indexed(t, string(out))
		if ox.Header.Get("To") != "<a@dest.test>" || ox.Header.Get("Cc")+ox.Header.Get("Received") != "" || Encrypted(ctx, ob, ox) != kind {
			t.Errorf("%s: what leaves is %q\n%.600s", name, ox.Unclear, out)
		}
		if inner := open[name](out); !bytes.Contains(inner, []byte(marker)) {
			t.Errorf("%s: does not open: %q", name, inner)
		}
		sealed.Close()
		if o.Budget.Used() != 0 {
			t.Errorf("%s: %d bytes of the budget never came back", name, o.Budget.Used())
		}
	}
}

// TestOwnIsEncrypted: what we seal is known as sealed, so that it is never sealed twice.
func TestOwnIsEncrypted(t *testing.T) {
	gpg := gnupg(t)
	gpg(nil, "--quick-generate-key", "A <a@dest.test>", "future-default", "default", "1y")
	key := gpg(nil, "--armor", "--export")
	b, x := indexed(t, crlf(inputs()["rich"]))
	sealed, err := OpenPGP(ctx, envelope, b, x, dest, [][]byte{key}, options(t))
	if err != nil {
		t.Fatal(err)
	}
	if ob, ox := indexed(t, string(all(t, sealed))); Encrypted(ctx, ob, ox) != pgpMIME {
		_, _, err := inspect(ctx, ob, ox)
		t.Error(err)
	}
	for _, modern := range []bool{false, true} {
		c := correspondent(t, gatewaytest.CorrespondentOptions{Modern: modern, EC: modern})
		sealed, err := SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{c.Certificate}, options(t))
		if err != nil {
			t.Fatal(err)
		}
		if ob, ox := indexed(t, string(all(t, sealed))); Encrypted(ctx, ob, ox) != cms {
			_, _, err := inspect(ctx, ob, ox)
			t.Error(modern, err)
		}
	}
}

// TestOnlySaysEncrypted: whatever says that it is encrypted and is readable, in whole or in part, is like any other message: it is sealed.
func TestOnlySaysEncrypted(t *testing.T) {
	mails, _, gpg, holder := sealedInputs(t)
	armour := func(s string) string { return s[strings.Index(s, "-----BEGIN"):] }(mails["inline"])
	packets := gpg([]byte(armour), "--dearmor")
	der, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(mails["openssl"][strings.Index(mails["openssl"], "\n\n"):]))
	if err != nil {
		t.Fatal(err)
	}
	sign := func(args ...string) string { return string(gpg([]byte(marker), append(args, "--armor")...)) }
	symmetric := sign("--symmetric", "--passphrase", "x")
	run := func(args ...string) []byte {
		in := filepath.Join(t.TempDir(), "in")
		if err := os.WriteFile(in, []byte(marker), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("openssl", append(args, "-in", in, "-outform", "DER", "-binary")...).Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		return out
	}
	if packets[0] != 0x84 {
		t.Fatalf("gpg begins with %#x", packets[0])
	}
	text := []byte(strings.Repeat(marker+" ", 10))
	clear := append(append([]byte{0xc1, 12}, packets[2:14]...), append([]byte{0xd2, 0xff, 0, 0, byte((len(text) + 1) >> 8), byte(len(text) + 1), 1}, text...)...)
	clear[2] = 3
	fakeDER := bytes.Clone(der)
	copy(fakeDER[len(fakeDER)-80:], text)
	for name, in := range map[string]string{
		"pgp: label alone":                 pgpMail(marker),
		"pgp: another part":                pgpMail(armour, "\n--b--", "\n--b\nContent-Type: text/plain\n\n"+marker+"\n--b--"),
		"pgp: clear second part":           pgpMail(armour, "Content-Type: application/octet-stream; name=\"MARQUEUR.asc\"\n\n", "Content-Type: text/plain\n\n"+marker+"\n"),
		"pgp: text before the armour":      pgpMail(marker + "\n" + armour),
		"pgp: text behind the armour":      pgpMail(armour + "\n" + marker),
		"pgp: text in the version part":    pgpMail(armour, "Version: 1\n", "Version: 1\n"+marker+"\n"),
		"pgp: preamble":                    pgpMail(armour, "This is an OpenPGP", marker+"\nThis is an OpenPGP"),
		"pgp: epilogue":                    pgpMail(armour) + marker + "\n",
		"pgp: no final boundary":           pgpMail(armour, "\n--b--", ""),
		"pgp: another protocol":            pgpMail(armour, "protocol=\"application/pgp-encrypted\"", "protocol=\"application/x\""),
		"pgp: part with encoding":          pgpMail(armour, "name=\"MARQUEUR.asc\"", "name=\"MARQUEUR.asc\"\nContent-Transfer-Encoding: x-own"),
		"pgp: two armours":                 pgpMail(armour + armour),
		"pgp: unknown field of the armour": pgpMail(strings.Replace(armour, "-----\n", "-----\nSubject: "+marker+"\n", 1)),
		"pgp: charset":                     pgpMail(strings.Replace(armour, "-----\n", "-----\nCharset: UTF-7\n", 1)),
		"pgp: signed":                      pgpMail(sign("--sign")),
		"pgp: literal":                     pgpMail(sign("--store")),
		"pgp: password":                    pgpMail(symmetric),
		"pgp: clear signed":                inlineMail(sign("--clearsign")),
		"pgp: packet behind":               pgpMail(armourOf(append(bytes.Clone(packets), append([]byte{0xcb, byte(len(marker) + 6), 'u', 0, 0, 0, 0, 0}, marker...)...))),
		"pgp: cut":                         pgpMail(armourOf(packets[:len(packets)-5])),
		"pgp: text as ciphertext":          pgpMail(armourOf(clear)),
		"pgp: no key":                      pgpMail(armourOf(packets[2+int(packets[1]):])),
		"pgp: unclear":                     pgpMail(armour, "boundary=\"b\"", "boundary=\"b\"; boundary=\"c\""),
		"inline: text before":              inlineMail("Bonjour " + marker + "\n\n" + armour),
		"inline: text behind":              inlineMail(armour + "\n-- \n" + marker),
		"inline: beside another part":      noType + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + armour + "\n--b\n\n" + marker + "\n--b--\n",
		"inline: html":                     strings.Replace(inlineMail(armour), "text/plain", "text/html", 1),
		"inline: signed":                   inlineMail(sign("--sign")),
		"inline: compressed":               inlineMail(sign("--sign", "--compress-algo", "zip")),
		"cms: label alone":                 cmsMail([]byte(marker)),
		"cms: label alone, not encoded":    noType + "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\n\n" + marker + "\n",
		"cms: signed and called enveloped": cmsMail(run("cms", "-sign", "-nodetach", "-signer", holder.CertFile, "-inkey", holder.KeyFile)),
		"cms: data":                        cmsMail(run("cms", "-data_create")),
		"cms: compressed":                  cmsMail(run("cms", "-digest_create")),
		"cms: password":                    cmsMail(run("cms", "-encrypt", "-aes256", "-pwri_password", "x")),
		"cms: shared key":                  cmsMail(run("cms", "-encrypt", "-aes256", "-secretkey", strings.Repeat("00", 32), "-secretkeyid", "01")),
		"cms: something behind":            cmsMail(append(bytes.Clone(der), marker...)),
		"cms: cut":                         cmsMail(der[:len(der)-1]),
		"cms: text as ciphertext":          cmsMail(fakeDER),
		"cms: text behind the base64":      cmsMail(der) + marker + "\n",
		"no label":                         strings.Replace(cmsMail(der), "application/pkcs7-mime", "application/octet-stream", 1),
		"signed":                           inputs()["signed"],
	} {
		b, x := indexed(t, crlf(in))
		if kind := Encrypted(ctx, b, x); kind != "" {
			t.Errorf("%s: counts as %s", name, kind)
		}
		if _, err := AsIs(ctx, envelope, b, x, dest, options(t)); err == nil {
			t.Errorf("%s: leaves as it is", name)
		}
	}
}

// FuzzEncrypted: whatever the bytes, nothing of them panics, and what counts as encrypted leaves without the words beside it.
func FuzzEncrypted(f *testing.F) {
	f.Add([]byte(crlf(pgpMail("-----BEGIN PGP MESSAGE-----\n\nhF4D\n=abcd\n-----END PGP MESSAGE-----\n"))))
	f.Add([]byte(crlf(cmsMail([]byte{0x30, 0x80, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 7, 3, 0xa0, 0x80, 0x30, 0x80, 2, 1, 0, 0x31, 0x80}))))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, x := indexed(t, string(p))
		Encrypted(ctx, b, x)
	})
}
