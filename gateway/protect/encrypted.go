package protect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"passerelle/crypto/lines"
	"passerelle/crypto/openpgp"
	"passerelle/crypto/smime"
	"passerelle/gateway/message"
)

// How a sender wraps what he has encrypted end to end.
const (
	pgpMIME   = "PGP/MIME"
	pgpInline = "inline OpenPGP"
	cms       = "S/MIME"
)

// Encrypted tells how the whole message was encrypted end to end by its sender: "PGP/MIME", "inline OpenPGP", "S/MIME"; "" where it was not, or
// where there is doubt. It goes by what the bytes are, not by what they are called, and reads all of them: a message that only says so, that
// carries something readable beside the sealed part, or whose ciphertext is text, is like any other.
func Encrypted(ctx context.Context, b *message.Body, x *message.Index) string {
	kind, _, err := inspect(ctx, b, x)
	if err != nil {
		return ""
	}
	return kind
}

// AsIs gives a message that Encrypted knows, for one recipient: the bytes that its sender sealed (OpenPGP packets, a CMS object), every one of
// them, in an envelope written anew. So nothing that stands beside the seal leaves: no subject, no preamble, no comment of an armour, no name of
// a part.
func AsIs(ctx context.Context, env *message.Envelope, b *message.Body, x *message.Index, to message.Recipient, o Options) (body *message.Body, err error) {
	defer count("as-is", false, &err)
	kind, smimeType, err := inspect(ctx, b, x)
	if err != nil {
		return nil, &Error{Step: "read", Err: err}
	}
	h, mark := outer(env, x.Header, to, o), boundary()
	fields := smimeFields(smimeType)
	switch kind {
	case pgpMIME:
		fields = pgpFields(mark)
	case pgpInline:
		fields = [][2]string{{"Content-Type", "text/plain; charset=us-ascii"}, {"Content-Transfer-Encoding", "7bit"}}
	}
	for _, f := range fields {
		if err := h.Append(f[0], f[1]); err != nil {
			return nil, &Error{Step: "seal", Err: err}
		}
	}
	return build(o, b.Size()+b.Size()/20+8<<10, func(w io.Writer) error {
		top, end := h.Bytes(), ""
		if kind == pgpMIME {
			top, end = append(top, pgpHead(mark)...), pgpEnd(mark)
		}
		if _, err := w.Write(top); err != nil {
			return err
		}
		_, sealed, err := sealedBytes(b, x)
		if err != nil {
			return err
		}
		var out io.WriteCloser = lines.NewWriter(w)
		if kind != cms {
			if out, err = openpgp.Armour(w); err != nil {
				return err
			}
		}
		if err := copyTo(ctx, out, sealed); err != nil {
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
		_, err = io.WriteString(w, end)
		return err
	})
}

var errReadable = errors.New("what calls itself ciphertext is text")

// inspect reads the sealed bytes to their end.
func inspect(ctx context.Context, b *message.Body, x *message.Index) (kind, smimeType string, err error) {
	defer func() { // a stranger's bytes
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	kind, sealed, err := sealedBytes(b, x)
	if err != nil {
		return "", "", err
	}
	var text textRun
	sealed = io.TeeReader(reader{ctx, sealed}, &text)
	if kind == cms {
		smimeType, err = smime.Encrypted(sealed)
	} else {
		err = openpgp.Encrypted(sealed)
	}
	if err == nil && text.found {
		err = errReadable
	}
	return kind, smimeType, err
}

// sealedBytes finds what the sender sealed, without armour and transfer encoding; reading it to its end fails where something stands beside it.
func sealedBytes(b *message.Body, x *message.Index) (kind string, sealed io.Reader, err error) {
	p := x.Parts[0]
	if x.Unclear != "" {
		return "", nil, errors.New("is unclear: " + x.Unclear)
	}
	switch p.Type {
	case "multipart/encrypted":
		if !strings.EqualFold(p.Params["protocol"], "application/pgp-encrypted") {
			return "", nil, errors.New("multipart/encrypted of another protocol")
		}
		sealed, err = openMIME(b.Section(p.HeaderEnd, p.End-p.HeaderEnd), p.Params["boundary"])
		return pgpMIME, sealed, err
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		return cms, message.DecodePart(b, p), nil
	case "text/plain":
		if len(x.Parts) > 1 || p.Disposition == "attachment" || !beginsArmour(message.DecodePart(b, p)) {
			break
		}
		sealed, err = openArmour(newLines(message.DecodePart(b, p)), "")
		return pgpInline, sealed, err
	}
	return "", nil, errors.New("nothing says that it is encrypted")
}

// beginsArmour looks at the first bytes alone: every letter is asked.
func beginsArmour(text io.Reader) bool {
	head := make([]byte, 512)
	n, _ := io.ReadFull(text, head)
	return bytes.HasPrefix(bytes.TrimLeft(head[:n], " \t\r\n"), []byte("-----BEGIN PGP MESSAGE-----"))
}

// textRun looks for what no cipher makes: 64 octets in a row that are text in ASCII, UTF-8 or UTF-16 with the letters of French. In random bytes
// of 50 MB such a row stands once in 10^11 messages.
type textRun struct {
	n     int
	found bool
}

var textByte = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c <= '~' || c == '\t' || c == '\r' || c == '\n' || c == 0 || c == 0xc3 || c >= 0xa0 && c <= 0xbf
	}
	return t
}()

func (r *textRun) Write(p []byte) (int, error) {
	for _, c := range p {
		if !textByte[c] {
			r.n = 0
		} else if r.n++; r.n == 64 {
			r.found = true
		}
	}
	return len(p), nil
}
