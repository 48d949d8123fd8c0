package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// TestUnits: systemd takes the units without a word.
func TestUnits(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if testing.Short() {
			t.Skip("no systemd-analyze")
		}
		t.Fatal("systemd-analyze is missing: Debian package systemd")
	}
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"passerelle.service", "passerelle.socket", "passerelle-doctor.service", "passerelle-doctor.timer"} {
		text := strings.ReplaceAll(string(read(t, "systemd", name)), "/usr/local/bin/passerelle", "/bin/true") // it looks whether it is there
		files = append(files, filepath.Join(dir, name))
		benchCheck(t, os.WriteFile(files[len(files)-1], []byte(text), 0o644))
	}
	if out, err := exec.CommandContext(t.Context(), tool, append([]string{"verify"}, files...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// handOver starts the binary as systemd does with sockets: descriptors from 3 on, and the process's own id in LISTEN_PID.
func (b *benchGateway) handOver(t *testing.T, names string, sockets ...net.Listener) {
	var files []*os.File
	for _, l := range sockets {
		f, err := l.(*net.TCPListener).File()
		benchCheck(t, err)
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	b.launch = func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.ExtraFiles = files
		cmd.Env = append(slices.Clone(cmd.Env), fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+names)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	benchCheck(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// TestRestartBehindSockets: clients that connect while the gateway is started again, three times, never meet a refused connection, and every
// message arrives.
func TestRestartBehindSockets(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sink, env := benchSink(t, "plain", gatewaytest.Options{})
	b := benchNew(t, binary(t), "plain", sink.Addr(), env)
	lmtp, smtp := listen(t), listen(t)
	b.lmtp, b.smtp = lmtp.Addr().String(), smtp.Addr().String() // not what the config says
	b.handOver(t, "lmtp:smtp", lmtp, smtp)
	b.start(t)
	var ended atomic.Bool
	var sent, refused, repeated atomic.Int64
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for n := 0; !ended.Load(); n++ {
				letter, to := benchLetter(fmt.Sprintf("c%dn%d", c, n), "nothing", 2000), fmt.Sprintf("c%dn%d@dest.test", c, n)
				for {
					err := b.send(c%2 == 0, letter, to)
					if err == nil {
						break
					}
					repeated.Add(1) // 421 of the process that stops: the client comes again
					if errors.Is(err, syscall.ECONNREFUSED) {
						refused.Add(1)
					}
					if ctx.Err() != nil {
						t.Errorf("never taken: %v", err)
						return
					}
				}
				sent.Add(1)
			}
		})
	}
	more := func() {
		t.Helper()
		before := sent.Load()
		benchUntil(t, ctx, "messages flow", func() bool { return sent.Load() >= before+40 })
	}
	for range 3 {
		more()
		b.stop(t)
		c, err := net.Dial("tcp", b.lmtp) // nobody serves now
		if err != nil {
			t.Errorf("between two processes: %v", err)
		} else {
			c.Close()
		}
		b.start(t)
	}
	more()
	ended.Store(true)
	wg.Wait()
	if n := refused.Load(); n > 0 {
		t.Errorf("%d connections were refused", n)
	}
	for _, m := range sink.Messages() {
		if n := len(sink.To(m.Recipients[0])); n != 1 {
			t.Errorf("%s has %d copies", m.Recipients[0], n)
		}
	}
	if got, want := len(sink.Messages()), int(sent.Load()); got != want {
		t.Errorf("%d messages arrived, want %d", got, want)
	}
	b.stop(t)
	t.Logf("%d messages over 3 restarts, %d sessions ended by a stop and repeated", sent.Load(), repeated.Load())
}

// TestSocketsThatDoNotFit: a socket that would be served by nobody ends the start, with a word on it.
func TestSocketsThatDoNotFit(t *testing.T) {
	bin := binary(t)
	connected, err := net.Dial("tcp", listen(t).Addr().String())
	benchCheck(t, err)
	defer connected.Close()
	for _, c := range []struct{ names, want string }{
		{"lmtp:imap", `socket \"imap\" was handed over`}, {"lmtp:lmtp", "lmtp was handed over twice"}, {"lmtp", "LISTEN_FD_4"}, {"lmtp:trust", `socket \"trust\" was handed over`},
	} {
		b := benchNew(t, bin, "plain", "127.0.0.1:1", nil)
		b.handOver(t, c.names, listen(t), listen(t))
		if out := b.fails(t); !strings.Contains(out, c.want) && !strings.Contains(out, strings.ReplaceAll(c.want, `\"`, `"`)) {
			t.Errorf("%s: want a word like %s, got\n%s", c.names, c.want, out)
		}
	}
	b := benchNew(t, bin, "plain", "127.0.0.1:1", nil)
	f, err := connected.(*net.TCPConn).File()
	benchCheck(t, err)
	defer f.Close()
	b.handOver(t, "lmtp")
	launch := b.launch
	b.launch = func(cmd *exec.Cmd) {
		launch(cmd)
		cmd.ExtraFiles = []*os.File{f}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1")
	}
	if out := b.fails(t); !strings.Contains(out, "does not listen") {
		t.Errorf("a connection in the place of a socket: %s", out)
	}
	// Variables that are meant for another process mean nothing here.
	b = benchNew(t, bin, "plain", "127.0.0.1:1", nil)
	b.env = append(b.env, "LISTEN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=imap:pop")
	b.start(t)
	b.stop(t)
}

// fails starts the gateway, which must end at once with an error, and gives its words.
func (b *benchGateway) fails(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.bin, "serve", "--config", filepath.Join("bench", b.route+".yaml"))
	cmd.Env = b.env
	b.launch(cmd)
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Errorf("it ended with %v (%v), want an error at once", err, ctx.Err())
	}
	return string(out)
}

// TestNotify: what systemd hears, in its order, on a socket with a path and on an abstract one.
func TestNotify(t *testing.T) {
	bin := binary(t)
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprint("@passerelle-test-", os.Getpid())} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		benchCheck(t, err)
		defer l.Close()
		hear := func() string {
			t.Helper()
			buf := make([]byte, 4096)
			for {
				l.SetReadDeadline(time.Now().Add(20 * time.Second))
				n, err := l.Read(buf)
				benchCheck(t, err)
				if s := string(buf[:n]); s != "WATCHDOG=1" {
					return s
				}
			}
		}
		want := func(said string, parts ...string) {
			t.Helper()
			for _, p := range parts {
				if !strings.Contains("\n"+said+"\n", "\n"+p) {
					t.Errorf("heard %q, want %q", said, p)
				}
			}
		}
		b := benchNew(t, bin, "plain", "127.0.0.1:1", nil)
		b.config = filepath.Join(b.root, "passerelle.yaml")
		plain := read(t, "bench", "plain.yaml")
		benchCheck(t, os.WriteFile(b.config, plain, 0o600))
		b.env = append(b.env, "NOTIFY_SOCKET="+name, "WATCHDOG_USEC=100000")
		b.start(t)
		want(hear(), "READY=1\n", "STATUS=serving, mode enforce\n")
		if c, err := b.dial(true); err != nil {
			t.Errorf("ready, but %v", err)
		} else {
			c.Close()
		}
		l.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 100)
		n, err := l.Read(buf)
		benchCheck(t, err)
		want(string(buf[:n]), "WATCHDOG=1\n")
		benchCheck(t, b.cmd.Process.Signal(syscall.SIGHUP))
		said := hear()
		want(said, "RELOADING=1\n", "MONOTONIC_USEC=")
		var ts int64
		var up float64 // with the time asleep, which the monotonic clock leaves out
		_, usec, _ := strings.Cut(said, "MONOTONIC_USEC=")
		fmt.Sscan(usec, &ts)
		fmt.Sscan(string(read(t, "/proc/uptime")), &up)
		if ts <= 0 || ts > int64((up+1)*1e6) {
			t.Errorf("MONOTONIC_USEC is %d, the machine is up for %.0f s", ts, up)
		}
		want(hear(), "READY=1\n", "STATUS=serving, mode enforce\n")
		benchCheck(t, os.WriteFile(b.config, []byte("mode: sometimes\n"), 0o600))
		benchCheck(t, b.cmd.Process.Signal(syscall.SIGHUP))
		want(hear(), "RELOADING=1\n")
		want(hear(), "READY=1\n", "STATUS=serving under the former config")
		b.stop(t)
		want(hear(), "STOPPING=1\n")
	}
}
