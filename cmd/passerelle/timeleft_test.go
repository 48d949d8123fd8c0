package main

import (
	"testing"
	"time"
)

func TestTimeLeft(t *testing.T) {
	for _, c := range []struct {
		took        time.Duration
		done, total int64
		want        string
	}{
		{500 * time.Millisecond, 10, 100, ""}, {2 * time.Second, 0, 100, ""}, {2 * time.Second, 100, 100, ""}, {2 * time.Second, 10, 0, ""},
		{2 * time.Second, 25, 100, ", 6 s left"}, {10 * time.Second, 10, 100, ", 2 min left"}, {10 * time.Second, 1, 1 << 40, ""},
	} {
		if got := timeLeft(c.took, c.done, c.total); got != c.want {
			t.Errorf("%v, %d of %d: got %q, want %q", c.took, c.done, c.total, got, c.want)
		}
	}
}
