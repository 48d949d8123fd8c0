package smtpd

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/message"
)

type event struct {
	i       int
	written bool
}

func TestLMTPRepliesAreSettledInOrder(t *testing.T) {
	events := make(chan event, 10)
	var body *message.Body
	s := start(t, func(cfg *Config, r *recorder) {
		cfg.LMTP = true
		r.data = func(_ context.Context, _ *message.Envelope, b *message.Body) Outcome {
			body = b
			return Outcome{
				Replies: []*Reply{accepted, {451, [3]int{4, 4, 1}, "plus tard"}, nil, {550, [3]int{5, 7, 1}, "non"}},
				Whole:   &Reply{452, [3]int{4, 3, 1}, "tous"},
				Settled: func(i int, w bool) {
					events <- event{i, w}
					if i == 1 {
						panic("in Settled")
					}
				},
			}
		}
	})
	for _, way := range []string{"DATA", "BDAT"} {
		c := greet(t, s.addr, "LHLO")
		c.want(250, "MAIL FROM:<a@clinic.test>")
		for _, r := range []string{"a@d.test", `"a"@d.test`, "a@d.test", "b@d.test", "c@d.test"} { // the library cannot tell the first three apart
			c.want(250, "RCPT TO:<"+r+">")
		}
		if way == "DATA" {
			c.want(354, "DATA")
			c.send("Subject: x\r\n\r\n.\r\nNOOP\r\n")
		} else {
			c.send(chunk("Subject: x\r\n\r\n", false) + chunk("", true) + "NOOP\r\n")
			c.expect(250)
		}
		for i, code := range []int{250, 451, 452, 550, 452, 250} {
			if got, text := c.reply(); got != code {
				t.Errorf("%s reply %d: got %q, want %d", way, i, text, code)
			}
		}
		for i := range 5 {
			if e := <-events; e != (event{i, true}) {
				t.Errorf("%s: got %+v", way, e)
			}
		}
		c.want(221, "QUIT")
		c.gone()
	}
	s.stop()
	if len(events) != 0 || s.budget.Used() != 0 || body == nil {
		t.Errorf("%d events too many, %d bytes kept", len(events), s.budget.Used())
	}
	// a message refused on the wire is refused for everyone
	s = start(t, func(cfg *Config, _ *recorder) { cfg.LMTP = true })
	c := greet(t, s.addr, "LHLO")
	c.envelope()
	c.want(250, "RCPT TO:<c@d.test>")
	c.want(354, "DATA")
	c.send("a\nb\r\n.\r\n")
	c.expect(554)
	c.expect(554)
	c.want(250, "NOOP")
}

func TestSettledTellsWhenNobodyHears(t *testing.T) {
	events := make(chan event, 10)
	inHand, goOn := make(chan struct{}), make(chan struct{})
	s := start(t, func(_ *Config, r *recorder) {
		r.data = func(context.Context, *message.Envelope, *message.Body) Outcome {
			inHand <- struct{}{}
			<-goOn
			return Outcome{Whole: accepted, Settled: func(i int, w bool) { events <- event{i, w} }}
		}
	})
	c := hello(t, s.addr)
	c.inData()
	c.send(".\r\n")
	<-inHand
	goOn <- struct{}{}
	c.expect(250)
	if e := <-events; e != (event{-1, true}) {
		t.Errorf("got %+v", e)
	}
	c.inData()
	c.send(".\r\n")
	<-inHand
	s.srv.each(func(c *conn) { c.wire.Close() }) // the connection dies while the message is in hand
	goOn <- struct{}{}
	if e := <-events; e != (event{-1, false}) {
		t.Errorf("got %+v", e)
	}
	s.stop()
	if len(events) != 0 || s.budget.Used() != 0 {
		t.Errorf("%d events too many, %d bytes kept", len(events), s.budget.Used())
	}
}

func TestPanicInData(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		boom := true
		s := start(t, func(cfg *Config, r *recorder) {
			cfg.LMTP = lmtp
			r.data = func(context.Context, *message.Envelope, *message.Body) Outcome {
				if boom {
					panic("boom")
				}
				return Outcome{Whole: accepted}
			}
		})
		verb := map[bool]string{false: "EHLO", true: "LHLO"}[lmtp]
		other, c := greet(t, s.addr, verb), greet(t, s.addr, verb)
		c.inData()
		c.send("x\r\n.\r\n")
		c.expect(451)
		c.want(250, "NOOP")
		boom = false
		other.inData()
		other.send("x\r\n.\r\n")
		other.expect(250)
		if s.stop(); s.budget.Used() != 0 {
			t.Errorf("%d bytes kept", s.budget.Used())
		}
	}
}

func TestSTARTTLS(t *testing.T) {
	ca := newAuthority(t)
	b := bare(t, nil)
	b.lib.TLSConfig = ca.server()
	c := hello(t, b.addr)
	c.want(220, "STARTTLS now please") // companion

	s := start(t, func(cfg *Config, _ *recorder) { cfg.TLS, cfg.RequireTLS = ca.server(), true })
	c = hello(t, s.addr)
	c.want(501, "STARTTLS now please")
	if text := c.want(530, "MAIL FROM:<a@b.test>"); !strings.Contains(text, "5.7.0") {
		t.Errorf("got %q", text)
	}
	if text := c.want(250, "EHLO x"); !strings.Contains(text, "250-STARTTLS\r\n") {
		t.Errorf("got %q", text)
	}
	if err := c.startTLS(ca.client()); err != nil {
		t.Fatal(err)
	}
	c.want(503, "MAIL FROM:<a@b.test>") // nothing of the clear session is left
	text := c.want(250, "EHLO inside.test")
	if strings.Contains(text, "STARTTLS") || !strings.Contains(text, "250-REQUIRETLS\r\n") {
		t.Errorf("got %q", text)
	}
	c.want(503, "STARTTLS")
	c.want(250, "MAIL FROM:<a@b.test> REQUIRETLS")
	c.want(250, "RCPT TO:<c@d.test>")
	c.want(354, "DATA")
	big := strings.Repeat("x", 300_000) + "\r\n"
	c.send(big + ".\r\n")
	c.expect(250)
	c.envelope()
	c.send(chunk(big, true))
	c.expect(250)
	got := s.got()
	if len(got) != 2 || !got[0].env.RequireTLS || got[0].env.Helo != "inside.test" || got[0].body != big || got[1].body != big {
		t.Errorf("got %d messages", len(got))
	}
	c.want(221, "QUIT")

	// what came in clear behind STARTTLS is never executed
	for _, rest := range []string{"NOOP\r\n", "RSE", "\nNOOP\n", "EHLO x\r\nMAIL FROM:<e@evil.test>\r\n"} {
		c = hello(t, s.addr)
		c.send("STARTTLS\r\n" + rest)
		if codes := c.gone(); len(codes) > 1 || len(codes) == 1 && codes[0] != 554 {
			t.Errorf("%q: got %v", rest, codes)
		}
	}
	// garbage for a handshake
	c = hello(t, s.addr)
	c.want(220, "STARTTLS")
	c.send("NOOP\r\nthis is no ClientHello\r\n")
	c.gone()
}

func TestRequireTLSOptionNeedsTLS(t *testing.T) {
	ca := newAuthority(t)
	s := start(t, func(cfg *Config, _ *recorder) { cfg.TLS = ca.server() })
	c := hello(t, s.addr)
	c.want(530, "MAIL FROM:<a@b.test> REQUIRETLS")
	c.envelope()
	if err := c.startTLS(ca.client()); err != nil {
		t.Fatal(err)
	}
	c.want(503, "RCPT TO:<x@d.test>")
	c.want(503, "DATA")
}

func TestTLSVersionsAndSuites(t *testing.T) {
	ca := newAuthority(t)
	weak := ca.server()
	weak.MinVersion = tls.VersionTLS10
	weak.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	again := weak.Clone()
	again.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return weak, nil }
	for _, cfg := range []*tls.Config{weak, again} {
		s := start(t, func(c *Config, _ *recorder) { c.TLS = cfg })
		for name, c := range map[string]struct {
			min, max uint16
			suites   []uint16
			ok       bool
		}{
			"1.0": {tls.VersionTLS10, tls.VersionTLS10, nil, false},
			"1.1": {tls.VersionTLS11, tls.VersionTLS11, nil, false},
			"1.2": {tls.VersionTLS12, tls.VersionTLS12, nil, true},
			"1.3": {tls.VersionTLS13, tls.VersionTLS13, nil, true},
			"CBC": {tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, false},
		} {
			cc := ca.client()
			cc.MinVersion, cc.MaxVersion, cc.CipherSuites = c.min, c.max, c.suites
			if err := hello(t, s.addr).startTLS(cc); (err == nil) != c.ok {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
}

func TestClientCertificate(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	s := start(t, func(cfg *Config, r *recorder) {
		cfg.TLS, cfg.RequireClientCert = ca.server(), true
		r.mail = func(c Client, env *message.Envelope) error {
			if c.TLS == nil || len(c.TLS.VerifiedChains) == 0 || !c.Addr.IsLoopback() || c.Helo != "peer.test" {
				return fmt.Errorf("client is %+v", c)
			}
			return nil
		}
	})
	c := hello(t, s.addr)
	c.want(530, "MAIL FROM:<a@b.test>")
	for name, certs := range map[string][]tls.Certificate{"none": nil, "stranger": {stranger.issue("peer.test")}} {
		c := hello(t, s.addr)
		cfg := ca.client()
		cfg.Certificates = certs
		if err := c.startTLS(cfg); err == nil { // with TLS 1.3 the client learns it at its next read
			c.nc.Write([]byte("EHLO peer.test\r\n"))
			if codes := c.gone(); len(codes) != 0 {
				t.Errorf("%s: got %v", name, codes)
			}
		}
	}
	cfg := ca.client()
	cfg.Certificates = []tls.Certificate{ca.issue("peer.test")}
	if err := c.startTLS(cfg); err != nil {
		t.Fatal(err)
	}
	c.want(250, "EHLO peer.test")
	c.inData()
	c.send(".\r\n")
	c.expect(250)
	if got := s.got()[0].env.Client; got != "CN=peer.test" {
		t.Errorf("client is %q", got)
	}
}

func TestReplyLine(t *testing.T) {
	for _, c := range []struct {
		r    Reply
		want string
	}{
		{Reply{250, [3]int{2, 0, 0}, "Bien"}, "250 2.0.0 Bien\r\n"},
		{Reply{450, [3]int{5, 1, 1}, "x"}, "450 4.0.0 x\r\n"},
		{Reply{0, [3]int{}, "x"}, errLater.line()},
		{Reply{550, [3]int{5, 1, 1}, "a\r\nb"}, "550 5.1.1 a??b\r\n"},
	} {
		if got := c.r.line(); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.r, got, c.want)
		}
	}
	for name, r := range map[string]*Reply{"": errLater, "stop": errStopped, "eol": errBareEOL} {
		if line := r.line(); strings.Contains(line, "?") {
			t.Errorf("%s: %q", name, line)
		}
	}
}

// A peer that takes no replies is cut, and the socket closes with the error.
func TestWireWriteHasTheIdleTimeout(t *testing.T) {
	ours, peer := net.Pipe()
	defer peer.Close()
	w := &wire{Conn: ours, idle: 50 * time.Millisecond, drain: new(atomic.Bool)}
	if _, err := w.Write([]byte("250 nobody reads this\r\n")); !isTimeout(err) {
		t.Errorf("got %v, want a timeout", err)
	}
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v, want the end of the connection", err)
	}
}

// Nobody else sets deadlines: a past one would end the session.
func TestWireIgnoresDeadlinesOfOthers(t *testing.T) {
	ours, peer := net.Pipe()
	defer peer.Close()
	w := &wire{Conn: ours, idle: patience, drain: new(atomic.Bool)}
	defer w.Close()
	for _, set := range []func(time.Time) error{w.SetDeadline, w.SetReadDeadline, w.SetWriteDeadline} {
		if err := set(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
	}
	go peer.Write([]byte("x"))
	if n, err := w.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}
