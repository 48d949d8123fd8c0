package protect

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"passerelle/gateway/message"
)

// TestCopyBody: a body gives the same bytes whether it lies in memory by pieces or in a file, from any of its bytes on.
func TestCopyBody(t *testing.T) {
	want := letter(600_000)
	for name, limit := range map[string]int64{"memory": 16 << 20, "file": 0} {
		g := message.NewBudget(limit, t.TempDir())
		w := g.NewWriter(0)
		for p := want; len(p) > 0; {
			n := min(len(p), 33_333)
			if _, err := w.Write(p[:n]); err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
		b, err := w.Body()
		if err != nil {
			t.Fatal(err)
		}
		if inFile := b.Peek(0) == nil; inFile != (limit == 0) {
			t.Fatalf("%s: in a file: %v", name, inFile)
		}
		for _, off := range []int{0, 1, 33_333, 65_536, 200_001, len(want) - 1, len(want)} {
			var got bytes.Buffer
			if err := copyBody(ctx, &got, b, int64(off)); err != nil || !bytes.Equal(got.Bytes(), want[off:]) {
				t.Errorf("%s from %d: got %d bytes of %d, %v", name, off, got.Len(), len(want)-off, err)
			}
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if err := copyBody(gone, &bytes.Buffer{}, b, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v of a cancelled copy", name, err)
		}
		b.Close()
	}
}
