package message

import (
	"bytes"
	"path"
	"strings"
)

const holdsTNEF = "it holds Outlook's own format (TNEF)"

// describe fills in what the header says of the part, and gives the reasons why another reader may see it otherwise.
func (p *Part) describe(h Header) (faults []string) {
	fault := func(why string) {
		if why != "" {
			faults = append(faults, why)
		}
	}
	if v := h.Get("Content-Type"); v != "" {
		typ, params, why := parseParams(v)
		fault(why)
		if strings.Contains(typ, "/") {
			p.Type = typ
		} else {
			fault("a media type is malformed")
		}
		p.Params = params
		p.Name = params["name"]
	}
	if v := h.Get("Content-Disposition"); v != "" {
		d, params, why := parseParams(v)
		fault(why)
		p.Disposition = d
		if params["filename"] != "" {
			if endsApart(p.Name, params["filename"]) {
				fault("its file has two names of different kinds")
			}
			p.Name = params["filename"]
		}
	}
	if v := h.Get("Content-Transfer-Encoding"); v != "" {
		p.Encoding = strings.ToLower(v)
		switch p.Encoding {
		case "7bit", "8bit", "binary", "base64", "quoted-printable":
		default:
			fault("a transfer encoding is not known")
		}
	}
	if p.Params["boundary"] != "" && !strings.HasPrefix(p.Type, "multipart/") {
		fault("a part that is no multipart names a boundary")
	}
	if cs := strings.ToLower(p.Params["charset"]); strings.Contains(cs, "utf-7") || strings.Contains(cs, "utf7") {
		fault("its text is in UTF-7")
	}
	p.ContentID = strings.Trim(h.Get("Content-ID"), "<> \t")
	switch p.Type {
	case "multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
		p.Opaque = true
	case "message/partial":
		fault("it is a piece of a message (message/partial)")
	case "message/external-body":
		fault("a part lies elsewhere (message/external-body)")
	case "application/ms-tnef", "application/vnd.ms-tnef":
		fault(holdsTNEF)
	case "multipart/appledouble", "multipart/header-set", "application/applefile", "application/x-applefile":
		fault("it holds a Macintosh file in two pieces")
	case "text/x-uuencode", "application/x-uuencode", "application/uuencode", "application/mac-binhex40", "application/binhex", "application/mac-binhex",
		"application/x-binhex40", "application/x-yencode", "application/x-yenc":
		fault("it holds a file in an old encoding")
	}
	if strings.EqualFold(p.Name, "winmail.dat") {
		fault(holdsTNEF)
	}
	return faults
}

// endsApart tells whether two names of one file end apart: a reader by the one shows a document, by the other a program.
func endsApart(a, b string) bool {
	a, b = strings.ToLower(path.Ext(a)), strings.ToLower(path.Ext(b))
	return a != "" && b != "" && a != b
}

// folded tells whether the field of that name stands on more than one line.
func folded(h Header, name string) bool {
	for _, f := range h.Fields() {
		if strings.EqualFold(f.Name, name) && bytes.IndexByte(bytes.TrimRight(f.Raw, "\r\n"), '\n') >= 0 {
			return true
		}
	}
	return false
}

// headerFaults gives the reasons in the fields themselves.
func headerFaults(h Header) (faults []string) {
	once := map[string]int{}
	for _, f := range h.Fields() {
		if f.Name == "" {
			faults = append(faults, "a header line is no field")
			continue
		}
		// RFC 5322 section 2.2: CR and LF only together, and never NUL; parsers end the line, or the header, at different ones.
		body := bytes.ReplaceAll(f.Raw, []byte("\r\n"), nil)
		if bytes.ContainsAny(body, "\r\n\x00") {
			faults = append(faults, "a header holds a bare line break or NUL")
		}
		if blankFold(f.Raw) {
			faults = append(faults, "a header is folded with an empty line")
		}
		name := strings.ToLower(f.Name)
		if single[name] {
			if once[name]++; once[name] == 2 {
				faults = append(faults, "a field that may stand once stands twice")
			}
		}
		if strings.HasPrefix(name, "content-") || name == "mime-version" {
			if f.Value() == "" {
				faults = append(faults, "a field that describes the content is empty")
			}
			if once[name]++; once[name] == 2 {
				faults = append(faults, "a field that describes the content stands twice")
			}
		}
	}
	return faults
}

// single are fields that mail programs show the first or the last of (RFC 5322 section 3.6).
var single = map[string]bool{"from": true, "sender": true, "reply-to": true, "to": true, "cc": true, "subject": true, "date": true, "message-id": true}

// blankFold tells whether a continuation line holds blanks alone: some parsers end the header there (RFC 5322 section 4.2).
func blankFold(raw []byte) bool {
	for _, line := range bytes.SplitAfter(raw, []byte("\n"))[1:] {
		if len(line) > 0 && len(bytes.Trim(line, " \t\r\n")) == 0 {
			return true
		}
	}
	return false
}

// textLine looks for files within the text of a part that is not encoded.
func (p *parser) textLine(line []byte) {
	switch line[0] {
	case 'b':
		if rest, ok := bytes.CutPrefix(line, []byte("begin")); ok && isUUBegin(rest) {
			p.packed("its text holds a file (uuencode)")
		}
	case '=':
		if bytes.HasPrefix(line, []byte("=ybegin ")) {
			p.unclear("its text holds a file (yEnc)")
		}
	case '(':
		if bytes.HasPrefix(line, []byte("(This file must be converted with BinHex")) {
			p.unclear("its text holds a file (BinHex)")
		}
	}
}

// isUUBegin tells whether "begin" goes on as " 644 name" or "-base64 644 name" (POSIX uuencode). Outlook takes any "begin " at the
// start of a line with two blanks for one, and so do we.
func isUUBegin(rest []byte) bool {
	if bytes.HasPrefix(rest, []byte("  ")) {
		return true
	}
	f := bytes.Fields(rest)
	if bytes.HasPrefix(rest, []byte("-base64 ")) {
		f = f[1:]
	} else if len(rest) == 0 || rest[0] != ' ' {
		return false
	}
	if len(f) < 2 || len(f[0]) < 3 || len(f[0]) > 6 {
		return false
	}
	for _, c := range f[0] {
		if c < '0' || c > '7' {
			return false
		}
	}
	return true
}

// usualPreamble knows the sentences that mailers put before the parts for readers without MIME.
func usualPreamble(line []byte) bool {
	s := strings.ToLower(string(bytes.TrimRight(bytes.TrimSpace(line), ".")))
	switch s {
	case "this is a multi-part message in mime format", "this is a multipart message in mime format",
		"this is a multi-part mime message", "this is a mime-encapsulated message", "this is a mime-formatted message",
		"this is a message with multiple parts in mime format", "this is a cryptographically signed message in mime format":
		return true
	}
	return false
}

// Attachment is a leaf that a reader would save as a file.
type Attachment struct {
	Part       int
	Type, Name string
	Size       int64 // bytes as transferred
}

// Attachments gives the leaves that are files: not the texts, not the inline pictures of multipart/related, not text/calendar (see
// Calendar), not the machine-read parts of a report. An attached message is one, and so are the files within it; a signed or
// encrypted part counts as one.
func (x *Index) Attachments() []Attachment {
	var out []Attachment
	for i, p := range x.Parts {
		if x.isFile(i) {
			out = append(out, Attachment{i, p.Type, p.Name, p.Size()})
		}
	}
	return out
}

func (x *Index) isFile(i int) bool {
	p := x.Parts[i]
	switch {
	case p.Opaque:
		return true
	case strings.HasPrefix(p.Type, "multipart/"), p.Type == "text/calendar":
		return false
	case p.Type == "message/delivery-status", p.Type == "message/disposition-notification", p.Type == "text/rfc822-headers":
		return p.Parent < 0 || x.Parts[p.Parent].Type != "multipart/report"
	case p.Disposition == "attachment":
		return true
	case p.Inline && strings.HasPrefix(p.Type, "image/"):
		return false
	case p.Type == "text/plain", p.Type == "text/html", p.Type == "text/enriched", p.Type == "text/x-amp-html", p.Type == "text/watch-html":
		return p.Name != ""
	}
	return true
}

// Calendar tells whether the message holds an invitation.
func (x *Index) Calendar() bool {
	for _, p := range x.Parts {
		if p.Type == "text/calendar" || p.Type == "application/ics" {
			return true
		}
	}
	return false
}
