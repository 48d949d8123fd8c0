package protect

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"passerelle/crypto/openpgp"
	"passerelle/crypto/smime"
	"passerelle/gateway/message"
)

// OpenPGP gives the message as PGP/MIME (RFC 3156 section 4) for one recipient. keys are blocks of public keys, armoured or binary; all
// of them can open it. Inside stands the original MIME entity, its body byte for byte, with protected headers; outside a header
// built anew. Where the message must stay Whole, all of it stands inside as message/rfc822.
// With Options.TextOutside the text stays readable, and each file is an attachment of its own: piece-01.pdf.pgp.
func OpenPGP(ctx context.Context, env *message.Envelope, b *message.Body, x *message.Index, to message.Recipient, keys [][]byte, o Options) (body *message.Body, err error) {
	defer count("openpgp", x.Whole(), &err)
	now := o.now()
	var all []*openpgp.Key
	for _, block := range keys {
		k, err := openpgp.ParseKeys(block, now)
		if err != nil {
			return nil, &Error{Step: "key", Err: err}
		}
		all = append(all, k...)
	}
	if len(all) == 0 {
		return nil, &Error{Step: "key", Err: errors.New("no key")}
	}
	var hidden []*openpgp.Key
	if o.Hidden {
		all, hidden = nil, all
	}
	if o.textOutside(b, x) {
		return pgpFiles(ctx, env, b, x, to, all, hidden, o)
	}
	mark := boundary()
	h := outer(env, x.Header, to, o)
	for _, f := range pgpFields(mark) {
		if err := h.Append(f[0], f[1]); err != nil {
			return nil, &Error{Step: "seal", Err: err}
		}
	}
	return build(o, b.Size()/3*4+b.Size()/20+8<<10, func(w io.Writer) error {
		if _, err := w.Write(append(h.Bytes(), pgpHead(mark)...)); err != nil {
			return err
		}
		pt, err := openpgp.Encrypt(w, all, hidden, now)
		if err != nil {
			return err
		}
		if err := writeEntity(ctx, pt, b, x, to); err != nil {
			return err
		}
		if err := pt.Close(); err != nil {
			return err
		}
		_, err = io.WriteString(w, pgpEnd(mark))
		return err
	})
}

// The envelope of RFC 3156 section 4: it has no place for a cover text, which readers would show as part of the message or not at all.

func pgpFields(mark string) [][2]string {
	return [][2]string{{"Content-Type", `multipart/encrypted; protocol="application/pgp-encrypted"; boundary="` + mark + `"`}}
}

func pgpHead(mark string) string {
	return "This is an OpenPGP/MIME encrypted message (RFC 3156)\r\n" +
		"--" + mark + "\r\nContent-Type: application/pgp-encrypted\r\nContent-Description: PGP/MIME version identification\r\n\r\nVersion: 1\r\n\r\n" +
		"--" + mark + "\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\r\nContent-Disposition: inline; filename=\"encrypted.asc\"\r\n\r\n"
}

func pgpEnd(mark string) string { return "\r\n--" + mark + "--\r\n" }

// writeEntity writes what is encrypted: the content fields and the body as they came, with the header fields that a reader shows.
func writeEntity(ctx context.Context, w io.Writer, b *message.Body, x *message.Index, to message.Recipient) error {
	if _, err := w.Write(entityHeader(x, to)); err != nil {
		return err
	}
	return copyBody(ctx, w, b, x.Parts[0].HeaderEnd)
}

// entityHeader is what stands before the body of what is encrypted. To names this recipient alone: the lists of the others do not
// leave. A message that must stay Whole has its own header below this one.
func entityHeader(x *message.Index, to message.Recipient) []byte {
	var h message.Header
	for _, name := range []string{"Subject", "From", "Date", "Message-ID"} {
		if v := x.Header.Get(name); v != "" {
			h.Append(name, v)
		}
	}
	h.Append("To", "<"+to.Address.String()+">")
	if x.Whole() {
		h.Append("Content-Type", `message/rfc822; protected-headers="v1"`)
		h.Append("Content-Disposition", `inline; filename="message.eml"`)
		return append(h.Bytes(), Inside(x.Header)...)
	}
	typed := false
	var content []message.Field
	for _, f := range x.Header.Fields() {
		switch name := strings.ToLower(f.Name); {
		case name == "content-type":
			// The parameter tells readers (Thunderbird, K-9, Mailpile) that the fields beside it are the true ones.
			raw := bytes.TrimRight(f.Raw, "; \t\r\n")
			f.Raw = append(bytes.Clone(raw), ";\r\n\tprotected-headers=\"v1\"\r\n"...)
			content = append(content, f)
			typed = true
		case strings.HasPrefix(name, "content-"):
			content = append(content, f)
		}
	}
	h.AppendRaw(content...)
	if !typed {
		h.Append("Content-Type", `text/plain; protected-headers="v1"`)
	}
	return h.Bytes()
}

// asError makes every failure the room's own.
func asError(err error) error {
	var own *Error
	var key *openpgp.KeyError
	var certificate *smime.CertificateError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &key), errors.As(err, &certificate):
		return &Error{Step: "key", Err: err}
	case errors.Is(err, message.ErrNoRoom):
		return &Error{Step: "room", Passing: true, Err: err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Step: "read", Passing: true, Err: err}
	}
	return &Error{Step: "seal", Passing: true, Err: err}
}
