package pdf

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/text/unicode/norm"
)

// face is the font that every page is set in: Go Regular, which may be embedded (BSD licence) and has Latin, Greek and Cyrillic (WGL4).
type face struct {
	object int
	font   *sfnt.Font
	buf    sfnt.Buffer
	units  fixed.Int26_6
	known  map[rune]glyph // of a rune of its own; id 0: none
	used   map[sfnt.GlyphIndex]rune
}

type glyph struct {
	id    sfnt.GlyphIndex
	width float64 // in sizes of the letter
	space bool
}

func newFace() (*face, error) {
	f, err := sfnt.Parse(goregular.TTF)
	if err != nil {
		return nil, fmt.Errorf("read the font: %w", err)
	}
	return &face{font: f, units: fixed.I(int(f.UnitsPerEm())), known: map[rune]glyph{}, used: map[sfnt.GlyphIndex]rune{}}, nil
}

func (f *face) glyph(r rune) glyph {
	if g, ok := f.known[r]; ok {
		return g
	}
	g := glyph{space: r == ' '}
	if id, err := f.font.GlyphIndex(&f.buf, r); err == nil && id != 0 {
		if w, err := f.font.GlyphAdvance(&f.buf, id, f.units, font.HintingNone); err == nil {
			g.id, g.width = id, float64(w)/float64(f.units)
			if _, ok := f.used[id]; !ok {
				f.used[id] = r
			}
		}
	}
	f.known[r] = g
	return g
}

// glyphs gives the glyphs of one line. shown is false where a sign has none, not even in a compatible form; a box stands for it then.
func (f *face) glyphs(line string) (out []glyph, shown bool) {
	shown = true
	for _, r := range norm.NFC.String(strings.ToValidUTF8(line, "\ufffd")) {
		switch {
		case r == '\t':
			for range tab - len(out)%tab {
				out = append(out, f.glyph(' '))
			}
			continue
		case r < 0x20, r >= 0x7f && r < 0xa0, r == 0xad, r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x2069,
			r >= 0xfe00 && r <= 0xfe0f, r == 0xfeff: // nothing that one sees
			continue
		case r == 0xa0, r >= 0x2000 && r <= 0x200a, r == 0x202f, r == 0x3000:
			r = ' '
		case r == 0x2010, r == 0x2011:
			r = '-'
		}
		if g := f.glyph(r); g.id != 0 {
			out, shown = append(out, g), shown && r != 0xfffd
			continue
		}
		with := len(out)
		for _, c := range norm.NFKC.String(string(r)) {
			g := f.glyph(c)
			if g.id == 0 {
				out, shown = append(out[:with], f.glyph('□')), false
				break
			}
			out = append(out, g)
		}
	}
	return out, shown
}

// write writes the font (ISO 32000-2 section 9.7) with the way back to Unicode, so that text can be searched and read aloud.
func (f *face) write(p *Writer) error {
	file, to, desc, cid := p.promise(), p.promise(), p.promise(), p.promise()
	if err := p.deflated(file, fmt.Sprintf("/Length1 %d", len(goregular.TTF)), goregular.TTF); err != nil {
		return err
	}
	var widths strings.Builder
	var back bytes.Buffer
	back.WriteString("/CIDInit/ProcSet findresource begin\n12 dict begin\nbegincmap\n/CIDSystemInfo<</Registry(Adobe)/Ordering(UCS)/Supplement 0>>def\n" +
		"/CMapName/Adobe-Identity-UCS def\n/CMapType 2 def\n1 begincodespacerange\n<0000><ffff>\nendcodespacerange\n")
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(f.used)), 100) {
		fmt.Fprintf(&back, "%d beginbfchar\n", len(ids))
		for _, id := range ids {
			r := f.used[id]
			fmt.Fprintf(&widths, "%d[%.0f]", id, 1000*f.known[r].width)
			fmt.Fprintf(&back, "<%04x><", id)
			for _, u := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&back, "%04x", u)
			}
			back.WriteString(">\n")
		}
		back.WriteString("endbfchar\n")
	}
	back.WriteString("endcmap\nCMapName currentdict/CMap defineresource pop\nend\nend\n")
	if err := p.deflated(to, "", back.Bytes()); err != nil {
		return err
	}
	// The figures are those of the font's own tables head, hhea and OS/2, in thousandths of its size.
	if err := p.object(desc, fmt.Sprintf("<</Type/FontDescriptor/FontName/GoRegular/Flags 4/FontBBox[-441 -211 1160 944]/ItalicAngle 0/Ascent 944/Descent -211"+
		"/CapHeight 723/StemV 80/FontFile2 %d 0 R>>", file)); err != nil {
		return err
	}
	if err := p.object(cid, fmt.Sprintf("<</Type/Font/Subtype/CIDFontType2/BaseFont/GoRegular/CIDSystemInfo<</Registry %s/Ordering %s/Supplement 0>>"+
		"/FontDescriptor %d 0 R/DW 600/W[%s]/CIDToGIDMap/Identity>>", p.ascii("Adobe"), p.ascii("Identity"), desc, widths.String())); err != nil {
		return err
	}
	return p.object(f.object, fmt.Sprintf("<</Type/Font/Subtype/Type0/BaseFont/GoRegular/Encoding/Identity-H/DescendantFonts[%d 0 R]/ToUnicode %d 0 R>>", cid, to))
}
