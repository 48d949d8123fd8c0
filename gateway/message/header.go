package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
)

// Header holds the fields of a message or part, each byte for byte as it was written, in order.
type Header struct{ fields []Field }

// Field is one header field. Raw is the whole of it with its folds and line end. Name is as written; it is "" for a line that is
// no field, which a header written by strangers may hold.
type Field struct {
	Name string
	Raw  []byte
}

// ErrHeaderTooLarge is given where a message's own header is longer than the limit: nothing can be said of such a message.
var ErrHeaderTooLarge = errors.New("the header is longer than allowed")

// ReadHeader reads the header of a message and gives the offset of its body. It reads at most max bytes and one line.
func ReadHeader(b *Body, max int) (Header, int64, error) {
	room := 4096
	if i := bytes.Index(b.Peek(0), endOfHeader); i >= 0 { // it lies in the first piece, nearly always
		room = min(i+len(endOfHeader), max)
	}
	raw, s := make([]byte, 0, room), newScanner(b)
	for {
		line, start, err := s.next()
		switch {
		case err == io.EOF:
			return parseHeader(raw), b.Size(), nil
		case err != nil:
			return Header{}, 0, fmt.Errorf("read header: %w", err)
		case isBlankLine(line) && !s.mid:
			return parseHeader(raw), start + int64(len(line)), nil
		case len(raw)+len(line) > max:
			return Header{}, 0, ErrHeaderTooLarge
		}
		raw = append(raw, line...)
	}
}

var endOfHeader = []byte("\r\n\r\n")

// HeaderLen is the length of a message's header, at most max+1: what ReadHeader would take, without taking it.
func HeaderLen(b *Body, max int) int {
	limit := int(min(b.Size(), int64(max)+1))
	if m := b.Peek(0); len(m) > 0 { // the usual case: it lies in the first piece
		if i := bytes.Index(m[:min(limit, len(m))], endOfHeader); i >= 0 {
			return i + len(endOfHeader)
		}
	}
	buf, kept := make([]byte, segment+len(endOfHeader)), 0
	for at := 0; at < limit; {
		n, err := b.ReadAt(buf[kept:kept+min(segment, limit-at)], int64(at))
		if i := bytes.Index(buf[:kept+n], endOfHeader); i >= 0 {
			return at - kept + i + len(endOfHeader)
		}
		if err != nil || n == 0 {
			return limit
		}
		at += n
		have := kept + n
		kept = copy(buf, buf[have-min(have, len(endOfHeader)-1):have])
	}
	return limit
}

func isBlankLine(line []byte) bool {
	return len(line) == 2 && line[0] == '\r' && line[1] == '\n' || len(line) == 1 && line[0] == '\n'
}

// parseHeader splits raw into fields; it owns raw afterwards.
func parseHeader(raw []byte) Header {
	var h Header
	for len(raw) > 0 {
		n := 0
		for {
			i := bytes.IndexByte(raw[n:], '\n')
			if i < 0 {
				n = len(raw)
				break
			}
			n += i + 1
			if n == len(raw) || raw[n] != ' ' && raw[n] != '\t' {
				break
			}
		}
		f := Field{Raw: raw[:n:n]}
		// RFC 5322 section 2.2: printable ASCII without colon; a blank before the colon is obsolete syntax that parsers read apart.
		if i := bytes.IndexByte(f.Raw, ':'); i > 0 && isFieldName(f.Raw[:i]) {
			f.Name = string(f.Raw[:i])
		}
		h.fields, raw = append(h.fields, f), raw[n:]
	}
	return h
}

func isFieldName(p []byte) bool {
	for _, c := range p {
		if c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return len(p) > 0
}

// Fields gives the fields in order. The caller must not change their bytes.
func (h Header) Fields() []Field { return h.fields }

// Values gives the values of all fields of that name, unfolded and not decoded.
func (h Header) Values(name string) []string {
	var v []string
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) && name != "" {
			v = append(v, f.Value())
		}
	}
	return v
}

// Get gives the value of the first field of that name, unfolded and not decoded, or "".
func (h Header) Get(name string) string {
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) && name != "" {
			return f.Value()
		}
	}
	return ""
}

// Text gives the value of the first field of that name with its encoded words (RFC 2047) decoded, as valid UTF-8 without control
// characters.
func (h Header) Text(name string) string { return DecodeText(h.Get(name)) }

// Value is what stands behind the colon, unfolded (RFC 5322 section 2.2.3), without blanks around it.
func (f Field) Value() string {
	v := f.Raw
	if f.Name != "" {
		v = v[len(f.Name)+1:]
	}
	v = bytes.Trim(v, " \t\r\n") // no other blanks: parsers differ in whether a no-break space belongs to the value
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 {
		return string(v)
	}
	out := make([]byte, 0, len(v))
	for _, c := range v {
		if c != '\r' && c != '\n' {
			out = append(out, c)
		}
	}
	return string(out)
}

// Del removes every field of these names.
func (h *Header) Del(names ...string) {
	kept := make([]Field, 0, len(h.fields))
next:
	for _, f := range h.fields {
		for _, n := range names {
			if f.Name != "" && strings.EqualFold(f.Name, n) {
				continue next
			}
		}
		kept = append(kept, f)
	}
	h.fields = kept
}

// Append puts a field behind all others, folded at blanks towards 78 columns (RFC 5322 section 2.1.1). It refuses a name that is none and
// a value with a line break or NUL.
func (h *Header) Append(name, value string) error {
	raw, err := FormatField(name, value)
	if err != nil {
		return err
	}
	h.fields = append(h.fields[:len(h.fields):len(h.fields)], Field{name, raw})
	return nil
}

// AppendRaw puts fields as they are behind all others: those that stand in another header. All at once: each call copies the header.
func (h *Header) AppendRaw(fields ...Field) {
	h.fields = append(h.fields[:len(h.fields):len(h.fields)], fields...)
}

// Phrase writes a display name as it may stand before an address (RFC 5322 section 3.2.5): quoted or encoded where it holds more than
// plain words, so that no comma, bracket or at sign of a clinic's name is read as part of an address.
func Phrase(name string) string {
	return strings.TrimSuffix((&mail.Address{Name: name, Address: "a@b"}).String(), " <a@b>")
}

// FormatField writes one field, folded, with its line end.
func FormatField(name, value string) ([]byte, error) {
	if !isFieldName([]byte(name)) {
		return nil, fmt.Errorf("header field has no valid name")
	}
	if strings.ContainsAny(value, "\r\n\x00") {
		return nil, fmt.Errorf("header field %s holds a line break", name)
	}
	out := append([]byte(name), ':', ' ')
	start := 0 // of the line
	for value = strings.Trim(value, " \t"); value != ""; {
		n := strings.IndexByte(value[1:], ' ') + 1
		if n == 0 {
			n = len(value)
		}
		// A line of blanks alone must not arise (RFC 5322 section 3.2.2): the fold goes before a word only.
		if len(out)-start+n > 78 && (start > 0 || len(out) > len(name)+2) && value[0] == ' ' && strings.Trim(value[:n], " \t") != "" {
			out = append(out, "\r\n"...)
			start = len(out)
		}
		out, value = append(out, value[:n]...), value[n:]
	}
	return append(out, "\r\n"...), nil
}

// Bytes gives the header as it goes on the wire, with the empty line that ends it.
func (h Header) Bytes() []byte {
	var out []byte
	for _, f := range h.fields {
		out = append(out, f.Raw...)
		if !bytes.HasSuffix(f.Raw, []byte("\n")) { // the message ended within its header
			out = append(out, "\r\n"...)
		}
	}
	return append(out, "\r\n"...)
}

// charset gives the encoding of that name, nil for UTF-8, US-ASCII and an error for what is not known.
func charset(name string) (encoding.Encoding, error) {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		return nil, nil
	}
	if e, err := htmlindex.Get(name); err == nil {
		return e, nil
	}
	if e, err := ianaindex.MIME.Encoding(name); err == nil && e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("charset is not known")
}

// CharsetReader gives text in the charset of that name as UTF-8; a charset that is not known is an error.
func CharsetReader(name string, r io.Reader) (io.Reader, error) {
	e, err := charset(name)
	if err != nil || e == nil {
		return r, err
	}
	return e.NewDecoder().Reader(r), nil
}

var words = mime.WordDecoder{CharsetReader: CharsetReader}

// anyWords reads a charset that is not known as windows-1252: one such word must not hide what the others say.
var anyWords = mime.WordDecoder{CharsetReader: func(name string, r io.Reader) (io.Reader, error) {
	if known, err := CharsetReader(name, r); err == nil {
		return known, nil
	}
	return charmap.Windows1252.NewDecoder().Reader(r), nil
}}

// DecodeText decodes the encoded words (RFC 2047) of a header value. What cannot be decoded stays as it is; the result is valid
// UTF-8 and holds no control character.
func DecodeText(s string) string {
	if d, err := anyWords.DecodeHeader(s); err == nil {
		s = d
	}
	return clean(s)
}

// clean makes valid UTF-8 without control characters: raw 8-bit text is taken for windows-1252, what western mailers meant.
func clean(s string) string {
	if !utf8.ValidString(s) {
		if d, err := charmap.Windows1252.NewDecoder().String(s); err == nil {
			s = d
		}
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return -1 // controls, and the marks that turn the direction of writing and so hide a file's true ending
		}
		return r
	}, s)
}
