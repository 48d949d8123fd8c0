package smtpd

import (
	"bytes"
	"strings"
	"time"
)

const (
	maxFaults  = 20      // wrong commands since the last message
	maxIdle    = 200     // commands since the last MAIL that bring no message forward
	maxDiscard = 1 << 20 // bytes of an overlong command line that are read in hope of its end
)

// next reads one command. It answers it itself, or leaves it in feed for the library.
func (c *conn) next() {
	if len(c.settle) > 0 { // the end of a message never waits for the next command
		c.flush()
	}
	c.small()
	if c.srv.drain.Load() && c.chunks == nil {
		c.say(errStopped)
		return
	}
	if c.chunks == nil {
		c.body.on = false
	}
	line, no := c.readLine()
	switch {
	case c.dead || c.closing:
		return
	case no != nil:
		c.fault(no)
		return
	}
	if c.session.env == nil && c.old() {
		c.say(errIdle)
		return
	}
	verb, arg, _ := strings.Cut(line, " ")
	verb, arg = strings.ToUpper(verb), strings.TrimSpace(arg)
	switch verb {
	case "NOOP", "RSET", "VRFY", "EXPN", "HELP", "EHLO", "HELO", "LHLO":
		if c.idle++; c.idle > maxIdle {
			c.say(errTooMany)
			return
		}
	}
	switch verb {
	case "MAIL", "RCPT", "DATA":
		if c.chunks != nil { // RFC 3030 section 2: a transfer by BDAT ends with LAST, RSET or the connection
			c.fault(errSequence)
			return
		}
	case "EHLO", "LHLO", "HELO":
		if !isHelo(arg) {
			c.fault(errSyntax)
			return
		}
	case "BDAT":
		c.bdat(arg)
		return
	case "STARTTLS":
		c.startTLS(arg)
		return
	case "AUTH":
		c.fault(errNotHere)
		return
	case "NOOP", "RSET", "VRFY", "EXPN", "HELP", "QUIT":
	default:
		c.fault(errUnknown)
		return
	}
	if verb == "DATA" && c.buffered() > 0 && (arg != "" || !c.session.ready()) {
		// RFC 2920 section 3.1: nothing may follow DATA before its reply. What follows here is a body that nobody asked for, and the
		// session would execute it.
		c.say(errSequence)
		c.end()
		return
	}
	c.verb, c.arg, c.named = verb, arg, false
	c.give(libraryForm(verb, arg))
}

// old tells whether the session has gone on for too long without a message.
func (c *conn) old() bool {
	age := time.Since(c.last)
	return age > sessionAge || age > tightAge && c.srv.ln.scarce(c.key)
}

func (c *conn) give(line string) { c.feed = append(append(c.feed[:0], line...), '\r', '\n') }

// readLine gives the next command line without its CRLF, or a refusal of it. The whole line must come within the idle timeout.
func (c *conn) readLine() (string, *Reply) {
	c.wire.waiting.Store(c.chunks == nil)
	defer c.wire.waiting.Store(false)
	c.wire.limit = time.Now().Add(c.srv.cfg.IdleTimeout)
	defer func() {
		if !c.dead {
			c.wire.limit = time.Time{}
		}
	}()
	c.lineDue = 0
	seen, dropped := 0, 0
	for {
		if i := bytes.IndexByte(c.buf[c.r+seen:c.w], '\n'); i >= 0 {
			line := c.buf[c.r : c.r+seen+i+1]
			c.r += len(line)
			if dropped > 0 || len(line) > commandBuffer || !isCommand(line) {
				return "", errLine
			}
			return string(line[:len(line)-2]), nil
		}
		seen = c.buffered()
		if seen >= commandBuffer {
			dropped += seen
			c.r, c.w, seen = 0, 0, 0
			if dropped > maxDiscard {
				c.say(errLine)
				c.end()
				return "", nil
			}
		}
		if !c.fill() {
			return "", nil
		}
	}
}

// isCommand tells whether line ends in CRLF and holds no other control character than HTAB. The library takes bare LF for an end.
func isCommand(line []byte) bool {
	body, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return false
	}
	for _, b := range body {
		if b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

// isHelo tells whether s may be a name in EHLO: it is repeated in logs and trace headers. Underscores and single labels occur.
func isHelo(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', strings.IndexByte("-._:[]", b) >= 0:
		default:
			return false
		}
	}
	return true
}
