package message

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

type line struct {
	text string
	at   int64
	mid  bool
	long bool
}

func lines(t *testing.T, b *Body) (all []line) {
	t.Helper()
	s := newScanner(b)
	for {
		text, at, err := s.next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, line{string(text), at, s.mid, s.long})
	}
}

// TestBulk: several lines at once are the same lines, and one that begins with "--" is always the first of its own.
func TestBulk(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 200 {
		var text []byte
		for size := r.IntN(300 << 10); len(text) < size; {
			text = append(text, []string{"\r\n", "\n", "-", "--", "--b", "aaaa", "\r\n--", "\n-", strings.Repeat("x", r.IntN(3000)), strings.Repeat("y", r.IntN(1+r.IntN(90<<10)))}[r.IntN(10)]...)
		}
		w := NewBudget(int64(round%3)<<20, t.TempDir()).NewWriter(0)
		w.Write(text)
		b, err := w.Body()
		if err != nil {
			t.Fatal(err)
		}
		var want, got []line
		for _, l := range lines(t, b) {
			want = append(want, line{text: l.text, at: l.at})
		}
		s := newScanner(b)
		s.bulk = true
		for {
			piece, at, err := s.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, l := range strings.SplitAfter(string(piece), "\n") {
				if i > 0 && strings.HasPrefix(l, "--") {
					t.Fatalf("round %d: a line at %d begins with dashes and lies within a piece", round, at)
				}
				for ; len(l) > window; l, at = l[window:], at+window { // one that lies in memory as a whole
					got = append(got, line{text: l[:window], at: at})
				}
				if l != "" {
					got = append(got, line{text: l, at: at})
				}
				at += int64(len(l))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: %d lines, want %d", round, len(got), len(want))
		}
		b.Close()
	}
}

// However a body lies in memory or in a file, it has the same lines: of any length, across pieces and windows.
func TestLinesDoNotDependOnWhereTheBodyLies(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		var text []byte
		for len(text) < 900<<10 {
			n := r.IntN(90)
			switch r.IntN(400) {
			case 0:
				n = r.IntN(200 << 10)
			case 1:
				n = window - 2 + r.IntN(4)
			}
			text = append(append(text, bytes.Repeat([]byte{byte('a' + len(text)%26)}, n)...), "\r\n"...)
		}
		if round%2 == 0 {
			text = text[:len(text)-1-r.IntN(3)]
		}
		whole := lines(t, BytesBody(text))
		for name, limit := range map[string]int64{"pieces": 16 << 20, "file": 0} {
			w := NewBudget(limit, t.TempDir()).NewWriter(int64(r.IntN(2) * r.IntN(1<<20)))
			for rest := text; len(rest) > 0; {
				n := min(len(rest), 1+r.IntN(100<<10))
				w.Write(rest[:n])
				rest = rest[n:]
			}
			b, err := w.Body()
			if err != nil {
				t.Fatal(err)
			}
			got := lines(t, b)
			if len(got) != len(whole) {
				t.Fatalf("round %d, %s: %d lines, want %d", round, name, len(got), len(whole))
			}
			for i := range got {
				if got[i] != whole[i] {
					t.Fatalf("round %d, %s: line %d at %d of %d bytes, want at %d of %d", round, name, i, got[i].at, len(got[i].text), whole[i].at, len(whole[i].text))
				}
			}
			var read bytes.Buffer
			if _, err := io.Copy(&read, b.Section(0, -1)); err != nil || !bytes.Equal(read.Bytes(), text) {
				t.Fatalf("round %d, %s: read back %d bytes, %v", round, name, read.Len(), err)
			}
			b.Close()
		}
	}
}
