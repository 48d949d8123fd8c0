package protect

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"

	"passerelle/gateway/message"
)

// Report writes a delivery or reading report (multipart/report, RFC 3464 and 8098) anew for the trust space: such a message says in its parts
// who at the clinic got it and by which machines. The header is Outgoing's, the words for people are ours, of the status the known
// fields leave with mailboxes in the place of inner addresses and our own name in the place of machines', and of the message that the
// report gives back its header, by the same closed list. ErrNoReport where the status cannot be read.
func (o *Identity) Report(b *message.Body, x *message.Index) (*message.Body, error) {
	if len(x.Parts) == 0 || x.Parts[0].Type != "multipart/report" {
		return nil, ErrNoReport
	}
	kind, typ := "delivery-status", ""
	var status, original message.Part
	for _, c := range x.Parts[0].Children {
		switch p := x.Parts[c]; p.Type {
		case "message/delivery-status", "message/global-delivery-status":
			typ, status = "message/delivery-status", p
		case "message/disposition-notification", "message/global-disposition-notification":
			kind, typ, status = "disposition-notification", "message/disposition-notification", p
		case "message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers":
			original = p
		}
	}
	if typ == "" {
		return nil, ErrNoReport
	}
	raw, err := io.ReadAll(io.LimitReader(message.DecodePart(b, status), maxStatus+1))
	if err != nil || len(raw) > maxStatus {
		return nil, fmt.Errorf("%w: its status cannot be read", ErrNoReport)
	}
	mark := boundary()
	out := o.outgoing(x.Header)
	var h message.Header
	for _, f := range out.list {
		if low := strings.ToLower(f.Name); !strings.HasPrefix(low, "content-") && low != "mime-version" {
			h.AppendRaw(f)
		}
	}
	h.Append("MIME-Version", "1.0")
	h.Append("Content-Type", "multipart/report; report-type="+kind+`; boundary="`+mark+`"`)
	var w bytes.Buffer
	w.Write(h.Bytes())
	fmt.Fprintf(&w, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", mark)
	quoted(&w, "Ceci est un rapport automatique sur un message que vous avez envoyé.\r\n\r\nThis is an automatic report about a message that you sent.\r\n")
	fmt.Fprintf(&w, "\r\n--%s\r\nContent-Type: %s\r\n\r\n%s\r\n", mark, typ, o.status(raw))
	if head := o.givenBack(b, original); len(head) > 0 {
		fmt.Fprintf(&w, "--%s\r\nContent-Type: text/rfc822-headers; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", mark)
		quoted(&w, string(head))
		w.WriteString("\r\n")
	}
	fmt.Fprintf(&w, "--%s--\r\n", mark)
	return message.BytesBody(w.Bytes()), nil
}

// givenBack is the header of the message that a report returns, nil where there is none.
func (o *Identity) givenBack(b *message.Body, p message.Part) []byte {
	if p.Type == "" {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(message.DecodePart(b, p), maxStatus))
	if err != nil {
		return nil
	}
	h, _, err := message.ReadHeader(message.BytesBody(raw), maxStatus)
	if err != nil {
		return nil
	}
	return bytes.TrimSuffix(o.fields(h, true).header().Bytes(), []byte("\r\n"))
}

// diagnosis is what of a Diagnostic-Code leaves: the words behind its numbers name hosts and people.
var diagnosis = regexp.MustCompile(`(?i)^smtp;\s*[245]\d\d([ -][245]\.\d{1,3}\.\d{1,3})?`)

// status writes the known fields of each group anew.
func (o *Identity) status(raw []byte) []byte {
	var out bytes.Buffer
	raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	for _, group := range bytes.Split(raw, []byte("\n\n")) {
		group = bytes.TrimLeft(group, "\n")
		h, _, err := message.ReadHeader(message.BytesBody(append(bytes.Clone(group), '\n')), maxStatus+2)
		if err != nil {
			continue
		}
		var lines []string
		for _, f := range h.Fields() {
			if v := o.statusField(strings.ToLower(f.Name), oneLine(f.Value())); v != "" && !o.Names.In(v) {
				lines = append(lines, f.Name+": "+v+"\r\n")
			}
		}
		if len(lines) > 0 {
			if out.Len() > 0 {
				out.WriteString("\r\n")
			}
			out.WriteString(strings.Join(lines, ""))
		}
	}
	return out.Bytes()
}

// statusField is what a field leaves with, "" where it stays behind.
func (o *Identity) statusField(name, v string) string {
	switch name {
	case "reporting-mta":
		return "dns; " + o.Host
	case "reporting-ua":
		return o.Host
	case "final-recipient", "original-recipient":
		return o.recipient(name, v)
	case "original-message-id":
		return o.IDs.OutsideAll(v)
	case "diagnostic-code":
		return diagnosis.FindString(v)
	case "action", "status", "disposition", "arrival-date", "last-attempt-date", "will-retry-until", "original-envelope-id", "error", "failure", "warning": // not remote-mta, dsn-gateway, mdn-gateway
		return v
	}
	return ""
}

// recipient maps whom a report is about: who has no mailbox is the author's own, for the report must name one. So is he to whom somebody
// of the clinic forwards outside of the space: where that is is nobody's business there.
func (o *Identity) recipient(name, v string) string {
	_, who, _ := strings.Cut(v, ";")
	a, err := message.ParseAddress(strings.Trim(strings.TrimSpace(who), "<>"), true)
	switch {
	case err == nil && !a.IsNull() && !o.Names.Domain(a.Domain) && !nameless("@"+a.Domain) && o.Reachable(a.Domain):
		return v
	case err == nil && !a.IsNull():
		if box, ok := o.Known(a); ok {
			return "rfc822; " + box.String()
		}
	}
	if name == "final-recipient" {
		return "rfc822; " + o.From.Address.String()
	}
	return ""
}
