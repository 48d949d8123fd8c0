package message

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Part is one MIME part by its place in the message.
type Part struct {
	// Start is where its header begins, HeaderEnd where its body begins, End the offset behind its body. The line end before a
	// boundary belongs to the boundary (RFC 2046 section 5.1.1).
	Start, HeaderEnd, End int64
	Type                  string // media type in lower case, "text/plain" where none is given
	Params                map[string]string
	Encoding              string // content transfer encoding in lower case, "7bit" where none is given
	Disposition           string // "inline", "attachment" or ""
	Name                  string // file name as its sender meant it, decoded; hostile
	ContentID             string // without < and >
	Parent                int    // -1 for the root
	Depth                 int
	Children              []int
	Opaque                bool // signed or encrypted: a range of bytes that is never looked into
	Inline                bool // it lies in multipart/related and is not what the others relate to
}

// Size is the number of bytes of the part's body as transferred.
func (p Part) Size() int64 { return p.End - p.HeaderEnd }

// Index says where the parts of a message lie.
type Index struct {
	Header Header
	// Parts in the order in which they begin; the first is the message itself.
	Parts []Part
	// Weight is about how many bytes of memory the index keeps.
	Weight int64
	// Unclear says why two readers may see different parts, "" where they may not. It holds no word of the message.
	Unclear string
	// Packed are the parts whose files only some readers see: uuencode in a text, Outlook's format (TNEF). A message that holds one is
	// Unclear; it is Whole for another reason alone.
	Packed []int
	whole  bool
}

// Whole tells that the message must not be taken apart: readers may see different parts, and not only because some of them cannot
// unpack what is Packed.
func (x *Index) Whole() bool { return x.whole }

// Limits bound what Parse follows; beyond them a message is Unclear.
type Limits struct {
	Depth, Parts, Header int
	// Signed: what multipart/signed holds is looked at too. Who asks wants to know what is in it, and takes nothing of it apart.
	Signed bool
	// Encrypted: the parts of multipart/encrypted are found, for who opens them.
	Encrypted bool
}

// headersFactor bounds the headers of all parts together, in lengths of one: an index is kept while its message is in hand.
const headersFactor = 2

// partWeight is a Part with its map, in bytes.
const partWeight = 512

// DefaultLimits are generous for what people send.
var DefaultLimits = Limits{Depth: 50, Parts: 1000, Header: 256 << 10}

// Parse finds the parts in one pass through a window of 64 KiB. It fails where the body cannot be read or its own header is too
// long (ErrHeaderTooLarge); everything else that is wrong makes the index Unclear. It changes nothing and decodes nothing.
func Parse(b *Body, lim Limits) (*Index, error) {
	p := &parser{scanner: newScanner(b), lim: lim, x: &Index{}}
	p.begin(0, -1)
	for {
		p.bulk = p.state == inLeaf
		line, start, err := p.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("index message: %w", err)
		}
		if err := p.line(line, start); err != nil {
			return nil, err
		}
		if p.stop {
			break
		}
	}
	if p.state == inHeader && !p.stop {
		p.headerDone(b.Size())
	}
	p.closeTo(0, b.Size())
	p.x.Parts[0].End = b.Size()
	p.x.Weight = int64(len(p.x.Parts)*partWeight + 2*p.headers)
	return p.x, nil
}

type state int

const (
	inHeader state = iota
	inLeaf
	inText // a leaf whose lines are looked at: text in the clear
	inPreamble
	inEpilogue
)

// open is a part on the way from the root to where the scan is.
type open struct {
	part     int
	boundary string // "" for what has none
	closed   bool   // its final boundary was seen
}

type parser struct {
	*scanner
	lim    Limits
	x      *Index
	path   []open
	state  state
	header []byte
	// headers is the length of all headers so far.
	headers int
	nl      int64 // length of the line end before the current line
	eol     int64 // length of the first line's end
	first   bool  // the line is the first of a body
	cr      bool  // the piece before ended with a CR
	stop    bool
}

// unclear keeps the first reason.
func (p *parser) unclear(why string) {
	p.x.whole = true
	if p.x.Unclear == "" {
		p.x.Unclear = why
	}
}

// packed notes that the innermost part holds files that some readers unpack.
func (p *parser) packed(why string) {
	part := p.path[len(p.path)-1].part
	if n := len(p.x.Packed); n == 0 || p.x.Packed[n-1] != part {
		p.x.Packed = append(p.x.Packed, part)
	}
	if p.x.Unclear == "" {
		p.x.Unclear = why
	}
}

// giveUp ends the scan at a limit; the parts found so far stay, ended where the message ends.
func (p *parser) giveUp(why string) {
	p.unclear(why)
	p.stop = true
}

func (p *parser) begin(start int64, parent int) {
	if len(p.x.Parts) >= p.lim.Parts && parent >= 0 {
		p.giveUp("it has too many parts")
		return
	}
	depth := 0
	if parent >= 0 {
		depth = p.x.Parts[parent].Depth + 1
		if depth > p.lim.Depth {
			p.giveUp("its parts are nested too deeply")
			return
		}
		p.x.Parts[parent].Children = append(p.x.Parts[parent].Children, len(p.x.Parts))
	}
	p.path = append(p.path, open{part: len(p.x.Parts)})
	p.x.Parts = append(p.x.Parts, Part{Start: start, HeaderEnd: start, End: start, Parent: parent, Depth: depth, Type: "text/plain", Encoding: "7bit"})
	p.state, p.header = inHeader, p.header[:0]
}

func (p *parser) line(line []byte, start int64) error {
	nl, first := p.nl, p.first
	p.nl, p.first = lineEnd(line), false
	p.ends(line)
	if !p.mid && len(line) > 2 && line[0] == '-' && line[1] == '-' && p.delimiter(line, start, nl) {
		return nil
	}
	switch p.state {
	case inHeader:
		switch {
		case isBlankLine(line) && !p.mid:
			p.headerDone(start + int64(len(line)))
		case len(p.header)+len(line) > p.lim.Header:
			if len(p.path) == 1 {
				return ErrHeaderTooLarge
			}
			p.giveUp("a header is too long")
		case len(p.path) > 1 && p.headers+len(line) > headersFactor*p.lim.Header:
			p.giveUp("its headers are too long in all")
		default:
			p.headers += len(line)
			p.header = append(p.header, line...)
		}
	case inLeaf:
		if first && bytes.HasPrefix(line, []byte("eJ8+I")) { // base64 of TNEF's signature
			if part := p.x.Parts[p.path[len(p.path)-1].part]; part.Encoding == "base64" && !part.Opaque {
				p.packed(holdsTNEF)
			}
		}
	case inText:
		if !p.mid {
			p.textLine(line)
		}
	case inPreamble, inEpilogue:
		if len(bytes.Trim(line, " \t\r\n")) > 0 && !(p.state == inPreamble && usualPreamble(line)) {
			p.unclear("there is text before or after its parts")
		}
	}
	return nil
}

// ends looks at where lines end: parsers differ in whether a bare CR, or a LF among CRLF, is an end, and so a place for a boundary; some
// read no further than a NUL.
func (p *parser) ends(line []byte) {
	cut := p.cr // the window ended between CR and LF
	if p.cr = p.long && line[len(line)-1] == '\r'; cut && line[0] == '\n' {
		p.nl = 2
	} else if cut {
		p.unclear("it holds a bare carriage return")
	}
	if p.eol == 0 {
		p.eol = p.nl
	}
	pairs := 0 // CRLF; in bulk there are many
	if cut && line[0] == '\n' {
		pairs++
	}
	for rest := line; ; {
		i := bytes.IndexByte(rest, '\r')
		if i < 0 || p.cr && i == len(rest)-1 {
			break
		}
		if i+1 == len(rest) || rest[i+1] != '\n' {
			p.unclear("it holds a bare carriage return")
			break
		}
		pairs, rest = pairs+1, rest[i+2:]
	}
	if n := bytes.Count(line, newline); n > 0 && (p.eol == 2 && n != pairs || p.eol == 1 && pairs > 0) {
		p.unclear("its lines end in different ways")
	}
	if bytes.IndexByte(line, 0) >= 0 {
		p.unclear("it holds a NUL")
	}
}

var newline = []byte("\n")

func lineEnd(line []byte) int64 {
	switch {
	case bytes.HasSuffix(line, []byte("\r\n")):
		return 2
	case bytes.HasSuffix(line, []byte("\n")):
		return 1
	}
	return 0
}

// delimiter handles a line that begins with "--" where it is a boundary of an open multipart, innermost first.
func (p *parser) delimiter(line []byte, start, nl int64) bool {
	for i := len(p.path) - 1; i >= 0; i-- {
		f := p.path[i]
		if f.boundary == "" || f.closed || !bytes.HasPrefix(line[2:], []byte(f.boundary)) {
			continue
		}
		tail := string(line[2+len(f.boundary):])
		rest := strings.TrimRight(tail, " \t\r\n")
		if rest != "" && rest != "--" || p.long {
			p.unclear("a line begins like a boundary and goes on")
			continue
		}
		if blanks := strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(tail, "\n"), "\r"), "--"); strings.Contains(blanks, "\r") {
			p.unclear("a boundary holds a bare carriage return")
		}
		if p.state == inHeader {
			p.unclear("a boundary stands within a header")
			p.headerDone(start)
		}
		end := max(start-nl, p.x.Parts[p.path[len(p.path)-1].part].HeaderEnd)
		p.closeTo(i+1, end)
		if rest == "--" {
			p.path[i].closed, p.state = true, inEpilogue
			if len(p.x.Parts[p.path[i].part].Children) == 0 {
				p.unclear("a multipart has no parts")
			}
			return true
		}
		p.begin(start+int64(len(line)), p.path[i].part)
		return true
	}
	return false
}

// closeTo ends the open parts from path[i] on.
func (p *parser) closeTo(i int, end int64) {
	for _, f := range p.path[i:] {
		if f.boundary != "" && !f.closed {
			p.unclear("a final boundary is missing")
		}
		part := &p.x.Parts[f.part]
		part.End = max(end, part.HeaderEnd)
	}
	p.path = p.path[:i]
}

// headerDone reads the collected header of the innermost part and decides how its body is scanned.
func (p *parser) headerDone(at int64) {
	f := &p.path[len(p.path)-1]
	part := &p.x.Parts[f.part]
	part.HeaderEnd, p.first = at, true
	h := parseHeader(bytes.Clone(p.header))
	if f.part == 0 {
		p.x.Header = h
	}
	if part.Parent >= 0 && p.x.Parts[part.Parent].Type == "multipart/digest" {
		part.Type = "message/rfc822" // RFC 2046 section 5.1.5
	}
	for _, why := range headerFaults(h) {
		p.unclear(why)
	}
	for _, why := range part.describe(h) {
		if why == holdsTNEF {
			p.packed(why)
			continue
		}
		p.unclear(why)
	}
	if p.lim.Signed && part.Type == "multipart/signed" || p.lim.Encrypted && part.Type == "multipart/encrypted" {
		part.Opaque = false
	}
	if part.Parent >= 0 {
		p.relate(f.part)
	}
	p.state = inLeaf
	identity := part.Encoding == "7bit" || part.Encoding == "8bit" || part.Encoding == "binary"
	switch {
	case part.Opaque:
	case strings.HasPrefix(part.Type, "multipart/"):
		if !identity {
			p.unclear("a multipart has a transfer encoding")
		}
		if strings.Contains(part.Params["boundary"], " ") && folded(h, "Content-Type") {
			p.unclear("a boundary with a blank stands in a folded field") // it may be the fold's
		}
		p.openMultipart(f, part.Params["boundary"])
	case part.Type == "message/rfc822" || part.Type == "message/global":
		if !identity {
			p.unclear("an attached message has a transfer encoding")
			return
		}
		p.begin(at, f.part)
	case strings.HasPrefix(part.Type, "text/") && part.Encoding != "base64":
		p.state = inText
	}
}

func (p *parser) openMultipart(f *open, boundary string) {
	if !isBoundary(boundary) {
		p.unclear("a multipart has no valid boundary")
		return
	}
	for _, o := range p.path {
		if o.boundary == "" || o.closed {
			continue
		}
		if strings.HasPrefix(o.boundary, boundary) || strings.HasPrefix(boundary, o.boundary) {
			p.unclear("two nested boundaries begin alike")
			if o.boundary == boundary {
				return
			}
		}
	}
	f.boundary, p.state = boundary, inPreamble
}

// isBoundary holds to RFC 2046 section 5.1.1, and lets pass what else mailers write and every parser reads alike: some take quotes, angle
// brackets or encoded words off, or know ASCII alone.
func isBoundary(s string) bool {
	if s == "" || len(s) > 70 || strings.Trim(s, " ") != s || strings.Contains(s, "=?") || strings.ContainsAny(s, "\"\\<>;") || s[0] == '\'' && s[len(s)-1] == '\'' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f })
}

// relate marks a part of multipart/related (RFC 2387) other than the one that its start parameter, or its place, makes the root.
func (p *parser) relate(i int) {
	part := &p.x.Parts[i]
	parent := &p.x.Parts[part.Parent]
	if parent.Type != "multipart/related" {
		part.Inline = parent.Inline
		return
	}
	if start := strings.Trim(parent.Params["start"], "<> "); start != "" {
		part.Inline = part.ContentID != start
		return
	}
	part.Inline = parent.Children[0] != i
}
