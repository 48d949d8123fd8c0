package ledger

import (
	"strings"
	"testing"
)

func TestCleanLeavesNoNUL(t *testing.T) {
	if got := clean("a\x00b\xff" + strings.Repeat("x", 2*maxText)); strings.ContainsAny(got, "\x00\xff") || len(got) > maxText+4 || !strings.HasPrefix(got, "a?b?x") {
		t.Errorf("got %d octets, %.10q", len(got), got)
	}
}
