package deploy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/emersion/go-smtp"

	"passerelle/gateway/gatewaytest"
)

// benchGateway is the real binary under a bench file, with everything that it may write below one folder of its own.
type benchGateway struct {
	bin, route, root string
	smtp, lmtp       string
	console          string
	env              []string
	config           string          // "" is the bench file of the route
	wrap             []string        // a command that runs the binary under a limit or in a namespace
	launch           func(*exec.Cmd) // changes how it is started
	cmd              *exec.Cmd
	ended            chan struct{} // closed when cmd has been waited for
}

// benchSink is a next hop as the route wants it. The gateway's part of the environment comes with it.
func benchSink(t *testing.T, route string, opt gatewaytest.Options) (*gatewaytest.NextHop, []string) {
	t.Helper()
	var env []string
	dir := t.TempDir()
	switch route {
	case "trust":
		_, tlsOfSink, vars := benchSpace(t)
		opt.TLS, opt.RequireTLS, opt.RequireClientCert = tlsOfSink, true, true
		env = vars
	case "openpgp":
		key, err := openpgp.NewEntity("Colleague", "", "r0@dest.test", nil)
		benchCheck(t, err)
		var text bytes.Buffer
		a, err := armor.Encode(&text, "PGP PUBLIC KEY BLOCK", nil)
		benchCheck(t, err)
		benchCheck(t, errors.Join(key.Serialize(a), a.Close()))
		file := filepath.Join(dir, "key.asc")
		benchCheck(t, os.WriteFile(file, text.Bytes(), 0o600))
		env = []string{"PGP_KEY=" + file}
	case "smime":
		_, env = smimeHolder(t)
	}
	hop, err := gatewaytest.StartNextHop(opt)
	benchCheck(t, err)
	t.Cleanup(func() { hop.Close() })
	return hop, env
}

// benchSpace is the trust space of the bench file: its authority, the far server's settings, and what the gateway is told of both.
func benchSpace(t *testing.T) (ca *gatewaytest.CA, sink *tls.Config, env []string) {
	t.Helper()
	dir := t.TempDir()
	ca, err := gatewaytest.NewCA("test")
	benchCheck(t, err)
	own, err := ca.IssueLocal(pkix.Name{CommonName: "passerelle.clinic.test", Country: []string{"FR"}})
	benchCheck(t, err)
	peer, err := ca.IssueLocal(pkix.Name{CommonName: "mx.dest.test", Organization: []string{"Dest"}, Country: []string{"FR"}})
	benchCheck(t, err)
	benchCheck(t, ca.WriteDir(dir, own))
	return ca, ca.ServerTLS(peer, true), []string{"TLS_DIR=" + dir, "PEER_DN=" + peer.Cert.Subject.String()}
}

func benchCheck(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// benchStart starts the binary with deploy/bench/ROUTE.yaml as it is.
func benchStart(t *testing.T, bin, route, sink string, env []string) *benchGateway {
	t.Helper()
	b := benchNew(t, bin, route, sink, env)
	b.start(t)
	return b
}

// benchNew has everything but the process.
func benchNew(t *testing.T, bin, route, sink string, env []string) *benchGateway {
	t.Helper()
	b := &benchGateway{bin: bin, route: route, root: t.TempDir(), lmtp: freeAddr(t), smtp: freeAddr(t), console: freeAddr(t)}
	for _, d := range []string{"state", "tmp"} {
		benchCheck(t, os.Mkdir(filepath.Join(b.root, d), 0o700))
	}
	b.env = append([]string{"PATH=" + os.Getenv("PATH"), "LMTP_ADDR=" + b.lmtp, "SMTP_ADDR=" + b.smtp, "SINK=" + sink, "STATE_DIR=" + b.state(),
		"PORTAL_ADDR=" + freeAddr(t), "METRICS_ADDR=" + b.console, "TMPDIR=" + filepath.Join(b.root, "tmp")}, env...)
	t.Cleanup(func() {
		if b.cmd != nil {
			b.cmd.Process.Kill()
			<-b.ended
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(b.root, "log"))
			t.Logf("log of the gateway:\n%.4000s", log)
		}
	})
	return b
}

func (b *benchGateway) state() string { return filepath.Join(b.root, "state") }

// start returns when both of the clinic's doors answer.
func (b *benchGateway) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(b.root, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	benchCheck(t, err)
	defer log.Close()
	config := b.config
	if config == "" {
		config = filepath.Join("bench", b.route+".yaml")
	}
	args := append(slices.Clone(b.wrap), b.bin, "serve", "--config", config)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = b.env, log, log
	if b.launch != nil {
		b.launch(cmd)
	}
	benchCheck(t, cmd.Start())
	b.cmd, b.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) {
		cmd.Wait()
		close(ended)
	}(b.ended)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, addr := range []string{b.lmtp, b.smtp} {
		benchUntil(t, ctx, "the gateway listens at "+addr, func() bool {
			select {
			case <-b.ended:
				t.Fatal("the gateway ended at its start")
			default:
			}
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
}

// kill ends the process as a power cut would, without any last word.
func (b *benchGateway) kill(t *testing.T) {
	t.Helper()
	benchCheck(t, b.cmd.Process.Kill())
	<-b.ended
}

// stop ends it as systemd does.
func (b *benchGateway) stop(t *testing.T) {
	t.Helper()
	benchCheck(t, b.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-b.ended:
	case <-time.After(40 * time.Second):
		t.Fatal("the gateway did not stop")
	}
	if !b.cmd.ProcessState.Success() {
		t.Errorf("the gateway stopped with %v", b.cmd.ProcessState)
	}
}

// benchUntil looks every few milliseconds; only what cannot tell by itself is waited for in this way.
func benchUntil(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

// files are all that the gateway has on disk: below its folder, and what its process (if it runs) has open without a name.
func (b *benchGateway) files(t *testing.T, running bool) (files map[string][]byte, unlinked int) {
	t.Helper()
	files = map[string][]byte{}
	err := filepath.WalkDir(b.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		if running && errors.Is(err, fs.ErrNotExist) { // the sweep took it
			return nil
		}
		files[strings.TrimPrefix(path, b.root)] = append([]byte(d.Name()+"\n"), body...)
		return err
	})
	benchCheck(t, err)
	if !running {
		return files, 0
	}
	dir := fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid)
	fds, err := os.ReadDir(dir)
	benchCheck(t, err)
	for _, fd := range fds {
		path := filepath.Join(dir, fd.Name())
		name, err := os.Readlink(path)
		st, serr := os.Stat(path)
		if err != nil || serr != nil || !st.Mode().IsRegular() || !strings.HasPrefix(name, "/") {
			continue // a socket, a pidfd, or closed meanwhile
		}
		body, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // closed meanwhile: a reply comes before its body is given back
			continue
		}
		benchCheck(t, err)
		files["fd "+fd.Name()+" "+name] = body
		if strings.HasPrefix(name, b.root+"/tmp/") && strings.HasSuffix(name, " (deleted)") && len(body) > 0 {
			unlinked++
		}
	}
	return files, unlinked
}

// benchSession is a session of the clinic's server.
type benchSession struct {
	*smtp.Client
	conn net.Conn
}

func (b *benchGateway) dial(lmtp bool) (benchSession, error) {
	addr, client := b.smtp, smtp.NewClient
	if lmtp {
		addr, client = b.lmtp, smtp.NewClientLMTP
	}
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return benchSession{}, err
	}
	return benchSession{client(c), c}, nil
}

// data writes the letter, which has no line that begins with a dot: byte by byte, as the library does it, 5 MB take long under the
// race detector. Close of what it gives ends the letter and reads the reply.
func (s benchSession) data(letter []byte, to ...string) (io.Closer, error) {
	if err := s.Mail("staff@clinic.test", nil); err != nil {
		return nil, err
	}
	for _, r := range to {
		if err := s.Rcpt(r, nil); err != nil {
			return nil, err
		}
	}
	end, err := s.Data()
	if err != nil {
		return nil, err
	}
	_, err = s.conn.Write(bytes.TrimSuffix(letter, []byte("\r\n"))) // the end writes CR LF . CR LF
	return end, err
}

func (s benchSession) send(letter []byte, to ...string) error {
	end, err := s.data(letter, to...)
	if err != nil {
		return err
	}
	return end.Close()
}

// send hands one message in, in a session of its own; nil is 250.
func (b *benchGateway) send(lmtp bool, letter []byte, to ...string) error {
	s, err := b.dial(lmtp)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.send(letter, to...)
}

// repeat does what Postfix does: the same bytes again until they were taken.
func (b *benchGateway) repeat(ctx context.Context, lmtp bool, letter []byte, to ...string) error {
	for {
		err := b.send(lmtp, letter, to...)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("never taken, last answer: %w", err)
		}
	}
}
