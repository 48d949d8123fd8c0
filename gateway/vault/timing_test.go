package vault

import (
	"testing"
	"time"

	"passerelle/crypto/token"
	"passerelle/gateway/gatewaytest"
)

// The time of the answer does not tell what kind of a link leads nowhere; a path that skips the database is several times as fast.
func TestLinksOfNothingTakeTheSameTime(t *testing.T) {
	h := open(t)
	for range 50 {
		h.deposit(t, "")
	}
	kinds := map[string]func() time.Duration{}
	for name, link := range map[string]func() string{
		"unknown":   token.NewLink,
		"truncated": func() string { return token.NewLink()[1:] },
		"malformed": func() string { return "%%%" + token.NewLink()[3:] }, // signs that no link has
	} {
		kinds[name] = func() time.Duration {
			l := link()
			start := time.Now()
			_, err := h.Look(t.Context(), l)
			took := time.Since(start)
			want(t, err, NotFound)
			return took
		}
	}
	if err := gatewaytest.EqualTimes(1500, kinds); err != nil {
		t.Error(err)
	}
}
