package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// browser asks the portal as many patients do, each from an address range of its own, behind the clinic's proxy.
type browser struct {
	base   string
	http   *http.Client
	mu     sync.Mutex
	cookie map[string]string // of a sample's id
}

func (g *gateway) browser() *browser {
	base := ""
	for _, e := range g.env {
		if addr, ok := strings.CutPrefix(e, "PORTAL_ADDR="); ok {
			base = "http://" + addr
		}
	}
	return &browser{base: base, cookie: map[string]string{}, http: &http.Client{Timeout: time.Minute,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 300},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// ask gives the answer's status, its body where keep is set, and keeps the proof that it brings.
func (b *browser) ask(ctx context.Context, s sample, method, path string, form url.Values, keep io.Writer) (int, error) {
	r, err := http.NewRequestWithContext(ctx, method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		r.Body, r.ContentLength = nil, 0
	}
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("198.%d.%d.9", 18+rand.IntN(2), rand.IntN(256)))
	r.Header.Set("Accept-Language", "fr")
	b.mu.Lock()
	if c := b.cookie[s.ID]; c != "" && method == "GET" {
		r.Header.Set("Cookie", c)
	}
	b.mu.Unlock()
	w, err := b.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer w.Body.Close()
	if _, err := io.Copy(keep, w.Body); err != nil {
		return 0, err
	}
	for _, c := range w.Cookies() {
		b.mu.Lock()
		b.cookie[s.ID] = c.Name + "=" + c.Value
		b.mu.Unlock()
	}
	return w.StatusCode, nil
}

// proved gives codes to the samples' pages, so slowly that no limit is met.
func (b *browser) proved(ctx context.Context, samples []sample) error {
	for _, s := range samples {
		if code, err := b.ask(ctx, s, "POST", "/r/"+s.Link, url.Values{"code": {s.Code}}, io.Discard); err != nil || code != http.StatusSeeOther {
			return fmt.Errorf("code: %d %w", code, err)
		}
		time.Sleep(4 * time.Millisecond)
	}
	return nil
}

// took is how long something took, and whether it went well.
type took struct {
	what string
	d    time.Duration
	err  error
}

// quantiles writes n, p50, p90, p99 and the most, in milliseconds.
func quantiles(ds []time.Duration) string {
	if len(ds) == 0 {
		return "n=0"
	}
	slices.Sort(ds)
	at := func(p float64) float64 {
		return float64(ds[min(len(ds)-1, int(p*float64(len(ds))))].Microseconds()) / 1000
	}
	return fmt.Sprintf("n=%d p50_ms=%.1f p90_ms=%.1f p99_ms=%.1f max_ms=%.1f", len(ds), at(.5), at(.9), at(.99), at(1))
}

// openLoop calls do at a fixed rate, whether or not earlier calls have ended; a call's time runs from the moment at which it was due.
func openLoop(ctx context.Context, rate int, span time.Duration, do func() (string, error)) []took {
	var mu sync.Mutex
	var all []took
	var calls sync.WaitGroup
	begin := time.Now()
	for i := 0; ; i++ {
		due := begin.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if due.Sub(begin) >= span || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Until(due))
		calls.Go(func() {
			what, err := do()
			t := took{what, time.Since(due), err}
			mu.Lock()
			all = append(all, t)
			mu.Unlock()
		})
	}
	calls.Wait()
	return all
}

// The mix of a hundred requests.
var (
	pageKinds  = []string{"link", "sender", "code", "message", "retrait", "typed", "wrong"}
	pageShares = []int{35, 15, 10, 20, 8, 8, 4}
)

func (v *vaultRun) pages(ctx context.Context, rate int, span time.Duration) error {
	samples, err := readSamples(filepath.Join(v.work, "samples.json"))
	if err != nil {
		return err
	}
	samples = slices.DeleteFunc(samples, func(s sample) bool { return s.Link == "" })
	g, _, err := v.gateway(ctx)
	if err != nil {
		return err
	}
	defer g.stop()
	time.Sleep(20 * time.Second) // the first sweep
	b := g.browser()
	if err := b.proved(ctx, samples); err != nil {
		return err
	}
	cpu := g.cpu()
	all := openLoop(ctx, rate, span, func() (string, error) {
		s, kind := samples[rand.IntN(len(samples))], pick(pageShares)
		method, path, form, want := "GET", "/r/"+s.Link, url.Values(nil), http.StatusOK
		who := s
		switch pageKinds[kind] {
		case "link":
			who = sample{} // no proof is shown
		case "sender":
			path = "/s/" + s.Sender
		case "code":
			method, form, want = "POST", url.Values{"code": {s.Code}}, http.StatusSeeOther
		case "retrait":
			path = "/retrait"
		case "typed":
			method, path, form, want = "POST", "/retrait", url.Values{"code": {s.Short}}, http.StatusSeeOther
		case "wrong":
			path, want = "/r/0123456789abcdefghjkmnpqrs", http.StatusNotFound
		}
		code, err := b.ask(ctx, who, method, path, form, io.Discard)
		if err == nil && code != want {
			err = fmt.Errorf("%s: status %d", pageKinds[kind], code)
		}
		return pageKinds[kind], err
	})
	foot, err := g.footprint()
	if err != nil {
		return err
	}
	failed, by, total := 0, map[string][]time.Duration{}, []time.Duration{}
	for _, t := range all {
		if t.err != nil {
			if failed++; failed < 5 {
				fmt.Println("vault pages failed:", t.err)
			}
			continue
		}
		by[t.what], total = append(by[t.what], t.d), append(total, t.d)
	}
	for _, kind := range pageKinds {
		fmt.Printf("vault pages kind=%s %s\n", kind, quantiles(by[kind]))
	}
	fmt.Printf("vault pages rate=%d %s failed=%d rss_MiB=%d cpu_share=%.2f load=%s\n", rate, quantiles(total), failed, foot.rss>>10, (g.cpu()-cpu)/span.Seconds(), loadAverage())
	return nil
}

// downloads takes the large file of each large sample, all at once: every client waits with its first octets for those of all others.
func (v *vaultRun) downloads(ctx context.Context) error {
	samples, err := readSamples(filepath.Join(v.work, "samples.json"))
	if err != nil {
		return err
	}
	sent, err := os.ReadFile(v.sumFile())
	if err != nil {
		return err
	}
	g, _, err := v.gateway(ctx)
	if err != nil {
		return err
	}
	defer g.stop()
	time.Sleep(20 * time.Second)
	b := g.browser()
	var large []sample
	for _, s := range samples {
		if fileSize(filepath.Join(v.state(), "deposits", s.ID)) > largeFile {
			large = append(large, s)
		}
	}
	if err := b.proved(ctx, large); err != nil {
		return err
	}
	before, err := g.footprint()
	if err != nil {
		return err
	}
	var there, all sync.WaitGroup
	there.Add(len(large))
	errs := make(chan error, len(large))
	sums := make(chan string, len(large))
	begin := time.Now()
	for _, s := range large {
		all.Go(func() {
			h := sha256.New()
			m := &meeting{Writer: h, there: &there}
			code, err := b.ask(ctx, s, "GET", "/r/"+s.Link+"/f/0", nil, m)
			m.come()
			if err == nil && m.n < largeFile {
				err = errors.New("too short")
			}
			if err != nil || code != http.StatusOK {
				errs <- fmt.Errorf("status %d, %d octets: %w", code, m.n, err)
			}
			sums <- hex.EncodeToString(h.Sum(nil))
		})
	}
	all.Wait()
	close(errs)
	close(sums)
	var failed []error
	for err := range errs {
		failed = append(failed, err)
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d downloads failed, the first: %w", len(failed), failed[0])
	}
	seconds := time.Since(begin).Seconds()
	right := 0
	for s := range sums {
		if s == string(sent) {
			right++
		}
	}
	foot, err := g.footprint()
	if err != nil {
		return err
	}
	fmt.Printf("vault downloads at_once=%d as_sent=%d MiB_each=%d seconds=%.1f peak_rss_MiB=%d before_MiB=%d peak_before_MiB=%d after_MiB=%d load=%s\n",
		len(large), right, largeFile>>20, seconds, foot.peak>>10, before.rss>>10, before.peak>>10, foot.rss>>10, loadAverage())
	if right != largeSamples || foot.peak>>10 > 300 {
		return errors.New("a file is not what was sent, or memory went over 300 MiB")
	}
	return nil
}

// meeting counts what is written, and waits with the first octets for all others.
type meeting struct {
	io.Writer
	there *sync.WaitGroup
	met   bool
	n     int
}

func (m *meeting) come() {
	if !m.met {
		m.met = true
		m.there.Done()
	}
}

func (m *meeting) Write(p []byte) (int, error) {
	if !m.met {
		m.come()
		m.there.Wait()
	}
	m.n += len(p)
	return m.Writer.Write(p)
}
