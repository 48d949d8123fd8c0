package smtpd

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"passerelle/gateway/message"
)

const patience = 20 * time.Second

// mail is what a handler got.
type mail struct {
	env  message.Envelope
	body string
}

// recorder is a Handler that keeps what it gets; its functions, where set, decide.
type recorder struct {
	mail  func(Client, *message.Envelope) error
	rcpt  func(Client, message.Recipient) error
	data  func(context.Context, *message.Envelope, *message.Body) Outcome
	mu    sync.Mutex
	mails []mail
}

func (r *recorder) Mail(_ context.Context, c Client, env *message.Envelope) error {
	if r.mail != nil {
		return r.mail(c, env)
	}
	return nil
}

func (r *recorder) Rcpt(_ context.Context, c Client, _ *message.Envelope, to message.Recipient) error {
	if r.rcpt != nil {
		return r.rcpt(c, to)
	}
	return nil
}

func (r *recorder) Data(ctx context.Context, _ Client, env *message.Envelope, b *message.Body) Outcome {
	p, err := io.ReadAll(b.Section(0, -1))
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	r.mails = append(r.mails, mail{*env, string(p)})
	r.mu.Unlock()
	if r.data != nil {
		return r.data(ctx, env, b)
	}
	return Outcome{Whole: accepted}
}

func (r *recorder) got() []mail {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]mail(nil), r.mails...)
}

var accepted = &Reply{250, [3]int{2, 6, 0}, "Recu"}

type running struct {
	*recorder
	addr   string
	budget *message.Budget
	srv    *Server
	stop   func() error // ends Serve's context and waits
}

// start runs a server until the test ends.
func start(t *testing.T, change func(*Config, *recorder)) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	r := &recorder{}
	cfg := Config{Listener: l, Hostname: "gw.test", MaxMessage: 4 << 20, Budget: message.NewBudget(64<<20, t.TempDir()),
		Log: slog.New(slog.DiscardHandler), Handler: r, NewID: func() string { return fmt.Sprint("id", n.Add(1)) }}
	if change != nil {
		change(&cfg, r)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return &running{r, l.Addr().String(), cfg.Budget, s, stop}
}

// client says only what it is told.
type client struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	return &client{t, nc, bufio.NewReader(nc)}
}

// hello dials, reads the greeting and greets.
func hello(t *testing.T, addr string) *client { return greet(t, addr, "EHLO") }

func greet(t *testing.T, addr, verb string) *client {
	t.Helper()
	c := dial(t, addr)
	c.expect(220)
	c.want(250, verb+" client.test")
	return c
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// reply reads one reply: its code, 0 where the connection ended, and all its lines.
func (c *client) reply() (int, string) {
	c.t.Helper()
	all := ""
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			if errors.Is(err, net.ErrClosed) || isTimeout(err) {
				c.t.Fatalf("no reply: %v", err)
			}
			return 0, all
		}
		all += line
		if code, err := strconv.Atoi(line[:3]); err == nil && line[3] == ' ' {
			return code, all
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func (c *client) expect(code int) string {
	c.t.Helper()
	got, text := c.reply()
	if got != code {
		c.t.Fatalf("got reply %d %q, want %d", got, text, code)
	}
	return text
}

// want sends a command and expects a code.
func (c *client) want(code int, cmd string) string {
	c.t.Helper()
	c.send(cmd + "\r\n")
	got, text := c.reply()
	if got != code {
		c.t.Fatalf("%.100q: got %d %q, want %d", cmd, got, text, code)
	}
	return text
}

// envelope opens a transaction with one recipient.
func (c *client) envelope() {
	c.t.Helper()
	c.want(250, "MAIL FROM:<a@clinic.test>")
	c.want(250, "RCPT TO:<b@dest.test>")
}

// inData opens a transaction up to the 354.
func (c *client) inData() {
	c.t.Helper()
	c.envelope()
	c.want(354, "DATA")
}

// gone expects the connection to end, and gives the replies before.
func (c *client) gone() (codes []int) {
	c.t.Helper()
	for {
		code, _ := c.reply()
		if code == 0 {
			return codes
		}
		codes = append(codes, code)
	}
}

func (c *client) startTLS(cfg *tls.Config) error {
	c.t.Helper()
	c.want(220, "STARTTLS")
	t := tls.Client(c.nc, cfg)
	if err := t.Handshake(); err != nil {
		return err
	}
	c.nc, c.r = t, bufio.NewReader(t)
	return nil
}

// bareServer is go-smtp as it comes: the companion that shows a trap.
type bareServer struct {
	addr  string
	lib   *smtp.Server
	mu    sync.Mutex
	froms []string
	rcpts []string
	orcpt []string
	body  []string
	fail  error
}

func bare(t *testing.T, change func(*smtp.Server)) *bareServer {
	t.Helper()
	b := &bareServer{}
	b.lib = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &bareSession{b}, nil }))
	b.lib.Domain, b.lib.ErrorLog = "bare.test", libraryLog{slog.New(slog.DiscardHandler)}
	b.lib.EnableDSN, b.lib.EnableSMTPUTF8 = true, true
	if change != nil {
		change(b.lib)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- b.lib.Serve(l) }()
	t.Cleanup(func() { b.lib.Close(); <-done })
	return b
}

func (b *bareServer) bodies() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.body...)
}

type bareSession struct{ b *bareServer }

func (s *bareSession) Reset()        {}
func (s *bareSession) Logout() error { return nil }
func (s *bareSession) Mail(from string, _ *smtp.MailOptions) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.froms = append(s.b.froms, from)
	return nil
}

func (s *bareSession) Rcpt(to string, o *smtp.RcptOptions) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.rcpts, s.b.orcpt = append(s.b.rcpts, to), append(s.b.orcpt, o.OriginalRecipient)
	return nil
}

func (s *bareSession) Data(r io.Reader) error {
	p, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.body = append(s.b.body, string(p))
	return s.b.fail
}

// authority makes certificates at test time.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.cert, a.key = a.make("Test CA", true)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) make(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: ca}
	parent, signer := a.cert, a.key
	if ca {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) issue(name string) tls.Certificate {
	cert, key := a.make(name, false)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) server() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.issue("gw.test")}, ClientCAs: a.pool}
}

func (a *authority) client() *tls.Config { return &tls.Config{RootCAs: a.pool, ServerName: "gw.test"} }
