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
	t.Run("kept by the service manager", func(t *testing.T) {
		if doubled := killCollector(t, true); doubled > 0 {
			t.Errorf("%d messages arrived twice", doubled)
		}
	})
	t.Run("nobody keeps", func(t *testing.T) {
		if doubled := killCollector(t, false); doubled > 20 {
			t.Errorf("%d messages arrived twice: more than kills", doubled)
		}
	})
}

// collectWorld is a mailbox at a Dovecot, and a clinic's Postfix whose users are a sink.
type collectWorld struct {
	d       *gatewaytest.Dovecot
	ca      *gatewaytest.CA
	postfix *gatewaytest.Postfix
	sink    *gatewaytest.NextHop
	m       *manager
}

func newCollectWorld(t *testing.T, ctx context.Context, config string) *collectWorld {
	t.Helper()
	benchCheck(t, gatewaytest.DovecotTools())
	w := &collectWorld{}
	var err error
	w.ca, err = gatewaytest.NewCA("IGC test")
	benchCheck(t, err)
	w.d, err = gatewaytest.StartDovecot(ctx, gatewaytest.DovecotOptions{CA: w.ca})
	benchCheck(t, err)
	t.Cleanup(func() { w.d.Close() })
	w.sink, err = gatewaytest.StartNextHop(gatewaytest.Options{})
	benchCheck(t, err)
	t.Cleanup(func() { w.sink.Close() })
	w.postfix, err = gatewaytest.StartPostfix(ctx, gatewaytest.PostfixOptions{Domains: []string{"clinic.test"}, LocalHop: w.sink.Addr()})
	benchCheck(t, err)
	t.Cleanup(func() { w.postfix.Close() })
	dir := t.TempDir()
	own, err := w.ca.IssueLocal(pkix.Name{CommonName: "one@op.test"})
	benchCheck(t, err)
	benchCheck(t, w.ca.WriteDir(filepath.Join(dir, "tls"), own))
	text := strings.NewReplacer("{dir}", dir, "{lmtp}", freeAddr(t), "{clinic}", w.postfix.Addr(), "{imap}", w.d.Addr()).Replace(config)
	benchCheck(t, os.WriteFile(filepath.Join(dir, "passerelle.yaml"), []byte(text), 0o600))
	w.m = &manager{t: t, dir: dir, bin: binary(t), kept: map[string]*os.File{}}
	return w
}

// put lays n letters into the mailbox, one after the other.
func (w *collectWorld) put(t *testing.T, n int) {
	c, err := imapclient.DialTLS(w.d.TLSAddr(), &imapclient.Options{TLSConfig: &tls.Config{RootCAs: w.ca.Pool()}})
	if err == nil {
		defer c.Close()
		err = c.Login("one@op.test", gatewaytest.DovecotPassword).Wait()
	}
	for i := range n {
		if err != nil {
			t.Error(err)
			return
		}
		raw := fmt.Sprintf("Return-Path: <dr@medecin.test>\r\nFrom: <dr@medecin.test>\r\nMessage-ID: <m%d@medecin.test>\r\nSubject: %d\r\n\r\n%s\r\n", i, i, strings.Repeat("bonjour\r\n", rand.IntN(2000)))
		cmd := c.Append("INBOX", int64(len(raw)), nil)
		io.WriteString(cmd, raw)
		cmd.Close()
		_, err = cmd.Wait()
	}
}

func killCollector(t *testing.T, keep bool) (doubled int) {
	const messages, kills = 500, 20
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	w := newCollectWorld(t, ctx, collectConfig)
	m, sink := w.m, w.sink
	if keep {
		m.listen()
	}
	m.start()
	defer m.kill()
	var wg sync.WaitGroup
	wg.Go(func() { w.put(t, messages) })
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
	_, err := w.postfix.WaitQueue(ctx, func(q []gatewaytest.Queued) bool { return len(q) == 0 })
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

// TestCollectorWaitsForPostfix: while Postfix is away nothing is taken from the mailbox; behind it everything arrives once, and is deleted there.
func TestCollectorWaitsForPostfix(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Dovecot and Postfix")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w := newCollectWorld(t, ctx, strings.Replace(collectConfig, "every: 10s", "every: 10s, after: delete", 1))
	benchCheck(t, w.postfix.Stop())
	w.put(t, 20)
	w.m.start()
	defer w.m.kill()
	mailbox := func() int { // read letters lie in cur
		n := 0
		for _, dir := range []string{"new", "cur"} {
			files, err := os.ReadDir(filepath.Join(w.d.Maildir("one@op.test"), dir))
			benchCheck(t, err)
			n += len(files)
		}
		return n
	}
	time.Sleep(3 * time.Second)
	if n := mailbox(); n != 20 || len(w.sink.Messages()) > 0 {
		t.Errorf("%d letters lie in the mailbox, %d arrived; want 20 and none", n, len(w.sink.Messages()))
	}
	benchCheck(t, w.postfix.Start(ctx))
	benchUntil(t, ctx, "every message arrives", func() bool { return len(copies(w.sink)) == 20 })
	benchUntil(t, ctx, "the mailbox is empty", func() bool { return mailbox() == 0 })
	for id, n := range copies(w.sink) {
		if n > 1 {
			t.Errorf("%s arrived %d times", id, n)
		}
	}
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
	log      lockedLog
	notify   *net.UnixConn
	cmd      *exec.Cmd
	handed   int

	mu   sync.Mutex
	kept map[string]*os.File
	said chan struct{} // what was said before the last kill was heard
}

func (m *manager) listen() {
	var err error
	m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(m.dir, "notify"), Net: "unixgram"})
	benchCheck(m.t, err)
	m.t.Cleanup(func() { m.notify.Close() })
	m.said = make(chan struct{}, 1)
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
	if words == lastWord {
		m.said <- struct{}{}
		return
	}
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
		defer m.mu.Unlock() // a kept file is not closed while the process is given it
		m.cmd.Env = append(m.cmd.Env, "NOTIFY_SOCKET="+filepath.Join(m.dir, "notify"))
		if len(names) > 0 {
			m.cmd.Env = append(m.cmd.Env, fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
		}
	}
	benchCheck(m.t, m.cmd.Start())
}

const lastWord = "X_LAST=1"

// kill by SIGKILL, and wait until all that the process said was heard: what we say ourselves comes behind it.
func (m *manager) kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
	if m.notify == nil {
		return
	}
	c, err := net.Dial("unixgram", filepath.Join(m.dir, "notify"))
	benchCheck(m.t, err)
	defer c.Close()
	_, err = c.Write([]byte(lastWord))
	benchCheck(m.t, err)
	<-m.said
}

// lockedLog is read while processes write it.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
