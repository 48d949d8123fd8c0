package smime

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// own is the person's key as we hold it.
func (p person) own(t testing.TB) Key {
	t.Helper()
	text, err := os.ReadFile(p.key)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return Key{Cert: p.cert, Private: key}
}

func run(t testing.TB, in []byte, name string, args ...string) []byte {
	t.Helper()
	tool(t, name, name)
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return out.Bytes()
}

// openers are other keys that stand before the right one.
func openers(t testing.TB, p person) []Key {
	return []Key{newPerson(t, "rsa", nil).own(t), newPerson(t, "p256", nil).own(t), p.own(t)}
}

func TestDecryptOwn(t *testing.T) {
	for _, algo := range []string{"rsa", "p256", "p384", "p521"} {
		p := newPerson(t, algo, nil)
		keys := openers(t, p)
		for _, suite := range []Suite{Compatible, Modern} {
			for _, size := range []int{0, 1, 15, 16, 17, chunk - 1, chunk, chunk + 16, 3*chunk + 5} {
				content := make([]byte, size)
				rand.Read(content)
				var out bytes.Buffer
				info, err := Decrypt(&out, bytes.NewReader(seal(t, content, suite, p.cert)), keys, Limits{})
				if err != nil || !bytes.Equal(out.Bytes(), content) {
					t.Fatalf("%s, suite %d, %d bytes: got %d bytes, %v", algo, suite, size, out.Len(), err)
				}
				if info.Authenticated != (suite == Modern) || info.Cert != p.cert || info.Weak {
					t.Errorf("%s, suite %d: got %+v", algo, suite, info)
				}
			}
		}
	}
}

func TestDecryptOpenSSL(t *testing.T) {
	content := make([]byte, 200<<10+3)
	rand.Read(content)
	for _, algo := range []string{"rsa", "p256", "p384", "p521"} {
		p := newPerson(t, algo, func(c *x509.Certificate) { c.SubjectKeyId = []byte(algo) })
		keys := openers(t, p)
		extra := [][]string{{}, {"-keyid"}}
		if algo == "rsa" {
			extra = append(extra, []string{"-keyopt", "rsa_padding_mode:oaep"}, []string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"},
				[]string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha384", "-keyopt", "rsa_mgf1_md:sha1"},
				[]string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha512", "-keyopt", "rsa_oaep_label:0011"})
		} else {
			extra = append(extra, []string{"-keyopt", "ecdh_kdf_md:sha1"}, []string{"-keyopt", "ecdh_kdf_md:sha384"}, []string{"-keyopt", "ecdh_kdf_md:sha512"},
				[]string{"-keyopt", "ecdh_cofactor_mode:1"})
		}
		for _, e := range extra {
			for _, cipher := range []string{"-aes-128-cbc", "-aes-192-cbc", "-aes-256-cbc", "-des3", "-aes-128-gcm", "-aes-192-gcm", "-aes-256-gcm"} {
				for _, stream := range [][]string{nil, {"-stream"}} {
					if len(e) == 0 || cipher == "-aes-256-cbc" || cipher == "-aes-128-gcm" {
						args := append([]string{"cms", "-encrypt", "-binary", "-outform", "DER", cipher, "-recip", p.crt}, stream...)
						t.Run(fmt.Sprint(algo, e, cipher, stream), func(t *testing.T) {
							if algo != "rsa" && cipher == "-des3" {
								t.Skip("its key wrap is 3DES: not opened")
							}
							var out bytes.Buffer
							info, err := Decrypt(&out, bytes.NewReader(run(t, content, "openssl", append(args, e...)...)), keys, Limits{})
							if err != nil || !bytes.Equal(out.Bytes(), content) {
								t.Fatalf("got %d bytes, %+v, %v", out.Len(), info, err)
							}
							if info.Weak != (cipher == "-des3") || info.Authenticated != (cipher[len(cipher)-3:] == "gcm") {
								t.Errorf("got %+v", info)
							}
						})
					}
				}
			}
		}
	}
}

func TestDecryptNSSAndGnuPG(t *testing.T) {
	p := newPerson(t, "rsa", nil)
	keys := openers(t, p)
	content := bytes.Repeat([]byte("Bonjour, voici une lettre.\r\n"), 5000)
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	write(t, in, content)
	check := func(name string, der []byte) {
		t.Helper()
		var out bytes.Buffer
		if info, err := Decrypt(&out, bytes.NewReader(der), keys, Limits{}); err != nil || !bytes.Equal(out.Bytes(), content) {
			t.Errorf("%s: got %d bytes, %+v, %v", name, out.Len(), info, err)
		}
	}
	tool(t, "cmsutil", "libnss3-tools")
	run(t, nil, "certutil", "-N", "-d", dir, "--empty-password")
	run(t, nil, "certutil", "-A", "-d", dir, "-n", "a", "-t", "CTu,CTu,CTu", "-i", p.crt)
	check("cmsutil", run(t, nil, "cmsutil", "-E", "-d", dir, "-r", "a@dest.test", "-i", in))
	tool(t, "gpgsm", "gpgsm")
	home, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	gpgsm := func(args ...string) []byte {
		return run(t, nil, "gpgsm", append([]string{"--homedir", home, "--batch", "--quiet", "--disable-crl-checks", "--disable-dirmngr"}, args...)...)
	}
	gpgsm("--import", p.crt)
	write(t, filepath.Join(home, "trustlist.txt"), []byte(fingerprint(p.cert)+" S relax\n"))
	check("gpgsm", gpgsm("--encrypt", "-r", "a@dest.test", in))
}

// TestDecryptTampered turns every bit position of the structure and of the content's ends: with GCM each is an error or without effect on
// the content; with CBC no change of the structure gives another content than garbage of the same message.
func TestDecryptTampered(t *testing.T) {
	p := newPerson(t, "rsa", nil)
	keys := []Key{p.own(t)}
	content := bytes.Repeat([]byte("Lettre. "), 40)
	der := seal(t, content, Modern, p.cert)
	silent := 0
	for i := range der {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(der)
			bad[i] ^= bit
			var out bytes.Buffer
			info, err := Decrypt(&out, bytes.NewReader(bad), keys, Limits{})
			if err == nil {
				silent++
				if !bytes.Equal(out.Bytes(), content) {
					t.Fatalf("byte %d: other content without an error", i)
				}
			} else if info.Authenticated {
				t.Fatalf("byte %d: authenticated with an error", i)
			}
		}
	}
	// Two versions, two NULLs and the content's type mean nothing to us.
	if silent > 2*(1+1+1+1+9) {
		t.Errorf("%d changes went unseen", silent)
	}
	for n := range der {
		if _, err := Decrypt(io.Discard, bytes.NewReader(der[:n]), keys, Limits{}); err == nil {
			t.Fatalf("cut at %d: no error", n)
		}
	}
	if _, err := Decrypt(io.Discard, bytes.NewReader(append(der, 0)), keys, Limits{}); err == nil {
		t.Error("something behind it: no error")
	}
	cbc := seal(t, content, Compatible, p.cert)
	for n := range cbc {
		if _, err := Decrypt(io.Discard, bytes.NewReader(cbc[:n]), keys, Limits{}); err == nil {
			t.Fatalf("CBC cut at %d: no error", n)
		}
	}
}

// TestDecryptPKCS1IsSilent: a wrapped key with a wrong padding must look like a wrong content, the same each time.
func TestDecryptPKCS1IsSilent(t *testing.T) {
	p := newPerson(t, "rsa", nil)
	keys := []Key{p.own(t)}
	der := run(t, make([]byte, 4000), "openssl", "cms", "-encrypt", "-binary", "-outform", "DER", "-aes-256-gcm", "-recip", p.crt)
	wrapped := bytes.Index(der, []byte{tagOctets, 0x82, 1, 0}) + 4
	for i := range 32 {
		bad := bytes.Clone(der)
		bad[wrapped+200+i] ^= 1
		if _, err := Decrypt(io.Discard, bytes.NewReader(bad), keys, Limits{}); err != ErrUnopened {
			t.Fatalf("got %v, want %v", err, ErrUnopened)
		}
	}
	private := keys[0]
	ways := transported(tlv(tagSequence, number(0), must(issuerAndSerial(p.cert)), tlv(tagSequence, oid(oidRSA), null), tlv(tagOctets, bytes.Repeat([]byte{7}, 256))), []Key{private})
	a, err := ways[0].unwrap(32)
	b, _ := ways[0].unwrap(32)
	if err != nil || !bytes.Equal(a, b) || len(a) != 32 {
		t.Errorf("got %x and %x, %v", a, b, err)
	}
}

func must(p []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return p
}

// TestDecryptAttributes: authenticated attributes stand behind the content and under the tag.
func TestDecryptAttributes(t *testing.T) {
	p := newPerson(t, "rsa", nil)
	for _, size := range []int{0, 1, 16, 100, chunk + 33} {
		content := make([]byte, size)
		rand.Read(content)
		key, nonce := make([]byte, 16), make([]byte, 12)
		rand.Read(key)
		rand.Read(nonce)
		block, _ := aes.NewCipher(key)
		aead, _ := cipher.NewGCM(block)
		attribute := tlv(tagSequence, oid(oidContentType), tlv(tagSet, oid(oidData)))
		sealed := aead.Seal(nil, nonce, content, tlv(tagSet, attribute))
		info, err := transport(p.cert, keyOf(p), key, true)
		if err != nil {
			t.Fatal(err)
		}
		make := func(attribute []byte) []byte {
			return tlv(tagSequence, oid(oidAuth), tlv(explicit, tlv(tagSequence, number(0), tlv(tagSet, info),
				tlv(tagSequence, oid(oidData), tlv(tagSequence, oid(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 6}), tlv(tagSequence, tlv(tagOctets, nonce), number(16))), tlv(implicit, sealed[:size])),
				tlv(explicit+1, attribute), tlv(tagOctets, sealed[size:]))))
		}
		var out bytes.Buffer
		if got, err := Decrypt(&out, bytes.NewReader(make(attribute)), []Key{p.own(t)}, Limits{}); err != nil || !got.Authenticated || !bytes.Equal(out.Bytes(), content) {
			t.Errorf("%d bytes: got %+v, %v", size, got, err)
		}
		attribute[len(attribute)-1] ^= 1
		if _, err := Decrypt(io.Discard, bytes.NewReader(make(attribute)), []Key{p.own(t)}, Limits{}); !errors.Is(err, ErrUnopened) {
			t.Errorf("%d bytes, attribute changed: got %v", size, err)
		}
	}
}

func TestDecryptLimits(t *testing.T) {
	p, other := newPerson(t, "rsa", nil), newPerson(t, "p256", nil)
	keys := []Key{p.own(t)}
	der := seal(t, make([]byte, 1000), Modern, p.cert)
	many := seal(t, nil, Modern, other.cert, other.cert, other.cert, p.cert)
	for _, c := range []struct {
		name   string
		der    []byte
		limits Limits
		keys   []Key
		want   error
	}{
		{"fits", der, Limits{Size: 1000, Recipients: 1, Head: 2000}, keys, nil},
		{"size", der, Limits{Size: 999}, keys, ErrTooLarge},
		{"head", der, Limits{Head: 100}, keys, nil},
		{"recipients", many, Limits{Recipients: 3}, keys, nil},
		{"not ours", der, Limits{}, []Key{other.own(t)}, ErrNotForUs},
		{"no keys", der, Limits{}, nil, ErrNotForUs},
	} {
		_, err := Decrypt(io.Discard, bytes.NewReader(c.der), c.keys, c.limits)
		if (err == nil) != (c.name == "fits") || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	deep := append(bytes.Repeat([]byte{0x30, 0x80}, 100), make([]byte, 200)...)
	if _, err := Decrypt(io.Discard, bytes.NewReader(deep), keys, Limits{}); err == nil {
		t.Error("nested 100 times: no error")
	}
	broken := errors.New("disk full")
	if _, err := Decrypt(faulty{broken}, bytes.NewReader(der), keys, Limits{}); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type faulty struct{ err error }

func (f faulty) Write([]byte) (int, error) { return 0, f.err }

func FuzzDecrypt(f *testing.F) {
	a, b := newPerson(f, "rsa", nil), newPerson(f, "p256", nil)
	keys := []Key{a.own(f), b.own(f)}
	for _, s := range []Suite{Compatible, Modern} {
		f.Add(seal(f, []byte("text"), s, a.cert, b.cert))
	}
	f.Add(run(f, []byte("text"), "openssl", "cms", "-encrypt", "-binary", "-stream", "-outform", "DER", "-aes-256-cbc", "-recip", b.crt))
	f.Fuzz(func(t *testing.T, der []byte) {
		var out bytes.Buffer
		info, err := Decrypt(&out, bytes.NewReader(der), keys, Limits{Size: 1 << 20})
		if out.Len() > len(der) {
			t.Errorf("%d bytes out of %d", out.Len(), len(der))
		}
		if err != nil && info.Authenticated {
			t.Error("authenticated with an error")
		}
	})
}

func BenchmarkDecrypt(b *testing.B) {
	p := newPerson(b, "rsa", nil)
	keys := []Key{p.own(b)}
	content := make([]byte, 10<<20)
	rand.Read(content)
	for name, suite := range map[string]Suite{"cbc": Compatible, "gcm": Modern} {
		der := seal(b, content, suite, p.cert)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decrypt(io.Discard, bytes.NewReader(der), keys, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		in := filepath.Join(b.TempDir(), "in")
		write(b, in, der)
		b.Run(name+"-openssl", func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				run(b, nil, "openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", in, "-recip", p.crt, "-inkey", p.key, "-out", os.DevNull)
			}
		})
	}
}
