package protect

import (
	"context"
	"fmt"
	"io"

	"passerelle/crypto/openpgp"
	"passerelle/gateway/message"
)

// pgpFiles gives a message whose text stays readable, and whose files are each encrypted under a neutral name, with an encrypted list of the
// real ones. RFC 3156 knows a whole entity only; an encrypted file is what Thunderbird, Kleopatra, GPG Suite and OpenKeychain open by its
// ending.
func pgpFiles(ctx context.Context, env *message.Envelope, b *message.Body, x *message.Index, to message.Recipient, keys, hidden []*openpgp.Key, o Options) (*message.Body, error) {
	now, mark := o.now(), boundary()
	h := outer(env, x.Header, to, o)
	if err := h.Append("Content-Type", `multipart/mixed; boundary="`+mark+`"`); err != nil {
		return nil, &Error{Step: "seal", Err: err}
	}
	return build(o, b.Size()+b.Size()/20+16<<10, func(w io.Writer) error {
		if err := writeTop(w, h.Bytes(), mark, coverOf(coverPGPFilesFrench, coverPGPFilesEnglish, o), b, x, true); err != nil {
			return err
		}
		var file io.WriteCloser // the one that is being written
		a := &archive{ctx: ctx, b: b, x: x, outside: true, create: func(name string, _ bool) (io.Writer, error) {
			if file != nil {
				if err := file.Close(); err != nil {
					return nil, err
				}
			}
			_, err := fmt.Fprintf(w, "\r\n--%s\r\nContent-Type: application/octet-stream; name=\"%s.pgp\"\r\nContent-Disposition: attachment; filename=\"%[2]s.pgp\"\r\n\r\n", mark, name)
			if err != nil {
				return nil, err
			}
			file, err = openpgp.Encrypt(w, keys, hidden, now)
			return file, err
		}}
		if err := a.fill(false); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\r\n--%s--\r\n", mark)
		return err
	})
}
