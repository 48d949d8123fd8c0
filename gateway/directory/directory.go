// Package directory asks who a recipient is. It takes the national MSSanté extraction as a file and the clinic's own list, gives
// for an address a three-valued verdict with its records, source and date, and knows nothing of routes, rules or messages.
//
// The extraction is imported into a mirror: one sealed SQLite file, state_dir/directory.db, that is built beside the old one and
// put in its place by rename, by this process or by another. Every Ask looks whether the file is still the one that was opened. A
// mirror that is missing, unreadable, damaged or too old answers "could not ask", never "not listed": absence from a list proves
// little, absence from a list that could not be read proves nothing.
//
// The clinic's list says how the clinic wants to write to somebody; it never verifies anybody.
package directory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"passerelle/gateway/message"
)

// Directory answers from the mirror and the list. It is safe for concurrent use.
type Directory struct {
	cfg       Config
	path      string
	list      *list
	remotes   []*asker
	lookalike *lookalikes
	retired   bool // guarded by asking.mu
	*holder
}

// holder has the open mirror; Directories made by With share it.
type holder struct {
	mu     sync.RWMutex // held for reading while the mirror is asked, for writing to swap it
	mirror *mirror
	fault  *fault      // why there is no mirror
	seen   fs.FileInfo // the look at the path that mirror and fault stand for; nil: no file
	tried  time.Time
	had    bool
	closed bool

	asking atomic.Pointer[asking] // the remotes' answers and who asks them, nil where no remote was ever configured

	opening     sync.Mutex   // one at a time opens the mirror or imports
	importFault string       // guarded by mu
	fetch       fetchState   // guarded by mu
	fetchAs     *FetchConfig // the settings of the last look; guarded by mu
	notBefore   time.Time    // the download is not tried before; guarded by mu
}

// A faulty mirror is looked at again after this time even if its file seems unchanged: the fault may have been ours.
const retryAfter = 2 * time.Second

const (
	defaultMaxAge   = 21 * 24 * time.Hour
	defaultAlarmAge = 2 * 24 * time.Hour
)

func (c *Config) complete() {
	if c.MaxAge <= 0 {
		c.MaxAge = defaultMaxAge
	}
	if c.AlarmAge <= 0 {
		c.AlarmAge = defaultAlarmAge
	}
}

// Open reads the list, imports the extraction file where it is new, and opens the mirror. It fails for the operator's own faults
// (no state folder, a faulty list or key: *ListError), never for a missing or bad extraction: then the answers are CouldNotAsk.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	cfg.complete()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if fi, err := os.Stat(cfg.StateDir); err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("open directory: %s is not a folder", cfg.StateDir)
	}
	abs, err := filepath.Abs(cfg.StateDir)
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	if cfg.StateDir = abs; cfg.MirrorDir == "" {
		cfg.MirrorDir = abs
	}
	l, err := openList(cfg.ListFile, cfg.KeyFiles, cfg.OpenSecret, cfg.Now, cfg.Log)
	if err != nil {
		return nil, err
	}
	d := &Directory{cfg: cfg, path: filepath.Join(cfg.MirrorDir, MirrorName), list: l, lookalike: newLookalikes(cfg.Known), holder: &holder{fault: faultMissing(), fetch: loadFetchState(abs)}}
	if err := d.furnish(ctx, nil); err != nil {
		return nil, err
	}
	d.importConfigured(ctx)
	d.ensure(ctx, true)
	d.serve()
	return d, nil
}

// With gives a Directory on the same mirror with another list, keys, extraction file and age; StateDir, Now and Log stay. A faulty list or key
// is a *ListError and d goes on alone. Both answer until one of them is closed: that closes the mirror for both. Retire tells of the one that is not
// used any more.
func (d *Directory) With(ctx context.Context, cfg Config) (*Directory, error) {
	cfg.StateDir, cfg.MirrorDir, cfg.Now, cfg.Log = d.cfg.StateDir, d.cfg.MirrorDir, d.cfg.Now, d.cfg.Log
	cfg.complete()
	l, err := openList(cfg.ListFile, cfg.KeyFiles, cfg.OpenSecret, cfg.Now, cfg.Log)
	if err != nil {
		return nil, err
	}
	n := &Directory{cfg: cfg, path: d.path, list: l, lookalike: newLookalikes(cfg.Known), holder: d.holder}
	if err := n.furnish(ctx, d); err != nil {
		return nil, err
	}
	if n.importConfigured(ctx); ctx.Err() != nil {
		n.Retire()
		return nil, fmt.Errorf("open directory: %w", ctx.Err())
	}
	n.ensure(ctx, false)
	n.serve()
	return n, nil
}

// serve makes d the one that the metrics tell of and that answers are kept fresh for.
func (d *Directory) serve() {
	live.Store(d)
	if a := d.asking.Load(); a != nil {
		a.set(d.remotes)
	}
}

// Ask says who a is. It never fails: what could not be learnt is the verdict CouldNotAsk with its reason.
func (d *Directory) Ask(ctx context.Context, a message.Address) Answer {
	ans := d.ask(ctx, a)
	ans.Contact = d.list.find(a)
	if ans.Verdict != Verified && !a.IsNull() {
		ans.Lookalike = d.lookalike.of(a.Domain, d.list)
		ans.KnownAs = d.knownAs(ctx, a, ans)
	}
	asked.WithLabelValues(ans.Verdict).Inc()
	return ans
}

// askMirror is the national extraction's word.
func (d *Directory) askMirror(ctx context.Context, a message.Address) Said {
	for range 3 {
		d.ensure(ctx, false)
		d.mu.RLock()
		m, f, seen := d.mirror, d.fault, d.seen
		if m != nil {
			f = d.stale(m.meta.asOf)
		}
		if f != nil {
			f = d.because(f)
			d.mu.RUnlock()
			return notAsked(sourceExtraction, f)
		}
		key := a.Key()
		recs, known := m.remembered(key)
		var err error
		if !known {
			recs, err = m.lookup(ctx, key)
		}
		d.mu.RUnlock()
		switch {
		case ctx.Err() != nil:
			return notAsked(sourceExtraction, &fault{"the question was given up: " + ctx.Err().Error(), "annuaire national non consulte, nouvel essai plus tard"})
		case err != nil:
			d.cfg.Log.Error("directory: the mirror does not answer", "err", err)
			d.drop(m, err)
			return notAsked(sourceExtraction, faultOf(err))
		}
		// An answer counts, and is kept, only if the file that gave it is still whole behind it.
		if !known {
			if now, _ := os.Stat(d.path); !sameFile(now, seen) {
				continue
			}
			m.remember(key, recs)
		}
		return Said{Name: sourceExtraction, AsOf: m.meta.asOf, Verdict: verdictBy(recs), Verifies: true, records: recs}
	}
	return notAsked(sourceExtraction, &fault{"the mirror is being changed", "annuaire national en cours de mise a jour, nouvel essai plus tard"})
}

// notAsked is a verifying source's silence.
func notAsked(name string, f *fault) Said {
	return Said{Name: name, Verdict: CouldNotAsk, Why: f.why, reply: f.reply, Verifies: true}
}

// stale tells why an extraction of that date is not believed.
func (d *Directory) stale(asOf time.Time) *fault {
	age := d.cfg.Now().Sub(asOf)
	if age > d.cfg.MaxAge {
		return &fault{fmt.Sprintf("the directory's extraction of %s is older than %s", asOf.UTC().Format(time.DateOnly), days(d.cfg.MaxAge)),
			"annuaire national trop ancien, nouvel essai plus tard"}
	}
	if age < -48*time.Hour {
		return &fault{fmt.Sprintf("the directory's extraction is of %s, in the future: is the clock right", asOf.UTC().Format(time.DateOnly)),
			"annuaire national a une date incoherente, nouvel essai plus tard"}
	}
	return nil
}

// ensure makes the open mirror the one that lies at the path now.
func (d *Directory) ensure(ctx context.Context, force bool) {
	if !force && d.current() {
		return
	}
	d.opening.Lock()
	defer d.opening.Unlock()
	if !force && d.current() { // another one did it while we waited
		return
	}
	var m *mirror
	var f *fault
	seen, err := os.Stat(d.path)
	if err == nil {
		// Not the asker's deadline: what is opened here serves all that come after.
		m, err = openMirror(context.WithoutCancel(ctx), d.cfg.MirrorDir)
	}
	if err != nil {
		f = faultOf(err)
	} else {
		seen = m.info
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		if m != nil {
			m.close()
		}
		return
	}
	switch {
	case m != nil:
		d.had = true
		d.cfg.Log.Info("directory: mirror opened", "file", m.meta.sourceName, "as_of", m.meta.asOf, "entries", m.meta.addresses)
	case d.fault == nil || d.fault.why != f.why:
		d.cfg.Log.Error("directory: cannot be asked", "why", f.why)
	}
	if d.mirror != nil {
		d.mirror.close()
	}
	d.mirror, d.fault, d.seen, d.tried = m, f, seen, d.cfg.Now()
}

// current tells whether the path still shows what d answers from.
func (d *Directory) current() bool {
	now, err := os.Stat(d.path)
	d.mu.RLock()
	defer d.mu.RUnlock()
	switch {
	case d.closed:
		return true
	case err != nil:
		return d.mirror == nil && d.seen == nil
	case d.mirror == nil:
		return sameFile(now, d.seen) && d.cfg.Now().Sub(d.tried) < retryAfter
	}
	return sameFile(now, d.seen)
}

// drop gives up a mirror that failed while it was asked.
func (d *Directory) drop(m *mirror, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mirror != m {
		return
	}
	m.close()
	d.mirror, d.fault, d.tried = nil, faultOf(err), d.cfg.Now()
}

// importConfigured imports the extraction file of the config unless the mirror was made from it or from a newer one. A fault is
// kept for Status; the last good mirror goes on until it is too old.
func (d *Directory) importConfigured(ctx context.Context) error {
	if d.cfg.ExtractionFile == "" {
		return nil
	}
	d.opening.Lock()
	defer d.opening.Unlock()
	err := d.importIfNew(ctx)
	d.mu.Lock()
	d.importFault = ""
	if err != nil {
		d.importFault = err.Error()
	}
	d.mu.Unlock()
	if err != nil {
		d.cfg.Log.Error("directory: extraction file not taken", "err", err)
	}
	return err
}

func (d *Directory) importIfNew(ctx context.Context) error {
	file := d.cfg.ExtractionFile
	fi, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("import %s: %w", filepath.Base(file), errors.Unwrap(err))
	}
	if old, err := openMirror(ctx, d.cfg.MirrorDir); err == nil {
		meta := old.meta
		old.close()
		if meta.format == mirrorFormat && meta.sourceName == filepath.Base(file) && meta.sourceSize == fi.Size() && meta.sourceTime.Equal(fi.ModTime()) {
			return nil
		}
		src, err := openSource(file, nil)
		if err != nil {
			return err
		}
		src.close()
		if src.sum == meta.sourceSum && meta.format == mirrorFormat {
			return nil
		}
		if src.asOf.Before(meta.asOf) {
			d.cfg.Log.Warn("directory: the mirror is newer than the extraction file and stays", "file", src.name,
				"file_as_of", src.asOf, "mirror_as_of", meta.asOf)
			return nil
		}
	}
	stats, err := Import(ctx, d.cfg.MirrorDir, file, Options{Now: d.cfg.Now})
	if err != nil {
		return err
	}
	d.cfg.Log.Info("directory: extraction imported", "lines", stats.Lines, "addresses", stats.Addresses, "malformed", stats.Malformed,
		"bad_utf8", stats.BadUTF8, "took", stats.Took, "as_of", stats.AsOf)
	return nil
}

// Status looks at the mirror as Ask does and tells its state.
func (d *Directory) Status() Status {
	d.ensure(context.Background(), false)
	d.mu.RLock()
	defer d.mu.RUnlock()
	s := Status{ImportFault: d.importFault, Configured: d.had || d.cfg.ExtractionFile != "" || d.cfg.Fetch.URL != "",
		FetchFault: d.fetch.Fault, FetchChecked: d.fetch.Checked, FetchNext: d.fetch.Next}
	s.Contacts, s.CertificatesOver, s.ListFault = d.list.status()
	if d.mirror == nil {
		s.Fault = d.because(d.fault).why
		return s
	}
	m := d.mirror.meta
	s.AsOf, s.ImportedAt, s.Age, s.File = m.asOf, m.importedAt, d.cfg.Now().Sub(m.asOf), m.sourceName
	s.Entries, s.PER, s.ORG, s.Lines = m.addresses, m.persons, m.organisations, m.lines
	s.Searchable = m.format == mirrorFormat
	if f := d.stale(m.asOf); f != nil {
		s.Fault = d.because(f).why
	}
	return s
}

// Close ends the directory; what is asked afterwards could not be asked.
func (d *Directory) Close() error {
	if l := live.Load(); l != nil && l.holder == d.holder {
		live.CompareAndSwap(l, nil)
	}
	if a := d.asking.Load(); a != nil {
		a.close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.mirror != nil {
		d.mirror.close()
	}
	d.mirror, d.fault = nil, &fault{"the directory is closed", "service en cours d'arret, nouvel essai plus tard"}
	return nil
}
