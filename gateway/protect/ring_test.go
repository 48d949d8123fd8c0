package protect

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

// ring are the keys that the matrix needs, made once.
type ring struct {
	gpg      func(stdin []byte, args ...string) []byte
	key      []byte // of OpenPGP, public
	secret   string // the same with the private half, a file
	rsa, ec  *gatewaytest.Correspondent
	nss, gsm func(der []byte) ([]byte, error)
}

func newRing(t *testing.T) *ring {
	t.Helper()
	for name, pkg := range map[string]string{"rnp": "rnp", "sq": "sq", "cmsutil": "libnss3-tools", "gpgsm": "gpgsm", "7z": "p7zip-full"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%s is missing: install the Debian package %s", name, pkg)
		}
	}
	k := &ring{rsa: correspondent(t, gatewaytest.CorrespondentOptions{}), ec: correspondent(t, gatewaytest.CorrespondentOptions{EC: true, Modern: true})}
	k.gpg = gnupg(t)
	k.gpg(nil, "--quick-generate-key", "A <a@dest.test>", "future-default", "default", "1y")
	k.key = k.gpg(nil, "--armor", "--export")
	k.secret = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(k.secret, k.gpg(nil, "--export-secret-keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if k.nss, err = gatewaytest.NSS(t.TempDir(), k.rsa.CertFile, k.rsa.KeyFile); err != nil {
		t.Fatal(err)
	}
	open, stop, err := gatewaytest.GPGSM(k.rsa.CertFile, k.rsa.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	k.gsm = open
	return k
}

// forms are the columns: a new form is a new element.
func (k *ring) forms(t *testing.T) []form {
	smime := func(suite, kind string, c *gatewaytest.Correspondent, more ...opener) form {
		return form{name: "smime " + suite, seal: func(b *message.Body, x *message.Index, o Options) (*message.Body, error) {
			o.Cipher, _, _ = strings.Cut(suite, ",")
			return SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{c.Certificate}, o)
		}, outer: func(_ *message.Body, ox *message.Index) error {
			if got, want := ox.Header.Get("Content-Type"), `application/pkcs7-mime; smime-type=`+kind+`; name="smime.p7m"`; got != want || ox.Unclear != "" || len(ox.Parts) != 1 || !ox.Parts[0].Opaque {
				return fmt.Errorf("%q, Content-Type %s, want %s", ox.Unclear, got, want)
			}
			return nil
		}, readers: append([]opener{{"OpenSSL", asEntity(c.Open)}}, more...)}
	}
	der := func(open func([]byte) ([]byte, error)) func(sealed []byte) ([]byte, map[string][]byte, error) {
		return asEntity(func(sealed []byte) ([]byte, error) {
			b, x := indexed(t, string(sealed))
			return open([]byte(leaves(t, b, x)[0]))
		})
	}
	return []form{
		{name: "openpgp", seal: func(b *message.Body, x *message.Index, o Options) (*message.Body, error) {
			return OpenPGP(ctx, envelope, b, x, dest, [][]byte{k.key}, o)
		}, outer: func(_ *message.Body, ox *message.Index) error {
			if ox.Unclear != "" && !strings.Contains(ox.Unclear, "before or after") || len(ox.Parts) != 1 || !ox.Parts[0].Opaque {
				return fmt.Errorf("%q, %+v", ox.Unclear, ox.Parts)
			}
			return nil
		}, readers: []opener{
			{"GnuPG", asEntity(func(sealed []byte) ([]byte, error) { return k.gpg(pgpBlock(sealed), "--decrypt"), nil })},
			{"rnp", asEntity(k.program("rnp", "--decrypt", "--keyfile", k.secret, "--output", "-"))},
			{"sq", asEntity(k.program("sq", "decrypt", "--recipient-key", k.secret))},
		}},
		smime("cbc", "enveloped-data", k.rsa, opener{"NSS", der(k.nss)}, opener{"gpgsm", der(k.gsm)}),
		smime("gcm", "authEnveloped-data", k.rsa),
		smime("cbc, P-256", "enveloped-data", k.ec),
		smime("gcm, P-256", "authEnveloped-data", k.ec),
		{name: "zip", seal: func(b *message.Body, x *message.Index, o Options) (*message.Body, error) {
			return ZIP(ctx, envelope, b, x, dest, passphrase, o)
		}, outer: func(ob *message.Body, ox *message.Index) error {
			if files := ox.Attachments(); ox.Unclear != "" || len(files) != 1 || files[0].Name != "message.zip" {
				return fmt.Errorf("%q with %v", ox.Unclear, files)
			}
			cover, err := io.ReadAll(message.DecodePart(ob, ox.Parts[1]))
			if err != nil || !strings.Contains(string(cover), "Appelez le 01 23 45 67 89 (Clinique des Lilas)") {
				return fmt.Errorf("cover text %w\n%s", err, cover)
			}
			return nil
		}, readers: []opener{{"7-Zip", func(sealed []byte) ([]byte, map[string][]byte, error) { return unzipped(t, sealed) }}}},
	}
}

func asEntity(open func([]byte) ([]byte, error)) func([]byte) ([]byte, map[string][]byte, error) {
	return func(sealed []byte) ([]byte, map[string][]byte, error) {
		p, err := open(sealed)
		return p, nil, err
	}
}

func pgpBlock(sealed []byte) []byte {
	return sealed[max(0, bytes.Index(sealed, []byte("-----BEGIN PGP MESSAGE"))):]
}

// program opens what stands in a file, its last argument, and writes it out.
func (k *ring) program(name string, args ...string) func([]byte) ([]byte, error) {
	return func(sealed []byte) ([]byte, error) {
		dir := filepath.Dir(k.secret)
		in := filepath.Join(dir, "sealed")
		if err := os.WriteFile(in, pgpBlock(sealed), 0o600); err != nil {
			return nil, err
		}
		var errs bytes.Buffer
		cmd := exec.Command(name, append(args, in)...)
		cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), "HOME="+dir), &errs
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, errs.String())
		}
		return out, nil
	}
}

func unzipped(t *testing.T, sealed []byte) ([]byte, map[string][]byte, error) {
	ob, ox := indexed(t, string(sealed))
	p, err := io.ReadAll(message.DecodePart(ob, ox.Parts[ox.Attachments()[0].Part]))
	if err != nil {
		return nil, nil, err
	}
	dir := t.TempDir()
	file, to := filepath.Join(dir, "message.zip"), filepath.Join(dir, "x")
	if err := os.WriteFile(file, p, 0o600); err != nil {
		return nil, nil, err
	}
	if msg, err := exec.Command("7z", "x", "-p"+passphrase, "-o"+to, file).CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("7z x: %w\n%s", err, msg)
	}
	entries, err := os.ReadDir(to)
	if err != nil {
		return nil, nil, err
	}
	got := map[string][]byte{}
	for _, e := range entries {
		if got[e.Name()], err = os.ReadFile(filepath.Join(to, e.Name())); err != nil {
			return nil, nil, err
		}
	}
	return nil, got, nil
}

// shapes are those that were signed or encrypted before they came.
func (k *ring) shapes(t *testing.T) []sample {
	t.Helper()
	entity := crlf("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + marker + "\nligne\n")
	bare := strings.ReplaceAll(head, "MIME-Version: 1.0\n", "") // openssl writes one
	lf := func(p []byte) string { return strings.ReplaceAll(string(p), "\r\n", "\n") }
	signed, err := k.rsa.Sign([]byte(entity))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "entity")
	if err := os.WriteFile(file, []byte(entity), 0o600); err != nil {
		t.Fatal(err)
	}
	sig := k.gpg(nil, "--armor", "--digest-algo", "SHA256", "--output", "-", "--detach-sign", file)
	b, x := indexed(t, crlf(shapes()[0].text))
	content := func(sealed *message.Body, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(all(t, sealed)), "MIME-Version: 1.0\r\n")
		return lf([]byte(rest))
	}
	o := options(t)
	return []sample{
		{name: "signed, S/MIME", signed: "smime", text: bare + lf(signed)},
		{name: "signed, OpenPGP", signed: "openpgp", text: head + "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256; boundary=s\n\n--s\n" + lf([]byte(entity)) +
			"\n--s\nContent-Type: application/pgp-signature; name=signature.asc\n\n" + lf(sig) + "\n--s--\n"},
		{name: "encrypted already, S/MIME", encrypted: "smime", text: head + content(SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{k.rsa.Certificate}, o))},
		{name: "encrypted already, OpenPGP", encrypted: "openpgp", text: head + content(OpenPGP(ctx, envelope, b, x, dest, [][]byte{k.key}, o))},
	}
}

// stillGood: what came out of the seal verifies, or opens, as before.
func (k *ring) stillGood(t *testing.T, s sample, entity []byte) {
	t.Helper()
	switch {
	case s.signed == "smime":
		if got, err := k.rsa.Verify(entity); err != nil || !bytes.Contains(got, []byte(marker)) {
			t.Errorf("%s: the signature no longer verifies: %v", s.name, err)
		}
	case s.signed == "openpgp":
		b := message.BytesBody(entity)
		lim := message.DefaultLimits
		lim.Signed = true
		x, err := message.Parse(b, lim)
		if err != nil || len(x.Parts) != 3 {
			t.Fatalf("%s: %v, %+v", s.name, err, x)
		}
		dir := t.TempDir()
		files := [2]string{filepath.Join(dir, "signature"), filepath.Join(dir, "entity")}
		for i, p := range [2]message.Part{x.Parts[2], x.Parts[1]} {
			from := p.Start
			if i == 0 {
				from = p.HeaderEnd
			}
			if err := os.WriteFile(files[i], entity[from:p.End], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if status := string(k.gpg(nil, "--status-fd", "1", "--verify", files[0], files[1])); !strings.Contains(status, "GOODSIG") {
			t.Errorf("%s: the signature no longer verifies: %s", s.name, status)
		}
	case s.encrypted == "smime":
		if again, err := k.rsa.Open(entity); err != nil || !bytes.Contains(again, []byte(marker)) {
			t.Errorf("%s: no longer opens: %v", s.name, err)
		}
	case s.encrypted == "openpgp":
		if again := k.gpg(pgpBlock(entity), "--decrypt"); !bytes.Contains(again, []byte(marker)) {
			t.Errorf("%s: no longer opens", s.name)
		}
	}
}
