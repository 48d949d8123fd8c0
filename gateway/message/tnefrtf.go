package message

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// rtfDictionary is what compressed RTF begins its window with (MS-OXRTFCP section 2.1.2.1).
const rtfDictionary = "{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"

const maxRTF = 64 << 20

var errRTF = errors.New("RTF cannot be unpacked")

// unpackRTF writes the RTF in r (MS-OXRTFCP): compressed (LZFu) or not. The lengths in its header must come true.
func unpackRTF(out io.Writer, r io.Reader) error {
	in := bufio.NewReader(r)
	var head [16]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return errRTF
	}
	size := int64(binary.LittleEndian.Uint32(head[4:]))
	if size > maxRTF {
		return errRTF
	}
	w := bufio.NewWriterSize(out, window)
	switch string(head[8:12]) {
	case "MELA":
		if _, err := io.CopyN(w, in, size); err == io.EOF {
			return errRTF
		} else if err != nil {
			return err
		}
		return w.Flush()
	case "LZFu":
	default:
		return errRTF
	}
	var ring [4096]byte
	at := copy(ring[:], rtfDictionary)
	var done int64
	put := func(c byte) error {
		if done++; done > size {
			return errRTF
		}
		ring[at] = c
		at = (at + 1) & 4095
		return w.WriteByte(c)
	}
	for {
		flags, err := in.ReadByte()
		if err != nil {
			return errRTF
		}
		for bit := range 8 {
			c, err := in.ReadByte()
			if err != nil {
				return errRTF
			}
			if flags&(1<<bit) == 0 {
				if err := put(c); err != nil {
					return err
				}
				continue
			}
			low, err := in.ReadByte()
			if err != nil {
				return errRTF
			}
			from, n := int(c)<<4|int(low>>4), int(low&15)+2
			if from == at { // the end
				if done != size {
					return errRTF
				}
				return w.Flush()
			}
			for range n {
				if err := put(ring[from]); err != nil {
					return err
				}
				from = (from + 1) & 4095
			}
		}
	}
}
