// Package protect rewrites a message for its way out. It takes a message with its index, one recipient and keys or a passphrase,
// gives the bytes that may leave, and knows nothing of directories, rules, sockets or where keys come from. It also writes what the
// gateway says about messages: the trace, the marks, reports of failure.
//
// On a protecting route the outer header is built anew from a closed list; what stands in the message stays in the message. What
// cannot be read unambiguously (message.Index.Whole) is never taken apart: it is sealed as one message/rfc822. Where a message is taken
// apart anyway, files in uuencode and in Outlook's winmail.dat become ordinary ones (message.Unpack).
package protect

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/gateway/message"
)

var sealed = promauto.NewCounterVec(prometheus.CounterOpts{
	Name: "passerelle_protect_sealed_total",
	Help: "Messages sealed for a recipient, by form and result.",
}, []string{
	"form",   // smime, openpgp, zip, pdf, as-is
	"result", // split, whole (could not be read unambiguously), or the step that failed: key, passphrase, form, read, seal, room
})

// count notes how sealing ended; whole tells that the message was not taken apart.
func count(form string, whole bool, err *error) {
	result := "split"
	if whole {
		result = "whole"
	}
	if e := (*Error)(nil); errors.As(*err, &e) {
		result = e.Step
	}
	sealed.WithLabelValues(form, result).Inc()
}

// Options are what the operator chose for protected mail.
type Options struct {
	// Keep names further fields that are copied to the outer header ("headers.keep", see Kept).
	Keep []string
	// Subject of the outer message, "" for a neutral one.
	Subject string
	// KeepSubject leaves the message's own subject outside.
	KeepSubject bool
	// TextOutside seals the files and pictures alone and leaves the text readable, where the form can (ZIP, OpenPGP, PDF) and Whole says nothing.
	TextOutside bool
	// Lang is the recipient's language: "en" puts English first, everything else French.
	Lang string
	// Clinic and Phone say in the cover text who sent this and who can be called.
	Clinic, Phone string
	// PhraseLink is the page where the recipient asks for the passphrase again, named in the cover text of ZIP and PDF; "" for none.
	PhraseLink string
	// Hidden leaves the ids of the recipient's keys out (OpenPGP).
	Hidden bool
	// Cipher of S/MIME: gcm, cbc, or auto (and "") for what the certificate announces (smime.Announced).
	Cipher string
	// Budget takes the result.
	Budget *message.Budget
	// Now is the clock, time.Now where nil.
	Now func() time.Time
}

func (o Options) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

// Error says at which step a message could not be protected. Nothing of it may leave then.
type Error struct {
	Step string // "key", "passphrase", "form" (this message cannot take it, another form may), "read", "seal", "room"
	// Passing is true where the same message may succeed later without anyone changing anything.
	Passing bool
	Err     error
}

func (e *Error) Error() string { return "protect: " + e.Step + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// neutralSubject says nothing of the content.
const neutralSubject = "Message sécurisé / Secure message"

// never are the fields that no setting copies to an outer header: content, recipients, the clinic's inside, what answers by itself.
var never = map[string]bool{"subject": true, "to": true, "cc": true, "bcc": true, "resent-to": true, "resent-cc": true, "resent-bcc": true, "received": true,
	"from": true, "date": true, "message-id": true, "mime-version": true, "disposition-notification-to": true, "return-receipt-to": true,
	"x-confirm-reading-to": true, "thread-topic": true, "comments": true, "keywords": true, "return-path": true, "delivered-to": true, "x-original-to": true,
	"x-envelope-to": true, "apparently-to": true, "sender": true, "reply-to": true, "in-reply-to": true, "references": true, "auto-submitted": true}

// Kept gives the fields whose names a glob of keep matches (`X-Dossier-*`), in the order of the message; upper and lower case are the
// same. Whatever the glob, no field that tells content, recipients or the way here is among them, no mark of ours, and none that the
// outer header has already.
func Kept(h message.Header, keep []string) (out []message.Field) {
	for _, f := range h.Fields() {
		low := strings.ToLower(f.Name)
		if f.Name == "" || never[low] || strings.HasPrefix(low, "content-") || strings.HasPrefix(low, "x-passerelle-") {
			continue
		}
		if matches(low, keep) {
			out = append(out, f)
		}
	}
	return out
}

// matches tells whether one of the globs names the field, which is in lower case.
func matches(low string, globs []string) bool {
	for _, glob := range globs {
		if ok, err := path.Match(strings.ToLower(glob), low); err == nil && ok {
			return true
		}
	}
	return false
}

// outer builds the header of a protecting route. The list is closed: From, To with this recipient alone, Date, Message-ID, Reply-To,
// In-Reply-To, References, Subject (neutral), and what the operator keeps. Fields are written anew from what they mean, so that no fold,
// comment or line of nonsense in the original leaves, nor can be read in two ways. Content fields are the caller's.
func outer(env *message.Envelope, h message.Header, to message.Recipient, o Options) message.Header {
	var out message.Header
	one := func(name, value string) {
		if value != "" {
			out.Append(name, value)
		}
	}
	from := mailboxes(h.Get("From"), true)
	if from == "" && !env.Sender.IsNull() {
		from = "<" + env.Sender.String() + ">"
	}
	one("From", from)
	one("Reply-To", mailboxes(h.Get("Reply-To"), false))
	out.Append("To", "<"+to.Address.String()+">")
	subject := o.Subject
	if own := h.Text("Subject"); o.KeepSubject && own != "" {
		subject = own
	}
	if subject == "" {
		subject = neutralSubject
	}
	out.Append("Subject", encodeWords(subject))
	date, err := mail.ParseDate(h.Get("Date"))
	if err != nil {
		date = o.now()
	}
	out.Append("Date", date.Format(time.RFC1123Z))
	one("Message-ID", MessageID(h))
	one("In-Reply-To", messageIDs(h.Get("In-Reply-To"), maxReferences))
	one("References", messageIDs(h.Get("References"), maxReferences))
	for _, f := range Kept(h, o.Keep) {
		out.Append(f.Name, f.Value())
	}
	out.Append("MIME-Version", "1.0")
	return out
}

// mailboxes writes the addresses of a field, with their names where named; "" where it cannot be read. What stands in comments stays
// inside, also where old mailers write a name there.
func mailboxes(value string, named bool) string {
	if r, err := message.CharsetReader("windows-1252", strings.NewReader(value)); err == nil && !utf8.ValidString(value) {
		b, _ := io.ReadAll(r) // what western mailers mean by raw 8-bit letters
		value = string(b)
	}
	list, err := message.ParseMailboxes(withoutComments(value))
	if err != nil {
		return ""
	}
	var out []string
	for _, m := range list {
		if !named {
			m.Name = ""
		}
		out = append(out, m.String())
	}
	return strings.Join(out, ", ")
}

// withoutComments takes the comments out of a structured field (RFC 5322 section 3.2.2).
func withoutComments(s string) string {
	var out []byte
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			if i++; depth == 0 {
				out = append(out, c, s[i])
			}
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			out = append(out, c)
		}
	}
	return string(out)
}

// maxReferences is how long a thread may be: the newest of its ids leave.
const maxReferences = 50

var messageID = regexp.MustCompile(`<[^\s<>()\\",;]{1,500}>`)

// MessageID gives the message's id in its angle brackets, "" where it has none.
func MessageID(h message.Header) string { return messageIDs(h.Get("Message-ID"), 1) }

// messageIDs gives the last n ids of a field (RFC 5322 section 3.6.4), and nothing else of it.
func messageIDs(value string, n int) string {
	if size := len(value); 3 <= size && size <= 502 && value[0] == '<' && value[size-1] == '>' && !strings.ContainsAny(value[1:size-1], " \t\r\n\f<>()\\\",;") {
		return value // one, as nearly always
	}
	ids := messageID.FindAllString(value, -1)
	return strings.Join(ids[max(0, len(ids)-n):], " ")
}

func encodeWords(s string) string {
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", strings.NewReplacer("\r", "", "\n", " ", "\x00", "").Replace(s)), "\r\n", "")
}

// Inside gives the header of a message that is sealed whole: as it came, without the lists of other recipients, the clinic's inner
// trace and what asks for receipts.
func Inside(h message.Header) []byte {
	var inside []message.Field
	for _, f := range h.Fields() {
		name := f.Name
		if name == "" { // "Bcc : x" is a field to some readers
			before, _, _ := strings.Cut(string(f.Raw), ":")
			name = strings.TrimSpace(before)
		}
		switch strings.ToLower(name) {
		case "to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc", "received", "return-path", "delivered-to", "x-original-to", "x-envelope-to",
			"apparently-to", "disposition-notification-to", "return-receipt-to", "x-confirm-reading-to":
			continue
		}
		if strings.HasPrefix(strings.ToLower(name), "x-passerelle-") {
			continue
		}
		inside = append(inside, f)
	}
	var out message.Header
	out.AppendRaw(inside...)
	return out.Bytes()
}

// boundary gives one that nothing in the message can hold, for it is drawn now.
func boundary() string {
	var b [18]byte
	rand.Read(b[:])
	return "=_" + hex.EncodeToString(b[:])
}

// build collects what write produces, and gives everything back where it fails or panics: a library's panic on a stranger's bytes
// stays with its message.
func build(o Options, hint int64, write func(io.Writer) error) (body *message.Body, err error) {
	w := o.Budget.NewWriter(hint).Unsummed()
	defer func() {
		if r := recover(); r != nil {
			w.Abort()
			body, err = nil, &Error{Step: "seal", Err: fmt.Errorf("panic: %v", r)}
		}
	}()
	if err := write(w); err != nil {
		w.Abort()
		return nil, asError(err)
	}
	if body, err = w.Body(); err != nil {
		return nil, asError(err)
	}
	return body, nil
}

// reader stops reading when the context ends.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func copyTo(ctx context.Context, w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, reader{ctx, r}, make([]byte, 64<<10))
	return err
}

// copyBody writes the body from off on, out of memory without a copy.
func copyBody(ctx context.Context, w io.Writer, b *message.Body, off int64) error {
	for p := b.Peek(off); len(p) > 0; p = b.Peek(off) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := w.Write(p[:min(len(p), 64<<10)])
		if err != nil {
			return err
		}
		off += int64(n)
	}
	if off >= b.Size() {
		return nil
	}
	return copyTo(ctx, w, b.Section(off, -1))
}
