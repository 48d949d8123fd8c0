package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

// hour is what an hour reads: a level that rises by so much, bursts over a third of the readings.
func hour(rise float64) []footprint {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]footprint, 360)
	for i := range out {
		level := 60_000 * (1 + rise*float64(i)/float64(len(out)))
		if r.IntN(3) == 0 {
			level += float64(r.IntN(50_000))
		}
		out[i].rss = int(level)
	}
	return out
}

// A leak is seen through the bursts, and bursts are no leak.
func TestJudge(t *testing.T) {
	for rise, ok := range map[float64]bool{0: true, 0.04: true, 0.25: false, 1: false, -0.5: true} {
		err := judge(footprint{}, footprint{}, hour(rise), time.Hour, &sink{})
		if (err == nil) != ok {
			t.Errorf("memory that grows by %.0f %%: %v", 100*rise, err)
		}
	}
	if judge(footprint{fds: 5}, footprint{fds: 6}, hour(0), time.Hour, &sink{}) == nil {
		t.Error("a descriptor that was left behind is not seen")
	}
	if judge(footprint{}, footprint{goroutines: 1}, hour(0), time.Hour, &sink{}) == nil {
		t.Error("a goroutine that was left behind is not seen")
	}
	if judge(footprint{}, footprint{}, hour(0)[:6], time.Minute, &sink{}) == nil {
		t.Error("one minute is enough")
	}
}
