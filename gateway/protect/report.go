package protect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"passerelle/gateway/message"
)

// ErrNoReport: the message is no delivery or reading report that could be reduced.
var ErrNoReport = errors.New("not a report")

// maxStatus bounds the status part of a report: a thousand recipients fit.
const maxStatus = 256 << 10

// statusFields are those of RFC 3464 and RFC 8098 that leave. The list is closed: extension fields hold anything, even the message.
var statusFields = map[string]bool{"reporting-mta": true, "dsn-gateway": true, "original-envelope-id": true, "arrival-date": true, "original-recipient": true,
	"final-recipient": true, "action": true, "status": true, "remote-mta": true, "diagnostic-code": true, "last-attempt-date": true, "will-retry-until": true,
	"reporting-ua": true, "original-message-id": true, "disposition": true}

// Report reduces a delivery or reading report (null sender, multipart/report) to its status: the text for people is written anew
// and the returned message, whole or its header, stays behind. ErrNoReport is given for everything else. An Unclear report is taken,
// for the returned message is often cut short or odd in itself, and nothing leaves but known fields written anew.
func Report(env *message.Envelope, b *message.Body, x *message.Index) (*message.Body, error) {
	root := x.Parts[0]
	if !env.Sender.IsNull() || root.Type != "multipart/report" {
		return nil, ErrNoReport
	}
	kind, typ := "delivery-status", ""
	var status message.Part
	for _, c := range root.Children {
		switch t := x.Parts[c].Type; t {
		case "message/delivery-status", "message/global-delivery-status":
			typ, status = t, x.Parts[c]
		case "message/disposition-notification", "message/global-disposition-notification":
			kind, typ, status = "disposition-notification", t, x.Parts[c]
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
	var h message.Header
	for _, name := range []string{"From", "To", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted"} {
		if v := x.Header.Get(name); v != "" {
			h.Append(name, v)
		}
	}
	h.Append("Subject", encodeWords("Rapport de messagerie / Mail report"))
	h.Append("MIME-Version", "1.0")
	h.Append("Content-Type", "multipart/report; report-type="+kind+`; boundary="`+mark+`"`)
	var out bytes.Buffer
	out.Write(h.Bytes())
	fmt.Fprintf(&out, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", mark)
	quoted(&out, "Ceci est un rapport automatique sur un message que vous avez envoyé. Le\r\nmessage lui-même n'est pas renvoyé.\r\n\r\n"+
		"This is an automatic report about a message that you sent. The message\r\nitself is not returned.\r\n")
	fmt.Fprintf(&out, "\r\n--%s\r\nContent-Type: %s\r\n", mark, typ)
	kept := keepStatus(raw)
	if bytes.ContainsFunc(kept, func(r rune) bool { return r >= 0x80 }) {
		out.WriteString("Content-Transfer-Encoding: 8bit\r\n")
	}
	fmt.Fprintf(&out, "\r\n%s\r\n--%s--\r\n", kept, mark)
	return message.BytesBody(out.Bytes()), nil
}

// Withheld stands for null-sender mail that is no report, an out-of-office answer for instance: a closed list of its header fields, what
// the operator keeps, and words that say that the content stays at the clinic.
func Withheld(env *message.Envelope, h message.Header, to message.Recipient, o Options) *message.Body {
	o.Subject = "Réponse automatique / Automatic reply"
	out := outer(env, h, to, o)
	for _, v := range h.Values("Auto-Submitted") {
		out.Append("Auto-Submitted", v)
	}
	out.Append("Content-Type", "text/plain; charset=utf-8")
	out.Append("Content-Transfer-Encoding", "quoted-printable")
	var b bytes.Buffer
	b.Write(out.Bytes())
	quoted(&b, "Une réponse automatique à votre message a été émise. Son contenu n'est pas\r\ntransmis en dehors de l'établissement.\r\n\r\n"+
		"An automatic reply to your message was made. Its content does not leave the\r\nclinic.\r\n")
	return message.BytesBody(b.Bytes())
}

// keepStatus writes the known fields of each group anew.
func keepStatus(raw []byte) []byte {
	var out bytes.Buffer
	raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	for _, group := range bytes.Split(raw, []byte("\n\n")) {
		group = bytes.TrimLeft(group, "\n")
		if len(group) == 0 {
			continue
		}
		h, _, err := message.ReadHeader(message.BytesBody(append(bytes.Clone(group), '\n')), maxStatus+2)
		if err != nil {
			continue
		}
		var lines bytes.Buffer
		for _, f := range h.Fields() {
			if statusFields[strings.ToLower(f.Name)] {
				fmt.Fprintf(&lines, "%s: %s\r\n", f.Name, oneLine(f.Value()))
			}
		}
		if lines.Len() > 0 {
			if out.Len() > 0 {
				out.WriteString("\r\n")
			}
			out.Write(lines.Bytes())
		}
	}
	return out.Bytes()
}
