package protect

import (
	"context"
	"errors"

	"passerelle/gateway/message"
)

// The modes of PDF.
const (
	// PDFEach makes message.pdf of the text and of files of other kinds; each PDF of the message stays one of its own beside it.
	PDFEach = "each"
	// PDFWhole makes one PDF that holds every file.
	PDFWhole = "whole"
)

// PDF gives a message whose attachment message.pdf (AES-256, R 6) holds the text and the files, and whose text says how to open it.
// The passphrase goes another way, never with it. An Error of step "form" says that this message cannot take the form (an archive or a
// program among its files, which Acrobat refuses to give out), and another may.
func PDF(ctx context.Context, env *message.Envelope, b *message.Body, x *message.Index, to message.Recipient, passphrase, mode string, o Options) (body *message.Body, err error) {
	return nil, &Error{Step: "form", Err: errors.New("not yet")}
}
