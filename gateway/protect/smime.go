package protect

import (
	"context"
	"crypto/x509"
	"io"

	"passerelle/crypto/lines"
	"passerelle/crypto/smime"
	"passerelle/gateway/message"
)

// SMIME gives the message as application/pkcs7-mime (RFC 8551 sections 3.3 and 3.4) for one recipient; the owners of all certs can open
// it. Inside stands what OpenPGP has inside: the original MIME entity, so that a signature in it still verifies, with protected
// headers. CMS names each recipient by his certificate: who must not know of another gets a copy of his own.
func SMIME(ctx context.Context, env *message.Envelope, b *message.Body, x *message.Index, to message.Recipient, certs []*x509.Certificate, o Options) (body *message.Body, err error) {
	defer count("smime", x.Whole(), &err)
	suite := smime.Announced(certs)
	switch o.Cipher {
	case "gcm":
		suite = smime.Modern
	case "cbc":
		suite = smime.Compatible
	}
	h := outer(env, x.Header, to, o)
	for _, f := range smimeFields(suite.Type()) {
		if err := h.Append(f[0], f[1]); err != nil {
			return nil, &Error{Step: "seal", Err: err}
		}
	}
	inner, start := entityHeader(x, to), x.Parts[0].HeaderEnd
	return build(o, b.Size()/3*4+b.Size()/20+8<<10, func(w io.Writer) error {
		if _, err := w.Write(h.Bytes()); err != nil {
			return err
		}
		text := lines.NewWriter(w)
		pt, err := smime.Encrypt(text, certs, int64(len(inner))+b.Size()-start, suite, o.now())
		if err != nil {
			return err
		}
		if _, err := pt.Write(inner); err != nil {
			return err
		}
		if err := copyBody(ctx, pt, b, start); err != nil {
			return err
		}
		if err := pt.Close(); err != nil {
			return err
		}
		return text.Close()
	})
}

func smimeFields(smimeType string) [][2]string {
	return [][2]string{
		{"Content-Type", "application/pkcs7-mime; smime-type=" + smimeType + "; name=\"smime.p7m\""},
		{"Content-Disposition", "attachment; filename=\"smime.p7m\""},
		{"Content-Transfer-Encoding", "base64"},
	}
}
