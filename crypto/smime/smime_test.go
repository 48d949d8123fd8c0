package smime

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

// TestReaders is the table of who opens what. NSS 3.87 (Thunderbird 102, Debian 12) knows neither AuthEnvelopedData nor OAEP nor elliptic
// recipients, nor does it read those of OpenSSL; the day on which it does, a line here fails and the default may change.
func TestReaders(t *testing.T) {
	for _, c := range []struct {
		algo  string
		suite Suite
		oaep  bool // announced
		nss   bool
	}{
		{"rsa", Compatible, false, true}, {"rsa", Compatible, true, false}, {"rsa", Modern, false, false},
		{"p256", Compatible, false, false}, {"p384", Compatible, false, false}, {"p521", Compatible, false, false},
		{"p256", Modern, false, false}, {"p384", Modern, false, false}, {"p521", Modern, false, false},
	} {
		t.Run(fmt.Sprint(c.algo, " ", c.suite.Type(), " announced=", c.oaep), func(t *testing.T) {
			var announce func(*x509.Certificate)
			if c.oaep {
				announce = capable(oidOAEP)
			}
			p := newPerson(t, c.algo, announce)
			nss := p.nss(t)
			for _, n := range []int{0, 1, 15, 16, 17, 1000, chunk - 1, chunk, chunk + 1, 3*chunk + 5} {
				content := random(n)
				der := seal(t, content, c.suite, p.cert)
				if got, err := p.opened(t, der); err != nil || !bytes.Equal(got, content) {
					t.Fatalf("%d bytes: openssl gives %d, %v", n, len(got), err)
				}
				if n > 0 { // cmsutil writes nothing of nothing, and fails
					if got, err := nss(der); (err == nil && bytes.Equal(got, content)) != c.nss {
						t.Fatalf("%d bytes: cmsutil gives %d, %v; want opened: %v", n, len(got), err, c.nss)
					}
				}
			}
		})
	}
}

// TestGnuPG: gpgsm 2.2 opens what NSS does. It is given one key, for it takes seconds over each.
func TestGnuPG(t *testing.T) {
	p := newPerson(t, "rsa", nil)
	announced := *p.cert
	announced.Extensions = newPerson(t, "rsa", capable(oidOAEP)).cert.Extensions
	opens := p.gpgsm(t)
	content := random(100_000)
	for name, c := range map[string]struct {
		cert  *x509.Certificate
		suite Suite
		want  bool
	}{
		"compatible": {p.cert, Compatible, true}, "compatible, OAEP": {&announced, Compatible, false}, "modern": {p.cert, Modern, false},
	} {
		if got, err := opens(seal(t, content, c.suite, c.cert)); (err == nil && bytes.Equal(got, content)) != c.want {
			t.Errorf("%s: %d bytes, %v; want opened: %v", name, len(got), err, c.want)
		}
	}
}

// TestTransport: which padding a key is wrapped with, and that PKCS#1 v1.5 never stands under a tag.
func TestTransport(t *testing.T) {
	oaep, pkcs1 := oid(oidOAEP), oid(oidRSA)
	plain, announced := newPerson(t, "rsa", nil), newPerson(t, "rsa", capable(oidAES256CBC, oidOAEP))
	for name, c := range map[string]struct {
		p     person
		suite Suite
		oaep  bool
	}{
		"compatible": {plain, Compatible, false}, "compatible, announced": {announced, Compatible, true}, "modern": {plain, Modern, true},
	} {
		der := seal(t, []byte("x"), c.suite, c.p.cert)
		if got := bytes.Contains(der, oaep); got != c.oaep || bytes.Contains(der, pkcs1) == got {
			t.Errorf("%s: OAEP %v, want %v", name, got, c.oaep)
		}
	}
}

// TestSeveral: all recipients of a message open it, whatever their keys.
func TestSeveral(t *testing.T) {
	people := []person{newPerson(t, "rsa", nil), newPerson(t, "p256", nil), newPerson(t, "p521", nil)}
	for _, suite := range []Suite{Compatible, Modern} {
		der := seal(t, []byte("to all"), suite, people[0].cert, people[1].cert, people[2].cert)
		for _, p := range people {
			if got, err := p.opened(t, der); err != nil || string(got) != "to all" {
				t.Errorf("%s, %s: %q, %v", suite.Type(), p.cert.Subject, got, err)
			}
		}
	}
}

// TestTampered: no reader gives out a message under a tag of which one bit was changed.
func TestTampered(t *testing.T) {
	p := newPerson(t, "p256", nil)
	content := random(100)
	der := seal(t, content, Modern, p.cert)
	for _, at := range []int{len(der) - 1, len(der) - 16, len(der) - 18 - 50} {
		bad := bytes.Clone(der)
		bad[at] ^= 1
		if _, err := p.opened(t, bad); err == nil {
			t.Errorf("byte %d changed: opened", at)
		}
	}
}

func TestEncryptErrors(t *testing.T) {
	p := newPerson(t, "rsa", nil)
	certs := []*x509.Certificate{p.cert}
	for _, suite := range []Suite{Compatible, Modern} {
		w, err := Encrypt(io.Discard, certs, 10, suite, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 11)); err == nil || w.Close() == nil {
			t.Error("more than was said is a message")
		}
		if w, err = Encrypt(io.Discard, certs, 10, suite, now); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 9)); err != nil || w.Close() == nil {
			t.Error("less than was said is a message")
		}
		if w, err = Encrypt(io.Discard, certs, 0, suite, now); err != nil || w.Close() != nil || w.Close() == nil {
			t.Error("an empty message does not end once")
		}
		full := &failing{left: 70 << 10}
		if w, err = Encrypt(full, certs, 1<<20, suite, now); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 1<<20)); !errors.Is(err, errFull) || !errors.Is(w.Close(), errFull) {
			t.Errorf("no room: %v", err)
		}
	}
	if _, err := Encrypt(io.Discard, certs, -1, Modern, now); err == nil {
		t.Error("a negative size")
	}
	if _, err := Encrypt(io.Discard, certs, 0, Suite(7), now); err == nil {
		t.Error("no such suite")
	}
	var e *CertificateError
	if _, err := Encrypt(io.Discard, nil, 0, Modern, now); !errors.As(err, &e) {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := Encrypt(io.Discard, append(certs, nil), 0, Modern, now.AddDate(3, 0, 0)); !errors.As(err, &e) {
		t.Errorf("ran out: %v", err)
	}
}

var errFull = errors.New("full")

type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestMemory: one buffer, however long the content.
func TestMemory(t *testing.T) {
	p := newPerson(t, "p256", nil)
	content := random(1 << 20)
	for _, suite := range []Suite{Compatible, Modern} {
		r := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				w, err := Encrypt(io.Discard, []*x509.Certificate{p.cert}, 100<<20, suite, now)
				if err != nil {
					b.Fatal(err)
				}
				for range 100 {
					w.Write(content)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
		if n := r.AllocedBytesPerOp(); n > 256<<10 {
			t.Errorf("%s: %d bytes for a message of 100 MB", suite.Type(), n)
		}
	}
}

func BenchmarkEncrypt10MB(b *testing.B) {
	p := newPerson(b, "rsa", nil)
	content := random(10 << 20)
	for _, suite := range []Suite{Compatible, Modern} {
		b.Run(suite.Type(), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				seal(b, content, suite, p.cert)
			}
		})
	}
	// The same by openssl, as a whole process.
	tool(b, "openssl", "openssl")
	dir := b.TempDir()
	in := filepath.Join(dir, "in")
	write(b, in, content)
	for _, cipher := range []string{"aes-256-cbc", "aes-256-gcm"} {
		b.Run("openssl "+cipher, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				out := filepath.Join(dir, "out")
				if msg, err := exec.Command("openssl", "cms", "-encrypt", "-"+cipher, "-binary", "-outform", "DER", "-in", in, "-out", out, p.crt).CombinedOutput(); err != nil {
					b.Fatalf("%v\n%s", err, msg)
				}
				os.Remove(out)
			}
		})
	}
}

// FuzzCertificate: whatever a certificate says, sealing to it succeeds where Usable says so, or fails with words.
func FuzzCertificate(f *testing.F) {
	for _, algo := range []string{"rsa", "p256", "p521"} {
		f.Add(newPerson(f, algo, capable(oidAES256GCM, oidOAEP)).cert.Raw)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		certs := []*x509.Certificate{c}
		for _, suite := range []Suite{Compatible, Modern, Announced(certs)} {
			w, err := Encrypt(io.Discard, certs, 3, suite, now)
			usable := Usable(c, now)
			if err != nil && usable == nil && !strings.HasPrefix(err.Error(), "encrypt: ") || err == nil && usable != nil {
				t.Fatalf("usable says %v, encrypt %v", usable, err)
			}
			if err != nil {
				continue
			}
			w.Write([]byte("abc"))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
