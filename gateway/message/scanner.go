package message

import (
	"bytes"
	"io"
)

const window = 64 << 10

// scanner gives the lines of a body, with their line ends, through a bounded window; a longer line comes in pieces.
type scanner struct {
	b    *Body
	buf  []byte // what was read and not given yet
	room []byte // backs buf where the body is in a file, or a line lies across two pieces of memory
	at   int64  // offset of buf[0]
	more int64  // offset behind buf
	mid  bool   // what next gave last began in the middle of a line
	long bool   // ... and it did not end its line
	bulk bool   // lines may come several at once, each that begins with "--" as the first of its own
}

func newScanner(b *Body) *scanner { return &scanner{b: b} }

// next gives a line or a piece of 64 KiB, in bulk more, valid until the next call, and its offset.
func (s *scanner) next() (line []byte, start int64, err error) {
	s.mid = s.long
	n := s.lineEnd(0)
	for n == 0 && len(s.buf) < window && s.more < s.b.Size() {
		seen := len(s.buf)
		if err := s.fill(); err != nil {
			return nil, s.at, err
		}
		n = s.lineEnd(seen)
	}
	if s.long = n == 0; s.long {
		if n = min(len(s.buf), window); n == 0 {
			return nil, s.at, io.EOF
		}
	}
	if s.bulk && !s.long {
		n = s.further(n)
	}
	line, start = s.buf[:n], s.at
	s.buf, s.at = s.buf[n:], s.at+int64(n)
	return line, start, nil
}

// further is where the last whole line of buf ends before one that begins with "--"; the first ends at n. There is no '-' in base64, so
// that its lines need not be found.
func (s *scanner) further(n int) int {
	if bytes.HasPrefix(s.buf, dashes) {
		return n
	}
	for at := n; ; at++ {
		i := bytes.Index(s.buf[at:], dashes)
		if i < 0 {
			return bytes.LastIndexByte(s.buf, '\n') + 1
		}
		if at += i; s.buf[at-1] == '\n' {
			return at
		}
	}
}

var dashes = []byte("--")

// lineEnd is where the first line of buf ends, 0 where it does not within the window; no line ends before seen.
func (s *scanner) lineEnd(seen int) int {
	i := bytes.IndexByte(s.buf[seen:min(len(s.buf), window)], '\n')
	if i < 0 {
		return 0
	}
	return seen + i + 1
}

// fill reads on: in memory the next piece as it lies there, or a little more behind a line that its end cut.
func (s *scanner) fill() error {
	next := s.b.Peek(s.more)
	if len(s.buf) == 0 && next != nil {
		s.buf, s.more = next, s.more+int64(len(next))
		return nil
	}
	if s.room == nil {
		s.room = make([]byte, window)
	}
	kept := copy(s.room, s.buf)
	n := int(min(int64(window-kept), s.b.Size()-s.more))
	if next != nil {
		n = min(n, across)
	}
	got, err := s.b.ReadAt(s.room[kept:kept+n], s.more)
	if got < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	s.buf, s.more = s.room[:kept+n], s.more+int64(n)
	return nil
}

// across is how much is copied of the next piece of memory to complete a line; most lines are shorter (RFC 5322 section 2.1.1).
const across = 1 << 10
