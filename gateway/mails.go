package gateway

import (
	"fmt"
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
