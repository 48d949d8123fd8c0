package openpgp

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"pgregory.net/rapid"
)

// edges are sizes about which a length or a chunk ends, inside or outside: lengths of 1, 2 and 5 octets, whole chunks less the
// literal packet's header, the prefix and the sum.
func edges() (out []int) {
	for _, about := range []int{48, 192, 512, 8384, chunk, 2 * chunk} {
		for d := -72; d <= 16; d++ {
			out = append(out, max(0, about+d))
		}
	}
	return out
}

func text(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

// seal writes p in pieces of those sizes, again and again; all at once without sizes.
func seal(t rapid.TB, keys, hidden []*Key, now time.Time, p []byte, pieces ...int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Encrypt(&out, keys, hidden, now)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; len(p) > 0; i++ {
		n := len(p)
		if len(pieces) > 0 {
			n = min(n, pieces[i%len(pieces)])
		}
		if k, err := w.Write(p[:n]); k != n || err != nil {
			t.Fatalf("wrote %d of %d: %v", k, n, err)
		}
		p = p[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// open decrypts with the library, which checks the sum when all is read.
func open(t testing.TB, e *openpgp.Entity, armoured []byte) ([]byte, error) {
	return openBinary(e, decode(t, armoured))
}

func openBinary(e *openpgp.Entity, r io.Reader) ([]byte, error) {
	md, err := openpgp.ReadMessage(r, openpgp.EntityList{e}, nil, &packet.Config{})
	if err != nil {
		return nil, err
	}
	return io.ReadAll(md.UnverifiedBody)
}

func TestLibraryDecryptsEverySize(t *testing.T) {
	now := time.Now().Add(time.Minute) // behind every key made here
	e := entity(t, nil)
	keys, err := ParseKeys(public(t, e), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range edges() {
		want := text(size)
		if got, err := open(t, e, seal(t, keys, nil, now, want)); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d: got %d bytes, %v", size, len(got), err)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		want := text(rapid.IntRange(0, 5*chunk).Draw(r, "size"))
		pieces := rapid.SliceOfN(rapid.IntRange(1, 3*chunk), 1, 4).Draw(r, "pieces")
		if got, err := open(t, e, seal(r, keys, nil, now, want, pieces...)); err != nil || !bytes.Equal(got, want) {
			r.Fatalf("got %d bytes of %d, %v", len(got), len(want), err)
		}
	})
	// The sum is one that is checked: a bit of the last block or of the first chunk that was altered does not pass.
	raw, err := io.ReadAll(decode(t, seal(t, keys, nil, now, text(3*chunk))))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{len(raw) - 1, chunk} {
		bad := bytes.Clone(raw)
		bad[at] ^= 1
		if _, err := openBinary(e, bytes.NewReader(bad)); err == nil {
			t.Errorf("altered at byte %d of %d, and was read", at, len(raw))
		}
	}
}

// TestOtherReaders: the readers that correspondents have, at sizes where they could part company.
func TestOtherReaders(t *testing.T) {
	for _, name := range []string{"sq", "rnp"} {
		if _, err := exec.LookPath(name); err != nil && testing.Short() {
			t.Skip(name + " is missing")
		} else if err != nil {
			t.Fatalf("%s is missing: install the Debian packages sq and rnp", name)
		}
	}
	gpg := gnupg(t)
	gpg(nil, "--default-preference-list", "AES256 SHA256 Uncompressed", "--quick-generate-key", "Strong <s@dest.test>", "future-default", "default", "never")
	gpg(nil, "--quick-generate-key", "Usual <u@dest.test>", "future-default", "default", "never")
	now := time.Now().Add(time.Minute) // behind every key made here
	strong, err := ParseKeys(gpg(nil, "--export", "s@dest.test"), now)
	if err != nil {
		t.Fatal(err)
	}
	usual, err := ParseKeys(gpg(nil, "--export", "u@dest.test"), now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	secret, sealed := filepath.Join(dir, "secret"), filepath.Join(dir, "sealed")
	if err := os.WriteFile(secret, gpg(nil, "--export-secret-keys", "u@dest.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) []byte {
		t.Helper()
		var errs bytes.Buffer
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), "HOME="+dir), &errs
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, errs.String())
		}
		return out
	}
	for _, size := range []int{0, 1, 165, 166, 8377, 8378, 8379, chunk - 48, chunk - 47, chunk - 46, chunk - 7, chunk - 6, chunk - 5, 2*chunk - 6, 2*chunk - 5, 300_000} {
		want := text(size)
		p := seal(t, usual, nil, now, want, 10_007)
		if err := os.WriteFile(sealed, p, 0o600); err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string][]byte{
			"gpg": gpg(p, "--decrypt"),
			"sq":  run("sq", "decrypt", "--recipient-key", secret, sealed),
			"rnp": run("rnp", "--decrypt", "--keyfile", secret, "--output", "-", sealed),
		} {
			if !bytes.Equal(got, want) {
				t.Errorf("%s of %d bytes: %d came back", name, size, len(got))
			}
		}
	}
	// AES-128 is number 7, AES-256 9.
	for name, c := range map[string]struct {
		keys []*Key
		want string
	}{"strong": {strong, "9:"}, "usual": {usual, "7:"}, "both": {append(usual[:1:1], strong...), "9:"}} {
		out := string(gpg(seal(t, c.keys, nil, now, nil), "--status-fd", "1", "--show-session-key", "--decrypt"))
		if !strings.Contains(out, "SESSION_KEY "+c.want) {
			t.Errorf("%s: got %q, want a session key %s", name, out, c.want)
		}
	}
}

// TestMixedKeys: one key that does not announce SEIPDv2 makes it SEIPDv1 for all.
func TestMixedKeys(t *testing.T) {
	now := time.Now().Add(time.Minute) // behind every key made here
	old, young := entity(t, nil), entity(t, &packet.Config{V6Keys: true, AEADConfig: &packet.AEADConfig{DefaultMode: packet.AEADModeGCM}})
	a, err := ParseKeys(public(t, old), now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseKeys(public(t, young), now)
	if err != nil {
		t.Fatal(err)
	}
	want := text(3 * chunk)
	for name, c := range map[string]struct {
		keys, hidden []*Key
		version      byte
		readers      []*openpgp.Entity
	}{
		"old":         {a, nil, 1, []*openpgp.Entity{old}},
		"young":       {b, nil, 2, []*openpgp.Entity{young}},
		"both":        {append(a[:1:1], b...), nil, 1, []*openpgp.Entity{old, young}},
		"one hidden":  {a, b, 1, []*openpgp.Entity{old, young}},
		"both hidden": {nil, append(b[:1:1], a...), 1, []*openpgp.Entity{old, young}},
	} {
		p := seal(t, c.keys, c.hidden, now, want)
		for _, e := range c.readers {
			if got, err := open(t, e, p); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: got %d bytes, %v", name, len(got), err)
			}
		}
		for r := packet.NewReader(decode(t, p)); ; {
			q, err := r.Next()
			if err != nil {
				t.Fatalf("%s: no sealed packet: %v", name, err)
			}
			if s, ok := q.(*packet.SymmetricallyEncrypted); ok {
				if s.Version != int(c.version) {
					t.Errorf("%s: got SEIPDv%d, want v%d", name, s.Version, c.version)
				}
				break
			}
		}
	}
}

// TestFailingWriter: an error of w comes out, at whatever byte it happens.
func TestFailingWriter(t *testing.T) {
	now := time.Now().Add(time.Minute) // behind every key made here
	keys, err := ParseKeys(public(t, entity(t, nil)), now)
	if err != nil {
		t.Fatal(err)
	}
	whole := len(seal(t, keys, nil, now, text(3*chunk)))
	for room := 0; room < whole; room += 997 {
		w, err := Encrypt(&full{room}, keys, nil, now)
		if err == nil {
			_, err = w.Write(text(3 * chunk))
		}
		if err == nil {
			err = w.Close()
		}
		if err == nil {
			t.Errorf("%d bytes of room: no error", room)
		}
	}
}

type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}
