package portal

import (
	"strings"
	"testing"
	"time"

	"passerelle/crypto/token"
	"passerelle/gateway/gatewaytest"
)

// The time of a page does not tell what kind of a link leads nowhere, by the whole way that a stranger measures.
func TestPagesOfNothingTakeTheSameTime(t *testing.T) {
	s := newSite(t)
	for range 20 {
		s.deposit()
	}
	b := &browser{s: s}
	take := func(link func() string) func() time.Duration {
		return func() time.Duration {
			u := s.srv.URL + "/r/" + link()
			s.wait(time.Minute) // who asks too much is slowed
			start := time.Now()
			r, page := b.do("GET", u, nil)
			took := time.Since(start)
			if r.StatusCode != 404 || !strings.Contains(page, words["fr"]["gone.c"]) {
				t.Fatalf("%s: %s", u, r.Status)
			}
			return took
		}
	}
	if err := gatewaytest.EqualTimes(700, map[string]func() time.Duration{
		"unknown":   take(token.NewLink),
		"truncated": take(func() string { return token.NewLink()[1:] }),
		"malformed": take(func() string { return "u" + token.NewLink()[1:] }), // no link has a u
	}); err != nil {
		t.Error(err)
	}
}
