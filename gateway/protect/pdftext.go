package protect

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"

	"passerelle/crypto/pdf"
	"passerelle/gateway/message"
)

// maxShown is how much of one text is set in pages, in bytes; the rest is in a file beside it.
const maxShown = 1 << 20

// text shows a text on the pages. Held as a file too is what the pages do not show in full: a plain text with signs that the font does not
// have, or one that is too long or in an unknown charset; and HTML always, for its pictures and tables.
func (d *document) text(i int, p message.Part) error {
	r, err := message.DecodeString(d.b, p)
	known := err == nil
	if !known {
		r = message.DecodePart(d.b, p)
	}
	r = io.LimitReader(reader{d.ctx, r}, maxShown+1)
	var shown string
	var cut bool
	if p.Type == "text/html" {
		if !d.shown[d.alternative(i)] {
			shown, cut = htmlText(r)
		}
	} else {
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		cut = len(b) > maxShown
		shown = strings.ToValidUTF8(string(b[:min(len(b), maxShown)]), "\ufffd")
		if a := d.alternative(i); a >= 0 && strings.TrimSpace(shown) != "" {
			d.shown[a] = true
		}
	}
	full, err := d.w.Text(shown)
	if err != nil {
		return err
	}
	if p.Type == "text/plain" && full && !cut && known {
		return nil
	}
	name, prefix := "message.txt", "\ufeff"
	if p.Type == "text/html" {
		name = "message.html" // the mark is stronger than the charset that the page itself names
	} else if _, err := d.w.Text("\n[ Texte complet / full text : message.txt ]\n"); err != nil {
		return err
	}
	content, err := message.DecodeString(d.b, p)
	if err != nil {
		content, prefix = message.DecodePart(d.b, p), ""
	}
	return d.file(i, name, io.MultiReader(strings.NewReader(prefix), content))
}

// alternative gives the multipart/alternative that a part lies in, -1 for none.
func (d *document) alternative(i int) int {
	for i = d.x.Parts[i].Parent; i >= 0 && d.x.Parts[i].Type != "multipart/alternative"; i = d.x.Parts[i].Parent {
	}
	return i
}

// name gives a file's name as readers show it: its own, with an ending where it has none.
func (d *document) name(p message.Part) string {
	name := pdf.FileName(p.Name)
	if p.Name == "" || name == "_" {
		d.unnamed++
		name = fmt.Sprintf("piece-%02d", d.unnamed)
	}
	if path.Ext(name) == "" {
		ext := extensions[p.Type]
		switch {
		case p.Opaque && strings.HasPrefix(p.Type, "multipart/"):
			ext = "eml"
		case ext == "":
			ext = "dat"
		}
		name += "." + ext
	}
	return name
}

// accept refuses a message with a file that Acrobat does not give out.
func (d *document) accept() error {
	return d.leaves(func(_ int, p message.Part) error {
		ext := strings.ToLower(strings.TrimPrefix(path.Ext(pdf.FileName(p.Name)), "."))
		if refused[ext] || refusedTypes[p.Type] {
			return &Error{Step: "form", Err: fmt.Errorf("a file of the message is of a kind that PDF readers do not give out (%s)", p.Type)}
		}
		return nil
	})
}

// refused are the endings of archives and programs: Acrobat holds them and never gives them out (Adobe, Application Security Guide,
// "Attachments": the list of prohibited file types).
var refused = func() map[string]bool {
	m := map[string]bool{}
	for _, e := range strings.Fields(`ade adp app arc arj asp bas bat bin bz bz2 cab chm class cmd com command cpl crt csh desktop dll exe fxp gz hex hlp hqx hta inf
		ini ins isp its jar job js jse ksh lnk lzh mad maf mag mam maq mar mas mat mau mav maw mda mde mdt mdw mdz msc msi msp mst ocx ops pcd pi pif
		pkg prf prg pst py pyc pyo rar reg scf scr sct sea sh shb shs sit taz tgz tar term tmp tool url vb vbe vbs vsmacros vss vst vsw webloc ws wsc wsf wsh
		xz z zip zlo zoo 7z ps1 apk iso dmg zst`) {
		m[e] = true
	}
	return m
}()

var refusedTypes = map[string]bool{"application/zip": true, "application/x-zip-compressed": true, "application/x-7z-compressed": true, "application/vnd.rar": true,
	"application/x-rar-compressed": true, "application/gzip": true, "application/x-gzip": true, "application/x-tar": true, "application/x-bzip2": true,
	"application/x-msdownload": true, "application/x-msdos-program": true, "application/vnd.microsoft.portable-executable": true, "application/java-archive": true,
	"application/x-sh": true, "application/javascript": true, "text/javascript": true, "application/x-iso9660-image": true}

// breaks are the elements that begin a line of their own.
var breaks = map[string]bool{"p": true, "div": true, "br": true, "tr": true, "li": true, "table": true, "ul": true, "ol": true, "h1": true, "h2": true, "h3": true,
	"h4": true, "h5": true, "h6": true, "blockquote": true, "pre": true, "hr": true, "section": true, "article": true, "header": true, "footer": true, "dt": true, "dd": true}

// htmlText reduces a page to the text that one reads in it. cut tells that it goes on beyond maxShown.
func htmlText(r io.Reader) (text string, cut bool) {
	z := html.NewTokenizer(bufio.NewReader(r))
	z.SetMaxBuf(maxShown + 1)
	var out strings.Builder
	hidden, pre, read := "", 0, 0
	line := func() {
		if s := out.String(); s != "" && !strings.HasSuffix(s, "\n\n") {
			out.WriteByte('\n')
		}
	}
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return strings.ToValidUTF8(strings.TrimSpace(out.String()), "\ufffd") + "\n", z.Err() != io.EOF || read > maxShown
		}
		read += len(z.Raw())
		t := z.Token()
		switch kind {
		case html.StartTagToken, html.SelfClosingTagToken:
			switch t.Data {
			case "script", "style", "title", "template":
				if kind == html.StartTagToken && hidden == "" {
					hidden = t.Data
				}
			case "td", "th":
				out.WriteByte('\t')
			case "pre":
				pre++
			case "img":
				for _, a := range t.Attr {
					if a.Key == "alt" && a.Val != "" {
						fmt.Fprintf(&out, "[%s]", a.Val)
					}
				}
			}
			if breaks[t.Data] && hidden == "" {
				line()
			}
			if t.Data == "li" {
				out.WriteString("- ")
			}
		case html.EndTagToken:
			if t.Data == hidden {
				hidden = ""
			}
			if t.Data == "pre" && pre > 0 {
				pre--
			}
			if breaks[t.Data] && hidden == "" {
				line()
			}
		case html.TextToken:
			switch {
			case hidden != "":
			case pre > 0:
				out.WriteString(t.Data)
			default:
				out.WriteString(oneSpace(t.Data, endsInSpace(out.String())))
			}
		}
	}
}

func endsInSpace(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n == 0 || strings.ContainsRune(" \n\t", r)
}

// oneSpace makes one space of each run of them, and none where one stands before.
func oneSpace(s string, space bool) string {
	var out strings.Builder
	for _, r := range s {
		if strings.ContainsRune(" \t\r\n\f", r) {
			if !space {
				out.WriteByte(' ')
			}
			space = true
			continue
		}
		out.WriteRune(r)
		space = false
	}
	return out.String()
}
