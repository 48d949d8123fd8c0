package directory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// FetchConfig says where the extraction is downloaded from and how patiently.
type FetchConfig struct {
	URL   string        // https; "" is off
	Every time.Duration // from one look to the next; 0 is 6 h
	CA    string        // PEM file of the only authorities that are believed (IGC-Santé); "" is the system's
	// RedirectHosts are the hosts, beside the URL's own, that an answer may lead on to; always by https.
	RedirectHosts []string
	// Shrink is the share of lines or mailboxes that a file may lack against the mirror in use; 0 is 0.2.
	Shrink float64
	// Silence ends a download that brings nothing for so long (0: 1 min), Total one that lasts so long (0: 1 h).
	Silence, Total time.Duration
	MaxSize        int64 // bytes of the file as downloaded; 0 is 512 MiB
	// Progress is told of a download and of the import behind it; nil: nobody is.
	Progress func(Progress)
}

// Progress is how far a refresh is.
type Progress struct {
	Stage       string // "download", "import"
	Done, Total int64  // bytes; Total 0 where the server does not say
	Lines       int    // of an import
}

// differs tells whether a download under way must end because the operator wants another one.
func (c FetchConfig) differs(o FetchConfig) bool {
	return c.URL != o.URL || c.CA != o.CA || c.Shrink != o.Shrink || !slices.Equal(c.RedirectHosts, o.RedirectHosts)
}

func (c FetchConfig) withDefaults() FetchConfig {
	fill := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	fill(&c.Every, 6*time.Hour)
	fill(&c.Silence, time.Minute)
	fill(&c.Total, time.Hour)
	if c.MaxSize <= 0 {
		c.MaxSize = 512 << 20
	}
	if c.Shrink <= 0 {
		c.Shrink = defaultShrink
	}
	return c
}

// ErrNoFetch: no address is set to download from.
var ErrNoFetch = errors.New("directory.fetch.url is not set")

// Refresh asks the source whether it has another file than the last one taken, downloads and imports it. On any error the mirror in use
// stays as it is, and the error's reason stands in Status and behind every answer that could not be given. A file that the mirror's law
// refuses is a *RefusedError. Refresh by another process is an error too.
func (d *Directory) Refresh(ctx context.Context) error {
	cfg := d.cfg.Fetch.withDefaults()
	if cfg.URL == "" {
		return ErrNoFetch
	}
	unlock, err := lockFile(d.cfg.StateDir, fetchLock, "another refresh is running")
	if err != nil {
		return err
	}
	defer unlock()
	f, err := newFetcher(cfg, d.cfg.StateDir, d.cfg.Now)
	result := resultImported
	if err == nil {
		defer f.client.CloseIdleConnections()
		result, err = f.run(ctx)
	}
	if err != nil && ctx.Err() != nil { // we were told to stop: nobody's fault
		return fmt.Errorf("refresh the directory: %w", context.Cause(ctx))
	}
	if err != nil {
		result = resultOf(err)
		err = fmt.Errorf("refresh the directory from %s: %w", hostOf(cfg.URL), plainly(err))
	}
	fetched.WithLabelValues(result).Inc()
	f.settle(result, err)
	d.mu.Lock()
	d.fetch = f.st
	d.mu.Unlock()
	d.ensure(ctx, false)
	if err == nil {
		d.cfg.Log.Info("directory: looked for a new extraction", "result", result, "next", f.st.Next)
	} else {
		d.cfg.Log.Error("directory: no new extraction, the mirror in use stays", "result", result, "err", err, "next", f.st.Next)
	}
	return errors.Join(err, f.save())
}

// run gives what came of it: resultImported or resultUnchanged.
func (f *fetcher) run(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.cfg.Total, errTotal)
	defer cancel()
	mirrored := f.restore(ctx)
	probe, err := f.probe(ctx)
	if err != nil {
		return "", err
	}
	if mirrored && probe.same(f.st.Last) {
		return resultUnchanged, nil
	}
	got, unchanged, err := f.download(ctx, probe, mirrored)
	if unchanged || err != nil {
		return resultUnchanged, err
	}
	_, err = f.take(ctx, f.path(partName), got, false)
	refused := new(RefusedError)
	switch {
	case errors.As(err, &refused) && refused.Forceable: // what came is whole: it is not fetched again, and the operator may want it
		os.Chtimes(f.path(partName), time.Time{}, got.date())
		return "", fmt.Errorf("%w; where that is right: passerelle directory import --force %s", err, f.path(partName))
	case errors.As(err, &refused):
		f.forgetPart()
		return "", err
	case err != nil:
		return "", err
	}
	if err := os.Rename(f.path(partName), f.path(lastName)); err != nil {
		return "", fmt.Errorf("keep the file: %w", err)
	}
	f.st.Last, f.st.Part, f.st.PartSize = got, version{}, 0
	return resultImported, nil
}

// restore tells whether there is a mirror; where there is none, or one of the former format, it is made again from the last good file.
func (f *fetcher) restore(ctx context.Context) bool {
	m, err := openMirror(ctx, f.dir)
	if err == nil {
		m.close()
		if m.meta.format == mirrorFormat {
			return true
		}
	}
	if f.st.Last == (version{}) {
		return false
	}
	_, err = f.take(ctx, f.path(lastName), f.st.Last, true)
	return err == nil
}

func (f *fetcher) take(ctx context.Context, path string, v version, force bool) (Stats, error) {
	o := Options{Now: f.now, MaxShrink: f.cfg.Shrink, Force: force, Origin: &Origin{Name: v.Name, Changed: v.date()}}
	if f.cfg.Progress != nil {
		o.Progress = func(done, total int64, lines int) { f.cfg.Progress(Progress{"import", done, total, lines}) }
	}
	return Import(ctx, f.dir, path, o)
}

// KeepFresh refreshes when it is due, until ctx ends. current gives the Directory in force: what a reload changed counts at once, and a
// download under other settings is given up.
func KeepFresh(ctx context.Context, current func() *Directory) {
	tick := time.NewTicker(fetchLook)
	defer tick.Stop()
	for {
		if d := current(); d.refreshDue() {
			d.refreshWhile(ctx, func() bool { return !current().cfg.Fetch.differs(d.cfg.Fetch) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const fetchLook = time.Second

// refreshWhile tells its fault to the log and to Status, as Refresh does.
func (d *Directory) refreshWhile(ctx context.Context, wanted func() bool) {
	as := d.cfg.Fetch.withDefaults()
	d.mu.Lock()
	d.fetchAs = &as
	d.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(fetchLook)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if !wanted() {
					cancel(errors.New("its settings were changed"))
				}
			}
		}
	})
	err := d.Refresh(ctx)
	stopped := ctx.Err() != nil
	cancel(nil)
	watch.Wait()
	if err == nil || stopped {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notBefore = d.cfg.Now().Add(fetchRetry) // it may not have come so far as to note a time of its own: locked, or no room
}

// refreshDue tells whether it is time to look. A mirror that is gone is made again at once.
func (d *Directory) refreshDue() bool {
	cfg := d.cfg.Fetch.withDefaults()
	if cfg.URL == "" {
		return false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	st, now := d.fetch, d.cfg.Now()
	switch {
	case d.closed:
		return false
	case d.fetchAs != nil && cfg.differs(*d.fetchAs): // the operator mended its settings
		return true
	case now.Before(d.notBefore) && d.notBefore.Sub(now) <= fetchRetry:
		return false
	case st.Source != sourceKey(cfg.URL), st.Tried.After(now): // never tried, or the clock was set back
		return true
	case d.mirror == nil && st.Failures == 0 && now.Sub(st.Tried) >= fetchRetry:
		return true
	}
	return !now.Before(st.Next) || st.Failures == 0 && now.Sub(st.Tried) >= cfg.Every*11/10 // "every" was made shorter
}

const (
	fetchRetry = time.Minute // the first wait after a failure; it doubles
	jitter     = 0.1         // every gateway of the country reads one source: each at a time of its own
)

// settle notes how it went and when to look again.
func (f *fetcher) settle(result string, err error) {
	now := f.now()
	f.st.Source, f.st.Tried, f.st.Result = sourceKey(f.cfg.URL), now, result
	wait := f.cfg.Every
	if err == nil {
		f.st.Checked, f.st.Failures, f.st.Fault = now, 0, ""
	} else {
		f.st.Fault = err.Error()
		f.st.Failures++
		wait = min(f.cfg.Every, fetchRetry<<min(f.st.Failures-1, 12))
		if s := new(statusError); errors.As(err, &s) {
			wait = max(wait, min(s.after, 24*time.Hour))
		}
	}
	f.st.Next = now.Add(wait + time.Duration(jitter*rand.Float64()*float64(wait)))
}

// because adds to a fault of the mirror why no newer one came.
func (d *Directory) because(f *fault) *fault {
	if d.cfg.Fetch.URL == "" && !d.cfg.Unconfigured || d.fetch.Fault == "" {
		return f
	}
	why := *f
	why.why += "; " + d.fetch.Fault
	return &why
}

func (f *fetcher) path(name string) string { return filepath.Join(f.dir, name) }
