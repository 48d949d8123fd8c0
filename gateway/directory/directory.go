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

// The three verdicts.
const (
	Verified    = "verified"
	NotListed   = "not-listed"
	CouldNotAsk = "could-not-ask"
)

// Record is one line of a source about one mailbox.
type Record struct {
	Address, Kind                    string // Kind: PER, ORG; APP and CAB are announced
	Title, FirstName, LastName       string
	IDType, ID                       string // RPPS, ADELI
	Structure, StructureID, Service  string
	Profession, Category, Speciality string
	City, PostalCode, Department     string
	Dematerialised                   *bool // accepts documents without paper; nil where the source does not say. Shown, never routed on
	// RedList: the person does not want to be shown; Inactive: the source says that the mailbox or the practice has ended.
	RedList, Inactive bool
	// Flags are doubts about the record that never reject it, for instance "rpps-check-failed".
	Flags []string
	// Places are all lines of the mailbox in what Search found, nil where there is one.
	Places []Place
	Source string
	Also   []string // the other sources that told of the same holder and filled what Source left empty
	AsOf   time.Time
}

// Answer is what is known about one address.
type Answer struct {
	Verdict string // Verified, NotListed, CouldNotAsk
	Why     string // why it could not be asked, for the operator; "" otherwise
	Reply   string // the same for the sender's server: one line of ASCII French
	Records []Record
	Contact *Contact // the clinic's own entry, nil where none; it is no part of the verdict
	Source  string   // the source that gave the verdict: extraction, fhir, ldap
	AsOf    time.Time
	// Sources are all that were asked, in their precedence; Contradictions where they differ, fit for the ledger.
	Sources        []Said
	Contradictions []string
	// Lookalike is the known domain for which the address's own may have been taken by mistake, "" where it looks like none.
	Lookalike string
	// KnownAs is the MSSanté mailbox of the same person, where a link says so.
	KnownAs KnownAs
}

// Config is what a Directory works from.
type Config struct {
	StateDir string
	// ExtractionFile is imported at Open and Reload if it is another file than the mirror was made from and not an older one; "" if
	// files come by Import alone.
	ExtractionFile string
	// ListFile is the clinic's own list, .yaml, .yml or .csv; "" if there is none.
	ListFile string
	// MaxAge is the age at which the extraction is no longer believed; 0 is 21 days. From AlarmAge on, 0 is 2 days, the operator is told.
	MaxAge, AlarmAge time.Duration
	// Fetch is the download of the extraction; see Refresh and KeepFresh.
	Fetch FetchConfig
	// Precedence names the sources that are asked, first to last; where they contradict each other the first wins. Without it all that are
	// configured are asked, extraction, fhir, ldap, and the newer wins.
	Precedence []string
	// Askable says of which domains FHIR may be asked, nil of none: who a clinic writes to at an ordinary address is nobody's business.
	Askable func(domain string) bool
	// FHIR and LDAP are asked as their Asking says; nil where they are not.
	FHIR       *FHIRConfig
	FHIRAsking Asking
	LDAP       *LDAPConfig
	LDAPAsking Asking
	// Known are the domains for which others may be mistaken: white list, the clinic's own, its partners'.
	Known []string
	// KeyFiles are OpenPGP key files by address or @domain, beside those that the list names.
	KeyFiles map[string]string
	// ReadOnly keeps nothing that remote sources say: for a look beside a gateway that serves.
	ReadOnly bool
	Now      func() time.Time
	Log      *slog.Logger

	remotes []remoteSpec // a test's own in the place of those above
}

// Status is the state of the mirror and the list.
type Status struct {
	AsOf, ImportedAt         time.Time
	Age                      time.Duration
	Entries, PER, ORG, Lines int       // Entries, PER and ORG count mailboxes
	File                     string    // the name of the file that the mirror was made from
	Fault                    string    // why the directory cannot be asked now, "" if it can
	ImportFault              string    // why the extraction file was not taken, "" if it was; an older mirror may still answer
	Contacts                 int       // entries of the clinic's list
	ListFault                string    // why the list's present file was not taken; the former content answers
	FetchFault               string    // why the last look for a new extraction failed, "" if it went well
	FetchChecked, FetchNext  time.Time // the last good look, and the next
	CertificatesOver         int       // entries of the clinic's list whose certificate has run out
	Searchable               bool      // the mirror has an index
	Configured               bool      // an extraction file is set, or a mirror was there at some time
}

// Directory answers from the mirror and the list. It is safe for concurrent use.
type Directory struct {
	cfg       Config
	path      string
	list      *list
	remotes   []*asker
	lookalike *lookalikes
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

// fault is why the directory cannot be asked, in the operator's words and in the sender's.
type fault struct{ why, reply string }

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
	cfg.StateDir = abs
	l, err := openList(cfg.ListFile, cfg.KeyFiles, cfg.Now, cfg.Log)
	if err != nil {
		return nil, err
	}
	d := &Directory{cfg: cfg, path: filepath.Join(abs, MirrorName), list: l, lookalike: newLookalikes(cfg.Known), holder: &holder{fault: faultMissing(), fetch: loadFetchState(abs)}}
	if err := d.furnish(ctx, nil); err != nil {
		return nil, err
	}
	d.importConfigured(ctx)
	d.ensure(ctx, true)
	live.Store(d)
	return d, nil
}

// With gives a Directory on the same mirror with another list, keys, extraction file and age; StateDir, Now and Log stay. A faulty list or key
// is a *ListError and d goes on alone. Both answer until one of them is closed: that closes the mirror for both.
func (d *Directory) With(ctx context.Context, cfg Config) (*Directory, error) {
	cfg.StateDir, cfg.Now, cfg.Log = d.cfg.StateDir, d.cfg.Now, d.cfg.Log
	cfg.complete()
	l, err := openList(cfg.ListFile, cfg.KeyFiles, cfg.Now, cfg.Log)
	if err != nil {
		return nil, err
	}
	n := &Directory{cfg: cfg, path: d.path, list: l, lookalike: newLookalikes(cfg.Known), holder: d.holder}
	if err := n.furnish(ctx, d.remotes); err != nil {
		return nil, err
	}
	if n.importConfigured(ctx); ctx.Err() != nil {
		return nil, fmt.Errorf("open directory: %w", ctx.Err())
	}
	n.ensure(ctx, false)
	live.Store(n)
	return n, nil
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

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}

func faultMissing() *fault {
	return &fault{"the directory's mirror is missing: no extraction was imported, or it was removed", "annuaire national absent, nouvel essai plus tard"}
}

func faultOf(err error) *fault {
	const later = ", nouvel essai plus tard"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return faultMissing()
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errUnreadable):
		return &fault{"the directory's mirror cannot be read: permission denied", "annuaire national illisible" + later}
	case errors.Is(err, errSeal):
		return &fault{"the directory's mirror is damaged or not whole", "annuaire national endommage" + later}
	}
	return &fault{"the directory's mirror cannot be read: " + err.Error(), "annuaire national illisible" + later}
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
		m, err = openMirror(context.WithoutCancel(ctx), d.cfg.StateDir)
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

// Reload takes the list, the keys, the extraction file and the mirror as they are now. What is faulty is returned, and the former
// content goes on answering.
func (d *Directory) Reload(ctx context.Context) error {
	err := d.list.reload()
	imp := d.importConfigured(ctx)
	d.ensure(ctx, true)
	return errors.Join(err, imp)
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
	if old, err := openMirror(ctx, d.cfg.StateDir); err == nil {
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
	stats, err := Import(ctx, d.cfg.StateDir, file, Options{Now: d.cfg.Now})
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
