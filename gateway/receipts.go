package gateway

import (
	"bytes"
	"fmt"
	"mime"
	"strings"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/vault"
)

// receiptMail tells a sender how his message stands with each recipient, French then English, with the link to its page.
func (g *Gateway) receiptMail(s *vault.Sending, what vault.Summary) *message.Body {
	fr, en := []string{}, []string{}
	for _, d := range s.Deposits {
		fr = append(fr, "  "+d.Recipient.String()+"\n      "+g.vault.Stands(d, "fr"))
		en = append(en, "  "+d.Recipient.String()+"\n      "+g.vault.Stands(d, "en"))
	}
	subject, titleFR, titleEN := "Suivi de votre message sécurisé", "Votre message attend sur la page sécurisée :", "Your message waits on the secure page:"
	switch what {
	case vault.NotOpened:
		subject, titleFR, titleEN = "Votre message sécurisé n'est pas encore lu", "Votre message n'est pas encore lu par tous :", "Your message was not read by everybody yet:"
	case vault.AllSettled:
		titleFR, titleEN = "Ce que votre message est devenu :", "What became of your message:"
		if allOpened(s.Deposits) {
			subject = "Votre message sécurisé est lu"
		} else {
			subject = "Votre message sécurisé : fin du suivi"
		}
	}
	if s.Undelivered() {
		subject, titleFR, titleEN = "Votre message sécurisé n'a pas été remis à tous", "Votre message n'a pas été remis à tous :", "Your message was not delivered to everybody:"
	}
	return g.tellSender(s.Sender, s.MessageID, subject, g.receiptText(titleFR, titleEN, fr, en, s.ID))
}

// heldMail asks the sender for the number of a recipient; it belongs to a sending always, for he is no null sender.
func (g *Gateway) heldMail(dep *vault.Deposit) *message.Body {
	s := vault.Status{State: vault.Held, Created: dep.Created}
	one := func(stands string) []string { return []string{"  " + dep.Recipient.String() + "\n      " + stands} }
	text := g.receiptText("Votre message attend un numéro de téléphone :", "Your message waits for a telephone number:", one(g.vault.Stands(s, "fr")), one(g.vault.Stands(s, "en")), dep.Sending)
	return g.tellSender(dep.Sender, "", "Numéro de téléphone à compléter", text)
}

// receiptText ends in the link to the sending's page.
func (g *Gateway) receiptText(titleFR, titleEN string, fr, en []string, sending string) string {
	link := g.vault.SendingLink(sending)
	return fmt.Sprintf("%s\n\n%s\n\nSuivre, retirer, renvoyer l'avis, clore l'échange :\n%s\n\n--------------------\n\n%s\n\n%s\n\nFollow, withdraw, send the notice again, close the exchange:\n%s\n",
		titleFR, strings.Join(fr, "\n"), link, titleEN, strings.Join(en, "\n"), link)
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

func allOpened(ds []vault.Status) bool {
	for _, d := range ds {
		if d.Opened.IsZero() {
			return false
		}
	}
	return true
}
