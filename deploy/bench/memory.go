package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// memory holds 50 messages of 10 MB at once under each bench file: every session waits before the dot until all are there.
func memory(ctx context.Context, f *flag.FlagSet, args []string) error {
	bin := f.String("bin", "bin/passerelle", "the gateway")
	sessions := f.Int("sessions", 50, "at once")
	size := f.Int("size", 10<<20, "bytes of a message")
	limit := f.Int("limit", 128, "MiB that the peak may reach")
	route := f.String("route", "", "one bench file, all without it")
	if err := f.Parse(args); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "passerelle-memory-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	dn, err := writeKeys(filepath.Join(work, "keys"))
	if err != nil {
		return err
	}
	secure, err := secureFrom(filepath.Join(work, "keys"))
	if err != nil {
		return err
	}
	letter := body(*size)
	over := 0
	for _, r := range []string{"plain", "trust", "smime", "openpgp", "pickup"} {
		if *route != "" && *route != r {
			continue
		}
		var s sink
		l, err := listen()
		if err != nil {
			return err
		}
		offer := secure
		env := []string{"PGP_KEY=" + filepath.Join(work, "keys", "pgp.asc"), "SMIME_LIST=" + filepath.Join(work, "keys", "list.csv")}
		if r == "trust" {
			env = append(env, "PEER_DN="+dn, "TLS_DIR="+filepath.Join(work, "keys", "own"))
		} else {
			offer = nil
		}
		go s.serve(l, offer)
		g, err := newGateway(*bin, "deploy/bench/"+r+".yaml", filepath.Join(work, r), l.Addr().String(), env...)
		if err != nil {
			return err
		}
		if err := g.start(ctx); err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		begin := time.Now()
		err = atOnce(g.smtp, *sessions, letter)
		took := time.Since(begin)
		foot, ferr := g.footprint()
		l.Close()
		s.cut()
		if serr := g.stop(); err == nil {
			err = serr
		}
		if err == nil {
			err = ferr
		}
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", r, err, g.lastWords())
		}
		fmt.Printf("memory route=%s sessions=%d size=%d seconds=%.1f peak_rss_MiB=%d rss_MiB=%d\n", r, *sessions, *size, took.Seconds(), foot.peak>>10, foot.rss>>10)
		if foot.peak>>10 > *limit {
			over++
		}
	}
	if over > 0 {
		return fmt.Errorf("%d routes went over %d MiB", over, *limit)
	}
	return nil
}

// atOnce sends the letter by n sessions, which end it together.
func atOnce(addr string, n int, letter []byte) error {
	var there, all sync.WaitGroup
	there.Add(n)
	errs := make(chan error, n)
	for i := range n {
		all.Go(func() {
			to := fmt.Sprintf("r%d@dest.test", i)
			met := false
			meet := sync.OnceFunc(func() { there.Done() })
			defer meet() // also where the session breaks before
			c, err := dial(addr)
			if err == nil {
				defer c.close()
				err = c.send(to, append(head(fmt.Sprint("m", i), to), letter...), func() { met = true; meet(); there.Wait() })
			}
			if err != nil {
				errs <- fmt.Errorf("session %d (whole message sent: %v): %w", i, met, err)
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}
