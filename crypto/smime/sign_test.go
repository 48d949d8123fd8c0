package smime

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func signs(c *x509.Certificate) {
	c.KeyUsage |= x509.KeyUsageDigitalSignature // beside that for opening: NSS signs with no other
	c.SubjectKeyId = []byte{1, 2, 3, 4}
}

// issued is a person under an authority and another below it.
func issued(t testing.TB, algo string, edit func(*x509.Certificate)) (p person, key Key, roots *x509.CertPool) {
	t.Helper()
	authority := func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage, c.Subject.CommonName = true, true, x509.KeyUsageCertSign, nil, "Root"
	}
	root := newPerson(t, "p256", authority)
	p = newPerson(t, algo, signs)
	middle := newPerson(t, "p256", authority)
	issue := func(who, by person, name string, edit func(*x509.Certificate)) *x509.Certificate {
		tmpl := *who.cert
		tmpl.SignatureAlgorithm, tmpl.RawSubject = 0, nil
		tmpl.SerialNumber = new(big.Int).Add(who.cert.SerialNumber, big.NewInt(1))
		tmpl.Subject.CommonName = name
		if edit != nil {
			edit(&tmpl)
		}
		der, err := x509.CreateCertificate(rand.Reader, &tmpl, by.cert, who.cert.PublicKey, by.own(t).Private)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	middle.cert = issue(middle, root, "Middle", nil)
	p.cert = issue(p, middle, "Leaf", edit)
	write(t, p.crt, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}))
	write(t, p.crt+".ca", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.cert.Raw}))
	write(t, p.crt+".middle", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: middle.cert.Raw}))
	roots = x509.NewCertPool()
	roots.AddCert(root.cert)
	key = p.own(t)
	key.Chain = []*x509.Certificate{middle.cert}
	return p, key, roots
}

var entity = []byte("Content-Type: text/plain\r\n\r\nBonjour\r\n")

func signature(t testing.TB, content []byte, key Key) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Sign(&out, bytes.NewReader(content), key, now); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSignOpenedByOthers(t *testing.T) {
	for _, algo := range []string{"rsa", "p256", "p384", "p521"} {
		p, key, roots := issued(t, algo, nil)
		p7s := signature(t, entity, key)
		in, sig := filepath.Join(filepath.Dir(p.crt), "in"), filepath.Join(filepath.Dir(p.crt), "sig")
		write(t, in, entity)
		write(t, sig, p7s)
		run(t, nil, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", sig, "-content", in, "-CAfile", p.crt+".ca", "-purpose", "smimesign", "-attime", fmt.Sprint(now.Unix()), "-out", os.DevNull)
		got, err := Verify(nil, bytes.NewReader(p7s), bytes.NewReader(entity), roots, now, Limits{})
		if err != nil || len(got) != 1 || !got[0].Cert.Equal(p.cert) || len(got[0].Chain) != 3 || !got[0].Time.Equal(now) {
			t.Fatalf("%s: got %+v, %v", algo, got, err)
		}
		// NSS, what Thunderbird uses.
		tool(t, "cmsutil", "libnss3-tools")
		dir := t.TempDir()
		run(t, nil, "certutil", "-N", "-d", dir, "--empty-password")
		run(t, nil, "certutil", "-A", "-d", dir, "-n", "root", "-t", "CT,CT,CT", "-i", p.crt+".ca")
		cmd := exec.Command("cmsutil", "-D", "-d", dir, "-c", in, "-i", sig, "-h", "1")
		text, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(text), "signer0.status=GoodSignature") {
			t.Errorf("%s: cmsutil: %v\n%s", algo, err, text)
		}
	}
}

func TestSignGnuPG(t *testing.T) {
	tool(t, "gpgsm", "gpgsm")
	p, key, _ := issued(t, "rsa", nil)
	home, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	gpgsm := func(args ...string) string {
		cmd := exec.Command("gpgsm", append([]string{"--homedir", home, "--batch", "--disable-crl-checks", "--disable-dirmngr", "--status-fd", "1"}, args...)...)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	text, err := os.ReadFile(p.crt + ".ca")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	gpgsm("--import", p.crt+".ca")
	write(t, filepath.Join(home, "trustlist.txt"), []byte(fingerprint(ca)+" S relax\n"))
	sig, in := filepath.Join(home, "sig"), filepath.Join(home, "in")
	write(t, in, entity)
	write(t, sig, signature(t, entity, key))
	if out := gpgsm("--verify", sig, in); !strings.Contains(out, "GOODSIG") {
		t.Error(out)
	}
	write(t, in, []byte("other"))
	if out := gpgsm("--verify", sig, in); strings.Contains(out, "GOODSIG") {
		t.Error(out)
	}
}

func TestVerifyOpenSSL(t *testing.T) {
	for _, algo := range []string{"rsa", "p256", "p384", "p521"} {
		p, _, roots := issued(t, algo, nil)
		extra := [][]string{{}, {"-keyid"}, {"-noattr"}, {"-md", "sha384"}, {"-md", "sha512"}, {"-cades"}, {"-md", "sha512", "-cades"}, {"-stream"}}
		if algo == "rsa" {
			extra = append(extra, []string{"-keyopt", "rsa_padding_mode:pss"}, []string{"-md", "sha512", "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:64"})
		}
		for _, e := range extra {
			for _, opaque := range []bool{false, true} {
				if !opaque && len(e) == 1 && e[0] == "-stream" { // it puts the content inside
					continue
				}
				args := append([]string{"cms", "-sign", "-binary", "-outform", "DER", "-signer", p.crt, "-inkey", p.key, "-certfile", p.crt + ".middle"}, e...)
				if opaque {
					args = append(args, "-nodetach")
				}
				der := run(t, entity, "openssl", args...)
				var content io.Reader
				if !opaque {
					content = iotest.OneByteReader(bytes.NewReader(entity))
				}
				var out bytes.Buffer
				got, err := Verify(&out, bytes.NewReader(der), content, roots, now, Limits{})
				if err != nil || len(got) != 1 {
					t.Errorf("%s %v opaque %v: %v", algo, e, opaque, err)
				}
				if opaque && !bytes.Equal(out.Bytes(), entity) || !opaque && out.Len() > 0 {
					t.Errorf("%s %v opaque %v: got %q", algo, e, opaque, out.Bytes())
				}
				if strings.Contains(fmt.Sprint(e), "pss") && !strings.HasPrefix(got[0].Algorithm, "RSA-PSS") {
					t.Errorf("got %s", got[0].Algorithm)
				}
			}
		}
		if algo != "rsa" {
			continue
		}
		tool(t, "cmsutil", "libnss3-tools")
		dir := t.TempDir()
		run(t, nil, "certutil", "-N", "-d", dir, "--empty-password")
		run(t, nil, "openssl", "pkcs12", "-export", "-in", p.crt, "-inkey", p.key, "-out", dir+"/a.p12", "-passout", "pass:x", "-name", "a")
		run(t, nil, "pk12util", "-i", dir+"/a.p12", "-d", dir, "-W", "x")
		run(t, nil, "certutil", "-A", "-d", dir, "-n", "root", "-t", "CT,CT,CT", "-i", p.crt+".ca")
		run(t, nil, "certutil", "-A", "-d", dir, "-n", "middle", "-t", ",,", "-i", p.crt+".middle")
		for _, e := range [][]string{{"-T"}, {"-T", "-G"}, {"-G"}} {
			der := run(t, entity, "cmsutil", append([]string{"-S", "-d", dir, "-N", "a", "-H", "SHA256"}, e...)...)
			var content io.Reader
			if e[0] == "-T" {
				content = bytes.NewReader(entity)
			}
			var out bytes.Buffer
			if _, err := Verify(&out, bytes.NewReader(der), content, roots, now, Limits{}); err != nil {
				t.Errorf("cmsutil %v: %v", e, err)
			}
		}
	}
}

func fault(err error) Fault {
	var v *VerifyError
	if errors.As(err, &v) {
		return v.Fault
	}
	return 0
}

func TestVerifyFaults(t *testing.T) {
	p, key, roots := issued(t, "rsa", nil)
	p7s := signature(t, entity, key)
	alone := key
	alone.Chain = nil
	_, web, webRoots := issued(t, "p256", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	open := func(args ...string) []byte {
		return run(t, entity, "openssl", append([]string{"cms", "-sign", "-binary", "-outform", "DER", "-signer", p.crt, "-inkey", p.key, "-certfile", p.crt + ".middle"}, args...)...)
	}
	other, otherKey, _ := issued(t, "p256", nil)
	two := open("-signer", other.crt, "-inkey", other.key)
	both := roots.Clone()
	both.AddCert(otherKey.Chain[0])
	for _, c := range []struct {
		name    string
		p7s     []byte
		content string
		roots   *x509.CertPool
		at      time.Time
		want    Fault
	}{
		{"good", p7s, string(entity), roots, now, 0},
		{"content", p7s, string(entity) + " ", roots, now, Mismatch},
		{"content without attributes", open("-noattr"), string(entity) + " ", roots, now, Mismatch},
		{"no roots", p7s, string(entity), nil, now, Untrusted},
		{"other roots", p7s, string(entity), webRoots, now, Untrusted},
		{"chain missing", signature(t, entity, alone), string(entity), roots, now, Untrusted},
		{"later", p7s, string(entity), roots, now.AddDate(2, 0, 0), Expired},
		{"before", p7s, string(entity), roots, now.AddDate(-2, 0, 0), Expired},
		{"SHA-1", open("-md", "sha1"), string(entity), roots, now, Weak},
		{"certificate missing", open("-nocerts"), string(entity), roots, now, Untrusted},
		{"two good ones", two, string(entity), both, now, 0},
		{"two, one of a stranger", two, string(entity), roots, now, Untrusted},
		{"opaque for detached", open("-nodetach"), string(entity), roots, now, Mismatch},
		{"rubbish", []byte("rubbish"), string(entity), roots, now, Broken},
		{"nothing", nil, string(entity), roots, now, Broken},
	} {
		_, err := Verify(nil, bytes.NewReader(c.p7s), strings.NewReader(c.content), c.roots, c.at, Limits{})
		if fault(err) != c.want || (err == nil) != (c.want == 0) {
			t.Errorf("%s: got %v, want %d", c.name, err, c.want)
		}
	}
	var refused *CertificateError
	if err := Sign(io.Discard, bytes.NewReader(entity), web, now); !errors.As(err, &refused) {
		t.Errorf("signed with the certificate of a server: %v", err)
	}
	if err := Sign(io.Discard, bytes.NewReader(entity), key, now.AddDate(2, 0, 0)); !errors.As(err, &refused) {
		t.Errorf("signed after the end: %v", err)
	}
	// The certificate's own signed attributes, shown as content without attributes.
	if _, err := Verify(nil, bytes.NewReader(p7s), nil, roots, now, Limits{}); fault(err) != Mismatch {
		t.Errorf("detached taken for opaque: %v", err)
	}
}

// TestVerifyTampered: no bit of a signature can change but in what it does not cover, and then the answer is the same.
func TestVerifyTampered(t *testing.T) {
	p, key, roots := issued(t, "p256", nil)
	p7s := signature(t, entity, key)
	silent := 0
	for i := range p7s {
		bad := bytes.Clone(p7s)
		bad[i] ^= 1
		got, err := Verify(nil, bytes.NewReader(bad), bytes.NewReader(entity), roots, now, Limits{})
		if err != nil {
			if v := new(VerifyError); !errors.As(err, &v) {
				t.Fatalf("byte %d: %v", i, err)
			}
			continue
		}
		silent++
		if !got[0].Cert.Equal(p.cert) || !got[0].Time.Equal(now) {
			t.Fatalf("byte %d: got %+v", i, got[0])
		}
	}
	if silent > 2 { // the versions
		t.Errorf("%d changes went unseen", silent)
	}
	for n := range p7s {
		if _, err := Verify(nil, bytes.NewReader(p7s[:n]), bytes.NewReader(entity), roots, now, Limits{}); err == nil {
			t.Fatalf("cut at %d: no error", n)
		}
	}
}

// TestVerifyAttributesAsContent: what was signed as attributes is no content (RFC 5652 section 5.4; the forgery wants no attributes).
func TestVerifyAttributesAsContent(t *testing.T) {
	_, key, roots := issued(t, "p256", nil)
	attributes, err := signedAttributes(key.Cert, make([]byte, 32), now)
	if err != nil {
		t.Fatal(err)
	}
	content := tlv(tagSet, attributes)
	digest := sha256.Sum256(content)
	sig, err := key.Private.(*ecdsa.PrivateKey).Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	sha := tlv(tagSequence, oid(oidSHA256))
	info := tlv(tagSequence, number(1), must(issuerAndSerial(key.Cert)), sha, tlv(tagSequence, oid(oidECDSASHA256)), tlv(tagOctets, sig))
	forged := tlv(tagSequence, oid(oidSigned), tlv(explicit, tlv(tagSequence, number(1), tlv(tagSet, sha), tlv(tagSequence, oid(oidData)),
		tlv(explicit, key.Cert.Raw, key.Chain[0].Raw), tlv(tagSet, info))))
	_, err = Verify(nil, bytes.NewReader(forged), bytes.NewReader(content), roots, now, Limits{})
	if fault(err) != Broken || !strings.Contains(err.Error(), "attributes are missing") {
		t.Errorf("got %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	p, key, roots := issued(f, "p256", nil)
	f.Add(signature(f, entity, key))
	f.Add(run(f, entity, "openssl", "cms", "-sign", "-binary", "-nodetach", "-stream", "-outform", "DER", "-signer", p.crt, "-inkey", p.key))
	f.Fuzz(func(t *testing.T, der []byte) {
		if got, err := Verify(io.Discard, bytes.NewReader(der), bytes.NewReader(entity), roots, now, Limits{Size: 1 << 20}); err == nil && !got[0].Cert.Equal(p.cert) {
			t.Error("somebody else's")
		}
		Verify(io.Discard, bytes.NewReader(der), nil, roots, now, Limits{Size: 1 << 20})
	})
}

func BenchmarkSign(b *testing.B) {
	p, key, roots := issued(b, "rsa", nil)
	content := make([]byte, 10<<20)
	in := filepath.Join(b.TempDir(), "in")
	write(b, in, content)
	b.Run("sign", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		b.ReportAllocs()
		for b.Loop() {
			signature(b, content, key)
		}
	})
	p7s := signature(b, content, key)
	b.Run("verify", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Verify(nil, bytes.NewReader(p7s), bytes.NewReader(content), roots, now, Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("openssl", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			run(b, nil, "openssl", "cms", "-sign", "-binary", "-outform", "DER", "-in", in, "-signer", p.crt, "-inkey", p.key, "-out", os.DevNull)
		}
	})
}
