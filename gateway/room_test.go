package gateway_test

import (
	"strings"
	"testing"
)

// Strangers cannot fill the temp folder: over limits.spill a message is later, and the next one that fits passes.
func TestSpillLimit(t *testing.T) {
	h := &house{t: t, dir: t.TempDir(), log: newBuffer()}
	h.build(houseConfig+"limits: {memory: 1KiB, spill: 100KiB}\n", nil, "{lifetime}", "5d")
	for _, addr := range []string{h.lmtp, h.smtp} {
		big := hello + strings.Repeat(strings.Repeat("x", 70)+"\n", 3000)
		if got := h.send(addr, "dr@clinic.test", big, "a@dest.test"); !strings.HasPrefix(got[0], "452 4.3.1 ") {
			t.Errorf("got %v", got)
		}
		if got := h.send(addr, "dr@clinic.test", hello, "a@dest.test"); codes(got) != "250" {
			t.Errorf("got %v", got)
		}
	}
	if n := len(h.sink.Messages()); n != 2 {
		t.Errorf("the hop has %d messages", n)
	}
}
