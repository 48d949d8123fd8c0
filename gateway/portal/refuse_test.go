package portal

import (
	"net/http"
	"sync"
	"testing"
)

// Who sends the form a hundred times at once, as a thief of the mailbox may, brings the sender one mail.
func TestRefusalsAtOnce(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			b := &browser{s: s}
			if r, _ := b.post(d.Link+"/pas-moi", "mot=pas+moi"); r.StatusCode != http.StatusOK {
				t.Errorf("%s", r.Status)
			}
		})
	}
	all.Wait()
	if len(s.refused) != 1 {
		t.Errorf("%d mails to the sender, want 1", len(s.refused))
	}
}
