package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const childEnv = "STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(thenStop{m})
}

// thenStop ends the cluster before goroutines are counted.
type thenStop struct{ *testing.M }

func (m thenStop) Run() int {
	defer func() {
		if cluster != nil {
			cluster.Close()
		}
		if s3server != nil {
			s3server.Close()
		}
	}()
	return m.M.Run()
}

func open(t testing.TB, dir string) *DB {
	t.Helper()
	return openConfig(t, Config{Dir: dir, Busy: 200 * time.Millisecond})
}

func openConfig(t testing.TB, cfg Config) *DB {
	t.Helper()
	db, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func table(t testing.TB, db keeper) {
	t.Helper()
	if err := db.Migrate(t.Context(), "test", `CREATE TABLE t (v INTEGER PRIMARY KEY, pad TEXT NOT NULL DEFAULT '')`); err != nil {
		t.Fatal(err)
	}
}

func put(v int) func(Tx) error {
	return func(tx Tx) error {
		_, err := tx.Exec(`INSERT INTO t (v) VALUES (?)`, v)
		return err
	}
}

func count(t testing.TB, db keeper) (n int) {
	t.Helper()
	if err := db.Read().QueryRow(`SELECT count(*) FROM t`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// hold keeps the writer busy until the returned func is called, so that what is written meanwhile forms one group.
func hold(t testing.TB, db keeper) (release func()) {
	t.Helper()
	in, out, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- db.Write(context.Background(), func(Tx) error { close(in); <-out; return nil })
	}()
	<-in
	return func() {
		close(out)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// queueAll starts one Write per closure, in order, and waits until each is in the queue.
func queueAll(writes *Gather[func(Tx) error], fs ...func(Tx) error) []chan error {
	out := make([]chan error, len(fs))
	for i, f := range fs {
		out[i] = make(chan error, 1)
		w := &gathered[func(Tx) error]{f, make(chan error, 1)}
		writes.join(w)
		go func() { out[i] <- writes.await(context.Background(), w) }()
	}
	return out
}

func TestOneFailureInAGroupUndoesNothingElse(t *testing.T) {
	both(t, func(t *testing.T, db keeper, writes *Gather[func(Tx) error]) {
		release := hold(t, db)
		got := queueAll(writes, put(1),
			func(tx Tx) error { put(2)(tx); return errors.New("own failure") },
			func(tx Tx) error { put(3)(tx); panic("bad closure") },
			func(tx Tx) error { put(4)(tx); return put(1)(tx) }, // constraint
			put(5))
		release()
		for i, want := range []bool{true, false, false, false, true} {
			if err := <-got[i]; (err == nil) != want {
				t.Errorf("closure %d: got %v, want ok=%v", i, err, want)
			}
		}
		if n := count(t, db); n != 2 {
			t.Errorf("rows: got %d, want 2 (1 and 5)", n)
		}
	})
}

func TestGroupOfFailuresLeavesWriterUsable(t *testing.T) {
	both(t, func(t *testing.T, db keeper, writes *Gather[func(Tx) error]) {
		for range 3 {
			if _, ok := db.(*DB); ok { // PostgreSQL sees it in a group alone
				if err := db.Write(t.Context(), func(tx Tx) error { tx.Exec("COMMIT"); return nil }); err == nil {
					t.Error("a closure that commits by itself was called good")
				}
			}
			if err := db.Write(t.Context(), func(tx Tx) error { put(1)(tx); return errors.New("no") }); err == nil {
				t.Error("failure got lost")
			}
		}
		release := hold(t, db)
		got := queueAll(writes, func(tx Tx) error { _, err := tx.Exec("ROLLBACK"); return err }, put(8))
		release()
		for i, c := range got {
			if err := <-c; err == nil {
				t.Errorf("closure %d of a lost transaction was called good", i)
			}
		}
		if err := db.Write(t.Context(), put(9)); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("rows: got %d, want 1", n)
		}
	})
}

func TestCancelCountsOnlyWhileQueued(t *testing.T) {
	both(t, func(t *testing.T, db keeper, _ *Gather[func(Tx) error]) {
		release := hold(t, db)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error)
		go func() { got <- db.Write(ctx, put(1)) }()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("queued: got %v", err)
		}
		release()
		ctx, cancel = context.WithCancel(t.Context())
		err := db.Write(ctx, func(tx Tx) error { cancel(); return put(2)(tx) })
		if err != nil {
			t.Errorf("begun: got %v, want it to run to its end", err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("rows: got %d, want 1", n)
		}
	})
}

func TestCloseCommitsWhatIsQueuedAndRefusesMore(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	table(t, db)
	release := hold(t, db)
	var fs []func(Tx) error
	for i := range 50 {
		fs = append(fs, put(i))
	}
	got := queueAll(db.writes, fs...)
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	release()
	for _, c := range got {
		if err := <-c; err != nil {
			t.Error(err)
		}
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), put(99)); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if n := count(t, open(t, dir)); n != 50 {
		t.Errorf("rows: got %d, want 50", n)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	var locked *LockedError
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.As(err, &locked) || locked.PID != strconv.Itoa(os.Getpid()) {
		t.Fatalf("got %v, want *LockedError with our number", err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "only one gateway may run on a state folder") {
		t.Errorf("other process: got %v, %s", err, out)
	}
	other, err := Open(t.Context(), Config{Dir: dir, File: "other.db"})
	if err != nil {
		t.Fatalf("another database in the same folder: %v", err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir, File: "other.db"}); !errors.As(err, &locked) {
		t.Errorf("it is not locked: %v", err)
	}
	other.Close()
	db.Close()
	open(t, dir)
}

func TestFileModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "a", "state")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	db := open(t, dir)
	table(t, db)
	blobs, err := OpenBlobs(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := blobs.Put(t.Context(), "x", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	seen := 0
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		st, _ := d.Info()
		want := os.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s: got %v, want %v", d.Name(), st.Mode(), want)
		}
		seen++
		return nil
	})
	if seen < 7 { // folder, db, -wal, -shm, lock, blobs, x
		t.Errorf("saw %d files", seen)
	}
}

func TestPragmasHoldOnEveryConnection(t *testing.T) {
	db := open(t, t.TempDir())
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "200", "foreign_keys": "1"} {
		var got string
		if err := db.w.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %s (%v), want %s", name, got, err, want)
		}
	}
	if _, err := db.Read().Exec(`CREATE TABLE x (y)`); err == nil {
		t.Error("the reading pool wrote")
	}
}

func TestMigrate(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	one, two := `CREATE TABLE a (x); CREATE TABLE b (y);`, `ALTER TABLE a ADD COLUMN z`
	for _, c := range []struct {
		name  string
		steps []string
		want  string
	}{
		{"first", []string{one}, ""},
		{"again", []string{one}, ""},
		{"one more", []string{one, two}, ""},
		{"older program", []string{one}, "newer version"},
		{"changed step", []string{one + " ", two}, "is not the one"},
		{"broken step", []string{one, two, `CREATE TABLE c (x); CREATE TABLE a (x)`}, "run step 3"},
		{"after a broken step", []string{one, two, `CREATE TABLE c (x)`}, ""},
	} {
		err := db.Migrate(t.Context(), "room", c.steps...)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if err := db.Migrate(t.Context(), "other", `CREATE TABLE other (x)`); err != nil {
		t.Errorf("another room: %v", err)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			db := open(b, b.TempDir())
			table(b, db)
			ins, err := db.Prepare(b.Context(), `INSERT INTO t (pad) VALUES (?)`)
			if err != nil {
				b.Fatal(err)
			}
			defer ins.Close()
			var wg sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						if err := db.Write(context.Background(), func(tx Tx) error {
							_, err := tx.Stmt(ins).Exec("some row of a common size, with an address or two in it")
							return err
						}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}
