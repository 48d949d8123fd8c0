package gateway

import (
	"context"
	"fmt"

	"passerelle/crypto/token"
	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/vault"
	"passerelle/policy"
)

// phrase is the passphrase of one recipient's ZIP or PDF, and where he asks for it again.
type phrase struct {
	vault.Phrase
	agreed bool   // he knows it: nothing is told
	secret string // of the link to its page
	link   string // "" without a vault
}

// newPhrase gives what a form needs, nil for the forms that open with keys. The passphrase is the one agreed with the recipient, or words that
// can be told: that is looked at before anything leaves.
func (g *Gateway) newPhrase(ctx context.Context, m *mail, w *way, to message.Recipient, c *directory.Contact) (*phrase, error) {
	if f := w.decision.Form; f != policy.FormZIP && f != policy.FormPDF {
		return nil, nil
	}
	sum := m.body.Sum()
	p := &phrase{agreed: c.Secret != "", secret: token.DeriveLink(g.set.phraseLinkKey, sum[:], []byte(to.Key())),
		Phrase: vault.Phrase{Sender: notifyAddress(w.decision.Notify, m.env.Sender), Recipient: to.Address, Words: string(c.Secret), Lang: c.Lang}}
	if g.vault != nil {
		p.link = g.vault.PhraseLink(p.secret)
	}
	if p.agreed {
		return p, nil
	}
	p.Words = g.passphrase(m, to)
	if c.Mobile() && g.sms != nil { // an SMS is only known to fail once it is sent
		p.Phone = c.Phone
		return p, nil
	}
	return p, g.takesMail(ctx, p.Sender)
}

// passphrase gives the words for one recipient of one message, the same at each repeat, as is the link: where the telling fails behind the sealed
// mail, the next attempt sends the archive again, and one passphrase opens both.
func (g *Gateway) passphrase(m *mail, to message.Recipient) string {
	sum := m.body.Sum()
	return token.DerivePassphrase(g.set.passphraseKey, sum[:], []byte(to.Key()))
}

// keepPhrase keeps the phrase for its page, before the mail with the link leaves. Of an agreed one the words are not kept: the page has nothing to tell.
func (g *Gateway) keepPhrase(ctx context.Context, p *phrase) error {
	if p == nil || p.link == "" {
		return nil
	}
	kept := p.Phrase
	if p.agreed {
		kept.Words = ""
	}
	return g.sharedAway(g.vault.KeepPhrase(ctx, p.secret, kept))
}

// tellPhrase tells the words by the channel of the codes, which is never the mail that they open: by SMS where a mobile is known, else by the sender.
func (g *Gateway) tellPhrase(ctx context.Context, p vault.Phrase) error {
	if p.Phone != "" && g.sms != nil {
		if err := g.sms.Send(ctx, p.Phone, g.set.clinicName+": mot de passe du fichier recu par courriel: "+p.Words); err != nil {
			return later("Envoi du mot de passe par SMS impossible, nouvel essai plus tard", err)
		}
		return nil
	}
	text := fmt.Sprintf("Votre message à %s est parti sous la forme d'un fichier chiffré.\n\n"+
		"Mot de passe à lui dire de vive voix (téléphone) :\n\n    %s\n\n"+
		"Ne le lui envoyez pas par courriel : qui lit sa boîte lirait alors aussi le fichier.\n", p.Recipient, p.Words)
	return g.phraseToSender(ctx, p, "Mot de passe à transmettre par téléphone", text)
}

// tellPhraseAgain does what the recipient asked for on the phrase's page.
func (g *Gateway) tellPhraseAgain(ctx context.Context, p vault.Phrase) error {
	if p.Phone != "" {
		return g.tellPhrase(ctx, p)
	}
	text := fmt.Sprintf("%s demande à nouveau le mot de passe du fichier chiffré que vous lui avez envoyé.\n\n"+
		"Appelez cette personne à un numéro que vous connaissez et dites-le-lui de vive voix :\n\n    %s\n\n"+
		"Ne le lui envoyez pas par courriel : qui lit sa boîte lirait alors aussi le fichier. La demande vient de qui a reçu\n"+
		"votre message ; en cas de doute, ne dites rien.\n", p.Recipient, p.Words)
	return g.phraseToSender(ctx, p, "Mot de passe demandé à nouveau", text)
}

func (g *Gateway) phraseToSender(ctx context.Context, p vault.Phrase, subject, text string) error {
	if err := g.toClinic(ctx, message.Address{}, p.Sender, nil, g.ownMail(p.Sender, subject, text)); err != nil {
		return fmt.Errorf("hand the passphrase to the sender: %w", err)
	}
	return nil
}
