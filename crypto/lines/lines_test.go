package lines

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestWriter: whatever pieces it comes in, what is written is what the standard library encodes, line by line.
func TestWriter(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(r, "bytes")
		p = bytes.Repeat(p, rapid.SampledFrom([]int{1, 1, 300}).Draw(r, "times"))
		pieces := rapid.SliceOfN(rapid.IntRange(1, 2*perCall*lineIn), 1, 4).Draw(r, "pieces")
		var want strings.Builder
		for e := base64.StdEncoding.EncodeToString(p); len(e) > 0; {
			n := min(76, len(e))
			want.WriteString(e[:n] + "\r\n")
			e = e[n:]
		}
		var got strings.Builder
		w := NewWriter(&got)
		for i, rest := 0, p; len(rest) > 0; i++ {
			n := min(len(rest), pieces[i%len(pieces)])
			if k, err := w.Write(rest[:n]); k != n || err != nil {
				r.Fatalf("wrote %d of %d: %v", k, n, err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil || got.String() != want.String() {
			r.Fatalf("%d bytes: got %d characters of %d, %v", len(p), got.Len(), want.Len(), err)
		}
	})
}

// TestFailingWriter: an error of what lies below comes out, at the latest at the end.
func TestFailingWriter(t *testing.T) {
	for room := 0; room < 100_000; room += 997 {
		w := NewWriter(&full{room})
		_, err := w.Write(make([]byte, 80_000))
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, io.ErrShortWrite) {
			t.Fatalf("%d bytes of room: %v", room, err)
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
