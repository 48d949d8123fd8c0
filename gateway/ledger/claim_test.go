package ledger

import (
	"errors"
	"testing"

	"passerelle/gateway/store"
)

func yes() bool { return true }

// Two scans of an empty page have the same bytes: each is delivered, and each repeat finds its own first try.
func TestCopiesSideBySideHaveLivesOfTheirOwn(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("empty page", "a@x.test")
	one, two := h.claimHere(a, yes), h.claimHere(a, yes)
	for i, c := range []*Claim{one, two} {
		if _, ok := c.Served(0); ok {
			t.Fatalf("copy %d was taken for a repeat", i)
		}
		h.note(c, entry(0, Delivered))
	}
	one.Settled(0, true, true)
	two.Settled(0, true, false) // the reply never left
	h.restart()
	h.wantServed(a, true) // its repeat
	three := h.claimHere(a, yes)
	if _, ok := three.Served(0); !ok { // wantServed let go without a reply
		t.Fatal("the second copy was forgotten")
	}
	four := h.claimHere(a, yes)
	if _, ok := four.Served(0); ok {
		t.Fatal("one untold copy swallowed two messages")
	}
	four.Release()
	three.Settled(0, true, true)
	h.wantServed(a, false)
	if len(h.copies) != 0 {
		t.Errorf("%d counts of copies are left", len(h.copies))
	}
}

// Whose client has gone may come again at any moment, and whose copy goes on behind its reply will.
func TestRepeatOfOneWhoseClientWentWaits(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test")
	gone := false
	first := h.claimHere(a, func() bool { return !gone })
	second := h.claimHere(a, yes)
	gone = true
	if _, err := h.Claim(t.Context(), a, yes); !errors.Is(err, ErrInHand) {
		t.Fatalf("repeat of a first try in hand: %v", err)
	}
	first.Release()
	second.Keep(0)
	second.Settled(0, false, true)
	if _, err := h.Claim(t.Context(), a, yes); !errors.Is(err, ErrInHand) {
		t.Fatalf("repeat of a copy that goes on behind its reply: %v", err)
	}
	second.Free(0)
	c := h.claimHere(a, yes)
	if c.keys[0].nth() != 0 {
		t.Errorf("copy %d, want the first place again", c.keys[0].nth())
	}
}

// What a copy's late note says is found, whatever its number: nobody held its place until it was written.
func TestLateNoteOfACopyIsFound(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("empty page", "a@x.test")
	claims := []*Claim{h.claimHere(a, yes), h.claimHere(a, yes), h.claimHere(a, yes)}
	unlock := h.lock()
	if err := claims[2].Note(t.Context(), []Entry{entry(0, Delivered)}); err == nil {
		t.Fatal("noted in a locked database")
	}
	for _, c := range claims {
		c.Settled(0, false, true)
	}
	unlock()
	h.reopen(t.Context())
	h.wantServed(a, true)
}

// A row that was erased between a failure and its bounce takes neither the memory nor the mark of the bounce with it.
func TestBounceOfAnErasedRow(t *testing.T) {
	h := newHouse(t, t.TempDir())
	a := asks("body", "a@x.test", "b@x.test")
	c := h.claim(a)
	h.note(c, entry(0, Failed), entry(1, Deferred))
	if err := h.db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec(`DELETE FROM ledger_entries`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Bounced(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	c.Settled(-1, false, true)
	h.restart()
	c = h.claim(a)
	defer c.Release()
	if e, ok := c.Served(0); !ok || !e.Bounced || e.Code < 500 {
		t.Errorf("served %v %+v: the bounce would leave again", ok, e)
	}
}
