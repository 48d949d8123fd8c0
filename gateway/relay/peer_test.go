package relay

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
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/message"
)

// session is the hop's side of one connection in a test.
type session struct {
	t    *testing.T
	conn net.Conn
	br   *bufio.Reader
}

// peer listens and plays one script per connection, in order; connections behind the last script are closed at once.
func peer(t *testing.T, scripts ...func(*session)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if i >= len(scripts) {
				t.Errorf("connection %d came, %d expected", i+1, len(scripts))
				c.Close()
				continue
			}
			wg.Go(func() {
				defer c.Close()
				s := &session{t, c, bufio.NewReader(c)}
				scripts[i](s)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func (s *session) send(lines ...string) {
	io.WriteString(s.conn, strings.Join(lines, "\r\n")+"\r\n")
}

// want reads a line that must begin so and gives it.
func (s *session) want(prefix string) string {
	line, err := s.br.ReadString('\n')
	line = strings.TrimSuffix(line, "\r\n")
	if !strings.HasPrefix(line, prefix) || err != nil && prefix != "" {
		s.t.Errorf("hop got %q (%v), want %q...", line, err, prefix)
	}
	return line
}

// content reads up to the final dot and gives it with its dots.
func (s *session) content() string {
	var b strings.Builder
	for {
		line, err := s.br.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

// gone waits until the client has closed.
func (s *session) gone() { io.Copy(io.Discard, s.br) }

func (s *session) greet(ext ...string) {
	s.send("220 peer.test ESMTP")
	s.hello(ext...)
}

func (s *session) hello(ext ...string) {
	s.want("EHLO client.test")
	lines := append([]string{"peer.test"}, ext...)
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = "250" + sep + lines[i]
	}
	s.send(lines...)
}

// take is one whole transaction that succeeds; it gives MAIL, the RCPTs and the content.
func (s *session) take(rcpts int) (lines []string, content string) {
	lines = append(lines, s.want("MAIL FROM:"))
	s.send("250 2.1.0 ok")
	for range rcpts {
		lines = append(lines, s.want("RCPT TO:"))
		s.send("250 2.1.5 ok")
	}
	s.want("DATA")
	s.send("354 go")
	content = s.content()
	s.send("250 2.0.0 Ok: queued as 4Rx")
	return lines, content
}

func (s *session) quit() {
	s.want("QUIT")
	s.send("221 2.0.0 bye")
}

func addr(t testing.TB, s string) message.Address {
	t.Helper()
	a, err := message.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func letter(t testing.TB, body string, to ...string) Letter {
	l := Letter{Sender: addr(t, "from@clinic.test"), Header: []byte("Subject: x\r\n"), Body: message.BytesBody([]byte("\r\n" + body))}
	for _, r := range to {
		l.Recipients = append(l.Recipients, message.Recipient{Address: addr(t, r), Raw: r})
	}
	return l
}

func newRelay(t testing.TB, cfg Config) *Relay {
	t.Helper()
	to := &cfg.Timeouts
	for _, d := range []*time.Duration{&to.Dial, &to.Banner, &to.Hello, &to.StartTLS, &to.Mail, &to.Rcpt, &to.Data, &to.Write, &to.Final, &to.Quit} {
		or(d, 5*time.Second)
	}
	r := New(cfg)
	t.Cleanup(func() { r.Close() })
	return r
}

func hopTo(addr string) Hop { return Hop{Name: "peer", Addr: addr, Helo: "client.test"} }

// codes gives the results as "accepted", "451 4.4.2 final" and so on.
func codes(res []Result) string {
	var out []string
	for _, r := range res {
		if r.Err == nil {
			out = append(out, "accepted")
			continue
		}
		w := strings.Fields(reply{code: r.Err.Code, enhanced: r.Err.Enhanced}.String())
		out = append(out, w[0]+" "+w[1]+" "+r.Err.Step)
		if r.Err.Permanent != (r.Err.Code >= 500) {
			out = append(out, "PERMANENT DIFFERS FROM CODE")
		}
	}
	return strings.Join(out, ", ")
}

func wantCodes(t *testing.T, res []Result, want string) {
	t.Helper()
	if got := codes(res); got != want {
		t.Errorf("got %s, want %s", got, want)
		for _, r := range res {
			if r.Err != nil {
				t.Logf("%v %q", r.Err, r.Err.Text)
			}
		}
	}
}

// certificate makes a self-signed server certificate for 127.0.0.1 and the pool that trusts it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peer.test", Organization: []string{"PEER"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// startTLS plays the hop's side of STARTTLS.
func (s *session) startTLS(cert tls.Certificate) error {
	s.want("STARTTLS")
	s.send("220 2.0.0 go")
	tc := tls.Server(s.conn, &tls.Config{Certificates: []tls.Certificate{cert}})
	if err := tc.Handshake(); err != nil {
		return err
	}
	s.conn, s.br = tc, bufio.NewReader(tc)
	return nil
}

var errCheck = errors.New("not the peer we know")

func background() context.Context { return context.Background() }
