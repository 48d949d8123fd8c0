package smtpd

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// collector takes the bytes of one body, from DATA or BDAT. What may not pass is dropped, and bad says why.
type collector struct {
	w    *message.BodyWriter
	max  int64
	size int64
	cr   bool // the last byte was CR
	eol  bool // the last line is complete
	bad  *Reply
}

func (s *Server) collect(hint int64) *collector {
	return &collector{w: s.cfg.Budget.NewWriter(hint), max: s.cfg.MaxMessage, eol: true}
}

func (k *collector) add(p []byte) {
	if len(p) == 0 {
		return
	}
	k.size += int64(len(p))
	if k.bad != nil {
		return
	}
	switch k.eol = endsLine(k.cr, p); {
	case !clean(k.cr, p):
		k.refuse(errBareEOL)
		return
	case k.size > k.max:
		k.refuse(errTooBig)
		return
	}
	k.cr = p[len(p)-1] == '\r'
	if _, err := k.w.Write(p); err != nil {
		k.refuse(errNoRoom)
	}
}

func (k *collector) refuse(r *Reply) {
	if k.bad == nil {
		k.bad = r
		k.w.Abort()
	}
}

// body ends the collection.
func (k *collector) body() (*message.Body, *Reply) {
	if k.cr {
		k.refuse(errBareEOL)
	}
	if k.bad == nil && !k.eol { // BDAT may end inside a line; a message consists of lines
		k.add([]byte("\r\n"))
	}
	if k.bad != nil {
		return nil, k.bad
	}
	b, err := k.w.Body()
	if err != nil {
		k.bad = errNoRoom
		return nil, k.bad
	}
	return b, nil
}

// clean tells whether p, which follows a CR if cr is set, holds no CR without LF, no LF without CR and no NUL (RFC 5321 section
// 2.3.8; RFC 5322 section 4). A CR at its end stands for the next p to judge.
func clean(cr bool, p []byte) bool {
	if bytes.IndexByte(p, 0) >= 0 {
		return false
	}
	lines := 0
	if cr {
		if p[0] != '\n' {
			return false
		}
		p = p[1:]
	}
	crs := bytes.Count(p, []byte{'\r'})
	if crs > 0 && p[len(p)-1] == '\r' {
		crs--
	}
	for rest := p; ; lines++ {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return lines == crs
		}
		if i == 0 || rest[i-1] != '\r' {
			return false
		}
		rest = rest[i+1:]
	}
}

func endsLine(cr bool, p []byte) bool {
	return bytes.HasSuffix(p, []byte("\r\n")) || cr && len(p) == 1 && p[0] == '\n'
}

// unstuff takes what it can of a DATA stream. bol: data begins a line. The pieces without their stuffed dots go to add (RFC 5321
// section 4.5.2); at most two bytes that may be part of an end stay unused. Only CRLF.CRLF ends the stream.
func unstuff(data []byte, bol bool, add func([]byte)) (used int, nowBOL, end bool) {
	i := 0
	for {
		rest := data[i:]
		if bol {
			if len(rest) < 3 && bytes.HasPrefix([]byte(".\r\n"), rest) {
				return i, true, false
			}
			if bytes.HasPrefix(rest, []byte(".\r\n")) {
				return i + 3, true, true
			}
			if rest[0] == '.' {
				i, rest = i+1, rest[1:]
			}
			bol = false
		}
		if j := bytes.Index(rest, []byte("\r\n.")); j >= 0 {
			add(rest[:j+2])
			i, bol = i+j+2, true
			continue
		}
		if n := len(rest); n > 0 && rest[n-1] == '\r' {
			add(rest[:n-1])
			return i + n - 1, false, false
		}
		add(rest)
		return i + len(rest), bytes.HasSuffix(rest, []byte("\r\n")), false
	}
}

// receive takes a body by DATA, after the 354. Where it may not pass it is read to its true end all the same.
func (c *conn) receive(hint int64) *collector {
	k := c.srv.collect(hint)
	c.body = flow{on: true}
	defer func() { c.body.on = false }()
	bol, end := true, false
	for {
		var used int
		used, bol, end = unstuff(c.buf[c.r:c.w], bol, k.add)
		c.r += used
		if end {
			return k
		}
		if c.tooLong(k) {
			c.say(k.bad)
			c.flush()
			c.dead = true
			return k
		}
		if !c.fill() {
			return k
		}
	}
}

// tooLong tells whether a refused body is not worth reading to its end.
func (c *conn) tooLong(k *collector) bool { return k.bad != nil && k.size > 4*k.max+maxDiscard }

// bdat takes one chunk (RFC 3030). The library never sees BDAT: the last chunk reaches it as an empty DATA.
func (c *conn) bdat(arg string) {
	f := strings.Fields(arg)
	last := len(f) == 2 && strings.EqualFold(f[1], "LAST")
	var size uint64
	var err error
	if len(f) == 1 || last {
		size, err = strconv.ParseUint(f[0], 10, 63)
	}
	switch {
	case len(f) == 0 || len(f) > 1 && !last || err != nil: // the chunk's length is not known: its bytes would become commands
		c.say(errSyntax)
		c.end()
		return
	case size > uint64(4*c.srv.cfg.MaxMessage+maxDiscard):
		c.say(errTooBig)
		c.end()
		return
	}
	ready := c.session.ready()
	if c.chunks == nil {
		c.body = flow{}
		if ready {
			c.chunks = c.srv.collect(int64(size))
		}
	}
	c.body.on = true // over all chunks of a transfer: one byte in each is a drip too
	defer func() { c.body.on = c.chunks != nil }()
	for left := int(size); left > 0; {
		n := min(left, c.buffered())
		if ready {
			c.chunks.add(c.buf[c.r : c.r+n])
		}
		c.r, left = c.r+n, left-n
		if left > 0 && !c.fill() {
			return // Close drops the transfer
		}
	}
	switch {
	case !ready:
		c.fault(errSequence)
	case last:
		c.inject("DATA")
	case c.tooLong(c.chunks):
		c.say(c.chunks.bad)
		c.end()
	case c.chunks.bad != nil:
		c.inject("RSET")
		c.mute, c.instead = false, c.chunks.bad
	default:
		c.say(&Reply{250, [3]int{2, 0, 0}, "Bien, la suite"})
	}
}

// message gives the library the end of its empty DATA and the caller the body, or the refusal of it. Without both the client is gone.
func (c *conn) message(hint int64) (*message.Body, *Reply) {
	k := c.chunks
	if c.chunks = nil; k == nil {
		k = c.receive(hint)
	}
	if c.dead { // an unfinished body is nobody's
		k.refuse(errLater)
		return nil, nil
	}
	c.body, c.last = flow{}, time.Now()
	c.feed = append(c.feed[:0], ".\r\n"...)
	return k.body()
}
