package message

import (
	"bytes"
	"io"
	"math/rand/v2"
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
