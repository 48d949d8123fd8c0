package smtpd

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	sessionBuffer = 8 << 10  // of each session: an ordinary message comes in one read
	commandBuffer = 4 << 10  // the longest command line with its CRLF (RFC 5321 section 4.5.3.1.4 and its extensions: < 2 KiB)
	bulkBuffer    = 64 << 10 // borrowed while a body is on the wire
	replyBuffer   = 16 << 10 // replies held back to be written together (RFC 2920)
	closeTimeout  = 5 * time.Second
)

// conn is what go-smtp takes for the client's connection. Its Read gives the library one command line at a time and is not called
// again before the library has answered it, so one goroutine owns everything here.
type conn struct {
	net.Conn // the wire, for addresses and deadlines
	srv      *Server
	wire     *wire
	stream   net.Conn // the wire, or TLS over it
	addr     netip.Addr
	key      netip.Addr // what counts as one client
	tls      *tls.ConnectionState
	helo     string
	greeted  bool // EHLO since the connection or its TLS began
	plain    bool // it was HELO
	named    bool // the first line of EHLO's reply is out
	session  *session

	buf  []byte // from the client: buf[r:w] is unread
	tiny []byte // buf between bodies
	r, w int
	// lineDue is wire.due of the line that is being read; 0: none has begun.
	lineDue int64
	thin    int    // reads in a row that did not need a large buffer
	body    flow   // of the body that is on the wire
	feed    []byte // to the library
	part    []byte // of a reply line of the library
	out     []byte // to the client

	verb, arg string     // the command that the library has in hand
	own       *Reply     // the session's answer to it
	instead   *Reply     // what is answered where conn gave the library a command of its own
	mute      bool       // or nothing
	finals    []final    // the answers to a message
	settle    []settling // those of them that are in out
	chunks    *collector // a BDAT transfer goes on

	bad, idle     int // commands since the last message that were wrong; since the last MAIL that did nothing
	closing, dead bool
	last          time.Time // a message came, or the session began
	once          sync.Once
}

// final is the reply to a message for one recipient, or for all.
type final struct {
	reply *Reply
	done  func(written bool)
}

type settling struct {
	end  int // in out
	done func(written bool)
}

func newConn(s *Server, a arrival) *conn {
	w := &wire{Conn: a.Conn, idle: s.cfg.IdleTimeout, drain: &s.drain}
	tiny := make([]byte, sessionBuffer)
	c := &conn{Conn: w, srv: s, wire: w, stream: w, addr: a.addr, key: a.key, buf: tiny, tiny: tiny, last: time.Now()}
	c.session = &session{c: c}
	return c
}

// Read gives the library its next bytes.
func (c *conn) Read(p []byte) (int, error) {
	if c.srv.cfg.ImplicitTLS && c.tls == nil && !c.closing && !c.dead {
		c.begin()
	}
	for len(c.feed) == 0 {
		if c.closing || c.dead {
			c.flush()
			return 0, io.EOF
		}
		c.next()
	}
	n := copy(p, c.feed)
	c.feed = c.feed[n:]
	return n, nil
}

// inject gives the library a command of our own and swallows its reply.
func (c *conn) inject(verb string) {
	c.verb, c.arg, c.mute = verb, "", true
	c.feed = append(c.feed[:0], verb+"\r\n"...)
}

// Write takes the library's replies, line by line, and puts ours in their place.
func (c *conn) Write(p []byte) (int, error) {
	c.part = append(c.part, p...)
	for {
		line, rest, ok := bytes.Cut(c.part, []byte("\r\n"))
		if !ok {
			return len(p), nil
		}
		if len(line) >= 4 && !c.closing && !c.dead {
			code, _ := strconv.Atoi(string(line[:3]))
			c.answer(code, line[3] == '-', string(line[4:]))
		}
		c.part = append(c.part[:0], rest...)
	}
}

func (c *conn) answer(code int, more bool, text string) {
	greeting := code == 250 && (c.verb == "EHLO" || c.verb == "LHLO" || c.verb == "HELO")
	switch {
	case more && !greeting: // of all replies only that of EHLO has several lines
	case c.instead != nil:
		r := c.instead
		c.instead = nil
		c.say(r)
	case c.mute && (c.verb != "DATA" || code == 354):
		c.mute = false
	case len(c.finals) > 0:
		f := c.finals[0]
		c.finals[0] = final{} // its function holds the body
		c.finals = c.finals[1:]
		c.settle = append(c.settle, settling{len(c.out) + len(f.reply.line()), f.done}) // before say, which may write it out
		c.say(f.reply)
	case c.own != nil:
		r := c.own
		c.own = nil
		c.say(r)
	case code == 220:
		kind := " ESMTP"
		if c.srv.cfg.LMTP {
			kind = " LMTP"
		}
		c.put(code, "220 "+c.srv.cfg.Hostname+kind+"\r\n")
	case code == 354:
		c.put(code, "354 Envoyez le message, puis une ligne avec un seul point\r\n")
	case greeting:
		c.hello(more, text)
	case code >= 500 && code != 552: // a message too big is no wrong command
		c.mute = false
		c.fault(ownWords(c.verb, code))
	default:
		c.say(ownWords(c.verb, code))
	}
}

// hello puts our name on the first line of the greeting, and what depends on TLS behind it: the library does not see that.
func (c *conn) hello(more bool, text string) {
	sep := " "
	if more {
		sep = "-"
	}
	switch {
	case c.named: // a later line
		c.put(250, "250"+sep+text+"\r\n")
	default:
		c.named, c.greeted, c.plain, c.helo = true, true, c.verb == "HELO", c.arg
		c.put(250, "250"+sep+c.srv.cfg.Hostname+"\r\n")
		if more && c.tls != nil {
			c.put(0, "250-REQUIRETLS\r\n")
		} else if more && c.srv.tls != nil {
			c.put(0, "250-STARTTLS\r\n")
		}
	}
}

// say answers the client.
func (c *conn) say(r *Reply) {
	c.put(r.Code, r.line())
	if r.Code == 421 { // RFC 5321 section 3.8: the channel closes
		c.end()
	}
}

// fault answers a wrong command, and ends the session of a client that makes too many.
func (c *conn) fault(r *Reply) {
	if c.bad++; c.bad > maxFaults {
		r = errTooMany
	}
	c.say(r)
}

func (c *conn) put(code int, line string) {
	c.out = append(c.out, line...)
	if line[3] == ' ' {
		replied.WithLabelValues(c.srv.cfg.Name, strconv.Itoa(code)).Inc()
	}
	if len(c.out) > replyBuffer {
		c.flush()
	}
}

// end closes the session after what was said.
func (c *conn) end() { c.closing = true }

// flush writes what was said, and settles the messages whose replies went out with it.
func (c *conn) flush() {
	if len(c.out) == 0 && len(c.settle) == 0 {
		return
	}
	n := 0
	if c.srv.cfg.ImplicitTLS && c.tls == nil { // nothing is said in clear
		c.out = c.out[:0]
		return
	}
	if !c.dead {
		var err error
		c.wire.due.Store(time.Now().Add(patienceCommand).UnixNano())
		defer c.wire.due.Store(0)
		if n, err = c.stream.Write(c.out); err != nil {
			c.dead = true
		}
	}
	c.out = c.out[:0]
	list := c.settle
	c.settle = nil
	for _, s := range list {
		s.done(s.end <= n)
	}
}

// Close ends the connection. The library calls it, more than once.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.wire.limit = time.Now().Add(closeTimeout)
		c.flush()
		c.dead = true
		for _, f := range c.finals {
			f.done(false)
		}
		c.finals = nil
		c.session.Reset()
		c.stream.Close()
		c.wire.Close()
		c.small()
		c.srv.ln.release(c)
	})
	return nil
}

// buffered is the number of bytes that the client has sent and nobody has read.
func (c *conn) buffered() int { return c.w - c.r }

// lost ends the session after a read error; where the client can still hear us it is told why.
func (c *conn) lost(err error) {
	c.wire.limit = time.Now().Add(closeTimeout)
	switch {
	case errors.Is(err, errStopping):
		c.say(errStopped)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.say(errIdle)
	}
	c.flush()
	c.dead = true
	c.wire.Close()
}
