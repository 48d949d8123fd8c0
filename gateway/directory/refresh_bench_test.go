package directory

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"
	"passerelle/gateway/message"
)

// BenchmarkAskDuringRefresh asks from 8 goroutines while the file of a million lines is imported again and again beside them, and gives the
// middle, the 99th percentile and the longest of the questions. "cold" asks a different mailbox each time, so that the memory of 4096 answers
// hardly helps; "kept" asks the same thousand.
func BenchmarkAskDuringRefresh(b *testing.B) {
	file := write(b, filepath.Join(b.TempDir(), "e.txt"), extraction.Options{Lines: 1_000_000, Seed: 4})
	dir := b.TempDir()
	o := Options{AsOf: time.Now()}
	if _, err := Import(b.Context(), dir, file, o); err != nil {
		b.Fatal(err)
	}
	d := open(b, Config{StateDir: dir})
	for _, c := range []struct {
		name    string
		people  int
		refresh bool
	}{{"quiet/cold", 1_000_000, false}, {"quiet/kept", 1000, false}, {"refresh/cold", 1_000_000, true}, {"refresh/kept", 1000, true}} {
		addrs := make([]message.Address, min(c.people, 200_000))
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range addrs {
			addrs[i] = address(b, extraction.Address(rng.IntN(c.people), ""))
		}
		b.Run(c.name, func(b *testing.B) {
			stop, stopped := make(chan struct{}), make(chan int, 1)
			go func() {
				swaps := 0
				defer func() { stopped <- swaps }()
				for c.refresh {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := Import(b.Context(), dir, file, o); err != nil {
						b.Error(err)
						return
					}
					swaps++
				}
			}()
			for _, a := range addrs[:1000] { // warm
				d.Ask(b.Context(), a)
			}
			var mu sync.Mutex
			var took []time.Duration
			var wg sync.WaitGroup
			b.ResetTimer()
			for g := range 8 {
				wg.Go(func() {
					mine := make([]time.Duration, 0, b.N/8+1)
					for i := range b.N/8 + 1 {
						start := time.Now()
						ans := d.Ask(b.Context(), addrs[(g*25_000+i)%len(addrs)])
						mine = append(mine, time.Since(start))
						if ans.Verdict != Verified {
							b.Errorf("got %s: %s", ans.Verdict, ans.Why)
							return
						}
					}
					mu.Lock()
					took = append(took, mine...)
					mu.Unlock()
				})
			}
			wg.Wait()
			b.StopTimer()
			close(stop)
			swaps := <-stopped
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1e3, "max-ms")
			b.ReportMetric(float64(swaps), "swaps")
		})
	}
}
