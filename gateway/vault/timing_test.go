package vault

import (
	"slices"
	"testing"
	"time"

	"passerelle/crypto/token"
)

// linksOfNothing are what leads nowhere: drawn and never used, of one character too few, of signs that no link has.
func linksOfNothing() map[string]func() string {
	return map[string]func() string{
		"unknown":   token.NewLink,
		"truncated": func() string { return token.NewLink()[1:] },
		"malformed": func() string { return "%%%" + token.NewLink()[3:] },
	}
}

// The time of the answer does not tell what kind of a link leads nowhere: turn by turn, the medians of many lie within a fifth of each other.
// Three goes, for a machine that is busy elsewhere; a path that skips the database is several times as fast in each of them.
func TestLinksOfNothingTakeTheSameTime(t *testing.T) {
	h := open(t)
	for range 50 {
		h.deposit(t, "")
	}
	var medians map[string]time.Duration
	for range 3 {
		times := map[string][]time.Duration{}
		for range 1500 {
			for name, link := range linksOfNothing() {
				l := link()
				start := time.Now()
				_, err := h.Look(t.Context(), l)
				times[name] = append(times[name], time.Since(start))
				want(t, err, NotFound)
			}
		}
		medians = map[string]time.Duration{}
		least, most := time.Hour, time.Duration(0)
		for name, ds := range times {
			slices.Sort(ds)
			medians[name] = ds[len(ds)/2]
			least, most = min(least, medians[name]), max(most, medians[name])
		}
		if most-least < least/5 {
			t.Logf("medians %v", medians)
			return
		}
	}
	t.Errorf("medians %v", medians)
}
