package trust

import (
	"testing"
	"time"
)

// TestListOfAnotherIssuer: whoever stands between us and a CA has the good lists of all the others. None takes the place of the list that a
// certificate names, nor holds up its successor.
func TestListOfAnotherIssuer(t *testing.T) {
	for _, configured := range []bool{false, true} {
		src := newShelf(t, give(nil))
		w, s, cs, ahead := netSpace(t, src.URL, func(c *Config) {
			if configured {
				c.Revocation.Fetch, c.Revocation.URLs = false, []string{src.URL}
			}
		})
		look := func(p []byte) {
			src.set(give(p))
			ahead.Add(int64(61 * time.Minute))
			check(t, s, cs)
			w.cfg.Evidence.settle()
		}
		src.set(give(w.inter.crlDER(clock.Add(-time.Hour), clock.Add(10*time.Hour))))
		if got := check(t, s, cs); got != "" {
			t.Fatalf("got %q", got)
		}
		look(w.root.crlDER(clock.Add(time.Hour), clock.Add(100*time.Hour)))
		if got := check(t, s, cs); got != "" {
			t.Errorf("configured %v, under the root's list: got %q", configured, got)
		}
		look(w.inter.crlDER(clock.Add(30*time.Minute), clock.Add(12*time.Hour)))
		for range 3 { // a source that failed is left alone for a while
			ahead.Add(int64(longPause))
			check(t, s, cs)
			w.cfg.Evidence.settle()
		}
		ahead.Store(int64(11 * time.Hour))
		s.Reload()
		if got := check(t, s, cs); got != "" {
			t.Errorf("configured %v, under the successor: got %q", configured, got)
		}
	}
}
