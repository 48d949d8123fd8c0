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
	// name begins the notice's Message-ID.
	name string
}

// mailData is what the templates may show, in both languages. It holds nothing of the message.
type mailData struct {
	FR, EN         mailPart
	Colour, Accent htmltemplate.CSS
}

// mailPart is one language of a mail.
type mailPart struct {
	cfg         *Config
	lang        string
	values      map[string]string // what the sentences' braces stand for
	Link, Short string
	Code, Track string // of the sender's code mail
	Phone       bool   // there is a number to tell it to
	mode        Mode
	again       bool
	Staff       bool
	Face        Face
	Accent      htmltemplate.CSS
	Subject     string // key
}

func (p mailPart) sentence(key string) string { return p.cfg.sentence(p.lang, key) }

// Sent, How and Doubt are the sentences that fit a deposit.
func (p mailPart) Sent() string {
	switch {
	case p.Staff:
		return "mail.sent.staff"
	case p.again:
		return "mail.sent.again"
	}
	return "mail.sent"
}

// How says which proof the page asks for.
func (p mailPart) How() string {
	switch p.mode {
	case BySMS:
		return "mail.sms"
	case BySecret:
		return "mail.secret"
	case ByEmail:
		return "mail.email"
	case ByOIDC:
		return "mail.oidc"
	}
	return "mail.told"
}

// Doubt says whom to call.
func (p mailPart) Doubt() string {
	if p.values["phone"] != "" {
		return "mail.doubt.phone"
	}
	return "mail.doubt"
}

// Notice makes the neutral mail that brings a patient the link: French, then English, as text and simple HTML.
func (v *Vault) Notice(d *Deposit, r NoticeRequest) (*message.Body, error) {
	if d.Link == "" {
		return nil, fmt.Errorf("notice of deposit %s: the link is not known", d.ID)
	}
	if r.From.IsNull() {
		return nil, fmt.Errorf("notice of deposit %s: no From", d.ID)
	}
	r.name = d.ID + "." + v.noticeMAC(d.ID) + "."
	subject := "mail.subject"
	switch {
	case r.Staff:
		subject = "mail.subject.staff"
	case r.Again:
		subject = "mail.subject.again"
	}
	return v.mail(r, d.Recipient, "notice", v.mailData(d, r, subject))
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
	return v.mail(r, d.Sender, "code", v.mailData(d, r, "mail.code.subject"))
}

// CodeForRecipient makes the mail that brings a code to the mailbox that the link came to (ByEmail). It has no link: who reads it over a shoulder
// has half of what opens.
func (v *Vault) CodeForRecipient(d *Deposit) (*message.Body, error) {
	r := NoticeRequest{From: v.cfg.NoticeFrom}
	if r.From.IsNull() {
		r.From = d.Sender
	}
	return v.mail(r, d.Recipient, "mailcode", v.mailData(d, r, "mail.mailcode.subject"))
}

func (v *Vault) mailData(d *Deposit, r NoticeRequest, subject string) mailData {
	b := v.cfg.Brand
	data := mailData{Colour: htmltemplate.CSS(b.Colour("#0b5563")), Accent: htmltemplate.CSS(b.Accent("#0b5563"))}
	part := func(lang string, date func(time.Time) string) mailPart {
		p := mailPart{cfg: &v.cfg, lang: lang, Link: d.Link, Short: d.Short, Code: token.SpacedCode(d.Code), mode: d.Mode, again: r.Again, Staff: r.Staff, Face: d.Face, Accent: data.Accent, Subject: subject,
			values: map[string]string{"clinic": v.cfg.Clinic.Name, "phone": v.cfg.Clinic.Phone, "date": date(v.Local(d.Created)), "until": date(v.Local(d.Expires)),
				"address": v.cfg.PublicURL + "/retrait", "access": token.SpacedShort(d.Short), "sender": d.Face.Name, "word": d.Face.Word}}
		if subject == "mail.code.subject" { // the patient's notice never names anybody
			p.values["recipient"] = d.Recipient.String()
			if p.Phone = d.Phone != ""; p.Phone {
				p.values["number"] = ReadPhone(d.Phone)
			}
			if d.Sending != "" {
				p.Track = v.SendingLink(d.Sending)
			}
		}
		return p
	}
	data.FR, data.EN = part("fr", DateFR), part("en", DateEN)
	return data
}

var months = [...]string{"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"}

// DateFR writes a time for French readers: "3 décembre 2026 à 14 h 05".
func DateFR(t time.Time) string {
	return fmt.Sprintf("%d %s %d à %d h %02d", t.Day(), months[t.Month()-1], t.Year(), t.Hour(), t.Minute())
}

// DateEN writes a time for English readers: "3 December 2026, 14:05".
func DateEN(t time.Time) string { return t.Format("2 January 2006, 15:04") }

// mail builds multipart/alternative (RFC 2046 section 5.1.4). Lines are short and ASCII, so that every hop takes it as it is.
func (v *Vault) mail(r NoticeRequest, to message.Address, name string, data mailData) (*message.Body, error) {
	if k := r.Keep; len(k) > 0 && (!bytes.HasSuffix(k, []byte("\r\n")) || bytes.HasPrefix(k, []byte("\r\n")) || bytes.Contains(k, []byte("\r\n\r\n"))) {
		return nil, errors.New("make mail: kept header fields are not whole lines")
	}
	var b bytes.Buffer
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	field("From", message.Phrase(v.cfg.NoticeLabel)+" <"+r.From.String()+">")
	field("To", "<"+to.String()+">")
	if !r.ReplyTo.IsNull() {
		field("Reply-To", "<"+r.ReplyTo.String()+">")
	}
	field("Subject", mime.QEncoding.Encode("utf-8", data.FR.Text(data.FR.Subject)+" / "+data.EN.Text(data.EN.Subject)))
	field("Date", v.cfg.Now().UTC().Format(time.RFC1123Z))
	field("Message-ID", "<"+r.name+strings.ToLower(rand.Text())+"@"+r.From.Domain+">")
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
