package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// vaultRun is one run of the vault under load. Its folder may be kept, so that parts of the run can be repeated.
type vaultRun struct {
	bin, work string
	rows      int
	sink      sink
	port      string
}

// The parts of a run, in their order.
var vaultParts = []string{"fill", "start", "pages", "downloads", "list", "expire", "remind"}

// vaultCommand makes a vault of a million deposits and loads it.
func vaultCommand(ctx context.Context, f *flag.FlagSet, args []string) (err error) {
	v := &vaultRun{}
	f.StringVar(&v.bin, "bin", "bin/passerelle", "the gateway")
	f.StringVar(&v.work, "work", "", "folder that is kept; a new one that is removed without it")
	f.IntVar(&v.rows, "rows", 1_000_000, "deposits")
	parts := f.String("parts", strings.Join(vaultParts, ","), "of the run")
	rate := f.Int("rate", 200, "requests a second, of pages")
	span := f.Duration("for", time.Minute, "pages")
	due := f.Int("due", 100_000, "deposits that expire, and then that are to be reminded of, at once")
	patience := f.Duration("patience", 90*time.Second, "for what is due to be done")
	if err := f.Parse(args); err != nil {
		return err
	}
	if v.work == "" {
		if v.work, err = os.MkdirTemp("", "passerelle-vault-"); err != nil {
			return err
		}
		defer os.RemoveAll(v.work)
	}
	l, err := listen()
	if err != nil {
		return err
	}
	defer l.Close()
	v.port = l.Addr().String()
	go v.sink.serve(l, nil)
	defer v.sink.cut()
	do := map[string]func(context.Context) error{
		"fill": v.fill, "start": v.start, "list": v.list, "downloads": v.downloads,
		"pages":  func(ctx context.Context) error { return v.pages(ctx, *rate, *span) },
		"expire": func(ctx context.Context) error { return v.expire(ctx, *due, *patience) },
		"remind": func(ctx context.Context) error { return v.remind(ctx, *due, *patience) },
	}
	for _, part := range vaultParts {
		if slices.Contains(strings.Split(*parts, ","), part) {
			if err := do[part](ctx); err != nil {
				return fmt.Errorf("%s: %w", part, err)
			}
		}
	}
	return nil
}

func (v *vaultRun) state() string { return filepath.Join(v.work, "state") }

// gateway starts one on the folder and tells how long that took.
func (v *vaultRun) gateway(ctx context.Context) (*gateway, time.Duration, error) {
	g, err := newGateway(v.bin, "deploy/bench/vault.yaml", v.work, v.port)
	if err != nil {
		return nil, 0, err
	}
	begin := time.Now()
	err = g.start(ctx)
	return g, time.Since(begin), err
}

const (
	smallSamples = 500
	largeSamples = 100
	largeFile    = 25 << 20
)

// fill has the gateway seal the samples, and puts rows beside them.
func (v *vaultRun) fill(ctx context.Context) error {
	g, _, err := v.gateway(ctx)
	if err != nil {
		return err
	}
	send := func(name string, n int, letter []byte) error {
		var all sync.WaitGroup
		errs := make(chan error, 4)
		for session := range 4 {
			all.Go(func() {
				c, err := dial(g.smtp)
				for i := session; i < n && err == nil; i += 4 {
					to := fmt.Sprintf("%s%d@pickup.test", name, i)
					err = c.send(to, append(head(fmt.Sprint(name, i), to), letter...), nil)
				}
				if err != nil {
					errs <- err
					return
				}
				c.close()
			})
		}
		all.Wait()
		close(errs)
		return <-errs
	}
	large := body(largeFile*78/57 + 1500)
	err = errors.Join(send("small", smallSamples, body(4<<10)), send("large", largeSamples, large))
	if err = errors.Join(err, g.stop(), os.WriteFile(v.sumFile(), []byte(attachmentSum(large)), 0o600)); err != nil {
		return err
	}
	rows, err := openRows(v.state())
	if err != nil {
		return err
	}
	defer rows.close()
	s, err := rows.samples()
	if err != nil {
		return err
	}
	if err := writeSamples(filepath.Join(v.work, "samples.json"), s); err != nil {
		return err
	}
	begin := time.Now()
	if err := rows.fill(ctx, v.rows); err != nil {
		return err
	}
	fmt.Printf("vault fill rows=%d seconds=%.0f database_MiB=%d\n", v.rows, time.Since(begin).Seconds(), fileSize(filepath.Join(v.state(), "passerelle.db"))>>20)
	return nil
}

// sumFile holds the digest of the file that each large sample was sent with.
func (v *vaultRun) sumFile() string { return filepath.Join(v.work, "large.sha256") }

// attachmentSum is the digest of the file in a letter of body.
func attachmentSum(letter []byte) string {
	_, text, _ := bytes.Cut(letter, []byte("base64\r\n\r\n"))
	text, _, _ = bytes.Cut(text, []byte("--b1--"))
	h := sha256.New()
	if _, err := io.Copy(h, base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text))); err != nil {
		return err.Error() // equal to no digest
	}
	return hex.EncodeToString(h.Sum(nil))
}

// start measures a start, and what the first sweep takes on top.
func (v *vaultRun) start(ctx context.Context) error {
	g, took, err := v.gateway(ctx)
	if err != nil {
		return err
	}
	defer g.stop()
	ready, err := g.footprint()
	if err != nil {
		return err
	}
	cpu := g.cpu()
	time.Sleep(50 * time.Second)
	first, err := g.footprint()
	if err != nil {
		return err
	}
	swept := g.cpu()
	time.Sleep(60 * time.Second) // one more sweep lies in it
	fmt.Printf("vault start seconds=%.2f rss_MiB=%d cpu_s=%.1f wal_MiB=%d; with the first sweep rss_MiB=%d peak_MiB=%d cpu_s=%.1f; another minute cpu_s=+%.2f load=%s\n",
		took.Seconds(), ready.rss>>10, cpu, fileSize(filepath.Join(v.state(), "passerelle.db-wal"))>>20, first.rss>>10, first.peak>>10, swept, g.cpu()-swept, loadAverage())
	return nil
}

// list measures the operator's command.
func (v *vaultRun) list(ctx context.Context) error {
	g, _, err := v.gateway(ctx)
	if err != nil {
		return err
	}
	defer g.stop()
	for _, flags := range [][]string{nil, {"--state", "waiting"}, {"--state", "opened"}, {"--state", "held"}, {"--sender", "dr.martin7@clinic.test"},
		{"--recipient", "patient77@pickup.test"}, {"--recipient", "nobody@pickup.test"}, {"--since", "1h"}, {"--limit", "10000"}} {
		cmd := exec.CommandContext(ctx, v.bin, append([]string{"deposits", "list", "--config", g.config}, flags...)...)
		cmd.Env = g.env
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("deposits list: %w: %s", err, out)
		}
		fmt.Printf("vault list flags=%q seconds=%.2f lines=%d\n", strings.Join(flags, " "), time.Since(begin).Seconds(), strings.Count(string(out), "\n")-1)
	}
	return nil
}

func fileSize(path string) int64 {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return 0
	}
	return fi.Size()
}
