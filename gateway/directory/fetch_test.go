package directory

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"
)

func TestFetch(t *testing.T) {
	n, c, dir := startNational(t, extractionOf(t, 500)), &clock{t: day.Add(time.Hour)}, t.TempDir()
	d := open(t, n.config(dir, c))
	want(t, d, someone, CouldNotAsk, "missing")
	refresh(t, d, resultImported, "")
	a := want(t, d, someone, Verified, "")
	if at := time.Date(2026, 11, 20, 9, 13, 0, 0, time.UTC); !a.AsOf.Equal(at) {
		t.Fatalf("as of %v, want the date of the served name, %v", a.AsOf, at)
	}
	if s := d.Status(); s.File != daily || s.Entries != 500 {
		t.Fatalf("%+v", s)
	}
	n.requests()
	refresh(t, d, resultUnchanged, "")
	if got := n.requests(); got != "" {
		t.Fatalf("the probe said that nothing is new, and yet %s", got)
	}
	// A server without HEAD: the conditional GET says it.
	n.set(func() {
		n.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return r.Method == http.MethodHead
		}
	})
	refresh(t, d, resultUnchanged, "")
	if got := n.requests(); got != "GET  304 0" {
		t.Fatalf("got %s, want a conditional GET", got)
	}
	// A new file is taken, a mirror that is gone is made again from the last one.
	n.set(func() {
		n.content, n.etag, n.name = extractionOf(t, 600), `"2"`, strings.Replace(daily, "20261120", "20261121", 1)
		c.add(24 * time.Hour)
	})
	refresh(t, d, resultImported, "")
	if s := d.Status(); s.Entries != 600 {
		t.Fatalf("%+v", s)
	}
	n.requests()
	if err := os.Remove(filepath.Join(dir, MirrorName)); err != nil {
		t.Fatal(err)
	}
	want(t, d, someone, CouldNotAsk, "missing")
	n.set(func() {
		n.fault = func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(503); return true }
	})
	refresh(t, d, resultStatus, "503 Service Unavailable")
	want(t, d, someone, Verified, "")
	if s := d.Status(); s.Entries != 600 {
		t.Fatalf("made again from the last good file: %+v", s)
	}
}

// What was cut is gone on with, if the server still has the same content, however it names it; else it begins anew.
func TestFetchResumes(t *testing.T) {
	whole := extractionOf(t, 3000)
	half := len(whole) / 2
	for name, c := range map[string]struct {
		etag, name string
		undated    bool // no Last-Modified
		change     func(n *national)
		want       string
	}{
		"by ETag":                    {etag: `"1"`, want: fmt.Sprintf("GET bytes=%d- 206 %d", half, len(whole)-half)},
		"by dated name":              {name: daily, undated: true, want: fmt.Sprintf("GET bytes=%d- 206 %d", half, len(whole)-half)},
		"another content":            {etag: `"1"`, change: func(n *national) { n.etag = `"2"` }, want: fmt.Sprintf("GET  200 %d", len(whole))},
		"another, and no HEAD first": {etag: `"1"`, change: func(n *national) { n.etag = `"2"`; n.fault = noHead }, want: fmt.Sprintf("GET bytes=%d- 200 %d", half, len(whole))},
		"no ranges": {etag: `"1"`, change: func(n *national) {
			n.fault = func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
		}, want: fmt.Sprintf("GET  200 %d", len(whole))},
	} {
		t.Run(name, func(t *testing.T) {
			n, clk := startNational(t, whole), &clock{t: day.Add(time.Hour)}
			n.etag, n.name = c.etag, c.name
			if c.undated {
				n.changed = time.Time{}
			}
			n.fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet {
					w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
					if c.etag != "" {
						w.Header().Set("ETag", c.etag)
					}
					if !c.undated {
						w.Header().Set("Last-Modified", day.Format(http.TimeFormat))
					}
					if c.name != "" {
						w.Header().Set("Content-Disposition", "attachment; filename="+c.name)
					}
					w.Write(whole[:half])
					panic(http.ErrAbortHandler)
				}
				return false
			}
			dir := t.TempDir()
			d := open(t, n.config(dir, clk))
			refresh(t, d, resultCut, "unexpected EOF")
			n.requests()
			n.set(func() { n.fault = nil })
			if c.change != nil {
				n.set(func() { c.change(n) })
			}
			d.Close()
			d = open(t, n.config(dir, clk)) // another process goes on with it
			refresh(t, d, resultImported, "")
			if got := n.requests(); got != c.want {
				t.Fatalf("got %s, want %s", got, c.want)
			}
			if s := d.Status(); s.Entries != 3000 {
				t.Fatalf("%+v", s)
			}
		})
	}
}

func noHead(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
	return r.Method == http.MethodHead
}

// A file that is older than the limit is taken where nothing newer is there, and then believed no more than any other of that age.
func TestFetchOlderThanTheLimit(t *testing.T) {
	n, clk := startNational(t, extractionOf(t, 50)), &clock{t: day.Add(40 * 24 * time.Hour)}
	d := open(t, n.config(t.TempDir(), clk))
	refresh(t, d, resultImported, "")
	want(t, d, someone, CouldNotAsk, "older than 21 days")
	want(t, d, "nobody@medecin.mssante.test", CouldNotAsk, "older than 21 days")
}

// The refused smaller file is kept, not fetched again and again; the operator's --force takes it, and the next look agrees.
func TestFetchForcedByOperator(t *testing.T) {
	n, clk, dir := startNational(t, extractionOf(t, 250)), &clock{t: day.Add(4 * time.Hour)}, t.TempDir()
	importInto(t, dir, extraction.Options{Lines: 500})
	d := open(t, n.config(dir, clk))
	refresh(t, d, resultRefused, "--force")
	n.requests()
	refresh(t, d, resultRefused, "--force")
	if got := n.requests(); got != "" {
		t.Fatalf("fetched again: %s", got)
	}
	s, err := Import(t.Context(), dir, filepath.Join(dir, partName), Options{Force: true, Now: clk.now})
	if err != nil || s.Addresses != 250 || s.AsOf.Format(time.DateOnly) != "2026-11-20" {
		t.Fatalf("%+v %v", s, err)
	}
	refresh(t, d, resultImported, "")
	if s := d.Status(); s.Entries != 250 || n.requests() != "" {
		t.Fatalf("%+v", s)
	}
}

func TestFetchRedirectAllowed(t *testing.T) {
	n, clk := startNational(t, extractionOf(t, 50)), &clock{t: day.Add(4 * time.Hour)}
	to := strings.TrimPrefix(n.URL, "https://")
	cfg := n.config(t.TempDir(), clk)
	cfg.Fetch.URL = strings.Replace(n.URL, "127.0.0.1", "example.com", 1) // httptest's certificate has this name too
	cfg.Fetch.RedirectHosts = []string{to}
	f, err := newFetcher(cfg.Fetch.withDefaults(), cfg.StateDir, clk.now)
	if err != nil {
		t.Fatal(err)
	}
	via, _ := http.NewRequest("GET", cfg.Fetch.URL, nil)
	for u, ok := range map[string]bool{n.URL + "/x": true, "https://EXAMPLE.com:" + n.URL[strings.LastIndex(n.URL, ":")+1:]: true,
		"https://example.com/": false, "http://" + to: false, "https://a@" + to: false, "https://evil.test/" + to: false} {
		r, err := http.NewRequest("GET", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.follow(r, []*http.Request{via}); (err == nil) != ok {
			t.Errorf("%s: got %v", u, err)
		}
	}
}

func TestFetchOneAtATime(t *testing.T) {
	n, clk, dir := startNational(t, extractionOf(t, 50)), &clock{t: day.Add(4 * time.Hour)}, t.TempDir()
	d := open(t, n.config(dir, clk))
	unlock, err := lockFile(dir, fetchLock, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "another refresh is running") {
		t.Fatalf("got %v", err)
	}
	unlock()
	refresh(t, d, resultImported, "")
	if err := open(t, Config{StateDir: t.TempDir()}).Refresh(t.Context()); !errors.Is(err, ErrNoFetch) {
		t.Fatalf("got %v", err)
	}
}

// The state of a download is what a stranger's disk or a crash left of it: whatever it is, the next look gets along.
func TestFetchStateSpoilt(t *testing.T) {
	for name, s := range map[string]string{"empty": "", "garbage": "\x00{", "sizes": `{"part_size": -5, "failures": -7}`} {
		t.Run(name, func(t *testing.T) {
			n, clk, dir := startNational(t, extractionOf(t, 50)), &clock{t: day.Add(4 * time.Hour)}, t.TempDir()
			writeFile(t, filepath.Join(dir, fetchName), s)
			writeFile(t, filepath.Join(dir, partName), "left")
			refresh(t, open(t, n.config(dir, clk)), resultImported, "")
		})
	}
}

func TestKeepFresh(t *testing.T) {
	n, clk, dir := startNational(t, extractionOf(t, 50)), &clock{t: day.Add(4 * time.Hour)}, t.TempDir()
	d := open(t, n.config(dir, clk))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	current := d
	wg.Go(func() {
		KeepFresh(ctx, func() *Directory { mu.Lock(); defer mu.Unlock(); return current })
	})
	defer wg.Wait()
	defer cancel()
	until := func(what string, ok func() bool) {
		t.Helper()
		for range 500 {
			if ok() {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("waited in vain: %s", what)
	}
	until("the first look", func() bool { return d.Status().Entries == 50 && !d.Status().FetchNext.IsZero() })
	next := d.Status().FetchNext.Sub(clk.now())
	if next < 6*time.Hour || next > 6*time.Hour+36*time.Minute {
		t.Fatalf("next look in %v, want 6h and up to a tenth more", next)
	}
	// Failures: ever longer waits, never beyond Every, and the server's own word counts.
	n.set(func() {
		n.fault = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Retry-After", "7200")
			w.WriteHeader(503)
			return true
		}
	})
	clk.add(7 * time.Hour)
	until("the failure", func() bool { return strings.Contains(d.Status().FetchFault, "503") })
	if wait := d.Status().FetchNext.Sub(clk.now()); wait < 2*time.Hour || wait > 132*time.Minute {
		t.Fatalf("after Retry-After of 2h: %v", wait)
	}
	// A reload with another URL is looked at at once, though the old one is to wait; the stuck download of the old one is given up.
	other := startNational(t, extractionOf(t, 70))
	n.set(func() { n.fault = stall(10) })
	clk.add(3 * time.Hour)
	cfg := other.config(dir, clk)
	until("the stuck download", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.heads > 2 })
	d2, err := d.With(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	current = d2
	mu.Unlock()
	until("the new source", func() bool { return d2.Status().Entries == 70 })
}

func TestFetchBackOff(t *testing.T) {
	clk := &clock{t: day}
	f := &fetcher{cfg: FetchConfig{}.withDefaults(), now: clk.now}
	for i, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360} {
		f.settle(resultDown, errors.New("x"))
		got := f.st.Next.Sub(day)
		if low := wait * time.Minute; got < low || got > low*11/10 {
			t.Errorf("failure %d: %v, want %v and up to a tenth more", i+1, got, low)
		}
	}
}
