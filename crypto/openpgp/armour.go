package openpgp

import (
	"encoding/base64"
	"encoding/binary"
	"io"

	"passerelle/crypto/lines"
)

// armour writes RFC 9580 section 6.2 with CRLF lines of 76 columns, as mail wants them. The library's own ends lines with LF and runs
// at 72 MB/s for its bitwise CRC-24. Section 6.1 would rather have no checksum, but GnuPG 2.2 then reads the END line as base64 where
// the data ends without padding ("invalid radix64 character 2D"); so it is written, sixteen bytes at a time.
type armour struct {
	w     io.Writer
	lines *lines.Writer
	crc   uint32 // in the upper 24 bits
}

func newArmour(w io.Writer) (*armour, error) {
	_, err := io.WriteString(w, "-----BEGIN PGP MESSAGE-----\r\n\r\n")
	return &armour{w: w, lines: lines.NewWriter(w), crc: 0xb704ce << 8}, err
}

func (a *armour) Write(p []byte) (int, error) {
	a.crc = crc24(a.crc, p)
	return a.lines.Write(p)
}

func (a *armour) Close() error {
	if err := a.lines.Close(); err != nil {
		return err
	}
	sum := base64.StdEncoding.EncodeToString([]byte{byte(a.crc >> 24), byte(a.crc >> 16), byte(a.crc >> 8)})
	_, err := io.WriteString(a.w, "="+sum+"\r\n-----END PGP MESSAGE-----\r\n")
	return err
}

// crcTables[k][b] is what byte b does to the CRC-24 (RFC 9580 section 6.1.1) with k zero bytes behind it.
var crcTables = func() (t [16][256]uint32) {
	for b := range 256 {
		c := uint32(b) << 24
		for range 8 {
			top := c >> 31
			c = c<<1 ^ top*(0x864cfb<<8)
		}
		t[0][b] = c
	}
	for k := 1; k < 16; k++ {
		for b := range 256 {
			c := t[k-1][b]
			t[k][b] = c<<8 ^ t[0][c>>24]
		}
	}
	return t
}()

func crc24(c uint32, p []byte) uint32 {
	t := &crcTables
	for ; len(p) >= 16; p = p[16:] {
		c ^= binary.BigEndian.Uint32(p)
		x, y := binary.BigEndian.Uint64(p[4:]), binary.BigEndian.Uint32(p[12:])
		// What does not depend on the step before stands first: the processor works it out meanwhile.
		ahead := t[11][x>>56] ^ t[10][x>>48&255] ^ t[9][x>>40&255] ^ t[8][x>>32&255] ^ t[7][x>>24&255] ^ t[6][x>>16&255] ^ t[5][x>>8&255] ^ t[4][x&255] ^
			t[3][y>>24] ^ t[2][y>>16&255] ^ t[1][y>>8&255] ^ t[0][y&255]
		c = ahead ^ (t[15][c>>24] ^ t[14][c>>16&255] ^ t[13][c>>8&255] ^ t[12][c&255])
	}
	for _, b := range p {
		c = c<<8 ^ t[0][byte(c>>24)^b]
	}
	return c
}
