package protect

import (
	"context"
	"fmt"
	"io"
	"strings"

	"passerelle/crypto/lines"
	"passerelle/gateway/message"
)

// Detached makes the signature of an entity that it reads to its end: the DER of a CMS SignedData without content (RFC 5652), and the name of
// its digest as micalg says it ("sha-256", RFC 8551 section 3.5.3.2).
type Detached func(entity io.Reader) (der []byte, micalg string, err error)

// Unsignable says why a message is not signed, "" where it may be. form: it must not be by its form, whatever the operator asks for; else it
// could be if it were written better.
//
//	signed, encrypted   a second signature around it helps no reader; who opens what is inside decides on it
//	report              multipart/report and its receipts (RFC 3462, 8098): machines look for them at the root
//	invitation          text/calendar: readers show buttons only where it is no part of a signed message (RFC 6047 section 3 asks for a
//	                    signature, none of the common readers for the buttons keeps them under one)
func Unsignable(b *message.Body, x *message.Index) (why string, form bool) {
	switch root := x.Parts[0]; {
	case root.Type == "multipart/signed", strings.HasSuffix(root.Type, "pkcs7-mime") && root.Params["smime-type"] == "signed-data":
		return "signed already", true
	case root.Opaque:
		return "encrypted already", true
	case root.Type == "multipart/report", root.Type == "message/disposition-notification", root.Type == "message/delivery-status":
		return "a report", true
	case armouredText(b, root) != "":
		return "OpenPGP text already", true
	}
	switch {
	case x.Calendar():
		return "an invitation", true
	case x.Unclear != "":
		return "its parts cannot be read unambiguously", false
	}
	return "", false
}

// armouredText tells which block of OpenPGP a text that is not encoded begins with: "MESSAGE", "SIGNED MESSAGE", or "".
func armouredText(b *message.Body, p message.Part) string {
	if !strings.HasPrefix(p.Type, "text/") || len(p.Children) > 0 {
		return ""
	}
	var begin [256]byte
	n, _ := io.ReadFull(message.DecodePart(b, p), begin[:])
	for _, kind := range []string{"SIGNED MESSAGE", "MESSAGE"} {
		if strings.HasPrefix(strings.TrimLeft(string(begin[:n]), "\r\n \t"), "-----BEGIN PGP "+kind+"-----") {
			return kind
		}
	}
	return ""
}

// Sign gives the whole message anew as multipart/signed (RFC 8551 section 3.5.3, RFC 1847). h is its header as it leaves, start the offset of
// its body in b. The fields that describe the content go down with it, byte for byte as the body is; every other field stays above it. What
// is signed has CRLF at its line ends because a message in hand has (smtpd). A body of 8 bits stays one, and the signed message says so:
// converting it would change what its author wrote, and no server may convert within multipart/signed (RFC 1847 section 2.1). A hop without
// 8BITMIME is not given it, as it is not given any message of 8 bits (relay).
func Sign(ctx context.Context, h message.Header, b *message.Body, x *message.Index, start int64, sign Detached, o Options) (body *message.Body, err error) {
	var content []byte
	for _, f := range h.Fields() {
		if IsContent(f.Name) {
			content = append(content, f.Raw...)
		}
	}
	content = append(content, "\r\n"...)
	der, micalg, err := signature(ctx, content, b, start, sign)
	if err != nil {
		return nil, err
	}
	mark := boundary()
	var top message.Header
	top.AppendRaw(WithoutContent(h)...)
	fields := [][2]string{{"Content-Type", `multipart/signed; protocol="application/pkcs7-signature"; micalg=` + micalg + `; boundary="` + mark + `"`}}
	if h.Get("MIME-Version") == "" {
		fields = append([][2]string{{"MIME-Version", "1.0"}}, fields...)
	}
	for _, p := range x.Parts {
		if p.Encoding == "8bit" || p.Encoding == "binary" {
			fields = append(fields, [2]string{"Content-Transfer-Encoding", "8bit"})
			break
		}
	}
	for _, f := range fields {
		if err := top.Append(f[0], f[1]); err != nil {
			return nil, &Error{Step: "sign", Err: err}
		}
	}
	return build(o, b.Size()+int64(len(der))*3/2+2<<10, func(w io.Writer) error {
		if _, err := fmt.Fprintf(w, "%sThis is a cryptographically signed message in MIME format.\r\n\r\n--%s\r\n%s", top.Bytes(), mark, content); err != nil {
			return err
		}
		if err := copyBody(ctx, w, b, start); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "\r\n--%s\r\nContent-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\nContent-Transfer-Encoding: base64\r\n"+
			"Content-Disposition: attachment; filename=\"smime.p7s\"\r\nContent-Description: S/MIME Cryptographic Signature\r\n\r\n", mark); err != nil {
			return err
		}
		text := lines.NewWriter(w)
		if _, err := text.Write(der); err != nil {
			return err
		}
		if err := text.Close(); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\r\n--%s--\r\n", mark)
		return err
	})
}

// signature reads the entity once. A library's panic stays with the message.
func signature(ctx context.Context, content []byte, b *message.Body, start int64, sign Detached) (der []byte, micalg string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Error{Step: "sign", Err: fmt.Errorf("panic: %v", p)}
		}
	}()
	der, micalg, err = sign(reader{ctx, io.MultiReader(strings.NewReader(string(content)), b.Section(start, -1))})
	if err != nil {
		return nil, "", &Error{Step: "sign", Passing: true, Err: err}
	}
	return der, micalg, nil
}
