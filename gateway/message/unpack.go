package message

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrNotUnpacked: a file within a text breaks off or is no clean uuencode. Readers would take it apart differently; the message stays whole.
var ErrNotUnpacked = errors.New("a file in the text cannot be unpacked")

// They bound what is taken out of one part.
const (
	unpackFiles = 200
	unpackName  = 255
)

// Unpacked holds what lay packed in a message (Index.Packed): each part's files as ordinary ones.
type Unpacked struct {
	parts  map[int]*UnpackedPart
	bodies []*Body
}

// UnpackedPart stands in the place of a part.
type UnpackedPart struct {
	// Text is the part's text without the files, as DecodePart would give it; nil where the part was no text.
	Text  *Body
	Files []UnpackedFile
	// Original: something in the part could not be read, so that it must go along as it is.
	Original bool
}

// UnpackedFile is one file. Its name and type are its sender's: hostile.
type UnpackedFile struct {
	Name, Type string
	body       *Body
	off, size  int64
}

// Size is the number of bytes.
func (f UnpackedFile) Size() int64 { return f.size }

// Open gives the bytes from the beginning; they are there until Unpacked is closed.
func (f UnpackedFile) Open() io.Reader { return f.body.Section(f.off, f.size) }

// Unpack takes the files out of the parts that hold uuencode or TNEF. ErrNotUnpacked means that the message must stay whole; ErrNoRoom and
// other errors that it may succeed later. The budget holds what is unpacked until Close. It is nil, and Part gives nil, where nothing is packed.
func Unpack(b *Body, x *Index, budget *Budget) (u *Unpacked, err error) {
	if len(x.Packed) == 0 || x.Whole() {
		return nil, nil
	}
	u = &Unpacked{parts: map[int]*UnpackedPart{}}
	defer func() {
		if err != nil {
			u.Close()
			u = nil
		}
	}()
	for _, i := range x.Packed {
		p := x.Parts[i]
		if strings.HasPrefix(p.Type, "text/") && !isTNEF(p) {
			err = u.text(b, p, i, budget)
		} else {
			err = u.tnef(b, p, i, budget)
		}
		if err != nil {
			return u, err
		}
	}
	return u, nil
}

func isTNEF(p Part) bool {
	return slices.Contains([]string{"application/ms-tnef", "application/vnd.ms-tnef"}, p.Type) || strings.EqualFold(p.Name, "winmail.dat")
}

// Part gives what stands in the place of part i, nil where it stays as it is.
func (u *Unpacked) Part(i int) *UnpackedPart {
	if u == nil {
		return nil
	}
	return u.parts[i]
}

// Close gives back what was unpacked. It may be called more than once.
func (u *Unpacked) Close() {
	if u != nil {
		for _, b := range u.bodies {
			b.Close()
		}
	}
}

// keep collects what write produces.
func (u *Unpacked) keep(budget *Budget, hint int64, write func(io.Writer) error) (*Body, error) {
	w := budget.NewWriter(hint)
	if err := write(w); err != nil {
		w.Abort()
		return nil, err
	}
	body, err := w.Body()
	if err != nil {
		return nil, err
	}
	u.bodies = append(u.bodies, body)
	return body, nil
}

func (u *Unpacked) tnef(b *Body, p Part, i int, budget *Budget) error {
	part := &UnpackedPart{Original: true}
	u.parts[i] = part
	raw, err := u.keep(budget, p.Size(), func(w io.Writer) error {
		_, err := io.Copy(w, DecodePart(b, p))
		return err
	})
	if errors.Is(err, ErrNoRoom) {
		return err
	}
	if err != nil { // its transfer encoding is broken: nobody reads it
		return ErrNotUnpacked
	}
	t := &tnef{r: raw, end: raw.Size()}
	part.Original = t.parse() != nil || t.unread
	for _, f := range t.files {
		part.Files = append(part.Files, UnpackedFile{Name: f.name, Type: f.typ, body: raw, off: f.off, size: f.size})
	}
	if t.rtf.size > 0 {
		body, err := u.keep(budget, 0, func(w io.Writer) error { return unpackRTF(w, raw.Section(t.rtf.off, t.rtf.size)) })
		switch {
		case errors.Is(err, ErrNoRoom):
			return err
		case err != nil:
			part.Original = true
		default:
			part.Files = append(part.Files, UnpackedFile{Name: "message.rtf", Type: "application/rtf", body: body, size: body.Size()})
		}
	}
	return nil
}

func (u *Unpacked) text(b *Body, p Part, i int, budget *Budget) error {
	part := &UnpackedPart{}
	d := &uudecoder{budget: budget}
	text, err := u.keep(budget, p.Size(), func(w io.Writer) error { return d.decode(w, DecodePart(b, p)) })
	for _, f := range d.files {
		u.bodies = append(u.bodies, f.body)
	}
	if err != nil {
		if errors.Is(err, ErrNoRoom) {
			return fmt.Errorf("unpack text: %w", err)
		}
		return ErrNotUnpacked
	}
	part.Text, part.Files = text, d.files
	u.parts[i] = part
	return nil
}

// baseName is a file's name without folders; Windows and Unix both.
func baseName(s string) string {
	s = strings.TrimSpace(clean(s))
	if i := strings.LastIndexAny(s, `/\`); i >= 0 {
		s = s[i+1:]
	}
	if len(s) > unpackName {
		s = strings.ToValidUTF8(s[len(s)-unpackName:], "")
	}
	return s
}
