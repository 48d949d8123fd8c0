package message

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"unicode/utf16"
)

// tnef reads Outlook's Transport Neutral Encapsulation Format (MS-OXTNEF): files and bodies by their place, nothing is copied. What it does
// not know, or will not follow (messages and OLE objects as attachments, meetings and tasks), sets unread.
type tnef struct {
	r      io.ReaderAt
	end    int64
	files  []tnefFile
	rtf    span
	unread bool

	codepage string
	one      *tnefFile // the attachment at hand
	steps    int
}

type span struct{ off, size int64 }

type tnefFile struct {
	name, long, typ string
	span
	has bool
}

const (
	tnefSignature = 0x223e9f78
	tnefSteps     = 20_000  // attributes and properties in all
	tnefValue     = 4 << 10 // of a name, in bytes
)

var errTNEF = errors.New("no TNEF that can be read")

// Attributes, with their types (MS-OXTNEF section 2.1.3.3.1).
const (
	attOEMCodepage     = 0x00069007
	attMessageClass    = 0x00078008
	attBody            = 0x0002800c
	attMessageProps    = 0x00069003
	attRenderData      = 0x00069002
	attAttachData      = 0x0006800f
	attAttachTitle     = 0x00018010
	attAttachmentProps = 0x00069005
)

// tnefPlain are attributes that say nothing beyond the message's header, or how a file's icon looks.
var tnefPlain = map[uint32]bool{0x00089006: true, 0x00008000: true, 0x00018004: true, 0x00038005: true, 0x00038006: true, 0x00068007: true, 0x00018009: true,
	0x0001800a: true, 0x0001800b: true, 0x0004800d: true, 0x00038020: true, 0x00069004: true, 0x00068011: true, 0x00038012: true, 0x00038013: true,
	0x00069001: true, 0x00040009: true}

// parse gives an error where the stream breaks off; what was found before it stands.
func (t *tnef) parse() error {
	defer t.flush()
	head := t.at(0, 6)
	if head == nil || binary.LittleEndian.Uint32(head) != tnefSignature {
		return errTNEF
	}
	for off := int64(6); off < t.end; {
		if t.steps++; t.steps > tnefSteps {
			return errTNEF
		}
		h := t.at(off, 9)
		if h == nil || h[0] != 1 && h[0] != 2 {
			return errTNEF
		}
		id, value := binary.LittleEndian.Uint32(h[1:]), span{off + 9, int64(binary.LittleEndian.Uint32(h[5:]))}
		tail := t.at(value.off+value.size, 2)
		if tail == nil || !t.sums(value, binary.LittleEndian.Uint16(tail)) {
			return errTNEF
		}
		if err := t.attribute(id, value); err != nil {
			return err
		}
		off = value.off + value.size + 2
	}
	return nil
}

func (t *tnef) attribute(id uint32, v span) error {
	switch id {
	case attOEMCodepage:
		if p := t.at(v.off, 4); p != nil {
			t.codepage = codepages[binary.LittleEndian.Uint32(p)]
		}
	case attMessageClass:
		class := strings.TrimRight(string(t.small(v)), "\x00")
		if !strings.EqualFold(class, "IPM.Note") && !strings.EqualFold(class, "IPM.Microsoft Mail.Note") {
			t.unread = true
		}
	case attBody:
		t.body("message.txt", "text/plain", v)
	case attMessageProps:
		return t.properties(v, func(id, typ uint16, v span) { t.messageProperty(id, typ, v) })
	case attRenderData:
		t.flush()
		if len(t.files) >= unpackFiles {
			return errTNEF
		}
		t.one = &tnefFile{}
	case attAttachTitle, attAttachData, attAttachmentProps:
		if t.one == nil {
			return errTNEF
		}
		switch id {
		case attAttachTitle:
			t.one.name = t.string8(v)
		case attAttachData:
			t.data(v)
		default:
			return t.properties(v, func(id, typ uint16, v span) { t.fileProperty(id, typ, v) })
		}
	default:
		if !tnefPlain[id] {
			t.unread = true
		}
	}
	return nil
}

// data notes the content of the file at hand; two different ones cannot both be it.
func (t *tnef) data(v span) {
	if t.one.has && (t.one.size != v.size || !t.same(t.one.span, v)) {
		t.unread = true
		return
	}
	t.one.span, t.one.has = v, true
}

// flush ends the file at hand.
func (t *tnef) flush() {
	if f := t.one; f != nil {
		if f.long != "" {
			f.name = f.long
		}
		if f.name = baseName(f.name); !f.has {
			t.unread = true
		} else {
			if !isValue(f.typ) || !strings.Contains(f.typ, "/") || strings.HasPrefix(f.typ, "multipart/") || strings.HasPrefix(f.typ, "message/") {
				f.typ = "application/octet-stream"
			}
			t.files = append(t.files, *f)
		}
		t.one = nil
	}
}

func (t *tnef) body(name, typ string, v span) {
	if p := t.at(v.off, int(min(v.size, 2))); v.size > 0 && !(v.size <= 2 && len(bytes.Trim(p, "\x00")) == 0) && len(t.files) < unpackFiles {
		t.files = append(t.files, tnefFile{name: name, typ: typ, span: v, has: true})
	}
}

// messageProperty: identifiers of MS-OXPROPS.
func (t *tnef) messageProperty(id, typ uint16, v span) {
	switch {
	case id == 0x1009 && typ == 0x102: // RTF, compressed
		if t.rtf.size > 0 {
			t.unread = true
		}
		t.rtf = v
	case id == 0x1013 && (typ == 0x102 || typ == 0x1e || typ == 0x1f):
		t.body("message.html", "text/html", v)
	case id == 0x1000 && (typ == 0x1e || typ == 0x1f):
		t.body("message.txt", "text/plain", v)
	case typ == 0x0d:
		t.unread = true
	}
}

func (t *tnef) fileProperty(id, typ uint16, v span) {
	text := func() string {
		if typ == 0x1f {
			return unicode16(t.small(v))
		}
		return t.string8(v)
	}
	switch {
	case id == 0x3701 && typ == 0x102:
		t.data(v)
	case typ == 0x0d: // a message or an OLE object
		t.unread = true
	case id == 0x3707 && (typ == 0x1e || typ == 0x1f):
		t.one.long = text()
	case id == 0x3704 && t.one.name == "" && (typ == 0x1e || typ == 0x1f):
		t.one.name = text()
	case id == 0x370e && (typ == 0x1e || typ == 0x1f):
		t.one.typ = strings.ToLower(text())
	}
}

// properties walks a list of MAPI properties (MS-OXTNEF section 2.1.3.4), each value by its place; of one with several values, each.
func (t *tnef) properties(v span, each func(id, typ uint16, v span)) error {
	off, end := v.off, v.off+v.size
	u32 := func() (uint32, bool) {
		p := t.at(off, 4)
		if off+4 > end || p == nil {
			return 0, false
		}
		off += 4
		return binary.LittleEndian.Uint32(p), true
	}
	skip := func(n int64) bool {
		n = (n + 3) &^ 3
		if n < 0 || n > end-off {
			return false
		}
		off += n
		return true
	}
	count, ok := u32()
	for ; ok && count > 0; count-- {
		if t.steps++; t.steps > tnefSteps {
			return errTNEF
		}
		var tag, kind, n uint32
		if tag, ok = u32(); !ok {
			break
		}
		typ, id := uint16(tag), uint16(tag>>16)
		if id >= 0x8000 { // named
			if ok = skip(16); !ok {
				break
			}
			if kind, ok = u32(); !ok {
				break
			}
			if n, ok = u32(); !ok || kind == 1 && !skip(int64(n)) || kind > 1 {
				return errTNEF
			}
			id = 0 // none of ours
		}
		size, fixed := fixedSizes[typ&^0x1000]
		n = 1
		if typ&0x1000 != 0 || !fixed {
			if n, ok = u32(); !ok {
				break
			}
		}
		switch kind := typ &^ 0x1000; {
		case fixed:
			for ok = true; ok && n > 0; n-- {
				ok = skip(size)
			}
		case kind == 0x0d || kind == 0x1e || kind == 0x1f || kind == 0x102:
			for ; ok && n > 0; n-- {
				var l uint32
				if l, ok = u32(); !ok {
					break
				}
				at := off
				if t.steps++; t.steps > tnefSteps || !skip(int64(l)) {
					return errTNEF
				}
				each(id, kind, span{at, int64(l)})
			}
		default:
			return errTNEF
		}
	}
	if !ok || off != end {
		return errTNEF
	}
	return nil
}

var fixedSizes = map[uint16]int64{2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 0x0a: 4, 0x0b: 4, 0x14: 8, 0x40: 8, 0x48: 16}

var codepages = map[uint32]string{874: "windows-874", 932: "shift_jis", 936: "gbk", 949: "euc-kr", 950: "big5", 1250: "windows-1250", 1251: "windows-1251", 1252: "windows-1252",
	1253: "windows-1253", 1254: "windows-1254", 1255: "windows-1255", 1256: "windows-1256", 1257: "windows-1257", 1258: "windows-1258", 65001: "utf-8"}

func (t *tnef) string8(v span) string {
	s := strings.TrimRight(string(t.small(v)), "\x00")
	s, _ = inCharset(s, t.codepage)
	return s
}

func unicode16(p []byte) string {
	u := make([]uint16, len(p)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(p[2*i:])
	}
	return strings.TrimRight(string(utf16.Decode(u)), "\x00")
}

// small gives a value that is a name; one too long cannot be read.
func (t *tnef) small(v span) []byte {
	if v.size > tnefValue {
		t.unread = true
		return nil
	}
	return t.at(v.off, int(v.size))
}

// at gives n bytes, nil beyond the end.
func (t *tnef) at(off int64, n int) []byte {
	if off < 0 || off > t.end-int64(n) {
		return nil
	}
	p := make([]byte, n)
	if _, err := t.r.ReadAt(p, off); err != nil && err != io.EOF {
		return nil
	}
	return p
}

// sums holds a value against its checksum: the sum of its bytes.
func (t *tnef) sums(v span, want uint16) bool {
	r := io.NewSectionReader(t.r, v.off, v.size)
	buf := make([]byte, min(v.size, window))
	var sum uint16
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			sum += uint16(c)
		}
		if err != nil || n == 0 {
			return sum == want && (err == io.EOF || v.size == 0)
		}
	}
}

func (t *tnef) same(a, b span) bool {
	x, y := io.NewSectionReader(t.r, a.off, a.size), io.NewSectionReader(t.r, b.off, b.size)
	p, q := make([]byte, window), make([]byte, window)
	for {
		n, err := io.ReadFull(x, p)
		m, _ := io.ReadFull(y, q)
		if n != m || !bytes.Equal(p[:n], q[:m]) {
			return false
		}
		if err != nil {
			return err == io.EOF || err == io.ErrUnexpectedEOF
		}
	}
}
