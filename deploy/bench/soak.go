package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// mixture is the load of the soak: the same from minute to minute, so that one may be held against another.
type mixture struct {
	addr    string
	rate    int // messages a second
	letters [][]byte
	shares  []int // of the letters
	next    atomic.Int64
	done    [6]atomic.Int64 // by the first digit of the reply; 0 is a session that broke
}

// The shares of a hundred messages. Few go to pickup: their content stays on the disk.
var (
	shareOfSizes  = []struct{ percent, bytes int }{{70, 4 << 10}, {22, 100 << 10}, {7, 1 << 20}, {1, 10 << 20}}
	shareOfRoutes = []int{40, 28, 25, 5, 2} // of domains
	domains       = []string{"dest.test", "trust.test", "pgp.test", "pickup.test", "never.test"}
)

// soak loads every route for a while and asks then whether anything grew or was left behind.
func soak(ctx context.Context, f *flag.FlagSet, args []string) (err error) {
	bin := f.String("bin", "bin/passerelle", "the gateway")
	minutes := f.Float64("minutes", 60, "of load")
	rate := f.Int("rate", 40, "messages a second")
	if err := f.Parse(args); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "passerelle-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	keys := filepath.Join(work, "keys")
	dn, err := writeKeys(keys)
	if err != nil {
		return err
	}
	secure, err := secureFrom(keys)
	if err != nil {
		return err
	}
	s := sink{later: 0.05, drop: 0.02, hang: 0.01, hangFor: 2 * time.Second}
	clear, err := listen()
	if err != nil {
		return err
	}
	defer clear.Close()
	trust, err := listen()
	if err != nil {
		return err
	}
	defer trust.Close()
	go s.serve(clear, nil)
	go s.serve(trust, secure)
	g, err := newGateway(*bin, "deploy/bench/soak.yaml", work, clear.Addr().String(), "TRUST_SINK="+trust.Addr().String(),
		"TLS_DIR="+filepath.Join(keys, "own"), "PEER_DN="+dn, "PGP_KEY="+filepath.Join(keys, "pgp.asc"))
	if err != nil {
		return err
	}
	if err := g.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()

	m := &mixture{addr: g.smtp, rate: *rate}
	for _, x := range shareOfSizes {
		m.letters, m.shares = append(m.letters, body(x.bytes)), append(m.shares, x.percent)
	}
	span := time.Duration(*minutes * float64(time.Minute))
	m.run(ctx, min(20*time.Second, span)) // whatever is opened once and kept is open now
	s.cut()
	before, err := idle(ctx, g, footprint{})
	if err != nil {
		return err
	}
	fmt.Printf("idle before: %v\n", before)
	readings, err := m.watch(ctx, g, span)
	if err != nil {
		return err
	}
	s.cut()
	after, err := idle(ctx, g, before)
	if err != nil {
		return err
	}
	fmt.Printf("idle after:  %v\n", after)
	return judge(before, after, readings, span, &s)
}

// watch runs the load, reads every ten seconds and tells every minute.
func (m *mixture) watch(ctx context.Context, g *gateway, span time.Duration) (all []footprint, err error) {
	ended := make(chan struct{})
	go func() { m.run(ctx, span); close(ended) }()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return all, ctx.Err()
		case <-tick.C:
		}
		f, err := g.footprint()
		if err != nil {
			return nil, err
		}
		if all = append(all, f); len(all)%6 == 0 {
			least := slices.MinFunc(all[len(all)-6:], func(a, b footprint) int { return a.rss - b.rss }).rss
			fmt.Printf("minute %d: least_kb=%d %v taken=%d later=%d refused=%d broken=%d\n", len(all)/6, least, f, m.done[2].Load(), m.done[4].Load(), m.done[5].Load(), m.done[0].Load())
		}
	}
}

// run loads for span: a third of the time each with 1, 10 and 50 sessions, three times a minute.
func (m *mixture) run(ctx context.Context, span time.Duration) {
	end := time.Now().Add(span)
	for phase := 0; time.Now().Before(end) && ctx.Err() == nil; phase++ {
		sessions := []int{1, 10, 50}[phase%3]
		until := time.Now().Add(20 * time.Second)
		if until.After(end) {
			until = end
		}
		tick := time.NewTicker(time.Second / time.Duration(m.rate))
		var wg sync.WaitGroup
		for range sessions {
			wg.Go(func() { m.session(ctx, tick.C, until) })
		}
		wg.Wait()
		tick.Stop()
	}
}

// session sends, and what was answered 4xx it sends once more, as Postfix would.
func (m *mixture) session(ctx context.Context, tick <-chan time.Time, until time.Time) {
	stop := time.NewTimer(time.Until(until))
	defer stop.Stop()
	var c *client
	for {
		select {
		case <-tick:
		case <-stop.C:
			if c != nil {
				c.close()
			}
			return
		case <-ctx.Done():
			return
		}
		i := m.next.Add(1)
		to := fmt.Sprintf("r%d@%s", i, domains[pick(shareOfRoutes)])
		letter := append(head(fmt.Sprint("s", i), to), m.letters[pick(m.shares)]...)
		for range 2 {
			var err error
			if c == nil {
				if c, err = dial(m.addr); err != nil {
					m.done[0].Add(1)
					break
				}
			}
			var reply *textproto.Error
			switch err = c.send(to, letter, nil); {
			case err == nil:
				m.done[2].Add(1)
			case errors.As(err, &reply):
				m.done[reply.Code/100].Add(1)
				c.command(250, "RSET")
			default:
				m.done[0].Add(1)
				c.conn.Close()
				c = nil
			}
			if reply == nil || reply.Code/100 != 4 {
				break
			}
		}
	}
}

// pick takes one by its share of a hundred.
func pick(percents []int) int {
	roll := rand.IntN(100)
	for i, p := range percents {
		if roll -= p; roll < 0 {
			return i
		}
	}
	return len(percents) - 1
}

// idle waits, two minutes at most, until the gateway holds no more than want; without want until it stays as it is.
func idle(ctx context.Context, g *gateway, want footprint) (f footprint, err error) {
	same := 0
	for range 120 {
		select {
		case <-ctx.Done():
			return f, ctx.Err()
		case <-time.After(time.Second):
		}
		now, err := g.footprint()
		if err != nil {
			return f, err
		}
		if want.fds > 0 && now.fds <= want.fds && now.goroutines <= want.goroutines {
			return now, nil
		}
		if same++; now.fds != f.fds || now.goroutines != f.goroutines {
			same = 0
		}
		if f = now; want.fds == 0 && same >= 10 {
			return f, nil
		}
	}
	return f, nil
}

// judge fits a line through the least reading of each minute after the first five, and wants it to rise by a tenth at most from its one end to
// the other. What a leak keeps is never given back: it lifts the least as much as the most. The other readings show bodies in hand, which
// limits.memory bounds: on two cores their median of an hour's halves differs by a sixth from chance alone. A shorter soak has fewer minutes.
func judge(before, after footprint, readings []footprint, span time.Duration, s *sink) error {
	var minutes []float64
	for minute := range slices.Chunk(readings, 6) {
		minutes = append(minutes, float64(slices.MinFunc(minute, func(a, b footprint) int { return a.rss - b.rss }).rss))
	}
	minutes = minutes[min(5, len(minutes)/3):]
	if len(minutes) < 2 {
		return fmt.Errorf("%d readings show nothing: give the soak three minutes or more", len(readings))
	}
	early, late := trend(minutes)
	fmt.Printf("soak minutes=%.0f messages=%d rss_kb=%.0f->%.0f (%+.1f %%) fds=%d->%d goroutines=%d->%d\n", span.Minutes(), s.messages.Load(), early, late,
		100*(late-early)/early, before.fds, after.fds, before.goroutines, after.goroutines)
	var errs []error
	if late > 1.1*early {
		errs = append(errs, errors.New("memory grew by more than a tenth"))
	}
	if after.fds > before.fds {
		errs = append(errs, fmt.Errorf("%d descriptors were left behind", after.fds-before.fds))
	}
	if after.goroutines > before.goroutines {
		errs = append(errs, fmt.Errorf("%d goroutines were left behind", after.goroutines-before.goroutines))
	}
	return errors.Join(errs...)
}

func median(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }

// trend gives the ends of the line whose slope is the median of those between all pairs (Theil and Sen): outliers do not turn it.
func trend(y []float64) (first, last float64) {
	var slopes []float64
	for i := range y {
		for j := i + 1; j < len(y); j++ {
			slopes = append(slopes, (y[j]-y[i])/float64(j-i))
		}
	}
	slope := median(slopes)
	var at0 []float64
	for i := range y {
		at0 = append(at0, y[i]-slope*float64(i))
	}
	first = median(at0)
	return first, first + slope*float64(len(y)-1)
}
