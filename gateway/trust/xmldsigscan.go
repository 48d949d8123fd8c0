package trust

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The only namespaces that a signed list may use. Prefixes do not exist in it.
const (
	listSpace = "https://listeblanche.mssante.fr/schema"
	dsigSpace = "http://www.w3.org/2000/09/xmldsig#"
)

// Limits of one document, far above the real one.
const (
	maxXMLNode     = 64 << 10 // octets of one tag or one text, as written
	maxSignedDepth = 16
	maxXMLAttrs    = 8
	maxXMLName     = 64
)

type xmlKind int

const (
	xmlStart xmlKind = iota
	xmlEnd
	xmlText
	xmlEOF
)

type xmlAttr struct{ name, value string }

type xmlElement struct{ name, space string }

// xmlScanner reads the part of XML 1.0 that the white list is written in, and refuses everything else: no DTD, no entities but the five
// of XML, no comments, processing instructions or CDATA, no prefixes, no other namespace. encoding/xml takes more, and differently than
// other readers do; what is verified here must have one reading only. Its tokens are valid until the next one.
type xmlScanner struct {
	r     *bufio.Reader
	open  []xmlElement
	known map[string]string // names and namespaces, kept once
	ended bool              // an empty tag is given as start and end
	root  bool              // it has begun

	xmlElement // of a start or an end
	attrs      []xmlAttr
	text       []byte
	buf        []byte
}

func newXMLScanner(r io.Reader) (*xmlScanner, error) {
	s := &xmlScanner{r: bufio.NewReaderSize(r, maxXMLNode), known: map[string]string{}}
	if b, _ := s.r.Peek(3); string(b) == "\xef\xbb\xbf" {
		s.r.Discard(3)
	}
	if b, _ := s.r.Peek(5); string(b) != "<?xml" {
		return s, nil
	}
	decl, err := s.r.ReadSlice('>')
	if err != nil {
		return nil, errors.New("the XML declaration has no end")
	}
	body, ok := bytes.CutSuffix(decl[len("<?xml"):], []byte("?>"))
	if !ok || s.attributes(body) != nil {
		return nil, errors.New("malformed XML declaration")
	}
	for _, a := range s.attrs {
		good := map[string]bool{"version": a.value == "1.0", "encoding": strings.EqualFold(a.value, "UTF-8"), "standalone": a.value == "yes" || a.value == "no"}
		if !good[a.name] {
			return nil, fmt.Errorf("XML declaration with %.20q is not understood", a.name)
		}
	}
	if len(s.attrs) == 0 || s.attrs[0].name != "version" {
		return nil, errors.New("XML declaration without version")
	}
	return s, nil
}

// next gives the next token. The document has ended well at xmlEOF.
func (s *xmlScanner) next() (xmlKind, error) {
	if s.ended {
		s.ended = false
		return s.pop(), nil
	}
	c, err := s.r.ReadByte()
	switch {
	case err == io.EOF && s.root && len(s.open) == 0:
		return xmlEOF, nil
	case err == io.EOF:
		return 0, errors.New("it ends too early")
	case err != nil:
		return 0, err
	case c == '<':
		return s.tag()
	}
	s.r.UnreadByte()
	return s.characters()
}

func (s *xmlScanner) pop() xmlKind {
	s.xmlElement = s.open[len(s.open)-1]
	s.open = s.open[:len(s.open)-1]
	return xmlEnd
}

// characters reads the text up to the next tag. Outside of the root it is white space and no token.
func (s *xmlScanner) characters() (xmlKind, error) {
	raw, err := s.r.ReadSlice('<')
	switch {
	case err == nil:
		raw = raw[:len(raw)-1]
		s.r.UnreadByte()
	case errors.Is(err, bufio.ErrBufferFull):
		return 0, errTooLong
	case err != io.EOF:
		return 0, err
	}
	if len(s.open) == 0 {
		if len(bytes.Trim(raw, xmlSpace)) > 0 {
			return 0, errors.New("text outside of the root")
		}
		return s.next()
	}
	plain := true // the usual case is given as it stands
	for i, c := range raw {
		switch {
		case c < ' ' && c != '\t' && c != '\n', c == '&':
			plain = false
		case c == '>' && i >= 2 && raw[i-1] == ']' && raw[i-2] == ']': // XML 1.0 section 2.4
			return 0, errors.New("]]> in a text")
		}
	}
	if s.text = raw; plain {
		return xmlText, validXML(raw)
	}
	s.text, err = s.decode(raw, false)
	return xmlText, err
}

const xmlSpace = " \t\r\n"

var errTooLong = fmt.Errorf("a tag or a text of over %d octets", maxXMLNode)

// tag reads what stands behind a `<`.
func (s *xmlScanner) tag() (xmlKind, error) {
	raw, err := s.r.ReadSlice('>')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return 0, errTooLong
	case err == io.EOF:
		return 0, errors.New("a tag has no end")
	case err != nil:
		return 0, err
	}
	raw = raw[:len(raw)-1]
	switch {
	case len(raw) > 0 && (raw[0] == '!' || raw[0] == '?'):
		return 0, fmt.Errorf("comments, CDATA, DTD and processing instructions are not taken: <%.20q", raw)
	case len(raw) > 0 && raw[0] == '/':
		name := bytes.TrimRight(raw[1:], xmlSpace)
		if len(s.open) == 0 || string(name) != s.open[len(s.open)-1].name {
			return 0, fmt.Errorf("end tag %.80q has no begin", name)
		}
		return s.pop(), nil
	case len(s.open) == 0 && s.root:
		return 0, errors.New("a second root")
	case len(s.open) == maxSignedDepth:
		return 0, fmt.Errorf("nested deeper than %d", maxSignedDepth)
	}
	raw, s.ended = bytes.CutSuffix(raw, []byte("/"))
	n := xmlName(raw)
	if n == 0 || n > maxXMLName {
		return 0, fmt.Errorf("tag %.80q has no name that is taken (letters, digits, - and _)", raw)
	}
	s.name = s.intern(raw[:n])
	if err := s.attributes(raw[n:]); err != nil {
		return 0, fmt.Errorf("tag %s: %w", s.name, err)
	}
	s.space = ""
	if len(s.open) > 0 {
		s.space = s.open[len(s.open)-1].space
	}
	for i, a := range s.attrs {
		if a.name == "xmlns" {
			s.space = a.value
			s.attrs = append(s.attrs[:i], s.attrs[i+1:]...)
			break
		}
	}
	if s.space != listSpace && s.space != dsigSpace {
		return 0, fmt.Errorf("tag %s is in the namespace %.80q", s.name, s.space)
	}
	s.root = true
	s.open = append(s.open, s.xmlElement)
	return xmlStart, nil
}

// attributes reads ` name="value"`, any number of them, into attrs.
func (s *xmlScanner) attributes(b []byte) error {
	s.attrs = s.attrs[:0]
	for {
		rest := bytes.TrimLeft(b, xmlSpace)
		if len(rest) == 0 {
			return nil
		}
		n := xmlName(rest)
		if len(rest) == len(b) || n == 0 || n > maxXMLName {
			return fmt.Errorf("no attribute at %.40q", rest)
		}
		name := s.intern(rest[:n])
		rest = bytes.TrimLeft(rest[n:], xmlSpace)
		rest, ok := bytes.CutPrefix(rest, []byte("="))
		rest = bytes.TrimLeft(rest, xmlSpace)
		if !ok || len(rest) == 0 || rest[0] != '"' && rest[0] != '\'' {
			return fmt.Errorf("attribute %s has no quoted value", name)
		}
		end := bytes.IndexByte(rest[1:], rest[0])
		if end < 0 { // also where its value holds a >, which is XML and not taken
			return fmt.Errorf("attribute %s has no end", name)
		}
		value := rest[1 : 1+end]
		if bytes.IndexByte(value, '<') >= 0 {
			return fmt.Errorf("attribute %s holds a <", name)
		}
		value, err := s.decode(value, true)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		for _, a := range s.attrs {
			if a.name == name {
				return fmt.Errorf("attribute %s stands twice", name)
			}
		}
		if len(s.attrs) == maxXMLAttrs {
			return fmt.Errorf("over %d attributes", maxXMLAttrs)
		}
		s.attrs = append(s.attrs, xmlAttr{name, s.intern(value)})
		b = rest[end+2:]
	}
}

// xmlName gives the length of the name that b begins with.
func xmlName(b []byte) int {
	for i, c := range b {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-') {
			return i
		}
	}
	return len(b)
}

// intern spares the memory of names that come a hundred thousand times; the map itself stays small.
func (s *xmlScanner) intern(b []byte) string {
	if v, ok := s.known[string(b)]; ok {
		return v
	}
	v := string(b)
	if len(s.known) < 1000 {
		s.known[v] = v
	}
	return v
}

// decode replaces references and line ends (XML 1.0 sections 2.11, 4.1); in an attribute's value white space becomes a space
// (section 3.3.3), unless a reference wrote it.
func (s *xmlScanner) decode(raw []byte, attr bool) ([]byte, error) {
	out := s.buf[:0]
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '\r' && i+1 < len(raw) && raw[i+1] == '\n':
		case attr && (c == '\t' || c == '\n' || c == '\r'):
			out = append(out, ' ')
		case c == '\r':
			out = append(out, '\n')
		case c == '&':
			end := bytes.IndexByte(raw[i:], ';')
			r, ok := rune(0), false
			if end > 0 && end <= 10 {
				r, ok = reference(string(raw[i+1 : i+end]))
			}
			if !ok {
				return nil, fmt.Errorf("reference %.12q is not taken", raw[i:])
			}
			out = utf8.AppendRune(out, r)
			i += end
		default:
			out = append(out, c)
		}
	}
	s.buf = out
	return out, validXML(out)
}

// reference gives the character of `lt`, `#13` or `#xD`.
func reference(name string) (rune, bool) {
	switch name {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, base := strings.TrimPrefix(name, "#"), 10
	if len(digits) == len(name) || digits == "" {
		return 0, false
	}
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	if digits == "" || strings.ContainsAny(digits, "+-_") {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, base, 21)
	return rune(n), err == nil && utf8.ValidRune(rune(n)) // validXML looks at the rest
}

// validXML holds a text against the characters of XML 1.0 section 2.2.
func validXML(b []byte) error {
	for i := 0; i < len(b); {
		if c := b[i]; c < utf8.RuneSelf {
			if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
				return fmt.Errorf("character %#x is not XML", c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return errors.New("a text is not UTF-8")
		}
		if r == 0xfffe || r == 0xffff {
			return fmt.Errorf("character %#x is not XML", r)
		}
		i += n
	}
	return nil
}
