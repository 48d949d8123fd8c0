package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// errContent wraps a body that could not be read: the letter must not be finished.
var errContent = errors.New("read content")

// pieces calls f with the letter's bytes in order, at most len(in) at a time.
func (l *Letter) pieces(in []byte, f func([]byte) error) error {
	for p := range slices.Chunk(l.Header, len(in)) {
		if err := f(p); err != nil {
			return err
		}
	}
	if l.Body == nil {
		return nil
	}
	for off := l.Offset; off < l.Body.Size(); {
		if p := l.Body.Peek(off); p != nil {
			p = p[:min(len(p), len(in))]
			if err := f(p); err != nil {
				return err
			}
			off += int64(len(p))
			continue
		}
		n, err := l.Body.ReadAt(in[:min(int64(len(in)), l.Body.Size()-off)], off)
		if n == 0 {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("%w at octet %d: %w", errContent, off, err)
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("%w at octet %d: %w", errContent, off, err)
		}
		if err := f(in[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// survey is what must be known of a content before MAIL.
type survey struct {
	eightBit bool // octets over 127
	utf8     bool // among them some of the header
	inBody   bool // the header has ended
	line     int  // octets of the line so far
	dots     bool // lines that begin with a dot
	bare     bool // CR or LF alone
	any      bool
	size     int64
	prev     byte // the last octet
	before   byte // the one before it
	cr, lf   int
}

func (s *survey) add(p []byte) {
	if len(p) == 0 {
		return
	}
	s.size += int64(len(p))
	if !s.eightBit {
		s.eightBit = hasEightBit(p)
	}
	if p[0] == '.' && (!s.any || s.prev == '\n') {
		s.dots = true
	}
	for i := 0; ; i++ {
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			s.line += len(p) - i
			break
		}
		if !s.inBody && (n == 1 || n == 0) && s.line+n == 1 { // a lone CRLF
			s.utf8, s.inBody = s.utf8 || hasEightBit(p[:i]), true
		}
		s.line = 0
		i += n
		s.lf++
		if i > 0 && p[i-1] != '\r' || i == 0 && s.prev != '\r' {
			s.bare = true
		}
		if i+1 < len(p) && p[i+1] == '.' {
			s.dots = true
		}
	}
	if !s.inBody && !s.utf8 {
		s.utf8 = hasEightBit(p)
	}
	s.cr += bytes.Count(p, []byte{'\r'})
	if len(p) > 1 {
		s.before = p[len(p)-2]
	} else {
		s.before = s.prev
	}
	s.prev, s.any = p[len(p)-1], true
}

// unclean tells whether a CR or LF stands alone: if each LF has its CR before it, the numbers tell of any other CR.
func (s *survey) unclean() bool { return s.bare || s.cr != s.lf }

// ended tells whether the content ends with a line's end, as an empty one does.
func (s *survey) ended() bool { return !s.any || s.prev == '\n' && s.before == '\r' }

// octets is the content's size on the wire without dot-stuffing (RFC 1870 section 3).
func (s *survey) octets() int64 {
	if s.ended() {
		return s.size
	}
	return s.size + 2
}

func hasEightBit(p []byte) bool {
	for len(p) >= 32 {
		a := binary.LittleEndian.Uint64(p) | binary.LittleEndian.Uint64(p[8:]) | binary.LittleEndian.Uint64(p[16:]) | binary.LittleEndian.Uint64(p[24:])
		if a&0x8080808080808080 != 0 {
			return true
		}
		p = p[32:]
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// stuffer doubles the dot at the beginning of each line (RFC 5321 section 4.5.2) over pieces of any size. The content has no bare
// CR or LF, so the octet behind which a line begins is always LF.
type stuffer struct{ inLine bool }

func (s *stuffer) append(dst, p []byte) []byte {
	if len(p) == 0 {
		return dst
	}
	if !s.inLine && p[0] == '.' {
		dst = append(dst, '.')
	}
	s.inLine = p[len(p)-1] != '\n'
	for {
		i := bytes.Index(p, []byte("\n."))
		if i < 0 {
			return append(dst, p...)
		}
		dst = append(append(dst, p[:i+2]...), '.')
		p = p[i+2:]
	}
}

// sendContent writes the content and its end. beforeEnd is asked before the write that holds the final dot; if it gives an error,
// nothing of that write leaves. ended tells whether that write began: from there on only the hop knows.
func (c *conn) sendContent(l *Letter, s *survey, buf *buffer, beforeEnd func() error) (ended bool, err error) {
	out, chunk := buf.out[:0], buf.chunk()
	var dots stuffer
	err = l.pieces(buf.in, func(p []byte) error {
		if len(out) > chunk/2 || len(out)+len(p) > chunk+chunk/2 { // what is in out waits for company, a piece may double
			if err := c.write(out, c.timeouts.Write); err != nil {
				return err
			}
			out = out[:0]
		}
		if s.dots {
			out = dots.append(out, p)
		} else {
			out = append(out, p...)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if !s.ended() {
		out = append(out, "\r\n"...)
	}
	out = append(out, ".\r\n"...)
	if err := beforeEnd(); err != nil {
		return false, err
	}
	return true, c.write(out, c.timeouts.Write)
}
