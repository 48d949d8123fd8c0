package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"passerelle/gateway/gatewaytest"
)

// TestTimerSlack: every thread of the gateway, Go's own among them, has its timers kept to a millisecond or to what it was given, and its
// environment and process are those that it was started with.
func TestTimerSlack(t *testing.T) {
	for given, want := range map[string]string{"": "1000000", "7000000": "7000000"} {
		t.Run("given "+given, func(t *testing.T) {
			sink, env := benchSink(t, "plain", gatewaytest.Options{})
			b := benchNew(t, binary(t), "plain", sink.Addr(), env)
			if given != "" {
				b.launch = func(cmd *exec.Cmd) {
					cmd.Args = append([]string{"sh", "-c", `echo ` + given + ` >/proc/$$/timerslack_ns; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
					cmd.Path = "/bin/sh"
				}
			}
			b.start(t)
			threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", b.cmd.Process.Pid))
			benchCheck(t, err)
			if len(threads) < 3 {
				t.Errorf("%d threads", len(threads))
			}
			for _, path := range threads {
				slack, err := os.ReadFile(filepath.Join("/proc", filepath.Base(path), "timerslack_ns"))
				if got := strings.TrimSpace(string(slack)); err != nil || got != want {
					t.Errorf("thread %s: slack %s, want %s (%v)", filepath.Base(path), got, want, err)
				}
			}
			benchCheck(t, b.send(false, benchLetter("slack", "nothing", 2000), "a@dest.test"))
			b.stop(t)
		})
	}
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || now >= 1000000 {
		t.Errorf("the test itself has a slack of %d (%v): it shows nothing", now, err)
	}
}
