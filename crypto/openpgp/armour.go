package openpgp

import (
	"encoding/base64"
	"encoding/binary"
	"io"
)

// armour writes RFC 9580 section 6.2 with CRLF lines of 76 columns, as mail wants them. The library's own ends lines with LF and runs
// at 72 MB/s for its bitwise CRC-24. Section 6.1 would rather have no checksum, but GnuPG 2.2 then reads the END line as base64 where
// the data ends without padding ("invalid radix64 character 2D"); so it is written, eight bytes at a time.
type armour struct {
	w    io.Writer
	crc  uint32 // in the upper 24 bits
	rest []byte // less than a line of input
	out  []byte
}

const (
	lineIn  = 57 // bytes of input that make 76 columns
	perCall = 512
)

func newArmour(w io.Writer) (*armour, error) {
	_, err := io.WriteString(w, "-----BEGIN PGP MESSAGE-----\r\n\r\n")
	return &armour{w: w, crc: 0xb704ce << 8, rest: make([]byte, 0, lineIn), out: make([]byte, 0, perCall*78)}, err
}

func (a *armour) Write(p []byte) (int, error) {
	n := len(p)
	a.crc = crc24(a.crc, p)
	if len(a.rest) > 0 {
		k := min(lineIn-len(a.rest), len(p))
		a.rest, p = append(a.rest, p[:k]...), p[k:]
		if len(a.rest) < lineIn {
			return n, nil
		}
		a.line(a.rest)
		a.rest = a.rest[:0]
	}
	for len(p) >= lineIn {
		a.line(p[:lineIn])
		p = p[lineIn:]
		if len(a.out) > (perCall-1)*78 {
			if err := a.flush(); err != nil {
				return 0, err
			}
		}
	}
	a.rest = append(a.rest, p...)
	return n, a.flush()
}

func (a *armour) line(p []byte) {
	a.out = append(base64.StdEncoding.AppendEncode(a.out, p), '\r', '\n')
}

// flush writes when enough has come together: the library gives small pieces.
func (a *armour) flush() error {
	if len(a.out) < (perCall-2)*78/2 {
		return nil
	}
	_, err := a.w.Write(a.out)
	a.out = a.out[:0]
	return err
}

func (a *armour) Close() error {
	if len(a.rest) > 0 {
		a.line(a.rest)
	}
	a.out = append(a.out, '=')
	a.out = base64.StdEncoding.AppendEncode(a.out, []byte{byte(a.crc >> 24), byte(a.crc >> 16), byte(a.crc >> 8)})
	a.out = append(a.out, "\r\n-----END PGP MESSAGE-----\r\n"...)
	_, err := a.w.Write(a.out)
	return err
}

// crcTables[k][b] is what byte b does to the CRC-24 (RFC 9580 section 6.1.1) with k zero bytes behind it.
var crcTables = func() (t [8][256]uint32) {
	for b := range 256 {
		c := uint32(b) << 24
		for range 8 {
			top := c >> 31
			c = c<<1 ^ top*(0x864cfb<<8)
		}
		t[0][b] = c
	}
	for k := 1; k < 8; k++ {
		for b := range 256 {
			c := t[k-1][b]
			t[k][b] = c<<8 ^ t[0][c>>24]
		}
	}
	return t
}()

func crc24(c uint32, p []byte) uint32 {
	t := &crcTables
	for ; len(p) >= 8; p = p[8:] {
		c ^= binary.BigEndian.Uint32(p)
		c = t[7][c>>24] ^ t[6][c>>16&255] ^ t[5][c>>8&255] ^ t[4][c&255] ^ t[3][p[4]] ^ t[2][p[5]] ^ t[1][p[6]] ^ t[0][p[7]]
	}
	for _, b := range p {
		c = c<<8 ^ t[0][byte(c>>24)^b]
	}
	return c
}
