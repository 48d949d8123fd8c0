package smime

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// person is a correspondent: a certificate and the files that openssl and NSS read.
type person struct {
	cert     *x509.Certificate
	crt, key string
}

func newKey(t testing.TB, algo string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algo {
	case "rsa1024":
		t.Setenv("GODEBUG", "rsa1024min=0")
		key, err = rsa.GenerateKey(rand.Reader, 1024)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p224":
		key, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "p256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "p521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		t.Fatalf("no algorithm %s", algo)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newPerson makes a self-signed certificate; edit may change it first. The usages are those of a key that opens mail.
func newPerson(t testing.TB, algo string, edit func(*x509.Certificate)) person {
	t.Helper()
	key := newKey(t, algo)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "A " + algo}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		EmailAddresses: []string{"a@dest.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, KeyUsage: x509.KeyUsageKeyAgreement}
	if _, ok := key.(*rsa.PrivateKey); ok {
		tmpl.KeyUsage = x509.KeyUsageKeyEncipherment
	}
	if edit != nil {
		edit(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := person{cert, filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")}
	write(t, p.crt, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, p.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return p
}

// capable announces algorithms in the certificate, RFC 4262.
func capable(ids ...asn1.ObjectIdentifier) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		var list [][]byte
		for _, id := range ids {
			list = append(list, tlv(tagSequence, oid(id)))
		}
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidCapabilities, Value: tlv(tagSequence, list...)})
	}
}

func write(t testing.TB, path string, p []byte) {
	t.Helper()
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

func seal(t testing.TB, content []byte, suite Suite, certs ...*x509.Certificate) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Encrypt(&out, certs, int64(len(content)), suite, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func tool(t testing.TB, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", name, pkg)
	}
}

// opened is what openssl gets out.
func (p person) opened(t testing.TB, der []byte) ([]byte, error) {
	t.Helper()
	tool(t, "openssl", "openssl")
	cmd := exec.Command("openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", p.crt, "-inkey", p.key)
	cmd.Stdin = bytes.NewReader(der)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		t.Logf("openssl: %s", errs.String())
	}
	return out.Bytes(), err
}

// gpgsm opens with GnuPG, nss as Thunderbird does.
func (p person) gpgsm(t testing.TB) func(der []byte) ([]byte, error) {
	t.Helper()
	open, stop, err := gatewaytest.GPGSM(p.crt, p.key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return open
}

func (p person) nss(t testing.TB) func(der []byte) ([]byte, error) {
	t.Helper()
	open, err := gatewaytest.NSS(t.TempDir(), p.crt, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return open
}

// fingerprint is how GnuPG's trustlist.txt names a certificate.
func fingerprint(c *x509.Certificate) string { return fmt.Sprintf("%X", sha1.Sum(c.Raw)) }

func keyOf(p person) *rsa.PublicKey { return p.cert.PublicKey.(*rsa.PublicKey) }
