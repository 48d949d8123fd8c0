package trust

import (
	"os"
	"path/filepath"
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

// Another process took a list that this one could not verify at that moment: it is tried again, and a look that finds the same list at
// the host does not call it unchanged.
func TestListOfAnotherProcessIsTriedAgain(t *testing.T) {
	for _, by := range []string{"adopt", "look"} {
		t.Run(by, func(t *testing.T) {
			w := listedWorld(t)
			h := w.host()
			signer := w.inter.signer(nil, nil)
			now := clock
			w.cfg.Now = func() time.Time { return now }
			h.serves(sign(t, signer, list(clock.Add(-2*time.Hour), entries(10)...)))
			s := w.space()
			look(t, s, "taken", "")
			another := w.space()
			h.serves(sign(t, signer, list(clock.Add(-time.Hour), entries(9)...)))
			look(t, another, "taken", "")
			w.inter.crl(w.file("inter.crl"), clock.Add(-time.Hour)) // out of date for a moment
			if err := s.Reload(); err != nil {
				t.Fatal(err)
			}
			s.lister.adopt()
			w.inter.crl(w.file("inter.crl"), clock.Add(24*time.Hour))
			if err := s.Reload(); err != nil {
				t.Fatal(err)
			}
			if !s.Listed("d9.mssante.test") {
				t.Fatal("an unverified list is in force")
			}
			if by == "adopt" {
				now = now.Add(retryKept)
				s.lister.adopt()
			} else {
				s.RefreshList(t.Context())
			}
			if s.Listed("d9.mssante.test") {
				t.Errorf("a removed domain stays listed: %+v", s.WhiteList())
			}
		})
	}
}

// A process that was killed between the list and its note left a list in force that is noted as waiting.
func TestKilledWhileAccepting(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	signer := w.inter.signer(nil, nil)
	h.serves(sign(t, signer, list(clock.Add(-2*time.Hour), entries(10)...)))
	s := w.space()
	look(t, s, "taken", "")
	h.serves(sign(t, signer, list(clock.Add(-time.Hour), entries(3)...)))
	look(t, s, "waiting", "")
	dir := w.cfg.WhiteList.StateDir
	if err := os.Rename(filepath.Join(dir, waitingName), filepath.Join(dir, listName)); err != nil {
		t.Fatal(err)
	}
	s = w.space()
	if st := s.WhiteList(); st.Waiting != nil || st.Domains != 3 {
		t.Errorf("got %+v", st)
	}
	look(t, s, "taken", "") // and is noted as what it is
	if st := w.space().WhiteList(); st.Waiting != nil {
		t.Errorf("noted again: %+v", st.Waiting)
	}
}

// Root's commands write into a folder of the service's user: a link that lies there is not followed, and its target not given away.
func TestStateFilesFollowNoLink(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	h.serves(sign(t, w.inter.signer(nil, nil), list(clock, entries(3)...)))
	for _, name := range []string{listLock, listPart, listState + ".new"} {
		target := w.file("target")
		write(t, target, []byte("secret"))
		link := filepath.Join(w.cfg.WhiteList.StateDir, name)
		os.Remove(link)
		os.Remove(filepath.Join(w.cfg.WhiteList.StateDir, listState)) // so that the list is asked for
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if _, err := w.space().RefreshList(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if b, err := os.ReadFile(target); err != nil || string(b) != "secret" {
			t.Errorf("%s: the target holds %q (%v)", name, b, err)
		}
		os.Remove(link)
	}
}

// What the operator was shown is what he takes: a list that took its place in between waits for another look.
func TestAcceptTakesWhatWasShown(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	signer := w.inter.signer(nil, nil)
	h.serves(sign(t, signer, list(clock.Add(-3*time.Hour), entries(100)...)))
	s := w.space()
	look(t, s, "taken", "")
	h.serves(sign(t, signer, list(clock.Add(-2*time.Hour), entries(70)...)))
	look(t, s, "waiting", "")
	date, _, lost, err := s.Waiting()
	if err != nil || len(lost) != 30 || !date.Equal(clock.Add(-2*time.Hour)) {
		t.Fatal(date, lost, err)
	}
	h.serves(sign(t, signer, list(clock.Add(-time.Hour), entries(2)...)))
	look(t, s, "waiting", "")
	if err := s.Accept(t.Context(), date); err == nil || !s.Listed("d99.mssante.test") {
		t.Errorf("a list that nobody saw was taken: %v, %+v", err, s.WhiteList())
	}
	date, _, _, err = s.Waiting()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Accept(t.Context(), date); err != nil || s.Listed("d2.mssante.test") {
		t.Error(err)
	}
}
