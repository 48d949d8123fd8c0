package openpgp

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// ours is a key made by GnuPG as an operator exports it, with a passphrase or "".
func ours(t testing.TB, gpg func([]byte, ...string) []byte, name, algo, word string, now time.Time) *PrivateKey {
	t.Helper()
	locked := []string{"--passphrase", word}
	if algo == "rsa2048" {
		gpg(nil, append(locked, "--quick-generate-key", name, "rsa2048", "default", "never")...)
		fpr := strings.Split(strings.Split(string(gpg(nil, "--with-colons", "-k", name)), "fpr:::::::::")[1], ":")[0]
		gpg(nil, append(locked, "--quick-add-key", fpr, "rsa2048", "encrypt", "never")...)
	} else {
		gpg(nil, append(locked, "--quick-generate-key", name, algo, "default", "never")...)
	}
	block := gpg(nil, append(locked, "--armor", "--export-secret-keys", name)...)
	for _, wrong := range []string{"", "other"} {
		if word == "" {
			break
		}
		if _, err := ParsePrivateKeys(block, []byte(wrong), now); err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	keys, err := ParsePrivateKeys(block, []byte(word), now)
	if err != nil || len(keys) != 1 {
		t.Fatal(len(keys), err)
	}
	if got := keys[0].Addresses(); len(got) != 1 || !strings.Contains(name, got[0]) {
		t.Errorf("got addresses %v of %s", got, name)
	}
	if !keys[0].CanDecrypt() || keys[0].CanSign(now) != nil {
		t.Errorf("%s: opens %v, signs: %v", name, keys[0].CanDecrypt(), keys[0].CanSign(now))
	}
	return keys[0]
}

func TestDecryptGnuPG(t *testing.T) {
	gpg := gnupg(t)
	now := time.Now().Add(time.Minute)
	content := bytes.Repeat([]byte("Content-Type: text/plain\r\n\r\nBonjour é\r\n"), 5000)
	for _, algo := range []string{"future-default", "rsa2048"} {
		to := algo + " <" + algo + "@clinic.test>"
		own := ours(t, gpg, to, algo, "", now)
		keys := []*PrivateKey{{entity(t, nil)}, own}
		options := []string{"--trust-model", "always", "--yes", "-r", algo + "@clinic.test", "-u", algo + "@clinic.test"}
		for _, c := range []struct {
			args []string
			want Verdict
		}{
			{[]string{"--encrypt"}, Unsigned},
			{[]string{"--armor", "--encrypt"}, Unsigned},
			{[]string{"--armor", "--encrypt", "--compress-algo", "zlib", "-z", "9"}, Unsigned},
			{[]string{"--armor", "--encrypt", "--compress-algo", "bzip2"}, Unsigned},
			{[]string{"--encrypt", "--compress-algo", "none", "--throw-keyids"}, Unsigned},
			{[]string{"--armor", "--sign", "--encrypt"}, Good},
			{[]string{"--armor", "--sign", "--encrypt", "--digest-algo", "SHA512", "--textmode"}, Good},
			{[]string{"--armor", "--sign", "--encrypt", "--digest-algo", "SHA1"}, Bad},
		} {
			sealed := gpg(content, append(options, c.args...)...)
			var out bytes.Buffer
			info, err := Decrypt(&out, bytes.NewReader(sealed), keys, nil, 1<<20, now)
			same := bytes.Equal(out.Bytes(), content) || strings.Contains(strings.Join(c.args, " "), "textmode") && bytes.Equal(bytes.ReplaceAll(out.Bytes(), []byte("\r\n"), []byte("\n")), bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")))
			if err != nil || !same || info.Key != own.Fingerprint() || info.Signature.Verdict != c.want {
				t.Errorf("%s %v: %d bytes, %+v, %v", algo, c.args, out.Len(), info, err)
			}
			if c.want == Good && info.Signature.Fingerprint != own.Fingerprint() {
				t.Errorf("%s %v: signed by %s", algo, c.args, info.Signature.Fingerprint)
			}
			if _, err := Decrypt(io.Discard, bytes.NewReader(sealed), keys[:1], nil, 1<<20, now); !errors.Is(err, ErrNotForUs) {
				t.Errorf("%v, another key: %v", c.args, err)
			}
			if _, err := Decrypt(io.Discard, bytes.NewReader(sealed), keys, nil, 1000, now); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%v, 1000 bytes allowed: %v", c.args, err)
			}
		}
		if algo == "rsa2048" { // GnuPG 2.2 still writes it
			sealed := gpg(content, append(options, "--encrypt", "--rfc2440", "--disable-mdc", "--cipher-algo", "AES", "--compress-algo", "none")...)
			if _, err := Decrypt(io.Discard, bytes.NewReader(sealed), keys, nil, 1<<20, now); !errors.Is(err, ErrUnprotected) {
				t.Errorf("without MDC: %v", err)
			}
		}
	}
	// A signer whom we do not have, and whom we do.
	gpg(nil, "--quick-generate-key", "Stranger <s@dest.test>", "future-default", "default", "never")
	sealed := gpg(content, "--trust-model", "always", "--sign", "--encrypt", "-u", "s@dest.test", "-r", "rsa2048@clinic.test")
	known, err := ParseSigners(gpg(nil, "--armor", "--export", "s@dest.test"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParsePrivateKeys(gpg(nil, "--export-secret-keys", "rsa2048@clinic.test"), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := Decrypt(io.Discard, bytes.NewReader(sealed), keys, nil, 1<<20, now); err != nil || info.Signature.Verdict != Unknown || info.Signature.Fingerprint == "" {
		t.Errorf("a stranger: %+v, %v", info, err)
	}
	if info, err := Decrypt(io.Discard, bytes.NewReader(sealed), keys, known, 1<<20, now); err != nil || info.Signature.Verdict != Good || info.Signature.Fingerprint != known[0].Fingerprint() {
		t.Errorf("known: %+v, %v", info, err)
	}
}

// TestUnprotected: a packet of the old kind, tag 9, whatever is in it.
func TestUnprotected(t *testing.T) {
	now := time.Now().Add(time.Minute)
	e := entity(t, nil)
	key, err := (&Key{e}).entity.EncryptionKeyWithError(now, config(now))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := packet.SerializeEncryptedKeyAEAD(&out, key.PublicKey, packet.CipherAES128, false, make([]byte, 16), config(now)); err != nil {
		t.Fatal(err)
	}
	out.Write(append([]byte{0xc0 | 9, 100}, make([]byte, 100)...))
	if _, err := Decrypt(io.Discard, &out, []*PrivateKey{{e}}, nil, 1<<20, now); !errors.Is(err, ErrUnprotected) {
		t.Errorf("got %v, want %v", err, ErrUnprotected)
	}
}

// sealedFor is a message of ours to e, of both kinds of protection by the key's version.
func sealedFor(t testing.TB, e *openpgp.Entity, content []byte, now time.Time) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Encrypt(&out, []*Key{(&PrivateKey{e}).Public()}, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bare, err := io.ReadAll(decode(t, out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return bare
}

// TestDecryptTampered: no bit of what is sealed can change, and nothing can be cut off.
func TestDecryptTampered(t *testing.T) {
	now := time.Now().Add(time.Minute)
	content := bytes.Repeat([]byte("Lettre. "), 10)
	for name, e := range map[string]*openpgp.Entity{"MDC": entity(t, nil), "AEAD": entity(t, &packet.Config{V6Keys: true, AEADConfig: &packet.AEADConfig{DefaultMode: packet.AEADModeOCB}})} {
		keys := []*PrivateKey{{e}}
		der := sealedFor(t, e, content, now)
		var out bytes.Buffer
		if _, err := Decrypt(&out, bytes.NewReader(der), keys, nil, 1<<20, now); err != nil || !bytes.Equal(out.Bytes(), content) {
			t.Fatalf("%s: %d bytes, %v", name, out.Len(), err)
		}
		for i := range der {
			bad := bytes.Clone(der)
			bad[i] ^= 1
			var out bytes.Buffer
			if _, err := Decrypt(&out, bytes.NewReader(bad), keys, nil, 1<<20, now); err == nil && !bytes.Equal(out.Bytes(), content) {
				t.Fatalf("%s: byte %d: other content without an error", name, i)
			}
		}
		for n := range der {
			if _, err := Decrypt(io.Discard, bytes.NewReader(der[:n]), keys, nil, 1<<20, now); err == nil {
				t.Fatalf("%s: cut at %d: no error", name, n)
			}
		}
	}
	plain := []byte{0xc0 | 11, 8, 'b', 0, 0, 0, 0, 0, 'h', 'i'}
	if _, err := Decrypt(io.Discard, bytes.NewReader(plain), nil, nil, 1<<20, now); !errors.Is(err, ErrUnopened) {
		t.Errorf("not encrypted: %v", err)
	}
}

// TestLocked: the passphrase is wanted, and not told.
func TestLocked(t *testing.T) {
	ours(t, gnupg(t), "C <c@clinic.test>", "future-default", "geheim", time.Now().Add(time.Minute))
}

func TestSignDetached(t *testing.T) {
	gpg := gnupg(t)
	now := time.Now().Add(time.Minute)
	own := ours(t, gpg, "C <c@clinic.test>", "future-default", "", now)
	content := []byte("Content-Type: text/plain\r\n\r\nBonjour\r\n")
	var sig bytes.Buffer
	if err := SignDetached(&sig, bytes.NewReader(content), own, now); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in, asc, pub := filepath.Join(dir, "in"), filepath.Join(dir, "sig"), filepath.Join(dir, "pub")
	for path, p := range map[string][]byte{in: content, asc: sig.Bytes(), pub: gpg(nil, "--export", "c@clinic.test")} {
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gpg(nil, "--ignore-time-conflict", "--verify", asc, in)
	if _, err := exec.LookPath("rnp"); err != nil {
		t.Fatal("rnp is missing: install the Debian package rnp")
	}
	for _, theirs := range [][]byte{sig.Bytes(), gpg(content, "--armor", "--detach-sign"), gpg(content, "--detach-sign")} {
		got, err := Verify(bytes.NewReader(content), bytes.NewReader(theirs), []*Key{own.Public()}, now)
		if err != nil || got.Verdict != Good || got.Fingerprint != own.Fingerprint() || got.Time.IsZero() {
			t.Errorf("got %+v, %v", got, err)
		}
		if got, err = Verify(bytes.NewReader(append(bytes.Clone(content), ' ')), bytes.NewReader(theirs), []*Key{own.Public()}, now); err != nil || got.Verdict != Bad {
			t.Errorf("other content: got %+v, %v", got, err)
		}
		if got, err = Verify(bytes.NewReader(content), bytes.NewReader(theirs), nil, now); err != nil || got.Verdict != Unknown || got.Fingerprint == "" {
			t.Errorf("no key: got %+v, %v", got, err)
		}
		if got, err = Verify(bytes.NewReader(content), bytes.NewReader(theirs[:len(theirs)/2]), []*Key{own.Public()}, now); err != nil || got.Verdict == Good {
			t.Errorf("half a signature: got %+v, %v", got, err)
		}
	}
	if got, _ := Verify(bytes.NewReader(content), strings.NewReader("rubbish"), nil, now); got.Verdict != Bad {
		t.Errorf("rubbish: %+v", got)
	}
	if err := SignDetached(io.Discard, bytes.NewReader(content), &PrivateKey{(own.Public()).entity}, now); err == nil {
		t.Error("signed with a public key")
	}
	// rnp, what Thunderbird uses: it seals to our key and takes our signature, made now.
	sig.Reset()
	if err := SignDetached(&sig, bytes.NewReader(content), own, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in+".asc", sig.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	rnp := func(args ...string) []byte {
		out, err := exec.Command("rnp", append([]string{"--keyfile", pub}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("rnp %v: %v\n%s", args, err, out)
		}
		return out
	}
	rnp("--verify", in+".asc")
	sealed := filepath.Join(dir, "sealed")
	rnp("--encrypt", "-r", "c@clinic.test", "--output", sealed, in)
	f, err := os.Open(sealed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	if _, err := Decrypt(&out, f, []*PrivateKey{own}, nil, 1<<20, now); err != nil || !bytes.Equal(out.Bytes(), content) {
		t.Errorf("of rnp: %q, %v", out.Bytes(), err)
	}
}

// TestBomb: what is little when it arrives stays under the limit when it is unpacked.
func TestBomb(t *testing.T) {
	gpg := gnupg(t)
	now := time.Now().Add(time.Minute)
	gpg(nil, "--quick-generate-key", "B <b@clinic.test>", "future-default", "default", "never")
	keys, err := ParsePrivateKeys(gpg(nil, "--export-secret-keys"), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	sealed := gpg(make([]byte, 64<<20), "--trust-model", "always", "--encrypt", "-r", "b@clinic.test", "-z", "9")
	if len(sealed) > 1<<20 {
		t.Fatalf("%d bytes are no bomb", len(sealed))
	}
	var out counting
	if _, err := Decrypt(&out, bytes.NewReader(sealed), keys, nil, 1<<20, now); !errors.Is(err, ErrTooLarge) || out > 1<<20 {
		t.Errorf("%d bytes, %v", out, err)
	}
}

type counting int

func (c *counting) Write(p []byte) (int, error) { *c += counting(len(p)); return len(p), nil }

func FuzzDecrypt(f *testing.F) {
	now := time.Now().Add(time.Minute)
	e := entity(f, nil)
	f.Add(sealedFor(f, e, []byte("text"), now))
	f.Fuzz(func(t *testing.T, p []byte) {
		var out counting
		Decrypt(&out, bytes.NewReader(p), []*PrivateKey{{e}}, nil, 1<<16, now)
		if out > 1<<16 {
			t.Errorf("%d bytes", out)
		}
		Verify(strings.NewReader("text"), bytes.NewReader(p), []*Key{{e}}, now)
	})
}
