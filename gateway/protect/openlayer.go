package protect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"passerelle/gateway/message"
)

// maxSignature is the longest signature that is read, in bytes: a chain of certificates, and no more.
const maxSignature = 1 << 20

// pgpPart is the part that holds the encrypted message (RFC 3156 section 4).
func (r *opening) pgpPart() (message.Part, error) {
	p := r.x.Parts[r.part]
	if len(p.Children) == 2 {
		version, sealed := r.x.Parts[p.Children[0]], r.x.Parts[p.Children[1]]
		if version.Type == "application/pgp-encrypted" && sealed.Type == "application/octet-stream" {
			return sealed, nil
		}
	}
	r.forms = append(r.forms, "openpgp")
	return p, &OpenError{Malformed, errors.New("multipart/encrypted without its two parts")}
}

// verify looks at a multipart/signed. within: what it signs is encrypted, and is opened next.
func (r *opening) verify() (within bool, err error) {
	p := r.x.Parts[r.part]
	form := map[string]string{"application/pkcs7-signature": "smime", "application/x-pkcs7-signature": "smime", "application/pgp-signature": "openpgp"}[strings.ToLower(p.Params["protocol"])]
	if form == "" && len(p.Children) == 2 { // QUIRK: the parameter is missing where the second part tells
		form = map[string]string{"application/pkcs7-signature": "smime", "application/x-pkcs7-signature": "smime", "application/pgp-signature": "openpgp"}[r.x.Parts[p.Children[1]].Type]
	}
	if form == "" || r.Detached == nil {
		return false, nil
	}
	r.forms = append(r.forms, form)
	if len(p.Children) != 2 {
		r.signed = append(r.signed, &Signature{How: "it does not have its two parts"})
		return false, nil
	}
	entity, at := r.x.Parts[p.Children[0]], r.x.Parts[p.Children[1]]
	signature, err := io.ReadAll(io.LimitReader(message.DecodePart(r.body, at), maxSignature+1))
	switch {
	case err != nil:
		r.signed = append(r.signed, &Signature{How: "it cannot be read"})
	case len(signature) > maxSignature:
		r.signed = append(r.signed, &Signature{How: "it is too long"})
	default:
		s := Signature{How: "it cannot be read"}
		contained(func() error {
			s = r.Detached(form, reader{r.ctx, r.body.Section(entity.Start, entity.End-entity.Start)}, signature)
			return nil
		})
		if err := r.ctx.Err(); err != nil {
			return false, err
		}
		r.signed = append(r.signed, &s)
	}
	switch kindOf(r.body, entity) {
	case kindEnveloped, kindEncrypted:
		r.part = p.Children[0]
		return true, nil
	}
	return false, nil
}

// unpack looks at a SignedData with its content in it. Outside it stays as it is; within what was decrypted its content takes its place, for
// few readers show it otherwise.
func (r *opening) unpack(p message.Part) (within bool, err error) {
	if r.Enclosing == nil {
		return false, nil
	}
	r.forms = append(r.forms, "smime")
	var s Signature
	body, err := r.collect(func(w io.Writer) (err error) {
		s, err = r.Enclosing(w, message.DecodePart(r.body, p))
		return err
	})
	var trouble *OpenError
	switch {
	case errors.As(err, &trouble):
		r.signed = append(r.signed, &Signature{How: string(trouble.Why)})
		return false, nil
	case err != nil:
		return false, err
	}
	r.signed = append(r.signed, &s)
	x, err := message.Parse(body, insideLimits)
	if err != nil {
		return false, nil // shown as it is
	}
	if k := kindOf(body, x.Parts[0]); !r.opened && k != kindEnveloped && k != kindEncrypted {
		return false, nil
	}
	r.body, r.x, r.part = body, x, 0
	return true, nil
}

// inline opens a text that is one block of OpenPGP's own armour. Text beside the block would be taken for part of what was protected, so
// such a message stays as it came.
func (r *opening) inline(p message.Part) error {
	if r.part != 0 {
		return nil
	}
	w := r.opt.Budget.NewWriter(p.Size())
	if _, err := io.Copy(w, reader{r.ctx, message.DecodePart(r.body, p)}); err != nil {
		w.Abort()
		if r.ctx.Err() != nil || errors.Is(err, message.ErrNoRoom) {
			return err
		}
		return nil
	}
	armour, err := w.Body()
	if err != nil {
		return err
	}
	defer armour.Close()
	if !oneBlock(armour) {
		return nil
	}
	head := fmt.Sprintf("Content-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", charsetOf(p))
	open := r.OpenPGP
	if open != nil {
		open = func(w io.Writer, in io.Reader) (Layer, error) {
			if _, err := io.WriteString(w, head); err != nil {
				return Layer{}, err
			}
			return r.OpenPGP(w, in)
		}
	}
	return r.decrypt("openpgp-inline", open, armour.Section(0, -1))
}

// charsetOf is that of the text: UTF-8 is what OpenPGP says (RFC 9580 section 5.9) and what all write but the oldest.
func charsetOf(p message.Part) string {
	cs := strings.ToLower(p.Params["charset"])
	if cs == "" || cs == "us-ascii" || strings.ContainsFunc(cs, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?=`, r) }) {
		return "utf-8"
	}
	return cs
}

// oneBlock tells whether nothing but blanks stands before and behind one armoured block.
func oneBlock(b *message.Body) bool {
	const end = "-----END PGP MESSAGE-----"
	var last [4096]byte
	from := max(0, b.Size()-int64(len(last)))
	n, _ := b.ReadAt(last[:], from)
	tail := bytes.TrimRight(last[:n], "\r\n \t")
	if !bytes.HasSuffix(tail, []byte(end)) || bytes.Count(tail, []byte("-----BEGIN PGP MESSAGE-----")) > 1 {
		return false
	}
	// A second block further up: each line that begins with five dashes is one of the two.
	dashes, prev := 0, []byte{}
	buf := make([]byte, 64<<10)
	for off := int64(0); off < b.Size(); {
		n, err := b.ReadAt(buf, off)
		p := append(slices.Clone(prev), buf[:n]...)
		dashes += bytes.Count(p, []byte("-----BEGIN "))
		prev = p[max(0, len(p)-10):]
		off += int64(n)
		if err != nil {
			break
		}
	}
	return dashes == 1
}

// deliver makes the decrypted entity the message.
func (r *opening) deliver() error {
	sure := r.proved
	for i, s := range r.signed {
		// A signature within the encryption is of the content; whoever alters what he cannot read cannot sign it. One around it is
		// worth as much as its signer.
		sure = sure || i >= r.inner && s.Valid || s.good()
	}
	switch {
	case r.weak:
		r.plain = r.body
		return &OpenError{Weak, errors.New("a weak cipher")}
	case !sure && (r.x.Unclear != "" || !inert(r.x)):
		r.plain = r.body
		return &OpenError{Unproved, errors.New("content without proof that could load when it is shown")}
	}
	inner, start, err := message.ReadHeader(r.body, message.DefaultLimits.Header)
	if err != nil {
		return &OpenError{Malformed, err}
	}
	h, restored, err := under(r.out.Header, inner)
	if err != nil {
		return &OpenError{Malformed, err}
	}
	if restored {
		r.out.Subject = "restored"
	}
	r.out.Header, r.out.Start, r.out.Body, r.out.Result = h, start, r.body, ResultOpened
	r.own = slices.DeleteFunc(r.own, func(b *message.Body) bool { return b == r.body })
	return nil
}

// under puts the content fields of an opened entity under the outer header, and its subject in the place of the outer one.
func under(outer, inner message.Header) (h message.Header, restored bool, err error) {
	fields := WithoutContent(outer)
	if v := inner.Values("Subject"); len(v) == 1 && len(v[0]) <= 4096 && v[0] != outer.Get("Subject") {
		raw, err := message.FormatField("Subject", v[0])
		if err != nil {
			return h, false, err
		}
		field := message.Field{Name: "Subject", Raw: raw}
		at := slices.IndexFunc(fields, func(f message.Field) bool { return strings.EqualFold(f.Name, "Subject") })
		fields = slices.DeleteFunc(fields, func(f message.Field) bool { return strings.EqualFold(f.Name, "Subject") })
		if at < 0 {
			at = len(fields)
		}
		fields, restored = slices.Insert(fields, min(at, len(fields)), field), true
	}
	h.AppendRaw(fields...)
	if h.Get("MIME-Version") == "" {
		if err := h.Append("MIME-Version", "1.0"); err != nil {
			return h, false, err
		}
	}
	for _, f := range inner.Fields() {
		if !IsContent(f.Name) {
			continue
		}
		if !bytes.HasSuffix(f.Raw, []byte("\n")) { // the entity ended within its header
			f.Raw = append(bytes.Clone(f.Raw), "\r\n"...)
		}
		h.AppendRaw(f)
	}
	return h, restored, nil
}

// inert tells whether all parts are of kinds that load nothing when a reader shows them.
func inert(x *message.Index) bool {
	for _, p := range x.Parts {
		if len(p.Children) > 0 {
			continue
		}
		main, sub, _ := strings.Cut(p.Type, "/")
		switch {
		case p.Type == "text/plain", p.Type == "text/csv", p.Type == "application/pdf", p.Type == "application/zip", p.Type == "application/octet-stream":
		case main == "image" && !strings.Contains(sub, "svg") && !strings.Contains(sub, "xml"):
		case strings.HasPrefix(p.Type, "application/vnd.openxmlformats-"), strings.HasPrefix(p.Type, "application/vnd.oasis.opendocument."), p.Type == "application/msword":
			if p.Disposition != "attachment" {
				return false
			}
		default:
			return false
		}
		if name := strings.ToLower(p.Name); strings.HasSuffix(name, ".html") || strings.HasSuffix(name, ".htm") || strings.HasSuffix(name, ".svg") ||
			strings.HasSuffix(name, ".xhtml") || strings.HasSuffix(name, ".eml") || strings.HasSuffix(name, ".ics") {
			return false // a reader may go by the name
		}
	}
	return true
}

// entityWriter keeps what was decrypted as mail has it: a line feed alone, which OpenSSL and GnuPG leave in texts, gets its CR. What cannot be
// mended without knowing what it is in is odd.
type entityWriter struct {
	w    *message.BodyWriter
	left int64
	err  error
	cr   bool // the last octet was one
	odd  bool
	out  []byte
}

func (e *entityWriter) Write(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	if e.left -= int64(len(p)); e.left < 0 {
		e.err = &OpenError{TooLarge, errors.New("larger than limits.message")}
		return 0, e.err
	}
	e.odd = e.odd || bytes.IndexByte(p, 0) >= 0
	n := len(p)
	e.out = e.out[:0]
	for len(p) > 0 {
		if e.cr && p[0] != '\n' {
			e.odd = true
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			e.out, e.cr = append(e.out, p...), false
			break
		}
		if i > 0 {
			e.cr = false
		}
		e.out = append(e.out, p[:i]...)
		if p[i] == '\n' && !e.cr {
			e.out = append(e.out, '\r')
		}
		e.cr = p[i] == '\r'
		e.out, p = append(e.out, p[i]), p[i+1:]
	}
	if _, err := e.w.Write(e.out); err != nil {
		e.err = err
		return 0, err
	}
	return n, nil
}

func (e *entityWriter) end() (*message.Body, error) {
	e.odd = e.odd || e.cr
	return e.w.Body()
}
