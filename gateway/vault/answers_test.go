package vault

import (
	"context"
	"errors"
	"testing"
	"time"

	"passerelle/gateway/store"
)

// A deed in hand is nobody else's while who took it lives, another one's when he died in it, and not done again once it is done.
func TestDeedInHand(t *testing.T) {
	h := open(t)
	deed, other := [32]byte{1}, [32]byte{2}
	var lease Lease // of the last one who got it
	take := func(what string, key [32]byte, want Hand) {
		t.Helper()
		got, by, err := h.Take(t.Context(), key)
		if got == Ours && key == deed {
			lease = by
		}
		if err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", what, got, err, want)
		}
	}
	leave := func(done bool) {
		t.Helper()
		if err := h.Leave(t.Context(), deed, lease, done); err != nil {
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

// Who was slower than his lease takes nothing out of the next one's hand, and what he has done is not done again.
func TestDeedOutlivesItsLease(t *testing.T) {
	h := open(t)
	deed := [32]byte{1}
	take := func(want Hand) Lease {
		t.Helper()
		got, lease, err := h.Take(t.Context(), deed)
		if err != nil || got != want {
			t.Fatalf("%v %v, want %v", got, err, want)
		}
		return lease
	}
	leave := func(lease Lease, done bool) {
		t.Helper()
		if err := h.Leave(t.Context(), deed, lease, done); err != nil {
			t.Fatal(err)
		}
	}
	slow := take(Ours)
	h.now = h.now.Add(handLease)
	next := take(Ours)
	leave(slow, false)
	take(Theirs)
	leave(next, false)
	leave(slow, true) // behind the next one's failure
	take(Done)
	leave(next, false)
	take(Done)
}

// lostWrites loses the answers to some commits, and is away behind each.
type lostWrites struct {
	Database
	lose, away int
}

func (d *lostWrites) Write(ctx context.Context, f func(store.Tx) error) error {
	if d.away > 0 && d.lose == 0 {
		d.away--
		return errors.New("the database is away")
	}
	err := d.Database.Write(ctx, f)
	if d.lose > 0 && err == nil {
		d.lose--
		return store.ErrUnknown
	}
	return err
}

// Whose take was done, but the answer to it lost, has the deed all the same: else nobody would for six minutes.
func TestTakeUnknown(t *testing.T) {
	h := open(t)
	h.Vault.db = &lostWrites{h.Vault.db, 1, 2}
	if got, lease, err := h.Take(t.Context(), [32]byte{1}); err != nil || got != Ours {
		t.Errorf("%v %v", got, err)
	} else if err := h.Leave(t.Context(), [32]byte{1}, lease, false); err != nil {
		t.Error(err)
	}
	if got, _, err := h.Take(t.Context(), [32]byte{1}); err != nil || got != Ours {
		t.Errorf("left, but %v %v", got, err)
	}
	h.Vault.db = &lostWrites{h.Vault.db, 0, 1}
	if _, _, err := h.Take(t.Context(), [32]byte{2}); err == nil {
		t.Error("an answer waits for a database that is away")
	}
}
