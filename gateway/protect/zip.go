package protect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"passerelle/crypto/lines"
	"passerelle/crypto/zipaes"
	"passerelle/gateway/message"
)

// ZIP gives a message whose attachment message.zip (AES-256, AE-2) holds the text and the files under neutral names, with a list of
// the real ones, and whose text says how to open it. The passphrase goes another way, never with it; zipaes says what it must be. A
// message that must stay Whole, is signed or encrypted as a whole, or broken in an encoding, lies in the archive as message.eml. Files in
// uuencode and TNEF become ordinary ones. With Options.TextOutside the text stays readable and documents.zip holds the rest.
func ZIP(ctx context.Context, env *message.Envelope, b *message.Body, x *message.Index, to message.Recipient, passphrase string, o Options) (body *message.Body, err error) {
	whole := x.Whole() || x.Parts[0].Opaque
	defer func() { count("zip", whole, &err) }()
	if !whole {
		u, err := message.Unpack(b, x, o.Budget)
		if err == nil {
			defer u.Close()
			body, err = zipped(ctx, env, b, x, u, to, passphrase, o, false)
		} else if !errors.Is(err, message.ErrNotUnpacked) {
			return nil, asError(err)
		}
		if !errors.Is(err, errBroken) && !errors.Is(err, message.ErrNotUnpacked) {
			return body, err
		}
		whole = true
	}
	return zipped(ctx, env, b, x, nil, to, passphrase, o, true)
}

// errBroken: a part cannot be read in its encoding. That shows on the way, since reading all parts beforehand would take as long again.
var errBroken = errors.New("a part cannot be decoded")

// zipped is ZIP, taken apart or whole.
func zipped(ctx context.Context, env *message.Envelope, b *message.Body, x *message.Index, u *message.Unpacked, to message.Recipient, passphrase string, o Options, whole bool) (*message.Body, error) {
	outside, name, cover := !whole && o.textOutside(b, x), "message.zip", coverText(o)
	if outside {
		if x.Check(b) != nil { // also of the text that would stay readable
			return nil, errBroken
		}
		name, cover = "documents.zip", coverOf(coverZIPFilesFrench, coverZIPFilesEnglish, o)
	}
	mark := boundary()
	h := outer(env, x.Header, to, o)
	if err := h.Append("Content-Type", `multipart/mixed; boundary="`+mark+`"`); err != nil {
		return nil, &Error{Step: "seal", Err: err}
	}
	return build(o, b.Size()+b.Size()/20+16<<10, func(w io.Writer) error {
		if err := writeTop(w, h.Bytes(), mark, cover, b, x, outside); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\r\n--%s\r\nContent-Type: application/zip; name=\"%s\"\r\nContent-Disposition: attachment; filename=\"%[2]s\"\r\n"+
			"Content-Transfer-Encoding: base64\r\n\r\n", mark, name)
		if err != nil {
			return err
		}
		text := lines.NewWriter(w)
		z, err := zipaes.NewWriter(text, passphrase, o.now().UTC())
		if err != nil {
			return &Error{Step: "passphrase", Err: err}
		}
		a := &archive{ctx: ctx, create: z.Create, b: b, x: x, u: u, outside: outside}
		if err := a.fill(whole); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		if err := text.Close(); err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "\r\n--%s--\r\n", mark)
		return err
	})
}

// writeTop writes the outer header and the texts that stand before what is sealed: with outside the message's own, and how to open the rest.
func writeTop(w io.Writer, header []byte, mark, cover string, b *message.Body, x *message.Index, outside bool) error {
	if _, err := w.Write(append(header, "--"+mark+"\r\n"...)); err != nil {
		return err
	}
	if t, ok := outsideOf(x, 0); ok && outside {
		if err := t.write(w, b, x); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\r\n--"+mark+"\r\n"); err != nil {
			return err
		}
	}
	return writeText(w, "text/plain", map[string]string{"charset": "utf-8"}, strings.NewReader(cover))
}

// archive gives the pieces of a message neutral names, and lists what they are called in truth.
type archive struct {
	ctx           context.Context
	create        func(name string, store bool) (io.Writer, error) // the next entry
	b             *message.Body
	x             *message.Index
	u             *message.Unpacked
	outside       bool // the texts are not in it
	pieces, texts int
	list          strings.Builder
}

// fill writes the whole message as one entry, or all of its parts.
func (a *archive) fill(whole bool) error {
	if whole {
		w, err := a.create("message.eml", false)
		if err != nil {
			return err
		}
		if _, err := w.Write(Inside(a.x.Header)); err != nil {
			return err
		}
		return copyBody(a.ctx, w, a.b, a.x.Parts[0].HeaderEnd)
	}
	for _, f := range [][2]string{{"Objet / Subject", "Subject"}, {"De / From", "From"}, {"Date", "Date"}} {
		fmt.Fprintf(&a.list, "%s : %s\r\n", f[0], a.x.Header.Text(f[1]))
	}
	a.list.WriteString("\r\nContenu / Content :\r\n")
	if err := a.add(0); err != nil {
		return err
	}
	w, err := a.create("contenu.txt", false)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, "\ufeff"+a.list.String())
	return err
}

// add writes part i: a multipart by its parts, everything else as one entry. No leaf is left out but the texts that stand outside.
func (a *archive) add(i int) error {
	p := a.x.Parts[i]
	if descends(p) {
		for _, c := range p.Children {
			if err := a.add(c); err != nil {
				return err
			}
		}
		return nil
	}
	if a.outside && isOutside(p) {
		return nil
	}
	name, r, prefix := "", message.DecodePart(a.b, p), ""
	unpacked := a.u.Part(i)
	if unpacked != nil && unpacked.Text != nil {
		r = unpacked.Text.Section(0, -1)
	}
	switch {
	case p.Opaque && strings.HasPrefix(p.Type, "multipart/"): // its signature covers its bytes: the entity as it is
		name, r = a.piece("eml"), a.b.Section(p.Start, p.End-p.Start)
	case isText(p):
		name = a.text(p.Type)
		if s, err := p.UTF8(r); err == nil {
			r = s
			if p.Type == "text/html" {
				prefix = "\ufeff" // stronger than the charset that the page itself names
			}
		}
	case unpacked != nil && unpacked.Text == nil && !unpacked.Original:
	default:
		name = a.piece(extension(p.Name, p.Type))
	}
	if name != "" {
		if err := a.entry(name, p.Name, p.Type, prefix, r); err != nil {
			return err
		}
	}
	if unpacked == nil {
		return nil
	}
	for _, f := range unpacked.Files {
		if err := a.entry(a.piece(extension(f.Name, f.Type)), f.Name, f.Type, "", f.Open()); err != nil {
			return err
		}
	}
	return nil
}

// entry writes one file, and a line of the list that says what it is called in truth.
func (a *archive) entry(name, real, typ, prefix string, r io.Reader) error {
	w, err := a.create(name, compressed[path.Ext(name)])
	if err != nil {
		return err
	}
	real = strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' {
			return '_'
		}
		return r
	}, real)
	if real == "" {
		real = "(" + typ + ")"
	}
	fmt.Fprintf(&a.list, "  %s = %s\r\n", name, real)
	if _, err := io.WriteString(w, prefix); err != nil {
		return err
	}
	part := partReader{r: r}
	if err = copyTo(a.ctx, w, &part); part.err != nil {
		return fmt.Errorf("%w: %w", errBroken, part.err)
	}
	return err
}

// partReader notes why reading ended before the end.
type partReader struct {
	r   io.Reader
	err error
}

func (p *partReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		p.err = err
	}
	return n, err
}

func (a *archive) piece(ext string) string {
	a.pieces++
	return fmt.Sprintf("piece-%02d.%s", a.pieces, ext)
}

func (a *archive) text(typ string) string {
	ext := map[string]string{"text/plain": "txt", "text/html": "html"}[typ]
	if a.texts++; a.texts == 1 || a.texts == 2 && ext == "html" {
		return "message." + ext
	}
	return fmt.Sprintf("message-%02d.%s", a.texts, ext)
}

// extensions are those that an entry may bear: what people send each other and no mail filter refuses. Archives and programs are not
// among them: names in a ZIP are readable, and filters refuse an archive in an archive. contenu.txt holds the real name.
var extensions = map[string]string{
	"application/pdf": "pdf", "image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/tiff": "tif", "image/bmp": "bmp", "image/webp": "webp",
	"image/heic": "heic", "application/dicom": "dcm", "text/plain": "txt", "text/csv": "csv", "text/html": "html", "text/calendar": "ics",
	"application/ics": "ics", "text/vcard": "vcf", "text/xml": "xml", "application/xml": "xml", "application/json": "json", "application/rtf": "rtf", "text/rtf": "rtf",
	"application/msword": "doc", "application/vnd.ms-excel": "xls", "application/vnd.ms-powerpoint": "ppt",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document":   "docx",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet":         "xlsx",
	"application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
	"application/vnd.oasis.opendocument.text":                                   "odt", "application/vnd.oasis.opendocument.spreadsheet": "ods", "application/vnd.oasis.opendocument.presentation": "odp",
	"message/rfc822": "eml", "message/global": "eml", "application/pkcs7-mime": "p7m", "application/x-pkcs7-mime": "p7m", "application/hl7-v2": "hl7",
	"audio/mpeg": "mp3", "audio/mp4": "m4a", "audio/wav": "wav", "video/mp4": "mp4",
}

var safe = func() map[string]bool {
	m := map[string]bool{"jpeg": true, "tiff": true}
	for _, e := range extensions {
		m[e] = true
	}
	return m
}()

// compressed are the endings of what deflating does not shrink.
var compressed = map[string]bool{".jpg": true, ".jpeg": true, ".png": true, ".gif": true, ".webp": true, ".heic": true, ".docx": true, ".xlsx": true, ".pptx": true,
	".odt": true, ".ods": true, ".odp": true, ".mp3": true, ".m4a": true, ".mp4": true}

func extension(name, typ string) string {
	if e := strings.ToLower(strings.TrimPrefix(path.Ext(name), ".")); safe[e] {
		return e
	}
	if e := extensions[typ]; e != "" && path.Ext(name) == "" {
		return e
	}
	return "bin"
}
