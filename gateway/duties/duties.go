// Package duties runs what has to be done later, once each, over restarts: reminders, receipts, reports. It takes duties by name, gives
// each to one function of its owner until that succeeds, and knows nothing of deposits or mail.
//
// Its queue is River on a SQLite file of its own, so that its polling never touches the writer of the ledger; or on the PostgreSQL database that
// several gateways share, which then do each other's duties. The queue is not what
// remembers that something is due: its owner's rows do, and Add may be called again for the same duty as often as one likes. What was done
// already is then nothing to do.
package duties

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"modernc.org/sqlite" // registers the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var done = promauto.NewCounterVec(prometheus.CounterOpts{
	Name: "passerelle_duties_total", Help: "Duties in the background that were tried, by kind and result.",
}, []string{"kind", "result"}) // remind, report, ...; done, failed

// File is the queue's database in the state folder.
const File = "duties.db"

// Duty is one thing to do. Two of the same fields are one duty while the first is not done; what is done may become due again.
type Duty struct {
	What string `json:"what"` // remind, receipt, ...
	Of   string `json:"of"`   // what it is done for: an id, never a person's name or address
	Step int    `json:"step"` // which of several of its kind
}

// Kind is River's name for all of them.
func (Duty) Kind() string { return "duty" }

// Config says where the queue lies and who does the work.
type Config struct {
	// Dir is the state folder; it must be there. It counts where URL is "".
	Dir string
	// URL is the connection string of a PostgreSQL database; any number of gateways have the queue in it.
	URL string
	// Ready is asked before that database is used first: nil where it is there, and the gateway's own.
	Ready func(context.Context) error
	// Do does a duty. It is called again, ever more seldom, while it gives an error, and once more where the process died in it: what was
	// done already must be nothing to do.
	Do func(context.Context, Duty) error
	// Timeout bounds one try; 0 is two minutes. A try that a killed process left is repeated at Open; with URL, where others live, after five
	// times as long.
	Timeout time.Duration
	Log     *slog.Logger
}

// client is what is used of River's, whatever database it works on.
type client interface {
	Start(context.Context) error
	Stop(context.Context) error
	StopAndCancel(context.Context) error
	InsertMany(context.Context, []river.InsertManyParams) ([]*rivertype.JobInsertResult, error)
}

// Queue is one open queue.
type Queue struct {
	db     *sql.DB // of SQLite
	shared *shared // else
	client client
}

// Open makes or opens the queue; Close ends it. Its owner holds the lock of the state folder.
func Open(ctx context.Context, cfg Config) (*Queue, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Minute
	}
	if cfg.URL != "" {
		return openShared(ctx, cfg)
	}
	path := filepath.Join(cfg.Dir, File)
	q, err := open(ctx, path, cfg)
	if broken(err) { // its owner's rows fill it again
		cfg.Log.Error("the queue of duties cannot be read and is made anew", "file", path, "err", err)
		if err = aside(path); err == nil {
			q, err = open(ctx, path, cfg)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open queue of duties %s: %w", path, err)
	}
	return q, nil
}

// broken tells whether the file itself is at fault, and not the disk or the time.
func broken(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB) || errors.Is(err, errCheck)
}

var errCheck = errors.New("its pages do not fit together")

// aside keeps a broken file, the last one, for who wants to know why.
func aside(path string) error {
	for _, part := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+part, path+".broken"+part); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func open(ctx context.Context, path string, cfg Config) (*Queue, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // SQLite gives its -wal and -shm the same mode
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: url.Values{"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "cache_size(-500)"}}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // as the driver asks for
	q := &Queue{db: db}
	var said string
	if err = db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&said); err == nil && said != "ok" {
		err = errCheck
	}
	if err == nil {
		err = q.start(ctx, cfg)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return q, nil
}

func (q *Queue) start(ctx context.Context, cfg Config) error {
	driver, quiet := riversqlite.New(q.db), slog.New(quietly{cfg.Log.Handler()})
	tables, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet})
	if err != nil {
		return err
	}
	if _, err := tables.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	// What a killed process had in hand is nobody's: the folder has one owner. River itself would wait for twice the time of a try.
	if _, err := q.db.ExecContext(ctx, `UPDATE river_job SET state = 'available' WHERE state = 'running'`); err != nil {
		return fmt.Errorf("take over duties in hand: %w", err)
	}
	q.client, err = river.NewClient(driver, cfg.river(quiet, 2*cfg.Timeout))
	return err
}

// river gives the library's settings; rescue is when a try that nobody ended is taken for dead.
func (cfg Config) river(quiet *slog.Logger, rescue time.Duration) *river.Config {
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{do: cfg.Do, log: cfg.Log})
	return &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}, // they talk to the clinic's server: not in crowds
		Workers: workers, Logger: quiet, JobTimeout: cfg.Timeout, RescueStuckJobsAfter: rescue,
		FetchPollInterval: 2 * time.Second, MaxAttempts: 1000,
	}
}

// Run works until ctx ends; duties in hand may then end.
func (q *Queue) Run(ctx context.Context) error {
	if q.shared != nil {
		if err := q.shared.await(ctx); err != nil {
			return nil // stopped before the database was there
		}
	}
	if err := q.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start duties: %w", err)
	}
	<-ctx.Done()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := q.client.Stop(grace); err != nil {
		now, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = q.client.StopAndCancel(now)
		if err != nil {
			return fmt.Errorf("stop duties: %w", err)
		}
	}
	return nil
}

// undone are the states of a job that another of the same duty must not stand beside.
var undone = []rivertype.JobState{rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled}

// addTime bounds an Add in a database that others share.
const addTime = time.Minute

// Add puts duties into the queue, those that are there already left out.
func (q *Queue) Add(ctx context.Context, ds ...Duty) error {
	if q.shared != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, addTime) // a server that hangs holds up none of the owner's other work
		defer cancel()
		if err := q.shared.prepare(ctx); err != nil {
			return fmt.Errorf("add duties: %w", err)
		}
	}
	params := make([]river.InsertManyParams, len(ds))
	for i, d := range ds {
		params[i] = river.InsertManyParams{Args: d, InsertOpts: &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: undone}}}
	}
	for ; len(params) > 0; params = params[min(len(params), 500):] {
		if _, err := q.client.InsertMany(ctx, params[:min(len(params), 500)]); err != nil {
			return fmt.Errorf("add duties: %w", err)
		}
	}
	return nil
}

// Close gives the file or the connections back, after Run has ended.
func (q *Queue) Close() error {
	if q.shared != nil {
		q.shared.pool.Close()
		return nil
	}
	return q.db.Close()
}

type worker struct {
	river.WorkerDefaults[Duty]
	do  func(context.Context, Duty) error
	log *slog.Logger
}

// Work does one duty. River keeps an error's text in the queue: that may name people, so it goes to the log alone.
func (w *worker) Work(ctx context.Context, job *river.Job[Duty]) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("panic in a duty", "what", job.Args.What, "of", job.Args.Of, "panic", fmt.Sprintf("%T", p))
			err = errors.New("panic")
		}
		result := "done"
		if err != nil {
			result, err = "failed", errTry
		}
		done.WithLabelValues(job.Args.What, result).Inc()
	}()
	if err = w.do(ctx, job.Args); err != nil {
		w.log.Warn("duty not done, it will be tried again", "what", job.Args.What, "of", job.Args.Of, "try", job.Attempt, "err", err)
	}
	return err
}

var errTry = errors.New("not done: see the log")

// NextRetry doubles from five seconds to an hour: what a stop cut short is done soon after the next start.
func (w *worker) NextRetry(job *river.Job[Duty]) time.Time {
	return time.Now().Add(min(5*time.Second<<min(len(job.Errors), 10), time.Hour))
}

// quietly lets the library's faults through alone.
type quietly struct{ slog.Handler }

func (h quietly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && h.Handler.Enabled(ctx, l)
}
func (h quietly) WithAttrs(a []slog.Attr) slog.Handler { return quietly{h.Handler.WithAttrs(a)} }
func (h quietly) WithGroup(n string) slog.Handler      { return quietly{h.Handler.WithGroup(n)} }
