package deploy_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"passerelle/gateway/gatewaytest"
)

// TestTimerSlack: every thread of the gateway, Go's own among them, has its timers kept to a millisecond or to what it was given; the process and
// its name are those that were started. Go has one processor more.
func TestTimerSlack(t *testing.T) {
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || now != 50000 {
		t.Fatalf("the test itself has a slack of %d (%v): it would show nothing", now, err)
	}
	for name, c := range map[string]struct{ given, env, want string }{
		"by itself":  {"", "", "1000000"},
		"given":      {"7000000", "", "7000000"},
		"left alone": {"", "PASSERELLE_TIMER_SLACK=0", "50000"},
	} {
		t.Run(name, func(t *testing.T) {
			sink, env := benchSink(t, "plain", gatewaytest.Options{})
			if c.env != "" {
				env = append(env, c.env)
			}
			link := filepath.Join(t.TempDir(), "by-a-link")
			benchCheck(t, os.Symlink(binary(t), link))
			b := benchNew(t, link, "plain", sink.Addr(), env)
			if c.given != "" {
				b.launch = func(cmd *exec.Cmd) {
					cmd.Args = append([]string{"sh", "-c", `echo ` + c.given + ` >/proc/$$/timerslack_ns; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
					cmd.Path = "/bin/sh"
				}
			}
			b.start(t)
			proc := fmt.Sprintf("/proc/%d", b.cmd.Process.Pid)
			if comm, err := os.ReadFile(proc + "/comm"); err != nil || string(comm) != "by-a-link\n" {
				t.Errorf("the process is called %q (%v)", comm, err)
			}
			threads, err := filepath.Glob(proc + "/task/*")
			benchCheck(t, err)
			seen := 0
			for _, path := range threads {
				slack, err := os.ReadFile(filepath.Join("/proc", filepath.Base(path), "timerslack_ns"))
				if errors.Is(err, fs.ErrNotExist) {
					continue // the thread has ended
				}
				if got := strings.TrimSpace(string(slack)); err != nil || got != c.want {
					t.Errorf("thread %s: slack %s, want %s (%v)", filepath.Base(path), got, c.want, err)
				}
				seen++
			}
			if seen < 3 {
				t.Errorf("%d threads", seen)
			}
			if want := fmt.Sprintf("\ngo_sched_gomaxprocs_threads %d\n", runtime.GOMAXPROCS(0)+1); os.Getenv("GOMAXPROCS") == "" && !strings.Contains(b.metrics(t), want) {
				t.Errorf("metrics lack %q", want)
			}
			b.stop(t)
		})
	}
}
