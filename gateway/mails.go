package gateway

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"time"

	"passerelle/gateway/message"
)

// ownMail builds a short text mail of our own to the clinic's staff: French, UTF-8, quoted-printable, never to be answered by a robot.
func (g *Gateway) ownMail(to message.Address, subject, text string) *message.Body {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s <%s>\r\nTo: <%s>\r\n", message.Phrase("Passerelle "+g.set.clinicName), g.set.postmaster, to)
	fmt.Fprintf(&b, "Subject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n", mime.QEncoding.Encode("utf-8", subject), g.now().Format(time.RFC1123Z), newID(), g.set.hostname)
	b.WriteString("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	writeQP(&b, text)
	return message.BytesBody(b.Bytes())
}

func writeQP(w io.Writer, text string) {
	q := quotedprintable.NewWriter(w)
	io.WriteString(q, text)
	q.Close()
	io.WriteString(w, "\r\n")
}

// passphraseMail tells the sender the passphrase of a ZIP, to be passed on by telephone.
func passphraseMail(g *Gateway, m *mail, teller message.Address, to message.Recipient, passphrase string) *message.Body {
	text := fmt.Sprintf("Votre message à %s est parti sous la forme d'un fichier ZIP chiffré.\n\n"+
		"Mot de passe à lui dire de vive voix (téléphone) :\n\n    %s\n\n"+
		"Ne le lui envoyez pas par courriel : qui lit sa boîte lirait alors aussi le fichier.\n", to.Address, passphrase)
	return g.ownMail(teller, "Mot de passe à transmettre par téléphone", text)
}

// partOf opens a part, decoded, as often as the reader asks.
func partOf(b *message.Body, p message.Part) func() io.Reader {
	return func() io.Reader { return message.DecodePart(b, p) }
}
