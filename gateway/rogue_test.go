package gateway_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rogue is a hop that misbehaves at one step, as one script has it, until it is healed.
type rogue struct {
	step   string // banner, ehlo, starttls, mail, rcpt, data, dot
	do     func(*rogueSession)
	ext    []string // what it offers
	tls    *tls.Config
	addr   string
	healed atomic.Bool
	stored atomic.Int64 // messages that it keeps
	open   atomic.Int64 // connections
}

// rogueSession is one connection to it.
type rogueSession struct {
	r    *rogue
	conn net.Conn
	br   *bufio.Reader
}

func startRogue(t *testing.T, r *rogue) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				r.open.Add(1)
				defer r.open.Add(-1)
				defer c.Close()
				(&rogueSession{r: r, conn: c, br: bufio.NewReader(c)}).serve()
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

func (s *rogueSession) say(lines ...string) bool {
	_, err := io.WriteString(s.conn, strings.Join(lines, "\r\n")+"\r\n")
	return err == nil
}

// wrong does what the script has for this step, and tells whether the session ends with it.
func (s *rogueSession) wrong(step string) bool {
	if s.r.step != step || s.r.healed.Load() {
		return false
	}
	s.r.do(s)
	return true
}

// serve is a plain hop without extensions but those that the script offers.
func (s *rogueSession) serve() {
	if s.wrong("banner") {
		return
	}
	s.say("220 rogue.test ESMTP")
	for {
		line, err := s.br.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(line)), " ")
		if s.wrong(verb) {
			return
		}
		switch verb {
		case "ehlo":
			ext := append([]string{"rogue.test"}, s.r.ext...)
			if s.r.healed.Load() {
				ext = []string{"rogue.test", "8BITMIME", "SMTPUTF8", "STARTTLS"}
			}
			for i, e := range ext {
				ext[i] = "250-" + e
			}
			s.say(append(ext, "250 HELP")...)
		case "starttls":
			s.say("220 go")
			s.conn = tls.Server(s.conn, s.r.tls)
			s.br = bufio.NewReader(s.conn)
		case "mail", "rcpt", "rset":
			s.say("250 2.0.0 ok")
		case "data":
			s.say("354 go")
			s.content()
			if s.wrong("dot") {
				return
			}
			s.r.stored.Add(1)
			s.say("250 2.0.0 kept")
		case "quit":
			s.say("221 2.0.0 bye")
			return
		default:
			s.say("500 5.5.2 what")
		}
	}
}

func (s *rogueSession) content() {
	for {
		line, err := s.br.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return
		}
	}
}

// What a hop may do in the place of a reply.
func stalls(s *rogueSession) { io.Copy(io.Discard, s.br) }
func closes(*rogueSession)   {}
func resets(s *rogueSession) {
	time.Sleep(250 * time.Millisecond) // the client's connect has returned, which nothing tells
	s.conn.(*net.TCPConn).SetLinger(0)
}
func says(lines ...string) func(*rogueSession) {
	return func(s *rogueSession) { s.say(lines...); stalls(s) }
}
func endless(s *rogueSession) {
	for s.say("250-" + strings.Repeat("x", 60)) {
	}
}

// drips gives a reply byte by byte, slower than anybody's patience.
func drips(s *rogueSession) {
	for _, b := range []byte("250 2.0.0 " + strings.Repeat("x", 1000) + "\r\n") {
		if _, err := s.conn.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	stalls(s)
}

// bytewise is a hop whose network gives one byte at a time.
func bytewise(s *rogueSession) {
	for _, b := range []byte("250-2.0.0 kept\r\n250 2.0.0 and well\r\n") {
		s.conn.Write([]byte{b})
	}
}

// keeps stores the message before it does the rest.
func keeps(do func(*rogueSession)) func(*rogueSession) {
	return func(s *rogueSession) { s.r.stored.Add(1); do(s) }
}
