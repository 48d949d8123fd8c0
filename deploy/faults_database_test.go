package deploy_test

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// locker holds the database as a person in sqlite3 does who began a transaction and went to lunch.
const locker = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
db.execute("ROLLBACK")
`

// lock has a foreign process lock a database until let is called.
func lock(t *testing.T, path string) (let func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", "-c", locker, path)
	in, err := cmd.StdinPipe()
	benchCheck(t, err)
	out, err := cmd.StdoutPipe()
	benchCheck(t, err)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: apt-get install python3", err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("the lock is not held: %q %v", line, err)
	}
	return func() {
		in.Close()
		io.Copy(io.Discard, out)
		cmd.Wait()
	}
}

// TestFaultDatabaseLocked: a foreign process holds the database for longer than anybody waits.
func TestFaultDatabaseLocked(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	asked := make(chan struct{}, 10)
	f := newFaulty(t, "plain", gatewaytest.Options{Stall: &gatewaytest.Stall{At: "dot", Go: release}, Rcpt: func(_, to string) gatewaytest.Reply {
		asked <- struct{}{}
		return gatewaytest.Reply{}
	}})
	f.start(t)
	fds := f.fds(t)
	inHand := make(chan string, 1)
	letter := f.small("m0")
	go func() { inHand <- replyText(f.send(true, letter, "a@dest.test")) }()
	<-asked
	let := lock(t, filepath.Join(f.state(), "passerelle.db"))
	close(release) // the hop has it; nobody can say so
	wants(t, "handed on while the lock is held", <-inHand, noLedger)
	wants(t, "a new one", f.reply(t, f.small("m1"), "b@dest.test"), noLedger)
	if n := len(asked); n > 0 {
		t.Errorf("a hop was contacted behind a shut gate, %d times", n)
	}
	f.sees(t, `ledger.*(database is locked|SQLITE_BUSY)`, `ledger cannot be written, the gate answers 451`)
	f.has(t, "a@dest.test", 1)
	let()
	benchUntil(t, f.ctx, "the gate opens", func() bool { return strings.HasPrefix(f.readyz(t), "200 ") })
	f.logged(t, `ledger can be written again`)
	wants(t, "the repetition", f.reply(t, letter, "a@dest.test"), "250")
	f.has(t, "a@dest.test", 1) // the hop's acceptance was remembered
	f.recovers(t)
	f.sound(t, fds+8)
}

// TestFaultDatabaseAway: the files go or are replaced under the running gateway. What SQLite writes then has no name and is lost at the
// next start, so that a 250 would rest on nothing.
func TestFaultDatabaseAway(t *testing.T) {
	move := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		breaks, mends func(t *testing.T, f *faulty, db string)
		restart       bool // mended only by a start
	}{
		"renamed": {
			func(t *testing.T, f *faulty, db string) { move(t, db, db+".old") },
			func(t *testing.T, f *faulty, db string) { move(t, db+".old", db) }, false},
		"removed": {
			func(t *testing.T, f *faulty, db string) { benchCheck(t, os.Remove(db)) },
			func(t *testing.T, f *faulty, db string) {}, true},
		"replaced by garbage": {
			func(t *testing.T, f *faulty, db string) {
				move(t, db, db+".old")
				benchCheck(t, os.WriteFile(db, []byte(strings.Repeat("garbage ", 10000)), 0o600))
			},
			func(t *testing.T, f *faulty, db string) { move(t, db+".old", db) }, false},
		"wal renamed": {
			func(t *testing.T, f *faulty, db string) { move(t, db+"-wal", db+"-wal.old") },
			func(t *testing.T, f *faulty, db string) { move(t, db+"-wal.old", db+"-wal") }, false},
		"wal removed": {
			func(t *testing.T, f *faulty, db string) { benchCheck(t, os.Remove(db+"-wal")) },
			func(t *testing.T, f *faulty, db string) {}, true},
		"state folder renamed": {
			func(t *testing.T, f *faulty, db string) { move(t, f.state(), f.state()+".old") },
			func(t *testing.T, f *faulty, db string) { move(t, f.state()+".old", f.state()) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, "plain", gatewaytest.Options{})
			f.start(t)
			fds := f.fds(t)
			wants(t, "before", f.reply(t, f.small("m0"), "a@dest.test"), "250")
			db := filepath.Join(f.state(), "passerelle.db")
			c.breaks(t, f, db)
			time.Sleep(1100 * time.Millisecond) // the last proof of a writable ledger counts for a second
			wants(t, "while it is away", f.reply(t, f.small("m1"), "b@dest.test"), noLedger)
			f.has(t, "b@dest.test", 0)
			f.sees(t, `ledger.*removed or replaced`, `ledger cannot be written, the gate answers 451.*removed or replaced`)
			time.Sleep(1200 * time.Millisecond) // the gate probes every second: it must not open over nothing
			f.sees(t, `ledger.*removed or replaced`, `ledger still cannot be written`)
			if c.restart {
				benchCheck(t, f.cmd.Process.Signal(syscall.SIGTERM)) // not a kill: what a removed log holds can still be saved
				<-f.ended
			}
			c.mends(t, f, db)
			if c.restart {
				f.start(t)
			}
			f.recovers(t)
			wants(t, "the repetition", f.reply(t, f.small("m1"), "b@dest.test"), "250")
			f.has(t, "b@dest.test", 1)
			f.sound(t, fds+8)
		})
	}
}

// TestFaultDatabaseGarbage: a database that is none keeps the gateway from starting, with words that say so, and is left as it is.
func TestFaultDatabaseGarbage(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, "plain", gatewaytest.Options{})
	db := filepath.Join(f.state(), "passerelle.db")
	f.start(t)
	f.stop(t)
	garbage := strings.Repeat("garbage ", 10000)
	benchCheck(t, os.WriteFile(db, []byte(garbage), 0o600))
	out := f.refusesToStart(t)
	if !strings.Contains(out, "passerelle.db") || !strings.Contains(out, "not a database") {
		t.Errorf("it says %q", out)
	}
	if string(read(t, db)) != garbage {
		t.Error("the file was changed")
	}
}

// refusesToStart gives the last words of a gateway that ends at its start by itself.
func (f *faulty) refusesToStart(t *testing.T) string {
	t.Helper()
	args := append(f.wrap, f.bin, "serve", "--config", f.config)
	cmd := exec.CommandContext(f.ctx, args[0], args[1:]...)
	cmd.Env = f.env
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); err == nil || code != 1 && code != 2 {
		t.Fatalf("it ended with %v: %s", err, out)
	}
	if strings.Contains(string(out), "goroutine ") {
		t.Errorf("it crashed:\n%s", out)
	}
	return string(out)
}

// TestFaultMirrorLocked: whoever locks the directory's mirror locks nobody out: it is a file that never changes, read without locks.
func TestFaultMirrorLocked(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, "trust", gatewaytest.Options{})
	file := filepath.Join(f.root, "Extraction_Correspondance_MSSante_"+time.Now().UTC().Format("200601021504")+".txt")
	benchCheck(t, gatewaytest.WriteDirectory(file, gatewaytest.Doctor("doctor@dest.test", "Anne", "Durand")))
	f.env = append(f.env, "DIRECTORY="+file)
	text := strings.Replace(string(read(t, f.config)), `recipient: ["*@dest.test"]`, "verdict: [verified]", 1)
	benchCheck(t, os.WriteFile(f.config, []byte(text), 0o600))
	f.start(t)
	fds := f.fds(t)
	let := lock(t, filepath.Join(f.state(), "directory.db"))
	wants(t, "while it is locked", f.reply(t, f.small("m0"), "doctor@dest.test"), "250")
	if r := f.readyz(t); !strings.HasPrefix(r, "200 ") {
		t.Errorf("/readyz: %s", r)
	}
	if m := f.metrics(t); !strings.Contains(m, `passerelle_directory_asked_total{verdict="verified"} 1`) {
		t.Error("/metrics: the directory was not asked, the test shows nothing")
	}
	let()
	f.has(t, "doctor@dest.test", 1)
	f.sound(t, fds+8)
}

// TestFaultKeyGone: with another key no deposit opens and no repetition is known, so that none is made where a database is.
func TestFaultKeyGone(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, "pickup", gatewaytest.Options{})
	f.start(t)
	wants(t, "before", f.reply(t, f.small("m0"), "a@dest.test"), "250")
	f.stop(t)
	key := filepath.Join(f.state(), "server.key")
	benchCheck(t, os.Rename(key, key+".old"))
	if out := f.refusesToStart(t); !strings.Contains(out, "server key "+key+" is gone") {
		t.Errorf("it says %q", out)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a new key was made")
	}
	benchCheck(t, os.Rename(key+".old", key))
	f.start(t)
	f.recovers(t)
	f.sound(t, 0)
}
