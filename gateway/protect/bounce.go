package protect

import (
	"bytes"
	"errors"
	"fmt"
	"mime/quotedprintable"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// Failure is one recipient that a report tells about: one that will not get the message, or one to whom it was relayed.
type Failure struct {
	Recipient message.Recipient
	Code      int    // of the reply, 0 where none came
	Enhanced  [3]int // RFC 3463
	Text      string // of the reply
	Hop       string // who replied, "" where we did
	// Deposited: relayed into the vault, where it waits for the recipient.
	Deposited bool
}

// ErrNoBounce: nobody may be told, because the sender is null or every recipient was NOTIFY=NEVER.
var ErrNoBounce = errors.New("nobody may be told of the failure")

// kind is what a report says of its recipients.
type kind struct {
	notify, subject, action string
	class                   int // of the status
	text                    func([]Failure) string
}

var (
	failure = kind{"FAILURE", "Message non remis / Undelivered message", "failed", 5, bounceText}
	relayed = kind{"SUCCESS", "Message transmis / Message relayed", "relayed", 2, relayedText}
)

// Relayed gives the report of a message that was handed to a server, or kept for the recipient, where no report of delivery comes from
// (RFC 3461 section 5.2.2): as Bounce, for those that asked NOTIFY=SUCCESS. The header alone is returned, whatever RET says, which
// speaks of failures (section 4.3).
func Relayed(hostname string, env *message.Envelope, to []Failure, original message.Header, now time.Time) (*message.Body, error) {
	to = slices.DeleteFunc(slices.Clone(to), func(f Failure) bool { return !slices.Contains(f.Recipient.Notify, relayed.notify) })
	return relayed.report(hostname, env, to, original, now)
}

// Bounce gives the report of a failed delivery (RFC 3464) for the sender: words in French and English, the status, and the header of
// the original, never its body. NOTIFY (RFC 3461 section 4.1) is obeyed.
func Bounce(hostname string, env *message.Envelope, failed []Failure, original message.Header, now time.Time) (*message.Body, error) {
	failed = slices.DeleteFunc(slices.Clone(failed), func(f Failure) bool {
		return len(f.Recipient.Notify) > 0 && !slices.Contains(f.Recipient.Notify, failure.notify)
	})
	return failure.report(hostname, env, failed, original, now)
}

func (k kind) report(hostname string, env *message.Envelope, failed []Failure, original message.Header, now time.Time) (*message.Body, error) {
	if env.Sender.IsNull() || len(failed) == 0 {
		return nil, ErrNoBounce
	}
	mark := boundary()
	var h message.Header
	host := word(hostname)
	for _, f := range [][2]string{
		{"From", encodeWords("Passerelle de messagerie") + " <MAILER-DAEMON@" + host + ">"},
		{"To", "<" + env.Sender.String() + ">"},
		{"Subject", encodeWords(k.subject)},
		{"Date", now.Format(time.RFC1123Z)},
		{"Message-ID", "<" + mark[2:] + "@" + host + ">"},
		{"Auto-Submitted", "auto-replied"}, // RFC 3834 section 5
		{"In-Reply-To", original.Get("Message-ID")},
		{"MIME-Version", "1.0"},
		{"Content-Type", `multipart/report; report-type=delivery-status; boundary="` + mark + `"`},
	} {
		if f[1] == "" {
			continue
		}
		if err := h.Append(f[0], f[1]); err != nil && f[0] != "In-Reply-To" {
			return nil, fmt.Errorf("bounce: %w", err)
		}
	}
	var b bytes.Buffer
	b.Write(h.Bytes())
	fmt.Fprintf(&b, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", mark)
	quoted(&b, k.text(failed))
	fmt.Fprintf(&b, "\r\n--%s\r\n", mark)
	k.status(&b, host, env, failed, now)
	fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: text/rfc822-headers; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", mark)
	quoted(&b, string(bytes.TrimSuffix(original.Bytes(), []byte("\r\n"))))
	fmt.Fprintf(&b, "\r\n--%s--\r\n", mark)
	return message.BytesBody(b.Bytes()), nil
}

// quoted writes quoted-printable: a header of strangers can hold raw 8-bit and endless lines.
func quoted(b *bytes.Buffer, s string) {
	q := quotedprintable.NewWriter(b)
	q.Write([]byte(s))
	q.Close()
}

func relayedText(to []Failure) string {
	var b strings.Builder
	b.WriteString("Bonjour,\r\n\r\nVotre message a été transmis. Aucun avis de remise ne suivra pour les\r\ndestinataires suivants :\r\n")
	for _, f := range to {
		where := "accepté par un serveur qui ne rend pas compte / accepted by a server that does not report"
		if f.Deposited {
			where = "en attente sur la page de retrait / waits on the pickup page"
		}
		fmt.Fprintf(&b, "\r\n  <%s>\r\n    %s\r\n", f.Recipient.Address, where)
	}
	b.WriteString("\r\n--------------------\r\n\r\nHello,\r\n\r\nYour message was relayed. No report of delivery will follow for the recipients\r\nabove. " +
		"The header of your message is attached; its content is not.\r\n")
	return b.String()
}

func bounceText(failed []Failure) string {
	var b strings.Builder
	list := func() {
		for _, f := range failed {
			fmt.Fprintf(&b, "\r\n  <%s>\r\n", f.Recipient.Address)
			if t := oneLine(f.Text); t != "" {
				fmt.Fprintf(&b, "    %s\r\n", t)
			}
		}
	}
	b.WriteString("Bonjour,\r\n\r\nVotre message n'a pas pu être remis aux destinataires suivants, et ne sera\r\nplus présenté :\r\n")
	list()
	b.WriteString("\r\nLes autres destinataires ne sont pas concernés. L'en-tête de votre message\r\nest joint ; son contenu ne l'est pas.\r\n")
	b.WriteString("\r\n--------------------\r\n\r\nHello,\r\n\r\nYour message could not be delivered to the recipients above, and will not\r\nbe tried again. " +
		"Other recipients are not concerned. The header of your message\r\nis attached; its content is not.\r\n")
	return b.String()
}

// status writes the part for machines (RFC 3464 section 2).
func (k kind) status(b *bytes.Buffer, host string, env *message.Envelope, failed []Failure, now time.Time) {
	utf8 := false
	for _, f := range failed {
		utf8 = utf8 || !f.Recipient.IsASCII()
	}
	typ, encoding := "message/delivery-status", ""
	if utf8 { // RFC 6533 section 3: addresses that are not ASCII
		typ, encoding = "message/global-delivery-status", "Content-Transfer-Encoding: 8bit\r\n"
	}
	fmt.Fprintf(b, "Content-Type: %s\r\n%s\r\nReporting-MTA: dns; %s\r\n", typ, encoding, host)
	if env.EnvID != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", oneLine(env.EnvID))
	}
	fmt.Fprintf(b, "Arrival-Date: %s\r\n", now.Format(time.RFC1123Z))
	for _, f := range failed {
		b.WriteString("\r\n")
		if f.Recipient.ORcpt != "" {
			fmt.Fprintf(b, "Original-Recipient: %s\r\n", oneLine(f.Recipient.ORcpt))
		}
		typ := "rfc822"
		if !f.Recipient.IsASCII() {
			typ = "utf-8"
		}
		status := f.Enhanced
		if status[0] != k.class && (status[0] != 4 || k.class != 5) {
			status = [3]int{k.class, 0, 0}
		}
		fmt.Fprintf(b, "Final-Recipient: %s; %s\r\nAction: %s\r\nStatus: %d.%d.%d\r\n", typ, oneLine(f.Recipient.String()), k.action, status[0], status[1], status[2])
		if f.Hop != "" {
			fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", word(f.Hop))
		}
		if f.Code != 0 {
			fmt.Fprintf(b, "Diagnostic-Code: smtp; %d %d.%d.%d %s\r\n", f.Code, f.Enhanced[0], f.Enhanced[1], f.Enhanced[2], oneLine(f.Text))
		}
	}
}

// oneLine makes printable ASCII of at most 400 characters of what a peer said.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\r' || r == '\n' || r == '\t':
			return ' '
		case r < 0x20 || r == 0x7f:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return s[:cut(s, 400)]
}

// cut gives the largest length up to n that does not split a character.
func cut(s string, n int) int {
	if len(s) <= n {
		return len(s)
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return n
}
