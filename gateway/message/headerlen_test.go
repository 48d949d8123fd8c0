package message

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestHeaderLen(t *testing.T) {
	for _, n := range []int{0, 1, segment - 20, segment - 15, segment - 14, segment - 13, segment - 12, segment - 11, segment, 3 * segment} {
		head := []byte("Subject: " + strings.Repeat("x", n) + "\r\n\r\n")
		for _, limit := range []int64{0, 16 << 20} {
			b := fill(t, NewBudget(limit, t.TempDir()), append(bytes.Clone(head), random(50_000)...))
			if got := HeaderLen(b, 256<<10); got != len(head) {
				t.Errorf("header of %d, limit %d: got %d", len(head), limit, got)
			}
			if got := HeaderLen(b, 5); got != 6 {
				t.Errorf("header of %d, limit %d: got %d, want the bound", len(head), limit, got)
			}
			b.Close()
		}
	}
	if got := HeaderLen(BytesBody([]byte("no end")), 100); got != 6 {
		t.Errorf("got %d", got)
	}
}

// A stranger's thousand long headers are not all kept.
func TestHeadersOfAllParts(t *testing.T) {
	var m strings.Builder
	m.WriteString("Content-Type: multipart/mixed; boundary=b\r\n\r\n")
	for i := range 900 {
		fmt.Fprintf(&m, "--b\r\nContent-Type: text/plain; name=\"%d%s\"\r\n\r\nx\r\n", i, strings.Repeat("n", 10_000))
	}
	m.WriteString("--b--\r\n")
	x, err := Parse(BytesBody([]byte(m.String())), DefaultLimits)
	if err != nil || x.Unclear != "its headers are too long in all" || len(x.Parts) > 60 {
		t.Errorf("got %d parts, %q, %v", len(x.Parts), x.Unclear, err)
	}
}
