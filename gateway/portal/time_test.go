package portal

import (
	"slices"
	"strings"
	"testing"
	"time"

	"passerelle/crypto/token"
)

// The time of a page does not tell what kind of a link leads nowhere, by the whole way that a stranger measures: medians of many, turn by turn, lie
// within a fifth of each other. Three goes, for a machine that is busy elsewhere.
func TestPagesOfNothingTakeTheSameTime(t *testing.T) {
	s := newSite(t)
	for range 20 {
		s.deposit()
	}
	b := &browser{s: s}
	kinds := map[string]func() string{
		"unknown":   token.NewLink,
		"truncated": func() string { return token.NewLink()[1:] },
		"malformed": func() string { return "u" + token.NewLink()[1:] }, // no link has a u
	}
	var medians map[string]time.Duration
	for range 3 {
		times := map[string][]time.Duration{}
		for range 700 {
			for kind, link := range kinds {
				u := s.srv.URL + "/r/" + link()
				s.wait(time.Minute) // who asks too much is slowed
				start := time.Now()
				r, page := b.do("GET", u, nil)
				times[kind] = append(times[kind], time.Since(start))
				if r.StatusCode != 404 || !strings.Contains(page, words["fr"]["gone.c"]) {
					t.Fatalf("%s: %s", kind, r.Status)
				}
			}
		}
		medians = map[string]time.Duration{}
		least, most := time.Hour, time.Duration(0)
		for kind, ds := range times {
			slices.Sort(ds)
			medians[kind] = ds[len(ds)/2]
			least, most = min(least, medians[kind]), max(most, medians[kind])
		}
		if most-least < least/5 {
			t.Logf("medians %v", medians)
			return
		}
	}
	t.Errorf("medians %v", medians)
}
