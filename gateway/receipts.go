package gateway

import (
	"bytes"
	"fmt"
	"mime"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/vault"
)

// receiptMail tells a sender how his message stands with each recipient, in the words of the vault's mails.
func (g *Gateway) receiptMail(s *vault.Sending, what vault.Summary) *message.Body {
	subject, text := g.vault.Receipt(s, what)
	return g.tellSender(s.Sender, s.MessageID, subject, text)
}

// tellSender is a mail of our own about a message of his, in its thread where that is known.
func (g *Gateway) tellSender(to message.Address, messageID, subject, text string) *message.Body {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s <%s>\r\nTo: <%s>\r\n", message.Phrase("Passerelle "+g.set.clinicName), g.set.postmaster, to)
	fmt.Fprintf(&b, "Subject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n", mime.QEncoding.Encode("utf-8", subject), g.now().Format(time.RFC1123Z), newID(), g.set.hostname)
	if messageID != "" {
		writeField(&b, "In-Reply-To", oneLine(messageID))
		writeField(&b, "References", oneLine(messageID))
	}
	b.WriteString("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	writeQP(&b, text)
	return message.BytesBody(b.Bytes())
}
