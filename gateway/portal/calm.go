package portal

import (
	"bytes"
	"compress/zlib"
	"io"
	"regexp"
)

// A PDF may hold scripts, which readers in browsers run: apart from our page, but an alert of theirs looks like ours. It is shown in place only
// where no name in it is that of a script, in clear or in the compressed streams that hold objects; any character of a name may be
// written as #xx (ISO 32000-1 section 7.3.5). What cannot be looked through is a download.
const (
	maxCalm    = 10 << 20 // octets of a PDF that is looked through, it is in memory meanwhile
	maxInflate = 64 << 20
)

var (
	pdfActive  = regexp.MustCompile(`/(?:` + pdfName("JavaScript") + `|` + pdfName("Launch") + `|` + pdfName("RichMedia") + `|` + pdfName("XFA") + `)(?:[^0-9A-Za-z]|$)`)
	pdfCrypt   = regexp.MustCompile(`/` + pdfName("Encrypt") + `\s`)
	pdfObjects = regexp.MustCompile(`/` + pdfName("ObjStm"))
	pdfStream  = regexp.MustCompile(`stream\r?\n`)
	pdfPlain   = regexp.MustCompile(`/Filter\s*\[?\s*/FlateDecode\s*\]?`)
)

// pdfName matches a name as PDF lets it be written.
func pdfName(s string) string {
	const hex = "0123456789abcdef"
	var b bytes.Buffer
	for _, c := range []byte(s) {
		b.WriteString("(?:" + string(rune(c)) + "|#" + string(hex[c>>4]) + "(?i:" + string(hex[c&15]) + "))")
	}
	return b.String()
}

// calm tells whether a PDF can be shown in place.
func (p *Portal) calm(r *io.SectionReader) bool {
	if r.Size() > maxCalm {
		return false
	}
	p.scans <- struct{}{}
	defer func() { <-p.scans }()
	b, err := io.ReadAll(r)
	if err != nil || pdfActive.Match(b) || pdfCrypt.Match(b) {
		return false
	}
	room := int64(maxInflate)
	for _, at := range pdfObjects.FindAllIndex(b, -1) {
		s := pdfStream.FindIndex(b[at[1]:])
		if s == nil {
			return false
		}
		start := max(0, bytes.LastIndex(b[:at[0]], []byte("obj")))
		dict := b[start : at[1]+s[0]]
		if !pdfPlain.Match(dict) || bytes.Contains(dict, []byte("DecodeParms")) || bytes.Contains(dict, []byte("#")) || bytes.Count(dict, []byte("Decode")) != 1 {
			return false
		}
		z, err := zlib.NewReader(bytes.NewReader(b[at[1]+s[1]:]))
		if err != nil {
			return false
		}
		inside, err := io.ReadAll(io.LimitReader(z, room+1))
		if room -= int64(len(inside)); err != nil || room < 0 || pdfActive.Match(inside) {
			return false
		}
	}
	return true
}
