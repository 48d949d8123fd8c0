package directory

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

const (
	// RemotesName is the file of dated answers in the state folder.
	RemotesName = "directory-remotes.db"

	maxAnswers  = 10_000              // kept, in memory and on disk; the longest unused goes first
	forgetAfter = 90 * 24 * time.Hour // without any mail to the address
	atOnce      = 16                  // questions on mails' ways
	breakFor    = 10 * time.Second    // after a failure no mail waits for the source
	maxBreak    = 10 * time.Minute    // in the background, doubled from breakFor
	questionFor = 30 * time.Second    // in the background: the national service's own limit
	pace        = 100 * time.Millisecond
)

const remoteTables = `CREATE TABLE remote_answer (source TEXT NOT NULL, address TEXT NOT NULL, asked INTEGER NOT NULL, used INTEGER NOT NULL,
	records BLOB, PRIMARY KEY (source, address)) WITHOUT ROWID`

// asking keeps what remote sources said, with its date, and asks them in the background: for addresses that mail went to, and again as
// answers age. One goroutine asks and writes; the mail's way reads memory alone.
type asking struct {
	now   func() time.Time
	log   *slog.Logger
	db    *store.DB  // nil where another process holds it: explain beside a gateway
	limit *fhirLimit // of the process, whatever clients a reload makes
	slots chan struct{}
	queue chan question
	stop  context.CancelFunc
	ctx   context.Context // the worker's; questions on a mail's way have their own
	done  chan struct{}

	mu      sync.Mutex
	answers map[answerKey]*dated
	health  map[string]*health // by asker key
	current []*asker
	opened  map[*leased]bool
	closed  bool
	closing sync.WaitGroup // of remotes that the last one let go of
}

type answerKey struct{ source, address string }

type dated struct {
	records []Record
	asked   time.Time // zero: nobody answered yet
	used    time.Time
	queued  bool
	// fault is why the source has no answer for this address alone (oddAddress), failed when it had none.
	fault  string
	failed time.Time
}

// due tells whether to ask the source: no answer, an old one, or one of a date to come, from before a clock was set back.
func (d *dated) due(now time.Time, every time.Duration) bool {
	if since := now.Sub(d.failed); since >= 0 && since < maxBreak {
		return false
	}
	age := now.Sub(d.asked)
	return d.asked.IsZero() || age >= every || age < -time.Minute
}

type health struct {
	fault   string
	failed  time.Time
	wait    time.Duration
	nextTry time.Time
}

// question is for whatever source of the name is in force when the worker comes to it.
type question struct {
	source string // asker key
	a      message.Address
}

func openAsking(ctx context.Context, cfg Config) (*asking, error) {
	a := &asking{now: cfg.Now, log: cfg.Log, limit: newFHIRLimit(), slots: make(chan struct{}, atOnce), queue: make(chan question, 1024), done: make(chan struct{}),
		answers: make(map[answerKey]*dated), health: make(map[string]*health), opened: make(map[*leased]bool)}
	if err := a.load(ctx, cfg.StateDir, cfg.ReadOnly); err != nil {
		return nil, fmt.Errorf("open %s: %w", RemotesName, err)
	}
	a.ctx, a.stop = context.WithCancel(context.Background())
	go a.work()
	return a, nil
}

// load opens the file and reads it whole; beside another process it reads what there is and keeps nothing.
func (a *asking) load(ctx context.Context, dir string, readOnly bool) error {
	if readOnly {
		db, err := sql.Open("sqlite", dsn(filepath.Join(dir, RemotesName), url.Values{"mode": {"ro"}, "_pragma": {"query_only(1)", "busy_timeout(2000)"}}))
		if err != nil {
			return err
		}
		defer db.Close()
		if err := a.read(ctx, db); err != nil { // none was made yet, or it is not ours to read: the sources are asked anew
			a.log.Debug("directory: remote answers not read", "err", err)
		}
		return nil
	}
	var err error
	if a.db, err = store.Open(ctx, store.Config{Dir: dir, File: RemotesName, Log: a.log}); err != nil {
		return err
	}
	if err := a.db.Migrate(ctx, "directory", remoteTables); err != nil {
		a.db.Close()
		return err
	}
	if err := a.read(ctx, a.db.Read()); err != nil {
		a.db.Close()
		return err
	}
	return nil
}

func (a *asking) read(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT source, address, asked, used, records FROM remote_answer ORDER BY used DESC LIMIT ?", maxAnswers)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k answerKey
		var asked, used int64
		var text []byte
		if err := rows.Scan(&k.source, &k.address, &asked, &used, &text); err != nil {
			return err
		}
		d := &dated{used: time.Unix(0, used)}
		if asked > 0 {
			if err := json.Unmarshal(text, &d.records); err != nil {
				continue // a row that cannot be read was never answered
			}
			d.asked = time.Unix(0, asked)
		}
		a.answers[k] = d
	}
	return rows.Err()
}

// own takes a remote, to be closed when the last one who leased it lets go, or with the rest.
func (a *asking) own(r remote) *leased {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := &leased{remote: r, users: 1}
	a.opened[o] = true
	return o
}

// set names the sources that answers are kept fresh for.
func (a *asking) set(current []*asker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current = current
}

// ask gives the source's word from its dated answers, and sees to it that there will be a fresh one.
func (a *asking) ask(ctx context.Context, r *asker, addr message.Address) Said {
	now, k := a.now(), answerKey{r.key, addr.Key()}
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.answers[k]
	if d == nil {
		a.makeRoom()
		d = &dated{}
		a.answers[k] = d
	}
	d.used = now
	due := d.due(now, r.Every)
	h := a.healthOf(r)
	onMail := r.OnMail && due && !a.closed && now.Sub(h.failed) >= breakFor && a.lease(r.leased)
	if due && !onMail {
		a.enqueue(d, k, addr)
	}
	if onMail {
		a.mu.Unlock()
		a.askNow(ctx, r, addr)
		a.mu.Lock()
		a.letGo(r.leased)
	}
	return a.said(r, d, h)
}

// said words what is known of an address; a.mu is held.
func (a *asking) said(r *asker, d *dated, h *health) Said {
	s := Said{Name: r.name(), Verifies: r.Verifies, Verdict: CouldNotAsk, AsOf: d.asked}
	var f *fault
	age := a.now().Sub(d.asked)
	switch {
	case d.asked.IsZero() && d.fault != "":
		f = &fault{r.name() + " cannot be asked about this address: " + d.fault, "annuaire sans reponse pour ce destinataire, nouvel essai plus tard"}
	case d.asked.IsZero() && h.fault != "":
		f = &fault{r.name() + " could not be asked: " + h.fault, "annuaire injoignable, nouvel essai plus tard"}
	case d.asked.IsZero():
		f = &fault{r.name() + " has not been asked about this address yet", "annuaire pas encore interroge pour ce destinataire, nouvel essai plus tard"}
	case age > r.MaxAge || age < -48*time.Hour:
		why := fmt.Sprintf("the answer of %s of %s is older than %s", r.name(), dayOf(d.asked), days(r.MaxAge))
		if fault := either(d.fault, h.fault); fault != "" {
			why += ", and it could not be asked: " + fault
		}
		f = &fault{why, "derniere reponse de l'annuaire trop ancienne, nouvel essai plus tard"}
	default:
		s.Verdict, s.records = verdictBy(d.records), d.records
		return s
	}
	s.AsOf, s.Why, s.reply = time.Time{}, f.why, f.reply
	return s
}

func (a *asking) healthOf(r *asker) *health {
	h := a.health[r.key]
	if h == nil {
		h = &health{}
		a.health[r.key] = h
	}
	return h
}

// enqueue leaves a question to the worker; a.mu is held. A full queue loses nothing: the sweep finds the address again.
func (a *asking) enqueue(d *dated, k answerKey, addr message.Address) {
	if d.queued || a.closed {
		return
	}
	select {
	case a.queue <- question{k.source, addr}:
		d.queued = true
	default:
	}
}

// askNow asks while a mail waits, within the source's deadline.
func (a *asking) askNow(mail context.Context, r *asker, addr message.Address) {
	ctx, cancel := context.WithTimeout(mail, r.Timeout)
	defer cancel()
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return
	}
	recs, err := r.question(ctx, addr)
	if err == nil || !errors.Is(mail.Err(), context.Canceled) { // that a client went away says nothing of the source
		a.note(r, addr, recs, err)
	}
	a.mu.Lock() // the worker writes the answer down, or asks again in peace
	defer a.mu.Unlock()
	k := answerKey{r.key, addr.Key()}
	if d := a.answers[k]; d != nil {
		a.enqueue(d, k, addr)
	}
}

// note keeps an answer, or why there is none: then the former answer stays, with its date.
func (a *asking) note(r *asker, addr message.Address, recs []Record, err error) {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	h, d := a.healthOf(r), a.answers[answerKey{r.key, addr.Key()}]
	if err != nil {
		switch {
		case errors.Is(err, context.Canceled) && a.ctx.Err() != nil:
			return
		case errors.As(err, new(oddAddress)):
			a.log.Warn("directory: a source has no answer for an address", "source", r.name(), "address", addr, "err", err)
			if d != nil {
				d.fault, d.failed = firstLine(err.Error()), now
			}
			return
		case !now.Before(h.nextTry): // questions that fail side by side count once
			h.wait = min(max(2*h.wait, breakFor), maxBreak)
		}
		h.failed, h.nextTry = now, now.Add(h.wait)
		if h.fault == "" {
			a.log.Warn("directory: a source could not be asked", "source", r.name(), "err", err)
		}
		h.fault = firstLine(err.Error())
		return
	}
	if h.fault != "" {
		a.log.Info("directory: a source answers again", "source", r.name())
	}
	*h = health{}
	for i := range recs {
		if recs[i].AsOf.IsZero() {
			recs[i].AsOf = now
		}
	}
	if d == nil { // made room meanwhile
		d = &dated{used: now}
		a.answers[answerKey{r.key, addr.Key()}] = d
	}
	d.records, d.asked, d.fault, d.failed = recs, now, "", time.Time{}
}

// makeRoom drops the longest unused of a few; a.mu is held. Looking at all would cost the mail's way what only the bound needs.
func (a *asking) makeRoom() {
	if len(a.answers) < maxAnswers {
		return
	}
	var oldest answerKey
	var at time.Time
	n := 0
	for k, d := range a.answers { // in random order
		if n == 0 || d.used.Before(at) {
			oldest, at = k, d.used
		}
		if n++; n == 32 {
			break
		}
	}
	delete(a.answers, oldest)
}

// waiting counts the addresses that no source has answered for.
func (a *asking) waiting() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.answers {
		if d.asked.IsZero() {
			n++
		}
	}
	return n
}

// close stops the worker and waits for it, then closes sources and file.
func (a *asking) close() {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.closed = true
	a.mu.Unlock()
	a.stop()
	<-a.done
	a.closing.Wait()
	for o := range a.opened { // nobody adds to it any more
		a.end(o)
	}
	if a.db != nil {
		if err := a.db.Close(); err != nil {
			a.log.Warn("directory: close the remotes' answers", "err", err)
		}
	}
}

func firstLine(s string) string {
	for i := range len(s) {
		if s[i] == '\n' || i == 200 {
			return s[:i]
		}
	}
	return s
}
