package gatewaytest

import (
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"strings"
)

// Letter is a message of the corpus: CRLF lines, dots not doubled.
type Letter struct {
	Name  string
	Bytes []byte
}

// Corpus is every shape of mail that we could think of, made anew each time, with marker in its text: each encoding and charset in each
// structure, and each oddity in each structure. More than 500 letters, the same names in the same order.
func Corpus(marker string) (all []Letter) {
	add := func(name, header, entity string) {
		all = append(all, Letter{name, []byte(header + entity)})
	}
	for _, s := range structures {
		for _, enc := range []string{"7bit", "8bit", "quoted-printable", "base64"} {
			for _, charset := range []string{"us-ascii", "utf-8", "iso-8859-1", "windows-1252", "utf-16le", "x-unknown"} {
				name := strings.Join([]string{s.name, enc, charset}, "-")
				add(name, heading(name), s.wrap(textPart(enc, charset, corpusText(marker)), "b="+name))
			}
		}
		for _, o := range oddities(marker) {
			name := s.name + "-" + o.name
			boundary := o.boundary
			if boundary == "" {
				boundary = "b_" + name
			}
			entity := s.wrap(o.part, boundary)
			if o.change != nil {
				entity = o.change(entity)
			}
			add(name, o.header+heading(name), entity)
		}
	}
	add("header-only", strings.TrimSuffix(heading("header-only"), "MIME-Version: 1.0\r\n"), "\r\n")
	add("body-alone", "", "\r\n"+corpusText(marker))
	return all
}

func corpusText(marker string) string {
	return "Bonjour,\r\n" + marker + "\r\n.\r\n..deux points\r\n.un\r\nfrom la ligne, \t et des blancs  \r\nFrom quelqu'un\r\n-- \r\nfin\r\n"
}

func heading(name string) string {
	return "From: =?utf-8?Q?Docteur_L=C3=A9a?= <staff@clinic.test>\r\nTo: <someone@dest.test>\r\nSubject: essai\r\n" +
		"Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <" + name + "@clinic.test>\r\nX-Check-Id: " + name + "\r\nMIME-Version: 1.0\r\n"
}

// textPart writes ASCII text as that charset would be, in that encoding; 8bit gets a sign above 127.
func textPart(enc, charset, text string) string {
	head := fmt.Sprintf("Content-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: %s\r\n\r\n", charset, enc)
	raw := text
	if charset == "utf-16le" {
		if enc == "7bit" || enc == "8bit" { // cannot be written so
			enc, head = "base64", "Content-Type: text/plain; charset=utf-16le\r\nContent-Transfer-Encoding: base64\r\n\r\n"
		}
		var b strings.Builder
		for i := range len(text) {
			b.WriteByte(text[i])
			b.WriteByte(0)
		}
		raw = b.String()
	}
	switch enc {
	case "base64":
		return head + wrapped(raw)
	case "quoted-printable":
		var b strings.Builder
		w := quotedprintable.NewWriter(&b)
		w.Binary = charset == "utf-16le"
		w.Write([]byte(raw))
		w.Close()
		return head + b.String() + "\r\n"
	case "8bit":
		if charset == "utf-8" {
			return head + raw + "l\xc3\xa9a\r\n"
		}
		return head + raw + "l\xe9a\r\n"
	}
	return head + raw
}

func wrapped(raw string) string {
	var b strings.Builder
	for text := base64.StdEncoding.EncodeToString([]byte(raw)); len(text) > 0; {
		n := min(76, len(text))
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return b.String()
}

// structures put one part into a message.
var structures = []struct {
	name string
	wrap func(part, boundary string) string
}{
	{"single", func(p, _ string) string { return p }},
	{"mixed", func(p, b string) string { return multi("mixed", b, p, attachment("cr.pdf", "application/pdf")) }},
	{"alternative", func(p, b string) string { return multi("alternative", b, p, html) }},
	{"related", func(p, b string) string { return multi("related", b, p, attachment("logo.png", "image/png")) }},
	{"nested", func(p, b string) string {
		return multi("mixed", b, multi("alternative", "in1"+b, p, multi("related", "in2"+b, html, attachment("logo.png", "image/png"))), attachment("a.doc", "application/msword"))
	}},
	{"deep", func(p, b string) string {
		for i := range 12 {
			p = multi("mixed", fmt.Sprint("d", i, b), p)
		}
		return p
	}},
	{"digest", func(p, b string) string { return multi("digest", b, "\r\n"+heading("inner")+p) }},
	{"forwarded", func(p, b string) string {
		return multi("mixed", b, html, "Content-Type: message/rfc822\r\n\r\n"+heading("inner")+p)
	}},
}

const html = "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<p>caf\xc3\xa9 <img src=\"cid:1\"></p>\r\n"

func attachment(name, kind string) string {
	return fmt.Sprintf("Content-Type: %s; name=%q\r\nContent-Disposition: attachment; filename=%q\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <1>\r\n\r\n", kind, name, name) +
		wrapped(strings.Repeat("\x00\x01\xfe%PDF", 40))
}

// multi puts parts together, with a preamble and an epilogue that nobody reads.
func multi(kind, boundary string, parts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/%s; boundary=\"%s\"\r\n\r\npreamble\r\n", kind, boundary)
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\n%s\r\n", boundary, p)
	}
	fmt.Fprintf(&b, "--%s--\r\n\r\nepilogue\r\n", boundary)
	return b.String()
}
