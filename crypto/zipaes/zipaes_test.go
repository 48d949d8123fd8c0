package zipaes

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const passphrase = "corail-menthe-sillon-7421"

func sevenZip(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("7z")
	if err != nil {
		t.Fatal("7z is missing: install the Debian package p7zip-full")
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(p)
	return p
}

func TestSevenZipOpens(t *testing.T) {
	files := map[string][]byte{
		"message.txt": []byte("Le résultat est normal."), "vide.txt": nil, "é 日本.pdf": random(200_001), "piece-02.bin": random(1023),
		"long.txt": bytes.Repeat([]byte("abc\r\n"), 100_000), "block.bin": random(1024 * 33),
	}
	dir := t.TempDir()
	var out bytes.Buffer
	z, err := NewWriter(struct{ io.Writer }{&out}, passphrase, time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		w, err := z.Create(name, strings.HasSuffix(name, ".pdf") || strings.HasSuffix(name, ".bin"))
		if err != nil {
			t.Fatal(err)
		}
		for p := want; len(p) > 0; {
			n := min(len(p), 1+rand.IntN(70_000))
			if _, err := w.Write(p[:n]); err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out.Bytes(), []byte("normal")) {
		t.Error("the archive holds clear text")
	}
	file := filepath.Join(dir, "message.zip")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := sevenZip(t, "t", "-p"+passphrase, file); err != nil {
		t.Fatalf("7z t: %v\n%s", err, got)
	}
	if got, err := sevenZip(t, "t", "-pcorail-menthe-sillon-7422", file); err == nil {
		t.Errorf("a wrong passphrase opens it:\n%s", got)
	}
	if got, err := sevenZip(t, "l", "-slt", file); err != nil || strings.Count(got, "AES-256") != len(files) {
		t.Errorf("not every entry is AES-256: %v\n%s", err, got)
	}
	if got, err := sevenZip(t, "x", "-p"+passphrase, "-o"+dir, file); err != nil {
		t.Fatalf("7z x: %v\n%s", err, got)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d, %v", name, len(got), len(want), err)
		}
	}
	// A changed byte of an entry must not pass.
	bad := bytes.Clone(out.Bytes())
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(file, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := sevenZip(t, "t", "-p"+passphrase, file); err == nil {
		t.Errorf("an altered archive passes:\n%s", got)
	}
}

func TestRefused(t *testing.T) {
	for _, p := range []string{"", "short", "caf\u00e9-menthe-sillon", "tab\tmenthe-sillon"} {
		if _, err := NewWriter(io.Discard, p, time.Time{}); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%q: %v", p, err)
		}
	}
	z, err := NewWriter(io.Discard, passphrase, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Create("a.txt", true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "A.TXT", "../x", "a/b", `a\b`, "C:x", "CON", "nul.txt", "com1.pdf", "x.", " x", ".x", "a\nb", "a\u202efdp.exe",
		"a\xff", strings.Repeat("n", 300)} {
		if _, err := z.Create(name, true); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	for _, name := range []string{"compte.pdf", "console.txt", "b.c.d"} {
		if _, err := z.Create(name, true); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// BenchmarkStream300MB shows that memory does not grow with the entry.
func BenchmarkStream300MB(b *testing.B) {
	chunk := random(1 << 20)
	for _, store := range []bool{true, false} {
		b.Run(map[bool]string{true: "store", false: "deflate"}[store], func(b *testing.B) {
			b.SetBytes(300 << 20)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for b.Loop() {
				z, err := NewWriter(io.Discard, passphrase, time.Time{})
				if err != nil {
					b.Fatal(err)
				}
				w, err := z.Create("a.bin", store)
				if err != nil {
					b.Fatal(err)
				}
				for range 300 {
					if _, err := w.Write(chunk); err != nil {
						b.Fatal(err)
					}
				}
				if err := z.Close(); err != nil {
					b.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)
			if got := int64(after.Sys) - int64(before.Sys); got > 16<<20 {
				b.Errorf("memory grew by %d bytes", got)
			}
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N), "alloc-B/op")
		})
	}
}
