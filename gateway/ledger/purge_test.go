package ledger

import (
	"testing"
	"time"
)

// A row that lies behind its recipient's last attempt is not too old: what waits for the background is written before it is judged.
func TestPurgeWaitsForRepeats(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test")
	for range 2 {
		c := h.claim(a)
		h.note(c, entry(0, Deferred))
		c.Settled(-1, false, true)
		h.pass(6 * 24 * time.Hour) // of 7; the second try is in memory alone
	}
	h.pass(-4 * 24 * time.Hour)
	h.purge(t.Context())
	h.restart()
	c := h.claim(a)
	defer c.Release()
	if _, n, ok := c.Waiting(0); !ok || n != 2 {
		t.Errorf("waits %t, %d tries; he was tried two days ago for the second time", ok, n)
	}
}
