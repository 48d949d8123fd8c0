package gateway

import (
	"context"
	"fmt"
	"slices"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/vault"
)

// Refused tells a sender what the recipient of his message says against it, and returns when the clinic's server took that mail.
func (g *Gateway) Refused(ctx context.Context, s vault.Status, kind vault.Refusal) error {
	of, link := vault.DateFR(g.vault.Local(s.Created)), ""
	if s.Sending != "" {
		link = "\nSuivre ou retirer ce message :\n" + g.vault.SendingLink(s.Sending) + "\n"
	}
	subject, text := "Message reçu par une autre personne", fmt.Sprintf("La personne qui lit la boîte %s dit que votre message du %s n'est pas pour elle.\n\n"+
		"Elle n'en voit pas le contenu sans le code. Vérifiez l'adresse, retirez le message si elle est fausse, et joignez votre patient autrement.\nIl n'y aura plus de rappel pour ce message.\n", s.Recipient, of)
	if kind == vault.BlockSender {
		subject, text = "Un destinataire ne veut plus de vos messages", fmt.Sprintf("La personne qui lit la boîte %s a demandé à ne plus recevoir de messages de votre part par lien de retrait (message du %s).\n\n"+
			"Vos prochains messages à cette adresse seront refusés : joignez ce destinataire autrement.\nS'il change d'avis, il le dit sur la page de ce message tant qu'elle est ouverte ; votre administrateur peut aussi lever le blocage (passerelle deposits unblock).\n", s.Recipient, of)
	}
	if err := g.toClinic(ctx, message.Address{}, s.Sender, nil, g.ownMail(s.Sender, subject, text+link)); err != nil {
		return fmt.Errorf("tell the sender of a refusal: %w", err)
	}
	return nil
}

// wanted refuses where the recipient has blocked the sender's links; a doubt is no "wanted".
func (g *Gateway) wanted(ctx context.Context, sender, recipient message.Address) error {
	if g.vault == nil {
		return nil
	}
	blocked, err := g.vault.Blocked(ctx, sender, recipient)
	if err != nil {
		return later("Consultation des blocages impossible, nouvel essai plus tard", err)
	}
	if blocked {
		return refuse(550, [3]int{5, 7, 1}, "Ce destinataire ne veut plus recevoir vos messages par lien de retrait, joignez-le autrement", nil)
	}
	return nil
}

// face is what notice and page may tell of the sender before a code is proved, as pickup.tell allows.
func (g *Gateway) face(from string, c *directory.Contact) (f vault.Face) {
	if slices.Contains(g.cfg.Pickup.Tell, config.TellName) {
		if list, err := message.ParseMailboxes(from); err == nil && len(list) == 1 {
			f.Name = oneLine(list[0].Name)
		}
	}
	if c != nil && slices.Contains(g.cfg.Pickup.Tell, config.TellWord) {
		f.Word = c.Word
	}
	return f
}
