package trust

import (
	"testing"
	"time"
)

// A reload while the former Space puts a newer list in force takes that one over, not the one before under the newer one's mark.
func TestReloadWhileListIsTaken(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	signer := w.inter.signer(nil, nil)
	h.serves(sign(t, signer, list(clock.Add(-2*time.Hour), entries(10)...)))
	s := w.space()
	look(t, s, "taken", "")
	h.serves(sign(t, signer, list(clock.Add(-time.Hour), entries(9)...)))
	look(t, w.space(), "taken", "")

	f := s.lister
	f.mu.Lock()
	cfg, made := w.cfg, make(chan *Space, 1)
	cfg.Former = s
	go func() {
		next, err := New(cfg)
		if err != nil {
			t.Error(err)
		}
		made <- next
	}()
	time.Sleep(100 * time.Millisecond) // it waits for the former one's lock
	list, err := f.read(listName)
	if err != nil {
		t.Fatal(err)
	}
	f.seen = markOf(f.path(listName))
	f.putInForce(f.force.Load(), list)
	f.mu.Unlock()
	next := <-made
	if next.lister.adopt(); next.Listed("d9.mssante.test") {
		t.Error("a removed domain is listed again after the reload")
	}
}
