package pdf

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf16"
)

// Writer makes an encrypted PDF while it writes it, strictly forward: pages of text (Heading, Text) and embedded files (File), in any order.
// It holds a page, a few dozen bytes for each object and the name of each file. Close ends the file.
type Writer struct {
	w       io.Writer
	size    int64
	offsets []int64 // of object i+1; 0 while it is only promised
	key     []byte
	lock    int // the encryption dictionary
	files   []int
	names   map[string]bool
	pages   []int
	tree    int
	page    *page
	face    *face
}

// NewWriter starts a file on w.
func NewWriter(w io.Writer, passphrase string) (*Writer, error) {
	if err := checkPassphrase(passphrase); err != nil {
		return nil, err
	}
	f, err := newFace()
	if err != nil {
		return nil, err
	}
	p := &Writer{w: w, face: f, names: map[string]bool{}}
	if err := p.printf("%%PDF-2.0\n%%\xe2\xe3\xcf\xd3\n"); err != nil {
		return nil, err
	}
	key, dict := newKey(passphrase)
	p.lock, p.tree, f.object = p.promise(), p.promise(), p.promise()
	if err := p.object(p.lock, dict); err != nil {
		return nil, err
	}
	p.key = key
	return p, nil
}

func (p *Writer) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.size += int64(n)
	return n, err
}

func (p *Writer) printf(format string, a ...any) error {
	_, err := fmt.Fprintf(p, format, a...)
	return err
}

// promise takes the number of an object that is written later.
func (p *Writer) promise() int {
	p.offsets = append(p.offsets, 0)
	return len(p.offsets)
}

func (p *Writer) object(n int, body string) error {
	p.offsets[n-1] = p.size
	return p.printf("%d 0 obj\n%s\nendobj\n", n, body)
}

// stream writes what r gives as an encrypted stream; its length is an object behind it.
func (p *Writer) stream(n int, dict string, r io.Reader) (read int64, err error) {
	length := p.promise()
	p.offsets[n-1] = p.size
	if err := p.printf("%d 0 obj\n<<%s/Length %d 0 R>>\nstream\n", n, dict, length); err != nil {
		return 0, err
	}
	from := p.size
	s := newSealer(p, p.key)
	if read, err = io.CopyBuffer(struct{ io.Writer }{s}, r, make([]byte, 32<<10)); err != nil {
		return read, err
	}
	if err := s.Close(); err != nil {
		return read, err
	}
	end := p.size
	if err := p.printf("\nendstream\nendobj\n"); err != nil {
		return read, err
	}
	return read, p.object(length, fmt.Sprint(end-from))
}

// deflated is stream for what is small and compresses well.
func (p *Writer) deflated(n int, dict string, b []byte) error {
	_, err := p.stream(n, dict+"/Filter/FlateDecode", bytes.NewReader(deflate(b)))
	return err
}

// text gives a text string (ISO 32000-2 section 7.9.2.2), encrypted.
func (p *Writer) text(s string) string {
	b := []byte{0xfe, 0xff}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return p.ascii(string(b))
}

// ascii gives a string of bytes, encrypted.
func (p *Writer) ascii(s string) string {
	return string(appendSealed(nil, []byte(s), p.key))
}

// File embeds what r gives, byte for byte, under a name, and gives the name and the number of bytes: signs that systems give a meaning to
// are replaced, and a second file of one name gets a number.
func (p *Writer) File(name string, modified time.Time, r io.Reader) (as string, size int64, err error) {
	as = p.unique(FileName(name))
	content, params, spec := p.promise(), p.promise(), p.promise()
	if size, err = p.stream(content, fmt.Sprintf("/Type/EmbeddedFile/Params %d 0 R", params), r); err != nil {
		return as, size, err
	}
	date := p.ascii(modified.UTC().Format("D:20060102150405Z"))
	if err := p.object(params, fmt.Sprintf("<</Size %d/ModDate %s>>", size, date)); err != nil {
		return as, size, err
	}
	p.files = append(p.files, spec)
	n := p.text(as)
	return as, size, p.object(spec, fmt.Sprintf("<</Type/Filespec/F %s/UF %s/EF<</F %d 0 R/UF %[3]d 0 R>>/AFRelationship/Unspecified>>", n, n, content))
}

// FileName gives a name that every system takes as a file's: no folder, no control or direction sign, nothing that Windows gives a meaning to, not
// too long. Its ending stays.
func FileName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r < 0x20, r == 0x7f, r >= 0x80 && r < 0xa0, r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff, r == 0xfffd:
			return -1
		case strings.ContainsRune(`/\:*?"<>|`, r):
			return '_'
		}
		return r
	}, s)
	s = strings.Trim(s, " .")
	if r := []rune(s); len(r) > 120 {
		stem, ext := split(s)
		if e := []rune(ext); len(e) < 20 {
			s = string([]rune(stem)[:120-len(e)]) + ext
		} else {
			s = string(r[:120])
		}
	}
	if s == "" {
		return "_"
	}
	return s
}

// split gives a name's ending with its dot, and what stands before.
func split(name string) (stem, ext string) {
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		return name[:i], name[i:]
	}
	return name, ""
}

func (p *Writer) unique(name string) string {
	as := name
	for i := 2; p.names[strings.ToLower(as)]; i++ {
		stem, ext := split(name)
		as = fmt.Sprintf("%s (%d)%s", stem, i, ext)
	}
	p.names[strings.ToLower(as)] = true
	return as
}

// Close writes what holds pages and files together.
func (p *Writer) Close() error {
	if p.page == nil && len(p.pages) == 0 {
		p.turn() // a PDF has a page
	}
	if err := p.endPage(); err != nil {
		return err
	}
	if err := p.face.write(p); err != nil {
		return err
	}
	kids := make([]string, len(p.pages))
	for i, n := range p.pages {
		kids[i] = fmt.Sprintf("%d 0 R", n)
	}
	if err := p.object(p.tree, fmt.Sprintf("<</Type/Pages/Count %d/MediaBox[0 0 %d %d]/Resources<</Font<</F1 %d 0 R>>>>/Kids[%s]>>",
		len(kids), pageWidth, pageHeight, p.face.object, strings.Join(kids, "\n"))); err != nil {
		return err
	}
	catalog := fmt.Sprintf("/Type/Catalog/Pages %d 0 R", p.tree)
	if len(p.files) > 0 {
		var tree strings.Builder // sorted by its keys (ISO 32000-2 section 7.9.6), which are neutral
		for i, spec := range p.files {
			fmt.Fprintf(&tree, "%s %d 0 R\n", p.text(fmt.Sprintf("%06d", i+1)), spec)
		}
		catalog += fmt.Sprintf("/PageMode/UseAttachments/Names<</EmbeddedFiles<</Names[%s]>>>>", tree.String())
	}
	root := p.promise()
	if err := p.object(root, "<<"+catalog+">>"); err != nil {
		return err
	}
	at := p.size
	var x strings.Builder
	fmt.Fprintf(&x, "xref\n0 %d\n0000000000 65535 f \n", len(p.offsets)+1)
	for _, o := range p.offsets {
		fmt.Fprintf(&x, "%010d 00000 n \n", o)
	}
	id := make([]byte, 16)
	rand.Read(id)
	return p.printf("%strailer\n<</Size %d/Root %d 0 R/Encrypt %d 0 R/ID[<%x><%[5]x>]>>\nstartxref\n%d\n%%%%EOF\n", x.String(), len(p.offsets)+1, root, p.lock, id, at)
}
