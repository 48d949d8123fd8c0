package openpgp

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// gnupg is a GnuPG home of the test's own; its path is short because the agent's socket lies in it.
func gnupg(t testing.TB) func(stdin []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Fatal("gpg is missing: install the Debian package gnupg")
	}
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	run := func(stdin []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", dir, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		cmd.Stdin = bytes.NewReader(stdin)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, errs.String())
		}
		if strings.Contains(strings.ToLower(errs.String()), "warning") && args[0] == "--decrypt" {
			t.Errorf("gpg %v warns: %s", args, errs.String())
		}
		return out.Bytes()
	}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run()
		os.RemoveAll(dir)
	})
	return run
}

func TestGnuPGDecrypts(t *testing.T) {
	gpg := gnupg(t)
	gpg(nil, "--quick-generate-key", "Colleague <c@dest.test>", "future-default", "default", "1y")
	gpg(nil, "--quick-generate-key", "Other <o@dest.test>", "rsa2048", "default", "never")
	fpr := strings.Split(strings.Split(string(gpg(nil, "--with-colons", "-K", "o@dest.test")), "fpr:::::::::")[1], ":")[0]
	gpg(nil, "--quick-add-key", fpr, "rsa2048", "encrypt", "never")
	now := time.Now().Add(time.Minute) // behind every key made here
	for name, export := range map[string][]string{"armoured": {"--armor", "--export", "c@dest.test"}, "binary": {"--export", "o@dest.test"}} {
		keys, err := ParseKeys(gpg(nil, export...), now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if end := keys[0].Expires(now); end.IsZero() != (name == "binary") {
			t.Errorf("%s: expires %v", name, end)
		}
		for _, size := range []int{0, 1, 56, 57, 58, 59, 60, 100_000, 3 << 20} {
			want := bytes.Repeat([]byte("é0123456789abcdef"), size/18+1)[:size]
			for _, hidden := range []bool{false, true} {
				var out bytes.Buffer
				a, b := keys, []*Key(nil)
				if hidden {
					a, b = b, a
				}
				w, err := Encrypt(&out, a, b, now)
				if err != nil {
					t.Fatal(err)
				}
				for p := want; len(p) > 0; {
					n := min(len(p), 10_007)
					w.Write(p[:n])
					p = p[n:]
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(strings.ReplaceAll(out.String(), "\r\n", ""), "\n") {
					t.Error("a line ends with LF alone")
				}
				if got := gpg(out.Bytes(), "--decrypt"); !bytes.Equal(got, want) {
					t.Errorf("%s %d hidden=%v: %d bytes came back", name, size, hidden, len(got))
				}
				if hidden && size == 1 && !strings.Contains(string(gpg(out.Bytes(), "--list-packets")), "keyid 0000000000000000") {
					t.Error("the hidden recipient's id is written")
				}
			}
		}
	}
}

// entity makes a key with the library; v6 keys are what panicked with a nil config.
func entity(t testing.TB, c *packet.Config) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("A", "", "a@dest.test", c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestVersion6Key(t *testing.T) {
	now := time.Now().Add(time.Minute) // behind every key made here
	e := entity(t, &packet.Config{V6Keys: true, AEADConfig: &packet.AEADConfig{DefaultMode: packet.AEADModeGCM}})
	keys, err := ParseKeys(public(t, e), now)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := Encrypt(&out, keys, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "bonjour")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	md, err := openpgp.ReadMessage(decode(t, out.Bytes()), openpgp.EntityList{e}, nil, &packet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(md.UnverifiedBody); string(got) != "bonjour" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func decode(t testing.TB, p []byte) io.Reader {
	t.Helper()
	b, err := armor.Decode(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	return b.Body
}

func TestBadKeys(t *testing.T) {
	now := time.Now().Add(time.Minute) // behind every key made here
	past := &packet.Config{Time: func() time.Time { return time.Now().Add(-48 * time.Hour) }, KeyLifetimeSecs: 3600}
	weak := entity(t, &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 1024, MinRSABits: 1024})
	revoked := entity(t, nil)
	if err := revoked.Revoke(packet.NoReason, "", &packet.Config{}); err != nil {
		t.Fatal(err)
	}
	signOnly := entity(t, nil)
	signOnly.Subkeys = nil
	private := entity(t, nil)
	var pb bytes.Buffer
	if err := private.SerializePrivate(&pb, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		block []byte
		want  string
	}{
		"expired":   {public(t, entity(t, past)), "has expired"},
		"weak":      {public(t, weak), "not acceptable"},
		"revoked":   {public(t, revoked), "is revoked"},
		"sign only": {public(t, signOnly), "no usable encryption subkey"},
		"private":   {pb.Bytes(), "private key"},
		"nothing":   {nil, "cannot be read"},
		"garbage":   {[]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxx"), ""},
		"message":   {[]byte("-----BEGIN PGP MESSAGE-----\n\nxxxx\n-----END PGP MESSAGE-----\n"), "not a public key"},
		"cut":       {public(t, entity(t, nil))[:100], ""},
		"huge":      {make([]byte, 2<<20), "larger"},
	} {
		_, err := ParseKeys(c.block, now)
		var ke *KeyError
		if !errors.As(err, &ke) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	// A key that expires after it was read is refused when it is used.
	keys, err := ParseKeys(public(t, entity(t, &packet.Config{KeyLifetimeSecs: 3600})), now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Encrypt(io.Discard, keys, nil, now.Add(2*time.Hour)); err == nil {
		t.Error("an expired key was encrypted to")
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(public(f, entity(f, nil)))
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxx"))
	now := time.Now().Add(time.Minute) // behind every key made here
	f.Fuzz(func(t *testing.T, p []byte) {
		if keys, err := ParseKeys(p, now); err == nil && len(keys) == 0 {
			t.Fatal("no key and no error")
		}
	})
}

func BenchmarkEncrypt1MB(b *testing.B) {
	now := time.Now().Add(time.Minute) // behind every key made here
	keys, err := ParseKeys(public(b, entity(b, nil)), now)
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		w, err := Encrypt(io.Discard, keys, nil, now)
		if err != nil {
			b.Fatal(err)
		}
		w.Write(p)
		w.Close()
	}
}
