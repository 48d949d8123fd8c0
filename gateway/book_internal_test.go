package gateway

import (
	"net/netip"
	"testing"
	"time"
)

// TestSearchLimit: who types is let through, who walks the book night and day is not, and the other clients do not notice.
func TestSearchLimit(t *testing.T) {
	l, now := newSearchLimit(), time.Unix(1_700_000_000, 0)
	walker, typist := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	let := 0
	for at := range 30 * 24 * 3600 / 2 {
		if l.allow(walker, now) {
			let++
		}
		if at%300 == 0 && !l.allow(typist, now) { // one in ten minutes
			t.Fatalf("the typist waits at %s", now)
		}
		now = now.Add(2 * time.Second)
	}
	if most := searchDay + 30*24*3600/20 + 1; let > most || let < most/2 {
		t.Errorf("%d searches in a month, want %d at most", let, most)
	}
}
