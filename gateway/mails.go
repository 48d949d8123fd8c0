package gateway

import (
	"io"
	"mime/quotedprintable"

	"passerelle/gateway/message"
)

// ownMail builds a short text mail of our own to the clinic's staff: French, UTF-8, quoted-printable, never to be answered by a robot.
func (g *Gateway) ownMail(to message.Address, subject, text string) *message.Body {
	return g.tellSender(to, "", subject, text)
}

func writeQP(w io.Writer, text string) {
	q := quotedprintable.NewWriter(w)
	io.WriteString(q, text)
	q.Close()
	io.WriteString(w, "\r\n")
}

// partOf opens a part, decoded, as often as the reader asks.
func partOf(b *message.Body, p message.Part) func() io.Reader {
	return func() io.Reader { return message.DecodePart(b, p) }
}
