package pdf

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zlib"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/model"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/types"
)

// together is how many objects share an object stream (ISO 32000-2 section 7.5.7).
const together = 100

// rewriting writes the objects that pdfcpu has read, each as it is and under its number. pdfcpu's own writer is not used: what its
// validation did not visit it leaves out, or leaves readable where it came from an object stream (v0.15).
type rewriting struct {
	out     bytes.Buffer
	key     []byte
	entries [][3]int // kind, then offset, or object stream and place in it (ISO 32000-2 table 18)
	pending []pending
}

type pending struct {
	number int
	text   []byte
}

func (w *rewriting) write(ctx context.Context, x *model.Context, passphrase string) error {
	numbers := slices.Sorted(maps.Keys(x.Table))
	if len(numbers) == 0 || x.Root == nil {
		return ErrNotRewritten
	}
	w.entries = make([][3]int, numbers[len(numbers)-1]+1, numbers[len(numbers)-1]+1+len(numbers)/together+4)
	w.out.WriteString("%PDF-2.0\n%\xe2\xe3\xcf\xd3\n")
	key, dict := newKey(passphrase)
	w.key = key
	lock := w.next()
	w.begin(lock)
	w.out.WriteString(dict + "\nendobj\n")
	for _, n := range numbers {
		e := x.Table[n]
		if err := ctx.Err(); err != nil {
			return err
		}
		if n == 0 || e == nil || e.Free {
			continue
		}
		if e.Generation != nil && *e.Generation != 0 && !e.Compressed {
			return fmt.Errorf("%w: an object has a generation", ErrNotRewritten)
		}
		if err := w.object(ctx, n, e.Object); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.end(x, lock)
}

// next takes an object number that the file did not have.
func (w *rewriting) next() int {
	w.entries = append(w.entries, [3]int{})
	return len(w.entries) - 1
}

func (w *rewriting) begin(n int) {
	w.entries[n] = [3]int{1, w.out.Len(), 0}
	fmt.Fprintf(&w.out, "%d 0 obj\n", n)
}

func (w *rewriting) object(ctx context.Context, n int, o types.Object) error {
	switch o := o.(type) {
	case nil, types.ObjectStreamDict, *types.ObjectStreamDict, types.XRefStreamDict, *types.XRefStreamDict: // what they held is written anew
		return nil
	case types.StreamDict:
		return w.stream(n, &o)
	case *types.StreamDict:
		return w.stream(n, o)
	case types.LazyObjectStreamObject:
		text, err := o.GetData()
		if err != nil {
			return err
		}
		parsed, err := o.DecodedObject(ctx)
		if err != nil {
			return err
		}
		if err := plain(parsed, 0); err != nil {
			return err
		}
		return w.gather(n, text)
	}
	if err := plain(o, 0); err != nil {
		return err
	}
	text, err := appendObject(nil, o)
	if err != nil {
		return err
	}
	return w.gather(n, text)
}

// gather puts an object into the next object stream: so names and numbers are encrypted too, and not its strings alone.
func (w *rewriting) gather(n int, text []byte) error {
	if w.pending = append(w.pending, pending{n, text}); len(w.pending) < together {
		return nil
	}
	return w.flush()
}

func (w *rewriting) flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	n := w.next()
	var head, body bytes.Buffer
	for i, p := range w.pending {
		fmt.Fprintf(&head, "%d %d ", p.number, body.Len())
		body.Write(p.text)
		body.WriteByte('\n')
		w.entries[p.number] = [3]int{2, n, i}
	}
	dict := fmt.Sprintf("/Type/ObjStm/N %d/First %d/Filter/FlateDecode", len(w.pending), head.Len())
	w.pending = w.pending[:0]
	w.begin(n)
	return w.body(dict, deflate(head.Bytes(), body.Bytes()), true)
}

func deflate(parts ...[]byte) []byte {
	var z bytes.Buffer
	c := zlib.NewWriter(&z)
	for _, p := range parts {
		c.Write(p)
	}
	c.Close()
	return z.Bytes()
}

func (w *rewriting) stream(n int, s *types.StreamDict) error {
	if err := plainStream(s, 0); err != nil {
		return err
	}
	if s.Raw == nil && (s.StreamLength == nil || *s.StreamLength != 0) {
		return fmt.Errorf("%w: a stream was not read", ErrNotRewritten)
	}
	var dict []byte
	for _, k := range slices.Sorted(maps.Keys(s.Dict)) {
		if k == "Length" {
			continue
		}
		v := s.Dict[k]
		if !usual(k) {
			return fmt.Errorf("%w: a stream has a key that would be read", ErrNotRewritten)
		}
		if !bare(v, k == "DecodeParms") {
			if k == "Filter" || k == "DecodeParms" {
				return fmt.Errorf("%w: a stream has a filter that is not known", ErrNotRewritten)
			}
			text, err := appendObject(nil, v)
			if err != nil {
				return err
			}
			apart := w.next()
			if err := w.gather(apart, text); err != nil {
				return err
			}
			v = *types.NewIndirectRef(apart, 0)
		}
		var err error
		if dict, err = appendEntry(dict, k, v); err != nil {
			return err
		}
	}
	w.begin(n)
	return w.body(string(dict), s.Raw, true)
}

// A stream's dictionary is not encrypted. What of it may hold words goes into an object of its own; numbers, references and these names of
// the standard stay, and so do its keys, which are letters.

var standard = func() map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(`XObject Image Form Group EmbeddedFile Metadata XML CMap Pattern FlateDecode Fl DCTDecode DCT JPXDecode CCITTFaxDecode CCF
		JBIG2Decode LZWDecode LZW RunLengthDecode RL ASCII85Decode A85 ASCIIHexDecode AHx DeviceRGB DeviceGray DeviceCMYK Type1C CIDFontType0C OpenType`) {
		m[n] = true
	}
	return m
}()

// bare tells whether a value holds no words. dicts allows dictionaries of such values.
func bare(o types.Object, dicts bool) bool {
	switch o := o.(type) {
	case nil, types.Integer, types.Float, types.Boolean, types.IndirectRef, *types.IndirectRef:
		return true
	case types.Name:
		return standard[string(o)]
	case types.Array:
		return !slices.ContainsFunc(o, func(v types.Object) bool { return !bare(v, dicts) })
	case types.Dict:
		for k, v := range o {
			if !dicts || !usual(k) || !bare(v, false) {
				return false
			}
		}
		return dicts
	}
	return false
}

// usual tells whether a key is as the standard and the makers of software have them.
func usual(key string) bool {
	return len(key) <= 32 && !strings.ContainsFunc(key, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '.' && r != '_'
	})
}

// body writes dictionary and content of the object that begins.
func (w *rewriting) body(dict string, content []byte, encrypted bool) error {
	length := len(content)
	if encrypted {
		length = 16 + (length/16+1)*16
	}
	fmt.Fprintf(&w.out, "<<%s/Length %d>>\nstream\n", dict, length)
	if encrypted {
		s := newSealer(&w.out, w.key)
		s.Write(content)
		s.Close()
	} else {
		w.out.Write(content)
	}
	w.out.WriteString("\nendstream\nendobj\n")
	return nil
}

// end writes the cross references, which no reader would find encrypted.
func (w *rewriting) end(x *model.Context, lock int) error {
	n, at := w.next(), w.out.Len()
	w.entries[n] = [3]int{1, at, 0}
	w.entries[0][2] = 65535
	table := make([]byte, 0, 7*len(w.entries))
	for _, e := range w.entries {
		table = append(table, byte(e[0]))
		table = binary.BigEndian.AppendUint32(table, uint32(e[1]))
		table = binary.BigEndian.AppendUint16(table, uint16(e[2]))
	}
	id := make([]byte, 16) // the one it had would tell of which file this is
	rand.Read(id)
	dict := fmt.Sprintf("/Type/XRef/W[1 4 2]/Size %d/Filter/FlateDecode/Root %s/Encrypt %d 0 R/ID[<%x><%[4]x>]", len(w.entries), x.Root.PDFString(), lock, id)
	if x.Info != nil {
		dict += "/Info " + x.Info.PDFString()
	}
	fmt.Fprintf(&w.out, "%d 0 obj\n", n)
	if err := w.body(dict, deflate(table), false); err != nil {
		return err
	}
	fmt.Fprintf(&w.out, "startxref\n%d\n%%%%EOF\n", at)
	return nil
}

func appendEntry(b []byte, key string, o types.Object) ([]byte, error) {
	b = append(append(append(b, '/'), types.EncodeName(key)...), ' ')
	return appendObject(b, o)
}

// appendObject writes an object as it stands in an object stream.
func appendObject(b []byte, o types.Object) (out []byte, err error) {
	switch o := o.(type) {
	case nil:
		return append(b, "null"...), nil
	case types.Dict:
		b = append(b, "<<"...)
		for _, k := range slices.Sorted(maps.Keys(o)) {
			if b, err = appendEntry(b, k, o[k]); err != nil {
				return nil, err
			}
		}
		return append(b, ">>"...), nil
	case types.Array:
		b = append(b, '[')
		for i, v := range o {
			if i > 0 {
				b = append(b, ' ')
			}
			if b, err = appendObject(b, v); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case types.Float: // the library's own form writes twelve digits
		return strconv.AppendFloat(b, float64(o), 'f', -1, 64), nil
	case types.StringLiteral, types.HexLiteral, types.Name, types.Integer, types.Boolean, types.IndirectRef:
		return append(b, o.PDFString()...), nil
	case *types.IndirectRef:
		return append(b, o.PDFString()...), nil
	}
	return nil, fmt.Errorf("%w: an object of kind %T", ErrNotRewritten, o)
}

func appendSealed(b, s, key []byte) []byte {
	var out bytes.Buffer
	c := newSealer(&out, key)
	c.Write(s)
	c.Close()
	return fmt.Appendf(b, "<%x>", out.Bytes())
}
