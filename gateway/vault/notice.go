package vault

import (
	"bytes"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
	"text/template"
	"time"

	"passerelle/crypto/token"
	"passerelle/gateway/message"
)

//go:embed notice/*.tmpl
var noticeFiles embed.FS

var (
	noticeText = template.Must(template.ParseFS(noticeFiles, "notice/*.txt.tmpl"))
	noticeHTML = htmltemplate.Must(htmltemplate.ParseFS(noticeFiles, "notice/*.html.tmpl"))
)

// NoticeRequest says under which addresses a mail of the vault leaves.
type NoticeRequest struct {
	// From is the address in From. For a notice it is the sender's or a neutral one of the clinic; for a code mail null means the
	// sender's own.
	From message.Address
	// ReplyTo is left out where null.
	ReplyTo message.Address
	// Keep is whole header fields, each ended by CRLF, to be copied (headers.keep).
	Keep []byte
	// Again: it is a reminder, or was asked for again.
	Again bool
	// Staff: the notice is for a member of the clinic's staff, about a message from the trust space.
	Staff bool
}

// noticeData is what the templates may show. It holds nothing of the message.
type noticeData struct {
	Clinic               Clinic
	Link, Short, Typed   string // the link; what is typed in its place, and where
	UntilFR, UntilEN     string
	BySMS, BySecret      bool
	Again                bool
	Track                string // the sender's page of the message
	Code, Phone          string
	Recipient, CreatedFR string
	Face                 Face
}

// Notice makes the neutral mail that brings a patient the link: French, then English, as text and simple HTML.
func (v *Vault) Notice(d *Deposit, r NoticeRequest) (*message.Body, error) {
	if d.Link == "" {
		return nil, fmt.Errorf("notice of deposit %s: the link is not known", d.ID)
	}
	if r.From.IsNull() {
		return nil, fmt.Errorf("notice of deposit %s: no From", d.ID)
	}
	data := v.noticeData(d)
	data.Again = r.Again
	if r.Staff {
		return v.mail(v.cfg.NoticeLabel, r, d.Recipient, "Un message MSSanté vous attend / An MSSanté message is waiting for you", "staff", data)
	}
	subject := "Un message vous attend / A message is waiting for you"
	if r.Again {
		subject = "Rappel : un message vous attend / Reminder: a message is waiting for you"
	}
	return v.mail(v.cfg.NoticeLabel, r, d.Recipient, subject, "notice", data)
}

// CodeForSender makes the mail that brings the sender the code to be told by telephone. It names the recipient, because a sender
// may have written to several, but nothing of the message.
func (v *Vault) CodeForSender(d *Deposit, r NoticeRequest) (*message.Body, error) {
	if d.Code == "" {
		return nil, fmt.Errorf("code of deposit %s: there is none to tell", d.ID)
	}
	if d.Sender.IsNull() {
		return nil, fmt.Errorf("code of deposit %s: no sender", d.ID)
	}
	if r.From.IsNull() {
		r.From = d.Sender
	}
	data := v.noticeData(d)
	if d.Sending != "" {
		data.Track = v.SendingLink(d.Sending)
	}
	return v.mail(v.cfg.NoticeLabel, r, d.Sender, "Code à donner par téléphone / Code to tell by telephone", "code", data)
}

func (v *Vault) noticeData(d *Deposit) noticeData {
	return noticeData{Clinic: v.cfg.Clinic, Link: d.Link, Short: token.SpacedShort(d.Short), Typed: v.cfg.PublicURL + "/retrait", UntilFR: DateFR(v.Local(d.Expires)), UntilEN: DateEN(v.Local(d.Expires)),
		BySMS: d.Mode == BySMS, BySecret: d.Mode == BySecret, Code: token.SpacedCode(d.Code), Phone: d.MaskedPhone, Recipient: d.Recipient.String(), CreatedFR: DateFR(v.Local(d.Created)), Face: d.Face}
}

var months = [...]string{"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"}

// DateFR writes a time for French readers: "3 décembre 2026 à 14 h 05".
func DateFR(t time.Time) string {
	return fmt.Sprintf("%d %s %d à %d h %02d", t.Day(), months[t.Month()-1], t.Year(), t.Hour(), t.Minute())
}

// DateEN writes a time for English readers: "3 December 2026, 14:05".
func DateEN(t time.Time) string { return t.Format("2 January 2006, 15:04") }

// mail builds multipart/alternative (RFC 2046 section 5.1.4). Lines are short and ASCII, so that every hop takes it as it is.
func (v *Vault) mail(label string, r NoticeRequest, to message.Address, subject, name string, data noticeData) (*message.Body, error) {
	if k := r.Keep; len(k) > 0 && (!bytes.HasSuffix(k, []byte("\r\n")) || bytes.HasPrefix(k, []byte("\r\n")) || bytes.Contains(k, []byte("\r\n\r\n"))) {
		return nil, errors.New("make mail: kept header fields are not whole lines")
	}
	var b bytes.Buffer
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	field("From", message.Phrase(label)+" <"+r.From.String()+">")
	field("To", "<"+to.String()+">")
	if !r.ReplyTo.IsNull() {
		field("Reply-To", "<"+r.ReplyTo.String()+">")
	}
	field("Subject", mime.QEncoding.Encode("utf-8", subject))
	field("Date", v.cfg.Now().UTC().Format(time.RFC1123Z))
	field("Message-ID", "<"+strings.ToLower(rand.Text())+"@"+r.From.Domain+">")
	field("Auto-Submitted", "auto-generated") // RFC 3834 section 5: no vacation answers to it
	field("MIME-Version", "1.0")
	b.Write(r.Keep)
	w := multipart.NewWriter(&b)
	field("Content-Type", `multipart/alternative; boundary="`+w.Boundary()+`"`)
	b.WriteString("\r\n")
	for _, p := range []struct {
		mediaType string
		fill      func(*bytes.Buffer) error
	}{
		{"text/plain", func(t *bytes.Buffer) error { return noticeText.ExecuteTemplate(t, name+".txt.tmpl", data) }},
		{"text/html", func(t *bytes.Buffer) error { return noticeHTML.ExecuteTemplate(t, name+".html.tmpl", data) }},
	} {
		var t bytes.Buffer
		if err := p.fill(&t); err != nil {
			return nil, fmt.Errorf("make mail: %w", err)
		}
		pw, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {p.mediaType + "; charset=utf-8"}, "Content-Transfer-Encoding": {"quoted-printable"}})
		if err != nil {
			return nil, fmt.Errorf("make mail: %w", err)
		}
		q := quotedprintable.NewWriter(pw)
		if _, err := q.Write(t.Bytes()); err != nil {
			return nil, fmt.Errorf("make mail: %w", err)
		}
		if err := q.Close(); err != nil {
			return nil, fmt.Errorf("make mail: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("make mail: %w", err)
	}
	return message.BytesBody(b.Bytes()), nil
}
