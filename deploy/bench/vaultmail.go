package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// mailRate is how many letters a second the probes send, on a few sessions: a clinic's mail, not a flood.
const mailRate = 20

// probes sends small letters by the plain route at mailRate until stop is closed, and tells each one's time, from when it was due, and when it ended.
func (g *gateway) probes(ctx context.Context, stop <-chan struct{}) (*probeLog, error) {
	free := make(chan *client, 40)
	for range cap(free) {
		c, err := dial(g.smtp)
		if err != nil {
			return nil, err
		}
		free <- c
	}
	p := &probeLog{}
	letter := body(4 << 10)
	p.all.Go(func() {
		begin := time.Now()
		for i := 0; ctx.Err() == nil; i++ {
			due := begin.Add(time.Duration(i) * time.Second / mailRate)
			select {
			case <-stop:
				return
			case <-time.After(time.Until(due)):
			}
			p.all.Go(func() {
				c := <-free
				to := fmt.Sprintf("r%d@dest.test", i)
				err := c.send(to, append(head(fmt.Sprint("v", i, begin.UnixNano()), to), letter...), nil)
				p.mu.Lock()
				p.list = append(p.list, probe{due, time.Since(due), err})
				p.mu.Unlock()
				free <- c
			})
		}
	})
	return p, nil
}

type probe struct {
	at  time.Time
	d   time.Duration
	err error
}

type probeLog struct {
	all  sync.WaitGroup
	mu   sync.Mutex
	list []probe
}

// between gives the times of what was due then, and how many failed.
func (p *probeLog) between(from, to time.Time) (ds []time.Duration, failed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.list {
		switch {
		case x.at.Before(from) || !x.at.Before(to):
		case x.err != nil:
			failed++
		default:
			ds = append(ds, x.d)
		}
	}
	return ds, failed
}

// expire has due deposits end at once under mail, and waits until all are ended and the ledger knows it.
func (v *vaultRun) expire(ctx context.Context, due int, patience time.Duration) error {
	end := time.Now().Add(75 * time.Second).UnixMilli()
	change := func(r *vaultRows) error { return r.oldest(due, `expires = ?, next_due = ?`, end, end) }
	old := -1
	return v.underMail(ctx, "expire", due, patience, end, change, func(g *gateway) (ended, noted int, err error) {
		rows, err := openRows(g.state)
		if err != nil {
			return 0, 0, err
		}
		defer rows.close()
		var unnoted int
		err = rows.db.QueryRow(`SELECT (SELECT COUNT(*) FROM vault_deposits WHERE state = 'expired'),
			(SELECT COUNT(*) FROM vault_deposits WHERE noted <> state AND state IN ('opened', 'expired', 'revoked', 'destroyed'))`).Scan(&ended, &unnoted)
		if old < 0 {
			old = ended
		}
		return ended - old, ended - old - unnoted, err
	})
}

// remind has a reminder of each of due deposits due at once.
func (v *vaultRun) remind(ctx context.Context, due int, patience time.Duration) error {
	at := time.Now().Add(75 * time.Second).UnixMilli()
	change := func(r *vaultRows) error { return r.oldest(due, `reminders = 1, next_due = ?`, at) }
	var sent atomic.Int64
	v.sink.took = func(to []string) {
		if strings.HasSuffix(to[0], "@pickup.test") {
			sent.Add(1)
		}
	}
	return v.underMail(ctx, "remind", due, patience, at, change, func(*gateway) (int, int, error) { return int(sent.Load()), int(sent.Load()), nil })
}

// underMail makes the change, starts the gateway, and compares its mail before the moment at and after it, until progress tells
// that all is done.
func (v *vaultRun) underMail(ctx context.Context, name string, due int, patience time.Duration, at int64, change func(*vaultRows) error, progress func(*gateway) (int, int, error)) error {
	rows, err := openRows(v.state())
	if err != nil {
		return err
	}
	if err := errors.Join(change(rows), rows.close()); err != nil {
		return err
	}
	g, _, err := v.gateway(ctx)
	if err != nil {
		return err
	}
	defer g.stop()
	began := time.Now()
	time.Sleep(15 * time.Second) // the first sweep
	stop := make(chan struct{})
	p, err := g.probes(ctx, stop)
	if err != nil {
		return err
	}
	if _, _, err := progress(g); err != nil {
		return err
	}
	quietFrom := time.Now()
	// The sweep comes each minute after the start; the first one behind the moment brings the load.
	tick := began.Add(time.Minute)
	for tick.UnixMilli() <= at {
		tick = tick.Add(time.Minute)
	}
	db, wal := filepath.Join(v.state(), "passerelle.db"), int64(0)
	size := fileSize(db)
	cpu := g.cpu()
	var first, second int
	var allFirst, allSecond time.Duration
	for time.Now().Before(tick.Add(patience)) && second < due && ctx.Err() == nil {
		time.Sleep(time.Second)
		wal = max(wal, fileSize(db+"-wal"))
		if time.Now().Before(tick) || time.Now().Unix()%5 != 0 {
			if time.Now().Before(tick) {
				cpu = g.cpu()
			}
			continue
		}
		if first, second, err = progress(g); err != nil {
			return err
		}
		if first >= due && allFirst == 0 {
			allFirst = time.Since(tick)
		}
		if second >= due {
			allSecond = time.Since(tick)
		}
	}
	until := time.Now()
	close(stop)
	p.all.Wait()
	foot, err := g.footprint()
	if err != nil {
		return err
	}
	ds, failed := p.between(quietFrom, tick.Add(-time.Second))
	fmt.Printf("vault %s mail before: %s failed=%d\n", name, quantiles(ds), failed)
	ds, failed = p.between(tick, until)
	fmt.Printf("vault %s mail during: %s failed=%d\n", name, quantiles(ds), failed)
	// Each minute begins with the sweep, then come the notes, then nothing: the thirds of the minutes had the same neighbours on the machine.
	var thirds [3][]time.Duration
	for from := tick; from.Before(until); from = from.Add(time.Minute) {
		for i := range thirds {
			third := from.Add(time.Duration(i) * 20 * time.Second)
			ds, _ := p.between(third, third.Add(20*time.Second))
			thirds[i] = append(thirds[i], ds...)
		}
	}
	for i, ds := range thirds {
		fmt.Printf("vault %s mail in third %d of each minute: %s\n", name, i+1, quantiles(ds))
	}
	fmt.Printf("vault %s due=%d done=%d noted=%d done_s=%.0f noted_s=%.0f watched_s=%.0f database_MiB=%d->%d wal_most_MiB=%d duties_MiB=%d peak_MiB=%d cpu_s=%.0f load=%s\n",
		name, due, first, second, allFirst.Seconds(), allSecond.Seconds(), until.Sub(tick).Seconds(), size>>20, fileSize(db)>>20, wal>>20,
		(fileSize(filepath.Join(v.state(), "duties.db"))+fileSize(filepath.Join(v.state(), "duties.db-wal")))>>20, foot.peak>>10, g.cpu()-cpu, loadAverage())
	return nil
}

// cpu is what the process has used so far, in seconds.
func (g *gateway) cpu() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return float64(user+system) / 100
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return strings.Join(strings.Fields(string(text))[:2], ",")
}
