package protect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"passerelle/crypto/lines"
	"passerelle/crypto/pdf"
	"passerelle/gateway/message"
)

// The modes of PDF.
const (
	// PDFEach makes message.pdf of the text and of files of other kinds; each PDF of the message stays one of its own beside it.
	PDFEach = "each"
	// PDFWhole makes one PDF that holds every file, byte for byte.
	PDFWhole = "whole"
)

// PDF gives a message whose attachment message.pdf (AES-256, R 6) shows the text and holds the files, and whose text says how to open it.
// The passphrase goes another way, never with it; crypto/pdf says what it must be. With PDFEach a PDF of the message lies beside it,
// rewritten and encrypted as piece-01.pdf; one that cannot be rewritten (signed, encrypted already, broken, large) is held like any other
// file. A message that is Unclear, signed or encrypted as a whole, or broken in an encoding, is held as message.eml. With Options.TextOutside the text stays
// readable, and message.pdf names and holds the rest. An Error of step
// "form" says that this message cannot take the form: readers refuse to give out a file of it (see refused).
func PDF(ctx context.Context, env *message.Envelope, b *message.Body, x *message.Index, to message.Recipient, passphrase, mode string, o Options) (body *message.Body, err error) {
	whole := x.Unclear != "" || x.Parts[0].Opaque || x.Check(b) != nil
	defer count("pdf", whole, &err)
	d := &document{ctx: ctx, b: b, x: x, o: o, passphrase: passphrase, each: mode == PDFEach, outside: !whole && o.textOutside(b, x)}
	if mode != PDFEach && mode != PDFWhole {
		return nil, &Error{Step: "form", Err: fmt.Errorf("pdf mode %q is not known", mode)}
	}
	if !whole {
		if err := d.accept(); err != nil {
			return nil, err
		}
	}
	defer d.close()
	mark := boundary()
	h := outer(env, x.Header, to, o)
	if err := h.Append("Content-Type", `multipart/mixed; boundary="`+mark+`"`); err != nil {
		return nil, &Error{Step: "seal", Err: err}
	}
	return build(o, b.Size()+b.Size()/20+160<<10, func(w io.Writer) error {
		if !whole {
			if err := d.rewriteAll(); err != nil {
				return err
			}
		}
		cover := pdfCoverText(o)
		if d.outside {
			cover = coverOf(coverPDFFilesFrench, coverPDFFilesEnglish, o)
		}
		if err := writeTop(w, h.Bytes(), mark, cover, b, x, d.outside); err != nil {
			return err
		}
		err := attachPDF(w, mark, "message.pdf", func(w io.Writer) error { return d.write(w, whole) })
		if err != nil {
			return err
		}
		for _, p := range d.pieces {
			if err := attachPDF(w, mark, p.name, func(w io.Writer) error { return copyBody(ctx, w, p.body, 0) }); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(w, "\r\n--%s--\r\n", mark)
		return err
	})
}

func attachPDF(w io.Writer, mark, name string, write func(io.Writer) error) error {
	_, err := fmt.Fprintf(w, "\r\n--%s\r\nContent-Type: application/pdf; name=\"%s\"\r\nContent-Disposition: attachment; filename=\"%[2]s\"\r\n"+
		"Content-Transfer-Encoding: base64\r\n\r\n", mark, name)
	if err != nil {
		return err
	}
	text := lines.NewWriter(w)
	if err := write(text); err != nil {
		return err
	}
	return text.Close()
}

// piece is a PDF of the message that stays one.
type piece struct {
	part int
	name string // neutral
	body *message.Body
}

// document fills message.pdf.
type document struct {
	ctx        context.Context
	b          *message.Body
	x          *message.Index
	o          Options
	passphrase string
	each       bool
	outside    bool // the texts are not in it
	pieces     []piece
	w          *pdf.Writer
	shown      map[int]bool // alternatives of which a text is shown
	list       strings.Builder
	unnamed    int
}

func (d *document) close() {
	for _, p := range d.pieces {
		p.body.Close()
	}
}

// leaves calls do for every part that is shown or held.
func (d *document) leaves(do func(i int, p message.Part) error) error {
	var walk func(i int) error
	walk = func(i int) error {
		p := d.x.Parts[i]
		if !strings.HasPrefix(p.Type, "multipart/") || p.Opaque {
			return do(i, p)
		}
		for _, c := range p.Children {
			if err := walk(c); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(0)
}

func isText(p message.Part) bool {
	return (p.Type == "text/plain" || p.Type == "text/html") && p.Disposition != "attachment" && p.Name == "" && !p.Opaque
}

// rewriteTime is for all PDFs of a message together: a file may be made to cost seconds.
const rewriteTime = 20 * time.Second

// rewriteAll encrypts those PDFs that can be rewritten in time, before message.pdf names them. The others are held.
func (d *document) rewriteAll() error {
	if !d.each {
		return nil
	}
	late, cancel := context.WithTimeout(d.ctx, rewriteTime)
	defer cancel()
	return d.leaves(func(i int, p message.Part) error {
		if late.Err() != nil && d.ctx.Err() == nil {
			return nil
		}
		if p.Opaque || p.Type != "application/pdf" && !strings.HasSuffix(strings.ToLower(p.Name), ".pdf") || p.Size() > pdf.MaxSize/2*3 {
			return nil
		}
		size := p.Size()
		if p.Encoding == "base64" {
			size = size / 4 * 3
		}
		release, err := d.o.Budget.Reserve(d.ctx, min(pdf.Memory*size+1<<20, d.o.Budget.HalfWork()))
		if err != nil {
			return err
		}
		defer release()
		sealed, err := pdf.Encrypt(late, message.DecodePart(d.b, p), d.passphrase)
		if err != nil && late.Err() != nil && d.ctx.Err() == nil {
			return nil
		}
		for _, own := range []error{pdf.ErrSigned, pdf.ErrEncrypted, pdf.ErrTooLarge, pdf.ErrNotRewritten} {
			if errors.Is(err, own) {
				return nil
			}
		}
		if err != nil {
			return passphraseError(err)
		}
		w := d.o.Budget.NewWriter(int64(len(sealed)))
		if _, err := w.Write(sealed); err != nil {
			w.Abort()
			return err
		}
		body, err := w.Body()
		if err != nil {
			return err
		}
		d.pieces = append(d.pieces, piece{i, fmt.Sprintf("piece-%02d.pdf", len(d.pieces)+1), body})
		return nil
	})
}

func passphraseError(err error) error {
	if errors.Is(err, pdf.ErrPassphrase) {
		return &Error{Step: "passphrase", Err: err}
	}
	return err
}

func (d *document) write(w io.Writer, whole bool) (err error) {
	if d.w, err = pdf.NewWriter(w, d.passphrase); err != nil {
		return passphraseError(err)
	}
	d.shown = map[int]bool{}
	subject := d.x.Header.Text("Subject")
	if subject == "" {
		subject = "(sans objet / no subject)"
	}
	headed, err := d.w.Heading(subject)
	if err != nil {
		return err
	}
	fields := "\nDe / From : " + d.x.Header.Text("From") + "\nDate : " + d.x.Header.Text("Date") + "\n\n"
	shown, err := d.w.Text(fields)
	if err != nil {
		return err
	}
	if whole {
		if err := d.wholeMessage(); err != nil {
			return err
		}
	} else if err := d.leaves(d.part); err != nil {
		return err
	}
	if !headed || !shown {
		fields = "Objet / Subject : " + subject + fields
		if err := d.file(-1, "entete.txt", strings.NewReader("\ufeff"+strings.ReplaceAll(fields, "\n", "\r\n"))); err != nil {
			return err
		}
	}
	if d.list.Len() > 0 {
		if _, err := d.w.Text("\n\nDocuments :\n" + d.list.String()); err != nil {
			return err
		}
	}
	return d.w.Close()
}

// wholeMessage holds the message as it is.
func (d *document) wholeMessage() error {
	if _, err := d.w.Text("Le message complet est dans la pièce jointe « message.eml » de ce PDF : ouvrez-la avec votre logiciel de messagerie.\n" +
		"The whole message is in the attachment \"message.eml\" of this PDF: open it with your mail program.\n"); err != nil {
		return err
	}
	head := bytes.NewReader(Inside(d.x.Header))
	return d.file(-1, "message.eml", io.MultiReader(head, d.b.Section(d.x.Parts[0].HeaderEnd, -1)))
}

// part shows a text, names a piece, holds everything else. No leaf is left out.
func (d *document) part(i int, p message.Part) error {
	for _, c := range d.pieces {
		if c.part == i {
			d.listed(c.name, p.Name, c.body.Size())
			return nil
		}
	}
	switch {
	case d.outside && isOutside(p):
		return nil
	case isText(p):
		return d.text(i, p)
	case p.Opaque && strings.HasPrefix(p.Type, "multipart/"): // its signature covers its bytes: the entity as it is
		return d.file(i, d.name(p), d.b.Section(p.Start, p.End-p.Start))
	}
	return d.file(i, d.name(p), message.DecodePart(d.b, p))
}

func (d *document) file(i int, name string, r io.Reader) error {
	as, size, err := d.w.File(name, d.o.now(), reader{d.ctx, r})
	if err != nil {
		return err
	}
	d.listed("", as, size)
	return nil
}

// listed adds a file to the list that stands behind the text: where it is, what it is called in truth, how large it is.
func (d *document) listed(piece, name string, size int64) {
	where := "dans ce PDF / in this PDF"
	if piece != "" {
		where = piece
	}
	if name = pdf.FileName(name); name == "_" {
		name = "(sans nom / no name)"
	}
	fmt.Fprintf(&d.list, "- %s : %s (%s)\n", where, name, bytesText(size))
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f Mo / MB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f ko / kB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d octets / bytes", n)
}
