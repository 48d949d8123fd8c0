package message

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func fill(t *testing.T, g *Budget, want []byte) *Body {
	t.Helper()
	w := g.NewWriter(0)
	for p := want; len(p) > 0; {
		n := min(len(p), 1+rand.IntN(100_000))
		if _, err := w.Write(p[:n]); err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
	b, err := w.Body()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func random(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(p)
	return p
}

// TestUnsummed: the sum of a body that was written without is the same.
func TestUnsummed(t *testing.T) {
	want := random(3*segment + 17)
	for _, limit := range []int64{0, 100_000, 16 << 20} {
		w := NewBudget(limit, t.TempDir()).NewWriter(0).Unsummed()
		if _, err := w.Write(want); err != nil {
			t.Fatal(err)
		}
		b, err := w.Body()
		if err != nil {
			t.Fatal(err)
		}
		if b.Sum() != sha256.Sum256(want) || b.Sum() != BytesBody(want).Sum() {
			t.Errorf("limit %d: a wrong sum", limit)
		}
		b.Close()
	}
}

func TestBodyInMemoryAndInFile(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 1, 8 << 10, segment - 1, segment, segment + 1, 3*segment + 17, 2 << 20} {
		for _, limit := range []int64{0, 100_000, 16 << 20} {
			want := random(size)
			g := NewBudget(limit, dir)
			b := fill(t, g, want)
			if b.Size() != int64(size) || b.Sum() != sha256.Sum256(want) {
				t.Fatalf("size %d limit %d: got size %d or a wrong sum", size, limit, b.Size())
			}
			got, err := io.ReadAll(b.Section(0, -1))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("size %d limit %d: bytes differ, %v", size, limit, err)
			}
			for range 20 {
				if size == 0 {
					break
				}
				off := rand.IntN(size)
				n := rand.IntN(size - off + 1)
				got, err := io.ReadAll(b.Section(int64(off), int64(n)))
				if err != nil || !bytes.Equal(got, want[off:off+n]) {
					t.Fatalf("size %d limit %d: section %d+%d differs, %v", size, limit, off, n, err)
				}
			}
			if g.Used() > limit {
				t.Errorf("used %d of %d", g.Used(), limit)
			}
			b.Close()
			b.Close()
			if g.Used() != 0 {
				t.Errorf("size %d limit %d: %d bytes of the budget never came back", size, limit, g.Used())
			}
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("temp folder still names %d files", len(left))
	}
}

func TestSpillHoldsNoClearText(t *testing.T) {
	marker := []byte("MARKER-la-patiente-est-enceinte")
	b := fill(t, NewBudget(0, t.TempDir()), bytes.Repeat(marker, 10_000))
	defer b.Close()
	raw, err := io.ReadAll(io.NewSectionReader(b.spill.f, 0, 1<<30))
	if err != nil || len(raw) < len(marker)*10_000 {
		t.Fatalf("temp file of %d bytes, %v", len(raw), err)
	}
	if bytes.Contains(raw, marker) {
		t.Error("temp file holds clear text")
	}
	raw[100] ^= 1
	if _, err := b.spill.f.WriteAt(raw[100:101], 100); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(b.Section(0, -1)); err == nil {
		t.Error("an altered temp file was read without an error")
	}
}

// A body outlives its owner while somebody holds it, and gives everything back once.
func TestHeldBody(t *testing.T) {
	for _, limit := range []int64{0, 16 << 20} { // in a file, in memory
		g := NewBudget(limit, t.TempDir())
		want := random(3 * segment)
		b := fill(t, g, want)
		used := g.Used()
		first, second := b.Hold(), b.Hold()
		for _, end := range []func() error{b.Close, b.Close, first} {
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(b.Section(0, -1)); err != nil || !bytes.Equal(got, want) || g.Used() != used {
				t.Fatalf("limit %d: %v, %d bytes of the budget instead of %d", limit, err, g.Used(), used)
			}
		}
		if err := second(); err != nil || g.Used() != 0 {
			t.Errorf("limit %d: %v, %d bytes not given back", limit, err, g.Used())
		}
		if err := b.Hold()(); err != nil || g.Used() != 0 { // too late
			t.Errorf("limit %d: %v, %d bytes given back twice", limit, err, -g.Used())
		}
		if _, err := b.ReadAt(make([]byte, 1), 0); limit == 0 && err == nil {
			t.Error("the file is still open")
		}
	}
}

func TestNoRoom(t *testing.T) {
	w := NewBudget(10, filepath.Join(t.TempDir(), "gone")).NewWriter(0)
	if _, err := w.Write(make([]byte, 100)); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v, want ErrNoRoom", err)
	}
	w.Abort()
}

func BenchmarkBodyWrite(b *testing.B) {
	chunk := random(32 << 10)
	for name, limit := range map[string]int64{"memory": 1 << 30, "file": 0} {
		b.Run(name, func(b *testing.B) {
			g := NewBudget(limit, b.TempDir())
			b.SetBytes(1 << 20)
			for b.Loop() {
				w := g.NewWriter(1 << 20)
				for range 32 {
					w.Write(chunk)
				}
				body, err := w.Body()
				if err != nil {
					b.Fatal(err)
				}
				body.Close()
			}
		})
	}
}
