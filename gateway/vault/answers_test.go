package vault

import (
	"testing"
	"time"
)

// A deed in hand is nobody else's while who took it lives, another one's when he died in it, and not done again once it is done.
func TestDeedInHand(t *testing.T) {
	h := open(t)
	deed, other := [32]byte{1}, [32]byte{2}
	take := func(what string, key [32]byte, want Hand) {
		t.Helper()
		if got, err := h.Take(t.Context(), key); err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", what, got, err, want)
		}
	}
	leave := func(done bool) {
		t.Helper()
		if err := h.Leave(t.Context(), deed, done); err != nil {
			t.Fatal(err)
		}
	}
	take("first", deed, Ours)
	take("beside it", deed, Theirs)
	take("another deed", other, Ours)
	leave(false)
	take("after it failed", deed, Ours)
	h.now = h.now.Add(handLease)
	take("after its gateway died", deed, Ours)
	take("beside that", deed, Theirs)
	leave(true)
	h.now = h.now.Add(24 * time.Hour)
	take("done", deed, Done)
	h.now = h.now.Add(sendingLife)
	if _, err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	take("forgotten", deed, Ours)
}
