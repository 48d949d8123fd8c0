package pdf

import (
	"bytes"
	"fmt"
	"strings"
)

// A page is A4 in points, with room at its edges.
const (
	pageWidth, pageHeight = 595, 842
	margin                = 56
	small, large          = 10.5, 14.0 // sizes of letters
	tab                   = 8
)

// page is the one being filled.
type page struct {
	content bytes.Buffer
	y       float64 // of the line before
}

// Heading writes one larger line, wrapped where it is too long. shown tells whether every sign of it has a glyph.
func (p *Writer) Heading(s string) (shown bool, err error) { return p.lines(s, large) }

// Text writes lines of text, wrapped where they are too long, on as many pages as they need. A sign without a glyph is shown as a box, and
// shown is false.
func (p *Writer) Text(s string) (shown bool, err error) { return p.lines(s, small) }

func (p *Writer) lines(s string, size float64) (shown bool, err error) {
	shown = true
	s = strings.TrimSuffix(strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n", "\f", "\n", "\v", "\n").Replace(s), "\n")
	for line := range strings.SplitSeq(s, "\n") {
		glyphs, ok := p.face.glyphs(line)
		shown = shown && ok
		for first := true; first || len(glyphs) > 0; first = false {
			n := wrap(glyphs, (pageWidth-2*margin)/size)
			if err := p.line(glyphs[:n], size); err != nil {
				return shown, err
			}
			if glyphs = glyphs[n:]; len(glyphs) > 0 && n > 0 && glyphs[0].space {
				glyphs = glyphs[1:]
			}
		}
	}
	return shown, nil
}

// wrap gives how many glyphs go on the line: up to the last space that fits, or all that fit.
func wrap(glyphs []glyph, width float64) int {
	sum, space := 0.0, 0
	for i, g := range glyphs {
		if g.space {
			space = i
		}
		if sum += g.width; sum > width && i > 0 {
			if space > 0 {
				return space
			}
			return i
		}
	}
	return len(glyphs)
}

func (p *Writer) line(glyphs []glyph, size float64) error {
	if p.page != nil && p.page.y-size*1.35 < margin {
		if err := p.endPage(); err != nil {
			return err
		}
	}
	if p.page == nil {
		p.turn()
	}
	p.page.y -= size * 1.35
	if len(glyphs) == 0 {
		return nil
	}
	fmt.Fprintf(&p.page.content, "BT/F1 %.1f Tf %d %.2f Td<", size, margin, p.page.y)
	for _, g := range glyphs {
		fmt.Fprintf(&p.page.content, "%04x", g.id)
	}
	p.page.content.WriteString(">Tj ET\n")
	return nil
}

func (p *Writer) turn() { p.page = &page{y: pageHeight - margin} }

func (p *Writer) endPage() error {
	if p.page == nil {
		return nil
	}
	content, n := p.promise(), p.promise()
	if err := p.deflated(content, "", p.page.content.Bytes()); err != nil {
		return err
	}
	p.page, p.pages = nil, append(p.pages, n)
	return p.object(n, fmt.Sprintf("<</Type/Page/Parent %d 0 R/Contents %d 0 R>>", p.tree, content))
}
