package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"passerelle/gateway/message"
)

func TestOrderOfCommands(t *testing.T) {
	c := hello(t, bare(t, nil).addr)
	c.envelope()
	c.want(250, "MAIL FROM:<other@b.test>") // companion: a second MAIL, and the first one's recipients stay
	c.want(354, "DATA")

	s := start(t, nil)
	c = dial(t, s.addr)
	c.expect(220)
	c.want(503, "MAIL FROM:<a@b.test>")
	c.want(250, "HELO client.test")
	for _, cmd := range []string{"RCPT TO:<a@b.test>", "DATA"} {
		c.want(503, cmd)
	}
	c.want(250, "MAIL FROM:<a@b.test>")
	c.want(503, "MAIL FROM:<c@d.test>")
	c.want(503, "DATA")
	c.want(250, "RCPT TO:<x@y.test>")
	c.want(503, "MAIL FROM:<c@d.test>")
	c.want(250, "RSET")
	c.want(503, "DATA")
	c.envelope()
	c.want(250, "EHLO other.test")
	c.want(503, "RCPT TO:<x@y.test>")
	c.envelope()
	c.want(501, "DATA now")
	c.want(252, "VRFY a")
	c.want(502, "EXPN a")
	c.want(502, "HELP")
	c.want(502, "AUTH PLAIN AGEAYg==")
	c.want(502, "STARTTLS")
	c.want(250, "NOOP "+strings.Repeat("x", 400))
	c.want(221, "QUIT")
	c.gone()
}

func TestGreeting(t *testing.T) {
	s := start(t, nil)
	c := dial(t, s.addr)
	if text := c.expect(220); text != "220 gw.test ESMTP\r\n" {
		t.Errorf("got %q", text)
	}
	text := c.want(250, "EHLO client.test")
	if !strings.HasPrefix(text, "250-gw.test\r\n") || strings.Contains(text, "STARTTLS") || strings.Contains(text, "AUTH") || strings.Contains(text, "REQUIRETLS") {
		t.Errorf("got %q", text)
	}
	for _, ext := range []string{"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "SMTPUTF8", "DSN", "SIZE 4194304", "LIMITS RCPTMAX=1000"} {
		if !strings.Contains(text, "-"+ext+"\r\n") && !strings.Contains(text, " "+ext+"\r\n") {
			t.Errorf("%s is missing in %q", ext, text)
		}
	}
	c.want(501, "EHLO")
	c.want(501, "EHLO <script>")
	c.want(502, "LHLO client.test")
	s = start(t, func(cfg *Config, _ *recorder) { cfg.LMTP = true })
	c = greet(t, s.addr, "LHLO")
	c.want(502, "EHLO client.test")
}

func TestCommandLines(t *testing.T) {
	c := hello(t, bare(t, nil).addr)
	c.send("NOOP\n")
	c.expect(250) // companion: bare LF ends a command

	s := start(t, nil)
	c = hello(t, s.addr)
	for _, line := range []string{"NOOP\n", "NO\x00OP\r\n", "NOOP \r x\r\n", "NOOP a\x1bb\r\n", "\r\n", "NOP\r\n", "MAIL\tFROM:<a@b.test>\r\n", "STARTTLSX\r\n",
		"MAIL FROM:<" + strings.Repeat("a", 100_000) + "@x.test>\r\n", strings.Repeat("x", commandBuffer-1) + "\r\n"} {
		c.send(line)
		if code, text := c.reply(); code != 500 {
			t.Errorf("%.30q: got %q", line, text)
		}
	}
	c.want(250, "NOOP "+strings.Repeat("x", commandBuffer-7))
	// an endless line ends the session
	go func() {
		for p := make([]byte, 64<<10); ; {
			if _, err := c.nc.Write(p); err != nil {
				return
			}
		}
	}()
	if codes := c.gone(); len(codes) > 1 {
		t.Errorf("got %v", codes)
	}
}

func TestTooManyWrongCommands(t *testing.T) {
	s := start(t, nil)
	for _, cmd := range []string{"XYZZY", "NOOP", "MAIL FROM:x"} {
		c := hello(t, s.addr)
		n := 0
		for code := 1; code != 421; n++ {
			if n > maxIdle {
				t.Fatalf("%s: still served after %d", cmd, n)
			}
			c.send(cmd + "\r\n")
			code, _ = c.reply()
		}
		c.gone()
		if cmd != "NOOP" && n != maxFaults+1 {
			t.Errorf("%s: cut after %d", cmd, n)
		}
	}
}

// Refused messages are a client's daily life: Postfix repeats them on one connection, and a 421 would make it throttle its next hop.
func TestRefusalsDoNotEndTheSession(t *testing.T) {
	s := start(t, func(cfg *Config, r *recorder) {
		cfg.MaxMessage = 1000
		r.rcpt = func(Client, message.Recipient) error { return errLater }
	})
	c := hello(t, s.addr)
	for range maxIdle + 1 {
		c.want(250, "MAIL FROM:<a@b.test>")
		c.want(451, "RCPT TO:<c@d.test>")
		c.want(250, "RSET")
		c.want(552, "MAIL FROM:<a@b.test> SIZE=1001")
	}
}

// The library makes every error that is not exactly its own type a permanent 554 and shows its text.
func TestErrorsOfTheHandler(t *testing.T) {
	full := fmt.Errorf("open /var/spool/secret: no space left")
	b := bare(t, nil)
	b.fail = full
	c := hello(t, b.addr)
	c.inData()
	c.send(".\r\n")
	if text := c.expect(554); !strings.Contains(text, "/var/spool") {
		t.Errorf("companion: got %q", text)
	}

	var answer error
	s := start(t, func(_ *Config, r *recorder) {
		r.mail = func(Client, *message.Envelope) error { return answer }
		r.rcpt = func(_ Client, to message.Recipient) error {
			if to.Local == "panic" {
				panic("at RCPT")
			}
			return answer
		}
		r.data = func(context.Context, *message.Envelope, *message.Body) Outcome { return Outcome{} }
	})
	c = hello(t, s.addr)
	for _, answer = range []error{full, fmt.Errorf("wrapped: %w", full)} {
		if text := c.want(451, "MAIL FROM:<a@b.test>"); text != errLater.line() {
			t.Errorf("got %q", text)
		}
	}
	answer = fmt.Errorf("rule 3: %w", &Reply{550, [3]int{5, 7, 1}, "Refus\u00e9\r\n250 2.0.0 pour la " + strings.Repeat("x", 600)})
	if text := c.want(550, "MAIL FROM:<a@b.test>"); !strings.HasPrefix(text, "550 5.7.1 Refus???250 2.0.0 pour") || len(text) > 512 {
		t.Errorf("got %q", text)
	}
	answer = &Reply{354, [3]int{}, "nonsense"}
	c.want(451, "MAIL FROM:<a@b.test>")
	answer = nil
	c.want(250, "MAIL FROM:<a@b.test>")
	answer = full
	c.want(451, "RCPT TO:<a@b.test>")
	c.want(451, "RCPT TO:<panic@b.test>")
	answer = nil
	c.want(250, "RCPT TO:<a@b.test>")
	c.want(354, "DATA")
	c.send(".\r\n")
	c.expect(451) // no outcome is no promise
	if got := s.got(); len(got[0].env.Recipients) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestLimitsOfWhoMayConnect(t *testing.T) {
	s := start(t, func(cfg *Config, _ *recorder) {
		cfg.Networks = func() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
	})
	c := dial(t, s.addr)
	if text := c.expect(554); !strings.Contains(text, "5.7.1") {
		t.Errorf("got %q", text)
	}
	c.gone()

	// a client at its limit waits behind itself, and hears 421 only when as many wait as the house has places
	var open atomic.Int64
	s = start(t, func(cfg *Config, r *recorder) {
		cfg.MaxSessionsPerClient, cfg.MaxSessions = 2, 4
		r.mail = func(c Client, _ *message.Envelope) error { open.Store(int64(c.Sessions)); return nil }
	})
	a, b := hello(t, s.addr), hello(t, s.addr)
	a.envelope() // not to be taken for idle
	b.envelope()
	if open.Load() != 2 {
		t.Errorf("the handler was told of %d sessions, want 2", open.Load())
	}
	c, d := dial(t, s.addr), dial(t, s.addr)
	for { // until four are in the queue
		e := dial(t, s.addr)
		e.nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := e.r.Peek(1); err == nil {
			e.nc.SetReadDeadline(time.Now().Add(patience))
			e.expect(421)
			e.gone()
			break
		}
		e.nc.Close()
	}
	a.want(221, "QUIT")
	b.want(221, "QUIT")
	c.expect(220)
	d.expect(220)

	// a full house: the next client waits, and is then served
	s = start(t, func(cfg *Config, _ *recorder) { cfg.MaxSessions = 1 })
	a = hello(t, s.addr)
	c = dial(t, s.addr)
	c.nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.r.ReadByte(); !isTimeout(err) {
		t.Errorf("got %v, want silence", err)
	}
	c.nc.SetReadDeadline(time.Now().Add(patience))
	a.want(221, "QUIT")
	c.expect(220)
}

func TestRecipientLimit(t *testing.T) {
	s := start(t, func(cfg *Config, _ *recorder) { cfg.MaxRecipients = 100 })
	c := hello(t, s.addr)
	c.want(250, "MAIL FROM:<a@b.test>")
	for i := range 100 {
		c.want(250, fmt.Sprintf("RCPT TO:<u%d@d.test>", i))
	}
	for range 50 {
		if text := c.want(452, "RCPT TO:<more@d.test>"); !strings.Contains(text, "4.5.3") {
			t.Errorf("got %q", text)
		}
	}
	c.want(354, "DATA")
	c.send(".\r\n")
	c.expect(250)
	if n := len(s.got()[0].env.Recipients); n != 100 {
		t.Errorf("got %d recipients", n)
	}
}

func TestIdleSessionsAreCut(t *testing.T) {
	s := start(t, func(cfg *Config, _ *recorder) { cfg.IdleTimeout = 500 * time.Millisecond })
	c := hello(t, s.addr)
	c.expect(421)
	c.gone()
	// bytes without a line do not keep a session alive
	c = hello(t, s.addr)
	go func() {
		for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
			if _, err := c.nc.Write([]byte("x")); err != nil {
				tick.Stop()
				return
			}
		}
	}()
	if codes := c.gone(); len(codes) > 1 {
		t.Errorf("got %v", codes)
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	good := start(t, nil).srv.cfg
	for name, change := range map[string]func(*Config){
		"no handler": func(c *Config) { c.Handler = nil }, "no listener": func(c *Config) { c.Listener = nil }, "host name": func(c *Config) { c.Hostname = "a b" },
		"TLS": func(c *Config) { c.RequireTLS = true },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The library's Shutdown waits for idle clients as well.
func TestGracefulStop(t *testing.T) {
	b := bare(t, nil)
	hello(t, b.addr)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := b.lib.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("companion: got %v", err)
	}

	inHand, goOn := make(chan struct{}), make(chan struct{})
	s := start(t, func(_ *Config, r *recorder) {
		r.data = func(ctx context.Context, _ *message.Envelope, b *message.Body) Outcome {
			if b.Size() == int64(len("Subject: in hand\r\n\r\n")) {
				close(inHand)
				<-goOn
			}
			if ctx.Err() != nil {
				return Outcome{}
			}
			return Outcome{Whole: accepted}
		}
	})
	idle, open, data, busy := hello(t, s.addr), hello(t, s.addr), hello(t, s.addr), hello(t, s.addr)
	open.envelope()
	data.inData()
	data.send("Subject: begun\r\n\r\n")
	busy.inData()
	busy.send("Subject: in hand\r\n\r\n.\r\n")
	<-inHand
	done := make(chan error, 1)
	go func() { done <- s.stop() }()
	for _, c := range []*client{idle, open} {
		if text := c.expect(421); !strings.Contains(text, "4.3.2") {
			t.Errorf("got %q", text)
		}
		c.gone()
	}
	data.send("more\r\n.\r\n")
	close(goOn)
	for _, c := range []*client{busy, data} {
		c.expect(250)
		c.expect(421)
		c.gone()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if nc, err := net.Dial("tcp", s.addr); err == nil {
		nc.Close()
		t.Error("still listening")
	}
}

func TestStopHasADeadline(t *testing.T) {
	settled := make(chan bool, 1)
	inHand := make(chan struct{})
	s := start(t, func(cfg *Config, r *recorder) {
		cfg.StopTimeout = 100 * time.Millisecond
		r.data = func(ctx context.Context, _ *message.Envelope, _ *message.Body) Outcome {
			close(inHand)
			<-ctx.Done() // only the deadline ends it
			return Outcome{Whole: accepted, Settled: func(_ int, w bool) { settled <- w }}
		}
	})
	begun, busy := hello(t, s.addr), hello(t, s.addr)
	begun.inData()
	busy.inData()
	busy.send(".\r\n")
	<-inHand
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	begun.gone()
	busy.gone()
	if <-settled {
		t.Error("settled as written on a closed socket")
	}
}

var _ smtp.Session = (*bareSession)(nil)
