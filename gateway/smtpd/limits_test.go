package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
)

func TestClientKey(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "2001:db8:1:2::9": "2001:db8:1:2::"} {
		if got := clientKey(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
	if clientKey(netip.Addr{}).IsValid() {
		t.Error("a Unix socket's clients are told apart")
	}
}

// drip sends one byte now and then until the connection ends.
func drip(c *client, every time.Duration) {
	for {
		if _, err := c.nc.Write([]byte("x")); err != nil {
			return
		}
		time.Sleep(every)
	}
}

// ordinary is the time of a message from connect to its reply.
func ordinary(t *testing.T, addr string) time.Duration {
	t.Helper()
	began := time.Now()
	c := hello(t, addr)
	c.inData()
	c.send("Subject: x\r\n\r\nbonjour\r\n.\r\n")
	c.expect(250)
	return time.Since(began)
}

// 200 silent clients and 50 that drip do not delay a message, neither with places left nor without.
func TestSilentAndDrippingClients(t *testing.T) {
	for name, places := range map[string]int{"places are nearly used up": 255, "no place is left": 250} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *Config, _ *recorder) { cfg.MaxSessions, cfg.MaxSessionsPerClient = places, places })
			for range 200 {
				dial(t, s.addr).expect(220)
			}
			for range 50 {
				c := hello(t, s.addr)
				c.inData()
				go drip(c, 200*time.Millisecond)
			}
			time.Sleep(patienceIdle) // nobody has been silent for long before that
			for range 5 {
				if d := ordinary(t, s.addr); d > 5*time.Second {
					t.Errorf("a message took %s", d)
				}
			}
		})
	}
}

// Where somebody waits and all others drip inside of messages, the slowest loses its place; in a quiet house nobody does.
func TestDripsLoseTheirPlace(t *testing.T) {
	change := func(cfg *Config, _ *recorder) {
		cfg.MaxSessions, cfg.pressed = 2, pace{300 * time.Millisecond, 1000}
	}
	s := start(t, change)
	a, b := hello(t, s.addr), hello(t, s.addr)
	a.inData()
	b.inData()
	go drip(a, 20*time.Millisecond)
	go func() { // faster than it must be
		for line := []byte(strings.Repeat("y", 998) + "\r\n"); ; time.Sleep(20 * time.Millisecond) {
			if _, err := b.nc.Write(line); err != nil {
				return
			}
		}
	}()
	if d := ordinary(t, s.addr); d < 200*time.Millisecond || d > 10*time.Second {
		t.Errorf("a message took %s", d)
	}
	if code, _ := a.reply(); code != 421 {
		t.Errorf("the drip heard %d", code)
	}
	b.nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := b.r.Peek(1); !isTimeout(err) {
		t.Errorf("the steady sender: %v", err)
	}
}

// A session that spoke in the very moment in which its place was to be taken keeps it: what is meant for one wait does not end the next.
func TestEvictionThatComesTooLate(t *testing.T) {
	var s *running
	s = start(t, func(_ *Config, r *recorder) {
		r.data = func(context.Context, *message.Envelope, *message.Body) Outcome {
			s.srv.each(func(c *conn) { c.wire.evict() })
			return Outcome{Whole: accepted}
		}
	})
	c := hello(t, s.addr)
	c.inData()
	c.send("x\r\n.\r\n")
	c.expect(250)
	c.envelope()
	c.want(221, "QUIT")
}

// The rate is held without anybody waiting, over DATA and over the chunks of BDAT.
func TestBodiesHaveAMinimumRate(t *testing.T) {
	for name, begin := range map[string]string{"DATA": "", "BDAT": "BDAT 100000\r\n", "BDAT of one byte": "BDAT 1\r\n"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(cfg *Config, _ *recorder) { cfg.quiet = pace{300 * time.Millisecond, 1000} })
			c := hello(t, s.addr)
			c.envelope()
			if begin == "" {
				c.want(354, "DATA")
			}
			began := time.Now()
			go func() {
				for i := 0; ; i++ {
					piece := "x"
					if i == 0 || name == "BDAT of one byte" {
						piece = begin + piece
					}
					if _, err := c.nc.Write([]byte(piece)); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			codes := c.gone()
			if len(codes) == 0 || codes[len(codes)-1] != 421 || time.Since(began) > 10*time.Second {
				t.Errorf("got %v after %s", codes, time.Since(began))
			}
		})
	}
	s := start(t, func(cfg *Config, _ *recorder) { cfg.quiet = pace{300 * time.Millisecond, 1000} })
	c := hello(t, s.addr)
	c.inData()
	for range 30 { // 50 kB/s
		c.send(strings.Repeat("x", 998) + "\r\n")
		time.Sleep(20 * time.Millisecond)
	}
	c.send(".\r\n")
	c.expect(250)
}

// Large buffers are for those whose bytes flow, and belong to the budget; without one the body comes in small pieces.
func TestLargeBuffersAreBorrowed(t *testing.T) {
	s := start(t, nil)
	c := hello(t, s.addr)
	c.inData()
	c.send(strings.Repeat(strings.Repeat("x", 98)+"\r\n", 3000)) // 300 kB at once
	for s.budget.Usage().Buffers == 0 && s.budget.Usage().Bodies < 300_000 {
		time.Sleep(time.Millisecond)
	}
	for i := 0; s.budget.Usage().Buffers > 0; i++ { // and now it drips
		if i > 4000 {
			t.Fatalf("a client that drips holds %+v", s.budget.Usage())
		}
		c.send("x")
		time.Sleep(5 * time.Millisecond)
	}
	c.send("\r\n.\r\n")
	c.expect(250)

	small := start(t, func(cfg *Config, _ *recorder) {
		cfg.Budget = message.NewBudget(0, t.TempDir())
		for cfg.Budget.Borrow(bulkBuffer) { // none is left but for the temp file's own
		}
		cfg.Budget.Return(bulkBuffer)
		cfg.Budget.Borrow(32 << 10)
	})
	c = hello(t, small.addr)
	c.inData()
	body := strings.Repeat(strings.Repeat("y", 98)+"\r\n", 5000)
	c.send(body + ".\r\n")
	c.expect(250)
	if got := small.got(); len(got) != 1 || got[0].body != body {
		t.Error("the body differs")
	}
}

// A client that asks for TLS and is silent costs a key's memory: only so many may.
func TestHandshakesAreLimited(t *testing.T) {
	ca := newAuthority(t)
	s := start(t, func(cfg *Config, _ *recorder) { cfg.TLS, cfg.MaxSessions = ca.server(), 20 })
	var silent []*client
	for range 8 {
		c := hello(t, s.addr)
		c.want(220, "STARTTLS")
		silent = append(silent, c)
	}
	c := hello(t, s.addr)
	if text := c.want(454, "STARTTLS"); !strings.Contains(text, "4.7.0") {
		t.Errorf("got %q", text)
	}
	c.want(250, "NOOP")
	silent[0].nc.Close()
	for {
		c.send("STARTTLS\r\n")
		if code, _ := c.reply(); code == 220 {
			break
		}
	}
}

// One silent client has its share of the handshakes, as of the sessions: others still begin TLS.
func TestHandshakesOfOneClient(t *testing.T) {
	ca := newAuthority(t)
	s := start(t, func(cfg *Config, _ *recorder) {
		cfg.TLS, cfg.MaxSessions, cfg.MaxSessionsPerClient = ca.server(), 40, 20
	})
	for range 5 { // of ten
		hello(t, s.addr).want(220, "STARTTLS")
	}
	c := hello(t, s.addr)
	c.want(454, "STARTTLS")
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	other := &client{t, nc, bufio.NewReader(nc)}
	other.expect(220)
	other.want(250, "EHLO other.test")
	other.want(220, "STARTTLS")
}

func TestImplicitTLS(t *testing.T) {
	ca := newAuthority(t)
	s := start(t, func(cfg *Config, _ *recorder) { cfg.TLS, cfg.ImplicitTLS = ca.server(), true })
	c := dialTLS(t, s.addr, ca)
	c.expect(220)
	if text := c.want(250, "EHLO client.test"); strings.Contains(text, "STARTTLS") || !strings.Contains(text, "REQUIRETLS") {
		t.Errorf("got %q", text)
	}
	c.want(503, "STARTTLS")
	c.inData()
	c.send("Subject: x\r\n\r\n.\r\n")
	c.expect(250)
	if got := s.got(); len(got) != 1 || got[0].env.Protocol != "ESMTPS" {
		t.Errorf("got %+v", got)
	}
	// to who speaks in clear nothing is said in clear
	c = dial(t, s.addr)
	c.send("EHLO client.test\r\nMAIL FROM:<a@b.test>\r\n")
	var all bytes.Buffer
	all.ReadFrom(c.r)
	if b := all.Bytes(); bytes.Contains(b, []byte("220")) || bytes.Contains(b, []byte("gw.test")) || bytes.Contains(b, []byte("250")) {
		t.Errorf("in clear: %q", b)
	}
	quiet := dial(t, s.addr) // and nothing at the stop
	dialTLS(t, s.addr, ca).expect(220)
	go s.stop()
	all.Reset()
	all.ReadFrom(quiet.r)
	if all.Len() != 0 {
		t.Errorf("in clear at the stop: %q", all.Bytes())
	}
}

func dialTLS(t *testing.T, addr string, ca *authority) *client {
	t.Helper()
	c := dial(t, addr)
	nc := tls.Client(c.nc, ca.client())
	if err := nc.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.nc = nc
	c.r.Reset(nc)
	return c
}
