package deploy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"passerelle/gateway/gatewaytest"
)

const collectConfig = `
hostname: gw.clinic.test
state_dir: {dir}/state
log: {level: warn}
clinic: {name: Clinique Test, domains: [clinic.test]}
listen: {lmtp: {addr: "{lmtp}"}, smtp: {addr: ""}, portal: {addr: ""}, metrics: {addr: ""}}
hops:
  clinic: {addr: "{clinic}", tls: none}
trust: {tls_dir: "{dir}/tls"}
collect:
  - {name: one, mailbox: one@op.test, addr: "{imap}", deliver_to: accueil@clinic.test, every: 10s}
rules:
  - {name: none, route: refuse, text: "Non"}
`

// TestCollectorKilled: kill -9 of the collector 20 times while 500 messages come in at a real Dovecot, on their way to a real Postfix: none is lost.
// Where systemd keeps the connections, each arrives once; without, a kill between Postfix's acceptance and its note doubles one, and the log of
// the test says how many.
func TestCollectorKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Dovecot and Postfix")
	}
	bin := benchBuild(t)
	t.Run("kept by the service manager", func(t *testing.T) {
		if doubled := killCollector(t, bin, true); doubled > 0 {
			t.Errorf("%d messages arrived twice", doubled)
		}
	})
	t.Run("nobody keeps", func(t *testing.T) {
		if doubled := killCollector(t, bin, false); doubled > 20 {
			t.Errorf("%d messages arrived twice: more than kills", doubled)
		}
	})
}

func killCollector(t *testing.T, bin string, keep bool) (doubled int) {
	const messages, kills = 500, 20
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	benchCheck(t, gatewaytest.DovecotTools())
	ca, err := gatewaytest.NewCA("IGC test")
	benchCheck(t, err)
	d, err := gatewaytest.StartDovecot(ctx, gatewaytest.DovecotOptions{CA: ca})
	benchCheck(t, err)
	defer d.Close()
	sink, err := gatewaytest.StartNextHop(gatewaytest.Options{})
	benchCheck(t, err)
	defer sink.Close()
	p, err := gatewaytest.StartPostfix(ctx, gatewaytest.PostfixOptions{Domains: []string{"clinic.test"}, LocalHop: sink.Addr()})
	benchCheck(t, err)
	defer p.Close()
	dir := t.TempDir()
	own, err := ca.IssueLocal(pkix.Name{CommonName: "one@op.test"})
	benchCheck(t, err)
	benchCheck(t, ca.WriteDir(filepath.Join(dir, "tls"), own))
	text := strings.NewReplacer("{dir}", dir, "{lmtp}", freeAddr(t), "{clinic}", p.Addr(), "{imap}", d.Addr()).Replace(collectConfig)
	benchCheck(t, os.WriteFile(filepath.Join(dir, "passerelle.yaml"), []byte(text), 0o600))

	m := &manager{t: t, dir: dir, bin: bin, kept: map[string]*os.File{}}
	if keep {
		m.listen()
	}
	m.start()
	defer m.kill()
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := imapclient.DialTLS(d.TLSAddr(), &imapclient.Options{TLSConfig: &tls.Config{RootCAs: ca.Pool()}})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if err := c.Login("one@op.test", gatewaytest.DovecotPassword).Wait(); err != nil {
			t.Error(err)
		}
		for n := range messages {
			raw := fmt.Sprintf("Return-Path: <dr@medecin.test>\r\nFrom: <dr@medecin.test>\r\nMessage-ID: <m%d@medecin.test>\r\nSubject: %d\r\n\r\n%s\r\n", n, n, strings.Repeat("bonjour\r\n", rand.IntN(2000)))
			cmd := c.Append("INBOX", int64(len(raw)), nil)
			io.WriteString(cmd, raw)
			cmd.Close()
			if _, err := cmd.Wait(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	seen := func() int { return len(copies(sink)) }
	for n := range kills { // while messages flow
		before := seen()
		benchUntil(t, ctx, "messages flow", func() bool { return seen() > before || seen() >= messages })
		time.Sleep(time.Duration(rand.IntN(int(200 * time.Millisecond))))
		if seen() >= messages {
			t.Logf("all messages had come before kill %d", n+1)
		}
		m.kill()
		m.start()
	}
	wg.Wait()
	benchUntil(t, ctx, "every message arrives", func() bool { return seen() >= messages })
	_, err = p.WaitQueue(ctx, func(q []gatewaytest.Queued) bool { return len(q) == 0 })
	benchCheck(t, err)
	time.Sleep(500 * time.Millisecond)
	for id, n := range copies(sink) {
		if n > 1 {
			doubled += n - 1
			t.Logf("%s arrived %d times", id, n)
		}
	}
	t.Logf("%d messages, %d kills: %d arrived, %d of them twice; %d connections were found again", messages, kills, seen(), doubled, m.handed)
	if t.Failed() || doubled > 0 && keep {
		t.Logf("gateway: %s", m.log.String())
	}
	return doubled
}

// copies counts what arrived, by Message-ID.
func copies(sink *gatewaytest.NextHop) map[string]int {
	out := map[string]int{}
	for _, m := range sink.Messages() {
		_, rest, _ := bytes.Cut(m.Data, []byte("Message-ID: <"))
		id, _, _ := bytes.Cut(rest, []byte(">"))
		out[string(id)]++
	}
	return out
}

// manager starts the binary and keeps its connections as systemd does (sd_notify(3): FDSTORE, sd_listen_fds(3)).
type manager struct {
	t        *testing.T
	dir, bin string
	log      bytes.Buffer
	notify   *net.UnixConn
	cmd      *exec.Cmd
	handed   int

	mu    sync.Mutex
	kept  map[string]*os.File
	heard time.Time
}

func (m *manager) listen() {
	var err error
	m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(m.dir, "notify"), Net: "unixgram"})
	benchCheck(m.t, err)
	m.t.Cleanup(func() { m.notify.Close() })
	go func() {
		words, rights := make([]byte, 4096), make([]byte, 1024)
		for {
			n, r, _, _, err := m.notify.ReadMsgUnix(words, rights)
			if err != nil {
				return
			}
			m.hear(string(words[:n]), rights[:r])
		}
	}()
}

func (m *manager) hear(words string, rights []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = time.Now()
	_, name, _ := strings.Cut(words, "FDNAME=")
	switch {
	case strings.HasPrefix(words, "FDSTORE=1"):
		msgs, err := syscall.ParseSocketControlMessage(rights)
		if err != nil || len(msgs) != 1 {
			m.t.Errorf("no descriptor: %v", err)
			return
		}
		fds, err := syscall.ParseUnixRights(&msgs[0])
		if err != nil || len(fds) != 1 {
			m.t.Errorf("no descriptor: %v", err)
			return
		}
		syscall.CloseOnExec(fds[0])
		if m.kept[name] != nil {
			m.kept[name].Close()
		}
		m.kept[name] = os.NewFile(uintptr(fds[0]), name)
	case strings.HasPrefix(words, "FDSTOREREMOVE=1") && m.kept[name] != nil:
		m.kept[name].Close()
		delete(m.kept, name)
	}
}

func (m *manager) start() {
	m.cmd = exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, m.bin, "serve", "--config", filepath.Join(m.dir, "passerelle.yaml"))
	m.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	m.cmd.Stderr = &m.log
	if m.notify != nil {
		m.mu.Lock()
		var names []string
		for name, f := range m.kept {
			names = append(names, name)
			m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, f)
		}
		m.handed += len(names)
		m.mu.Unlock()
		m.cmd.Env = append(m.cmd.Env, "NOTIFY_SOCKET="+filepath.Join(m.dir, "notify"))
		if len(names) > 0 {
			m.cmd.Env = append(m.cmd.Env, fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
		}
	}
	benchCheck(m.t, m.cmd.Start())
}

// kill by SIGKILL, and wait until all that the process said was heard.
func (m *manager) kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
	for quiet := false; !quiet && m.notify != nil; {
		time.Sleep(20 * time.Millisecond)
		m.mu.Lock()
		quiet = time.Since(m.heard) > 15*time.Millisecond
		m.mu.Unlock()
	}
}
