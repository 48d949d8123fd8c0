package gatewaytest

import (
	"fmt"
	"slices"
	"time"
)

// EqualTimes measures the kinds turn by turn, rounds times each: an error unless their medians lie within a fifth of each other. It
// goes three times, for a machine that is busy elsewhere; a way that skips work is faster in each of them.
func EqualTimes(rounds int, kinds map[string]func() time.Duration) error {
	var medians map[string]time.Duration
	for range 3 {
		times := map[string][]time.Duration{}
		for range rounds {
			for kind, take := range kinds {
				times[kind] = append(times[kind], take())
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
			return nil
		}
	}
	return fmt.Errorf("they do not take the same time: medians %v", medians)
}
