package gateway

import (
	"strings"
	"testing"
	"testing/synctest"

	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/policy"
)

// Work that finds no room is answered 452 4.3.1, and what was taken comes back.
func TestNoRoomForWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gateway{budget: message.NewBudget(64<<20, t.TempDir())}
		g.set.maxHeader = 256 << 10
		body := message.BytesBody([]byte("Subject: x\r\n\r\n" + strings.Repeat("x", 1<<20)))
		held, err := g.budget.Reserve(t.Context(), 56<<20)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = g.room(t.Context(), body)
		if f := asFault(err); f.Code != 452 || f.Enhanced != [3]int{4, 3, 1} {
			t.Errorf("a message: got %v", f)
		}
		m, w := &mail{body: body}, &way{decision: policy.Decision{Route: policy.Encrypt, Form: policy.FormZIP}}
		_, err = g.sealingRoom(t.Context(), m, w)
		if f := asFault(err); f.Code != 452 || f.Enhanced != [3]int{4, 3, 1} {
			t.Errorf("a sealing: got %v", f)
		}
		held()
		if n := g.budget.Used(); n != 0 {
			t.Errorf("%d bytes never came back", n)
		}
		release, decided, err := g.room(t.Context(), body)
		if err != nil {
			t.Fatal(err)
		}
		whole := g.budget.Used()
		release()
		if held, err = g.budget.Reserve(t.Context(), 56<<20-whole+1); err != nil { // a part of it would fit
			t.Fatal(err)
		}
		before := g.budget.Used()
		came := make(chan struct{})
		go func() { release, decided, err = g.room(t.Context(), body); close(came) }()
		synctest.Wait()
		if n := g.budget.Used(); n != before {
			t.Errorf("a message that waits for room holds %d bytes of it: many such would wait for each other", n-before)
		}
		held()
		if <-came; err != nil {
			t.Fatal(err)
		}
		before = g.budget.Used()
		decided(&message.Index{Weight: 1000})
		if after := g.budget.Used(); after >= before || after == 0 {
			t.Errorf("held %d, once decided %d", before, after)
		}
		release()
		if n := g.budget.Used(); n != 0 {
			t.Errorf("%d bytes never came back", n)
		}
		// the sealed copy finds none either
		if f := asFault(&protect.Error{Step: "room", Passing: true, Err: message.ErrNoRoom}); f.Code != 452 {
			t.Errorf("a sealed copy: got %v", f)
		}
	})
}
