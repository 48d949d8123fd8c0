package gateway

import (
	"strings"
	"testing"
)

// What a hop is asked to report of the one copy is what either asked for.
func TestBothNotify(t *testing.T) {
	for want, both := range map[string][2]string{
		"": {"", ""}, "NEVER": {"NEVER", "NEVER"}, "SUCCESS": {"SUCCESS", "SUCCESS"}, "FAILURE,DELAY": {"NEVER", ""}, "SUCCESS,FAILURE,DELAY": {"SUCCESS", ""},
		"FAILURE,DELAY,SUCCESS": {"", "SUCCESS"}, "FAILURE": {"FAILURE", "NEVER"}, "SUCCESS,FAILURE": {"SUCCESS", "FAILURE,SUCCESS"},
	} {
		split := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
		if got := strings.Join(bothNotify(split(both[0]), split(both[1])), ","); got != want {
			t.Errorf("%q and %q: got %q, want %q", both[0], both[1], got, want)
		}
	}
}
