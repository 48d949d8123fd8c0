package protect

import (
	"html"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"

	"passerelle/gateway/message"
)

// textOutside tells whether the text stays readable. It asks the message again, whoever decided.
func (o Options) textOutside(b *message.Body, x *message.Index) bool {
	return o.TextOutside && Whole(b, x) == ""
}

// maxOutside bounds a text that is looked at for pictures: longer ones are sealed.
const maxOutside = 1 << 20

// Whole says why the files of a message cannot be sealed apart from its text (Options.TextOutside), "" where they can. Then all of it is sealed:
// what readers may take apart differently, what a signature covers, what has nothing but text, and a text that holds a picture itself.
func Whole(b *message.Body, x *message.Index) string {
	switch {
	case x.Unclear != "":
		return "readers may take it apart differently"
	case x.Parts[0].Opaque:
		return "it is signed or encrypted as a whole"
	case x.Check(b) != nil:
		return "an encoding in it is broken"
	}
	files := 0
	why := ""
	var look func(i int)
	look = func(i int) {
		p := x.Parts[i]
		switch {
		case descends(p):
			for _, c := range p.Children {
				look(c)
			}
		case !isOutside(p):
			files++
		case why == "":
			why = heldWithin(b, p)
		}
	}
	look(0)
	if why == "" && files == 0 {
		return "it has no attachments"
	}
	return why
}

// descends tells whether a part is known by its parts alone.
func descends(p message.Part) bool { return strings.HasPrefix(p.Type, "multipart/") && !p.Opaque }

// isOutside tells whether a part stays readable.
func isOutside(p message.Part) bool { return isText(p) && !p.Inline }

// heldWithin says why a text does not stay outside.
func heldWithin(b *message.Body, p message.Part) string {
	name := strings.ToLower(p.Params["charset"])
	r, err := message.DecodeString(b, p)
	if err != nil || strings.HasPrefix(name, "utf-16") || strings.HasPrefix(name, "utf-32") || strings.HasPrefix(name, "utf-7") {
		return "its text is in an odd charset"
	}
	text, err := io.ReadAll(io.LimitReader(r, maxOutside+1))
	switch {
	case err != nil:
		return "an encoding in it is broken"
	case len(text) > maxOutside:
		return "its text is too long"
	case p.Type != "text/html":
		return ""
	}
	// As a browser reads an address: without blanks, in whatever case, with character references.
	flat := strings.Map(func(r rune) rune {
		if r <= ' ' {
			return -1
		}
		return r
	}, strings.ToLower(html.UnescapeString(string(text))))
	if strings.Contains(flat, "data:") || strings.Contains(flat, "<svg") {
		return "its text holds a picture"
	}
	return ""
}

// texts is what stays outside: one text, or several with what holds them together.
type texts struct {
	part int
	kind string // multipart/..., "" for one text
	of   []texts
}

// outsideOf gives the texts below part i; ok is false where there are none.
func outsideOf(x *message.Index, i int) (t texts, ok bool) {
	p := x.Parts[i]
	if !descends(p) {
		return texts{part: i}, isOutside(p)
	}
	t.kind = "multipart/mixed"
	if p.Type == "multipart/alternative" {
		t.kind = p.Type
	}
	for _, c := range p.Children {
		if below, ok := outsideOf(x, c); ok {
			t.of = append(t.of, below)
		}
	}
	if len(t.of) == 1 {
		return t.of[0], true
	}
	return t, len(t.of) > 1
}

// write writes the texts as an entity. Every header is written anew, for a part's own may tell more than its type.
func (t texts) write(w io.Writer, b *message.Body, x *message.Index) error {
	if t.kind == "" {
		p := x.Parts[t.part]
		return writeText(w, p.Type, p.Params, message.DecodePart(b, p))
	}
	mark := boundary()
	if _, err := io.WriteString(w, "Content-Type: "+t.kind+"; boundary=\""+mark+"\"\r\n\r\n"); err != nil {
		return err
	}
	for _, below := range t.of {
		if _, err := io.WriteString(w, "--"+mark+"\r\n"); err != nil {
			return err
		}
		if err := below.write(w, b, x); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\r\n"); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "--"+mark+"--\r\n")
	return err
}

// writeText writes a text with the parameters that say how to read it.
func writeText(w io.Writer, typ string, params map[string]string, text io.Reader) error {
	kept := map[string]string{}
	for _, name := range []string{"charset", "format", "delsp"} { // RFC 3676
		if v := params[name]; v != "" && len(v) < 40 {
			kept[name] = v
		}
	}
	head := "Content-Type: " + mime.FormatMediaType(typ, kept) + "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	q := quotedprintable.NewWriter(w)
	if _, err := io.Copy(q, text); err != nil {
		return err
	}
	return q.Close()
}
