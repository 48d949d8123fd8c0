package gatewaytest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Dresses are the ways in which a payload can stand in data and be read.
type Dresses map[string][]byte

// pieceSize: a payload counts by pieces, for it may have been cut.
const pieceSize = 12

// NewDresses puts payload into each: as it is, backwards, in UTF-16, hexadecimal, quoted-printable, base64 at each alignment, uuencode.
// Its pieces of 12 bytes must not occur by chance.
func NewDresses(payload string) Dresses {
	d := Dresses{}
	for at := 0; at+pieceSize <= len(payload); at += pieceSize {
		piece := payload[at : at+pieceSize]
		put := func(name string, p []byte) { d[fmt.Sprint(name, " of piece ", at/pieceSize)] = p }
		var little, big, qp, back []byte
		for i := range len(piece) {
			c := piece[i]
			little, big = append(little, c, 0), append(big, 0, c)
			qp = fmt.Appendf(qp, "=%02X", c)
			back = append(back, piece[len(piece)-1-i])
		}
		put("bytes", []byte(piece))
		put("backwards", back)
		put("UTF-16LE", little)
		put("UTF-16BE", big)
		put("quoted-printable", qp)
		put("percent", bytes.ReplaceAll(qp, []byte("="), []byte("%")))
		put("hex", []byte(hex.EncodeToString([]byte(piece))))
		put("HEX", []byte(strings.ToUpper(hex.EncodeToString([]byte(piece)))))
		for how, raw := range map[string][]byte{"": []byte(piece), " of UTF-16LE": little, " of UTF-16BE": big} {
			for shift := range 3 {
				e := base64.StdEncoding.EncodeToString(append(make([]byte, shift), raw...))
				cut := e[4 : len(e)/4*4-4]
				put(fmt.Sprint("base64+", shift, how), []byte(cut))
				put(fmt.Sprint("base64url+", shift, how), []byte(strings.NewReplacer("+", "-", "/", "_").Replace(cut)))
				put(fmt.Sprint("uuencode+", shift, how), uuSigns(cut))
			}
		}
	}
	return d
}

// uuSigns gives the signs that uuencode has for the same six bits.
func uuSigns(b64 string) []byte {
	const table = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	out := make([]byte, len(b64))
	for i := range out {
		if out[i] = byte(strings.IndexByte(table, b64[i])) + ' '; out[i] == ' ' {
			out[i] = '`'
		}
	}
	return out
}

// In says in which dress something of the payload can be read, "" where in none: as the bytes stand, without line ends and blanks, without
// the soft ones of quoted-printable, and without the sign of length at each line's beginning.
func (d Dresses) In(data []byte) string {
	lines := bytes.Split(bytes.ReplaceAll(data, []byte("\r"), nil), []byte("\n"))
	var soft, uu []byte
	for _, l := range lines {
		soft = append(soft, bytes.TrimSuffix(bytes.TrimRight(l, " \t"), []byte("="))...)
		if len(l) > 0 {
			uu = append(uu, l[1:]...)
		}
	}
	flat := bytes.Join(bytes.Fields(data), nil)
	for name, p := range d {
		for _, in := range [][]byte{data, flat, soft, uu} {
			if bytes.Contains(in, p) {
				return name
			}
		}
	}
	return ""
}
