package store

import (
	"bufio"
	"context"
	"database/sql"
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
)

// TestLockedByAnotherConnection: an operator's shell holds the write lock. Everyone waiting gets an error, and the writer works
// again when the lock is gone.
func TestLockedByAnotherConnection(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	table(t, db)
	unlock := lockOut(t, filepath.Join(dir, "passerelle.db"))
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			if err := db.Write(context.Background(), put(i)); err == nil || !strings.Contains(err.Error(), "lock") {
				t.Errorf("got %v, want database is locked", err)
			}
		})
	}
	wg.Wait()
	unlock()
	if err := db.Write(t.Context(), put(1)); err != nil {
		t.Fatal(err)
	}
}

// lockOut takes the write lock as a foreign process would.
func lockOut(t testing.TB, path string) (unlock func()) {
	t.Helper()
	other, err := sql.Open("sqlite", dsn(path, "immediate"))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return func() { tx.Rollback(); other.Close() }
}

// smallDisk mounts a tmpfs of its own, the only honest full disk.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small tmpfs: %v (this test must run as root with CAP_SYS_ADMIN; -short leaves it out)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestDiskFull(t *testing.T) {
	if testing.Short() {
		return
	}
	dir := smallDisk(t, "2m")
	db := open(t, dir)
	table(t, db)
	pad := strings.Repeat("x", 100_000)
	kept, full := 0, false
	for i := range 100 {
		err := db.Write(t.Context(), func(tx Tx) error {
			_, err := tx.Exec(`INSERT INTO t (v, pad) VALUES (?, ?)`, i, pad)
			return err
		})
		if err != nil {
			full = true
			break
		}
		kept++
	}
	if !full || kept == 0 {
		t.Fatalf("kept %d rows, full %v", kept, full)
	}
	blobs, err := OpenBlobs(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := blobs.Put(t.Context(), "big", strings.NewReader(strings.Repeat("x", 4<<20))); err == nil {
		t.Error("a blob larger than the disk was kept")
	}
	if ids, _ := list(blobs); len(ids) != 0 {
		t.Errorf("blobs: %v", ids)
	}
	if n := count(t, db); n != kept {
		t.Errorf("rows: got %d, want %d", n, kept)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), put(1000)); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, open(t, dir)); n != kept+1 {
		t.Errorf("reopened: got %d, want %d", n, kept+1)
	}
}

// TestFullTempFolder: what SQLite would keep to undo one statement needs no temporary file, whether a write is alone or in a group. A process
// looks for its folder for temporary files once, so this is one of its own.
func TestFullTempFolder(t *testing.T) {
	if testing.Short() {
		return
	}
	const env = "SQLITE_TMPDIR"
	if os.Getenv(env) == "" {
		dir := smallDisk(t, "64k")
		os.WriteFile(filepath.Join(dir, "full"), make([]byte, 1<<20), 0o600) // as much of it as there is room for
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullTempFolder$")
		cmd.Env = append(os.Environ(), env+"="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	db := open(t, t.TempDir())
	table(t, db)
	all := func(set string) func(Tx) error {
		return func(tx Tx) error {
			_, err := tx.Exec(set)
			return err
		}
	}
	if err := db.Write(t.Context(), all(`WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 5000)
		INSERT INTO t (v, pad) SELECT v, hex(randomblob(200)) FROM n`)); err != nil {
		t.Fatal(err)
	}
	for n, update := range []string{"UPDATE", "UPDATE OR FAIL"} {
		many := all(update + ` t SET pad = 'x' || pad`)
		for _, group := range [][]func(Tx) error{{many}, {put(10_000 + n), many, put(20_000 + n)}} {
			for i, err := range db.commit(group) {
				if err != nil {
					t.Errorf("%s, write %d of %d: %v", update, i+1, len(group), err)
				}
			}
		}
	}
}

func TestReadOnlyDiskIsRefusedAtStart(t *testing.T) {
	if testing.Short() {
		return
	}
	dir := smallDisk(t, "4m")
	db := open(t, dir)
	table(t, db)
	db.Close()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=4m"); err != nil {
		t.Fatal(err)
	}
	if db, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, syscall.EROFS) {
		if err == nil {
			db.Close()
		}
		t.Errorf("got %v", err)
	}
}

// child writes for ever and says what was promised; its parent kills it.
func child(dir string) {
	db, err := Open(context.Background(), Config{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := db.Migrate(context.Background(), "test", `CREATE TABLE t (v INTEGER PRIMARY KEY, pad TEXT NOT NULL DEFAULT '')`); err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	for w := range 10 {
		wg.Go(func() {
			for i := w; ; i += 10 {
				if err := db.Write(context.Background(), put(i)); err != nil {
					panic(err)
				}
				fmt.Println(i)
			}
		})
	}
	wg.Wait()
}

func TestKillLosesNothingPromised(t *testing.T) {
	for round := range 3 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		promised := map[int]bool{}
		sc := bufio.NewScanner(pipe)
		for sc.Scan() {
			if n, err := strconv.Atoi(sc.Text()); err == nil {
				promised[n] = true
			}
			if len(promised) == 500+200*round {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		db := open(t, dir)
		rows, err := db.Read().Query(`SELECT v FROM t`)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var v int
			rows.Scan(&v)
			delete(promised, v)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if len(promised) > 0 {
			t.Errorf("round %d: lost %d promised rows: %v", round, len(promised), promised)
		}
		db.Close()
	}
}
