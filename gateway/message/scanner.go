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
	room []byte // backs buf where the body is in a file
	at   int64  // offset of buf[0]
	more int64  // offset behind buf
	mid  bool   // what next gave last began in the middle of a line
	long bool   // ... and it did not end its line
}

func newScanner(b *Body) *scanner {
	s := &scanner{b: b}
	if m := b.InMemory(); m != nil {
		s.buf, s.more = m, int64(len(m))
	} else {
		s.room = make([]byte, window)
	}
	return s
}

// next gives a line or a piece of at most 64 KiB, valid until the next call, and its offset.
func (s *scanner) next() (line []byte, start int64, err error) {
	s.mid = s.long
	n := bytes.IndexByte(s.buf[:min(len(s.buf), window)], '\n') + 1
	if n == 0 && len(s.buf) < window && s.more < s.b.Size() {
		if err := s.fill(); err != nil {
			return nil, s.at, err
		}
		n = bytes.IndexByte(s.buf, '\n') + 1
	}
	if s.long = n == 0; s.long {
		if n = min(len(s.buf), window); n == 0 {
			return nil, s.at, io.EOF
		}
	}
	line, start = s.buf[:n], s.at
	s.buf, s.at = s.buf[n:], s.at+int64(n)
	return line, start, nil
}

func (s *scanner) fill() error {
	kept := copy(s.room, s.buf)
	n := int(min(int64(window-kept), s.b.Size()-s.more))
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
