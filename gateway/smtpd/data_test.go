package smtpd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"passerelle/gateway/message"
)

const inner = "MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<b@dest.test>\r\nDATA\r\nSubject: inner\r\n\r\ninner\r\n.\r\n"

// The library answers 554 when its timeout fires inside DATA and goes on: the body's rest becomes commands (its issue 196).
func TestSilenceInDataEndsTheSession(t *testing.T) {
	b := bare(t, func(s *smtp.Server) { s.ReadTimeout = time.Second })
	c := hello(t, b.addr)
	c.inData()
	c.send("Subject: outer\r\n\r\n")
	c.expect(554)
	c.send(inner)
	for _, code := range []int{250, 250, 354, 250} {
		c.expect(code)
	}
	if got := b.bodies(); len(got) != 1 || !strings.Contains(got[0], "inner") {
		t.Fatalf("companion: the bare library no longer executes the body: %q", got)
	}

	s := start(t, func(cfg *Config, _ *recorder) { cfg.IdleTimeout = time.Second })
	c = hello(t, s.addr)
	c.inData()
	c.send("Subject: outer\r\n\r\n")
	if code, _ := c.reply(); code != 421 {
		t.Errorf("got %d, want 421", code)
	}
	c.nc.Write([]byte(inner)) // fails or falls on deaf ears
	if codes := c.gone(); len(codes) != 0 {
		t.Errorf("got replies %v behind the 421", codes)
	}
	if got := s.got(); len(got) != 0 {
		t.Errorf("delivered %+v", got)
	}
}

// The library's timeout is for the whole of DATA; ours is for silence.
func TestSlowButSteadySenderIsServed(t *testing.T) {
	drip := func(c *client) int {
		c.inData()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 15 {
			<-tick.C
			if _, err := c.nc.Write([]byte("x\r\n")); err != nil {
				return 0
			}
		}
		c.nc.Write([]byte(".\r\n"))
		code, _ := c.reply()
		return code
	}
	if code := drip(hello(t, bare(t, func(s *smtp.Server) { s.ReadTimeout = time.Second }).addr)); code == 250 {
		t.Error("companion: the bare library serves a slow sender now")
	}
	s := start(t, func(cfg *Config, _ *recorder) { cfg.IdleTimeout = time.Second })
	if code := drip(hello(t, s.addr)); code != 250 {
		t.Errorf("got %d, want 250", code)
	}
}

var bareEnds = map[string]string{
	"lf": "\n.\n", "lf dot crlf": "\n.\r\n", "crlf dot lf": "\r\n.\n", "cr": "\r.\r", "crlf dot cr": "\r\n.\r", "cr dot crlf": "\r.\r\n", "crcrlf": "\r\r\n.\r\r\n",
	"nul": "\r\n\x00.\r\n", "dot nul": "\r\n.\x00\r\n", "lfcr": "\n\r.\n\r", "cr x": "\r\n.\rX\r\n",
}

// Bare CR, LF and NUL are no ends of data, and they are refused: another server may take them for one (RFC 5321 section 2.3.8).
func TestBareEndsAreRefusedAndNeverExecuted(t *testing.T) {
	b := bare(t, nil)
	c := hello(t, b.addr)
	c.inData()
	c.send("Subject: o\r\n\r\nx\r\n.\n.y\nz\r\n.\r\n")
	c.expect(250)
	if got := b.bodies(); len(got) != 1 || !strings.Contains(got[0], "x\r\n\n.y\nz") {
		t.Fatalf("companion: the bare library no longer loses the dot and passes bare LF: %q", got)
	}

	ca := newAuthority(t)
	s := start(t, func(cfg *Config, _ *recorder) { cfg.TLS = ca.server() })
	for _, over := range []string{"clear", "tls"} {
		for name, end := range bareEnds {
			t.Run(over+" "+name, func(t *testing.T) {
				c := hello(t, s.addr)
				if over == "tls" {
					if err := c.startTLS(ca.client()); err != nil {
						t.Fatal(err)
					}
					c.want(250, "EHLO client.test")
				}
				c.inData()
				c.send("Subject: o\r\n\r\nouter" + end)
				c.send(strings.TrimSuffix(inner, ".\r\n") + ".\r\n")
				if text := c.expect(554); !strings.Contains(text, "5.6.0") {
					t.Errorf("got %q, want 5.6.0", text)
				}
				c.want(250, "NOOP") // the very next reply: nothing of the body was executed
				c.inData()
				c.send("Subject: good\r\n\r\n.\r\n")
				c.expect(250)
			})
		}
	}
	s.stop()
	for _, m := range s.got() {
		if m.body != "Subject: good\r\n\r\n" {
			t.Errorf("delivered %q", m.body)
		}
	}
	if s.budget.Used() != 0 {
		t.Errorf("%d bytes of the budget never came back", s.budget.Used())
	}
}

// A body that ends in CR makes the library miss the end: it hangs until its timeout.
func TestBodyEndingInCR(t *testing.T) {
	c := hello(t, bare(t, func(s *smtp.Server) { s.ReadTimeout = time.Second }).addr)
	c.inData()
	c.send("a\r\r\n.\r\n")
	if text := c.expect(554); !strings.Contains(text, "timeout") {
		t.Fatalf("companion: the bare library finds the end now: %q", text)
	}
	c = hello(t, start(t, nil).addr)
	c.inData()
	c.send("a\r\r\n.\r\n")
	c.expect(554)
	c.want(250, "NOOP")
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	c := hello(t, bare(t, nil).addr)
	c.inData()
	c.nc.Write([]byte("Subject: long\r\n\r\n" + long + "\r\n.\r\n"))
	if code, _ := c.reply(); code == 250 {
		t.Error("companion: the bare library takes long lines now")
	}
	s := start(t, nil)
	c = hello(t, s.addr)
	c.inData()
	c.send("Subject: long\r\n\r\n" + long + "\r\n.\r\n")
	c.expect(250)
	if got := s.got(); len(got) != 1 || len(got[0].body) != len(long)+19 {
		t.Errorf("delivered %d messages", len(got))
	}
}

func TestExactSizeLimit(t *testing.T) {
	const limit = 10_000
	msg := func(n int) string { return strings.Repeat("x", n-2) + "\r\n" }
	c := hello(t, bare(t, func(s *smtp.Server) { s.MaxMessageBytes, s.MaxLineLength = limit, 1<<20 }).addr)
	c.inData()
	c.send(msg(limit) + ".\r\n")
	c.expect(552) // companion: off by one

	s := start(t, func(cfg *Config, _ *recorder) { cfg.MaxMessage = limit })
	c = hello(t, s.addr)
	for _, way := range []string{"DATA", "BDAT"} {
		for n, want := range map[int]int{limit: 250, limit + 1: 552, 3 * limit: 552} {
			c.envelope()
			if way == "DATA" {
				c.want(354, "DATA")
				c.send(msg(n) + ".\r\n")
			} else {
				c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", n, msg(n)))
			}
			if text := c.expect(want); want == 552 && !strings.Contains(text, "5.3.4") {
				t.Errorf("%s %d: got %q, want 5.3.4", way, n, text)
			}
		}
	}
	if text := c.want(250, "EHLO x"); !strings.Contains(text, "SIZE 10000\r\n") {
		t.Errorf("EHLO says %q", text)
	}
	c.want(250, "MAIL FROM:<a@b.test> SIZE=10000")
	c.want(250, "RSET")
	for _, odd := range []string{"10001", "99999999999999", "-1", "abc", "18446744073709551617", "9223372036854775807", "", "0x10"} {
		c.send("MAIL FROM:<a@b.test> SIZE=" + odd + "\r\n")
		if code, text := c.reply(); code < 500 {
			t.Errorf("SIZE=%s: got %d %q", odd, code, text)
		}
	}
	for _, huge := range []string{"4294967296", "99999999999999999999", "18446744073709551616"} { // RFC 1870 section 3: it is a size
		if text := c.want(552, "MAIL FROM:<a@b.test> size="+huge); !strings.Contains(text, "5.3.4") {
			t.Errorf("SIZE=%s: got %q, want 5.3.4", huge, text)
		}
	}
	c.want(250, "MAIL FROM:<a@b.test> SIZE=00000000000000010000")
}

func TestDotsAreTransparent(t *testing.T) {
	s := start(t, nil)
	c := hello(t, s.addr)
	c.inData()
	want := ".\r\n..\r\n...\r\n.x\r\n. \r\n.\t\r\nend\r\n"
	c.send(strings.ReplaceAll("\r\n"+want, "\r\n.", "\r\n..")[2:] + ".\r\n")
	c.expect(250)
	c.inData()
	c.send(".\r\n")
	c.expect(250)
	got := s.got()
	if len(got) != 2 || got[0].body != want || got[1].body != "" {
		t.Errorf("got %+v", got)
	}
}

func TestEndSplitOverSegments(t *testing.T) {
	s := start(t, nil)
	c := hello(t, s.addr)
	c.nc.(*net.TCPConn).SetNoDelay(true)
	for _, parts := range [][]string{{"\r", "\n.\r\n"}, {"\r\n", ".\r\n"}, {"\r\n.", "\r\n"}, {"\r\n.\r", "\n"}, {"\r", "\n", ".", "\r", "\n"}} {
		c.inData()
		c.send("Subject: s\r\n\r\nx")
		for _, p := range parts {
			c.send(p)
		}
		c.expect(250)
	}
}

func TestNoRoomIsPassing(t *testing.T) {
	s := start(t, func(cfg *Config, _ *recorder) { cfg.Budget = message.NewBudget(100, "/nonexistent") })
	c := hello(t, s.addr)
	c.inData()
	c.send(strings.Repeat("x", 100_000) + "\r\n.\r\n")
	if text := c.expect(452); !strings.Contains(text, "4.3.1") {
		t.Errorf("got %q", text)
	}
	c.want(250, "NOOP")
}

func TestPipeliningAndDataBefore354(t *testing.T) {
	s := start(t, nil)
	c := hello(t, s.addr)
	c.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<>\r\nDATA\r\n")
	for _, code := range []int{250, 250, 501, 354} {
		c.expect(code)
	}
	c.send("Subject: x\r\n\r\n.\r\nNOOP\r\nMAIL FROM:<a@b.test>\r\n")
	for _, code := range []int{250, 250, 250} {
		c.expect(code)
	}
	// a body that nobody asked for is not executed
	c.send("DATA\r\nMAIL FROM:<evil@evil.test>\r\nVRFY a\r\n.\r\n")
	if codes := c.gone(); len(codes) != 1 || codes[0] != 503 {
		t.Errorf("got %v, want one 503 and the end", codes)
	}
	if got := s.got(); len(got) != 1 {
		t.Errorf("delivered %d", len(got))
	}
}

// reference is the plain reading of RFC 5321 section 4.5.2: the message before the first line that is a single dot.
func reference(wire []byte) (body []byte, end int) {
	at := bytes.Index(append([]byte("\r\n"), wire...), []byte("\r\n.\r\n"))
	if at < 0 {
		return nil, -1
	}
	return bytes.ReplaceAll(append([]byte("\r\n"), wire[:at]...), []byte("\r\n."), []byte("\r\n"))[2:], at + 3
}

// isClean is the slow reading of what may pass.
func isClean(p []byte) bool {
	p = bytes.ReplaceAll(p, []byte("\r\n"), nil)
	return !bytes.ContainsAny(p, "\r\n\x00")
}

func checkUnstuff(t *testing.T, wire []byte, cuts *rand.Rand) {
	want, end := reference(wire)
	var got []byte
	ok, cr := true, false
	add := func(p []byte) {
		if len(p) == 0 {
			return
		}
		ok = ok && clean(cr, p)
		cr = p[len(p)-1] == '\r'
		got = append(got, p...)
	}
	bol, done, from := true, false, 0
	for to := 0; to < len(wire) && !done; {
		to = min(len(wire), to+1+cuts.IntN(9))
		var used int
		used, bol, done = unstuff(wire[from:to], bol, add)
		from += used
		if !done && to-from > 2 {
			t.Fatalf("%q: %d bytes left unused", wire, to-from)
		}
	}
	if done != (end >= 0) {
		t.Fatalf("%q: found the end: %v, want %v", wire, done, end >= 0)
	}
	if !done {
		return
	}
	if from != end || !bytes.Equal(got, want) {
		t.Fatalf("%q: got %q up to %d, want %q up to %d", wire, got, from, want, end)
	}
	// what is judged are the bytes of the wire, so that a dot cannot hide a bare end of line
	if raw := wire[:end-3]; (ok && !cr) != isClean(want) || isClean(want) && !isClean(raw) {
		t.Fatalf("%q: judged clean: %v, want %v", wire, ok, isClean(want))
	}
}

func TestUnstuffAtRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tokens := []string{"\r\n", "\r", "\n", ".", "..", "a", "bc", "\x00", "\r\n.", "\r\n.\r", "\r\n.\r\n"}
	for range 200_000 {
		var b []byte
		for range r.IntN(12) {
			b = append(b, tokens[r.IntN(len(tokens))]...)
		}
		checkUnstuff(t, b, r)
	}
}

func FuzzUnstuff(f *testing.F) {
	for _, s := range bareEnds {
		f.Add([]byte("a"+s+"b\r\n.\r\n"), uint64(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) { checkUnstuff(t, b, rand.New(rand.NewPCG(seed, seed))) })
}

func BenchmarkUnstuff(b *testing.B) {
	wire := bytes.Repeat([]byte(strings.Repeat("A", 76)+"\r\n"), 800)
	g := message.NewBudget(1<<30, "")
	b.SetBytes(int64(len(wire)))
	for b.Loop() {
		k := collector{w: g.NewWriter(int64(len(wire))), max: 1 << 30}
		unstuff(wire, true, k.add)
		k.w.Abort()
	}
}
