package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/policy"
)

// encrypt seals the copy of one recipient in the form that he opens. What the form turns out not to carry takes another way, or is refused.
func (g *Gateway) encrypt(ctx context.Context, m *mail, ways []way, i int) error {
	w, to := &ways[i], m.env.Recipients[i]
	c := w.answer.Contact
	if c == nil { // known by a key of the keyring alone, or none is needed
		c = &directory.Contact{}
	}
	passphrase, telling := "", false
	if f := w.decision.Form; f == policy.FormZIP || f == policy.FormPDF {
		if passphrase = string(c.Secret); passphrase == "" {
			telling, passphrase = true, g.passphrase(m, to)
			if err := g.canTell(ctx, c, w.decision.Notify, m.env.Sender); err != nil {
				return err
			}
		}
	}
	sealed, err := g.seal(ctx, m, w, to, c, passphrase)
	if no := (*protect.Error)(nil); errors.As(err, &no) && no.Step == "form" {
		return g.instead(ctx, m, ways, i, "not possible as "+w.decision.Form, err)
	}
	if err != nil {
		return err
	}
	defer sealed.Close()
	if limit := g.set.formLimits[w.decision.Form]; limit > 0 && sealed.Size() > int64(limit) && w.decision.Fallback != "" { // larger than was reckoned
		sealed.Close()
		return g.instead(ctx, m, ways, i, w.decision.Form+" is over "+limit.String(), nil)
	}
	g.sendOut(ctx, m, ways, []int{i}, g.internetHop("", to.Domain), m.letter(m.discreet, sealed, 0), false)
	if w.fault != nil || !telling {
		return nil
	}
	return g.tellPassphrase(ctx, m, to, c, w.decision.Notify, passphrase)
}

// seal gives what leaves. The room that sealing takes is given back before the copy is handed on.
func (g *Gateway) seal(ctx context.Context, m *mail, w *way, to message.Recipient, c *directory.Contact, passphrase string) (sealed *message.Body, err error) {
	x, err := m.parts()
	if err != nil {
		return nil, err
	}
	body, x, done, err := g.signedInside(ctx, m, x, w)
	if err != nil {
		return nil, err
	}
	defer done()
	release, err := g.sealingRoom(ctx, m, w)
	if err != nil {
		return nil, err
	}
	defer release()
	o := g.set.protect
	o.Budget, o.Lang, o.TextOutside = g.budget, c.Lang, w.decision.Scope == policy.ScopeAttachments
	switch w.decision.Form {
	case policy.FormSMIME:
		if w.keys.doubt != nil {
			return nil, later("Revocation du certificat du destinataire inconnue pour le moment, nouvel essai plus tard", w.keys.doubt)
		}
		sealed, err = protect.SMIME(ctx, m.env, body, x, to, []*x509.Certificate{w.keys.cert}, o)
	case policy.FormOpenPGP:
		if w.keys.unasked != nil {
			return nil, later("Cle du destinataire introuvable pour le moment, nouvel essai plus tard", w.keys.unasked)
		}
		sealed, err = protect.OpenPGP(ctx, m.env, body, x, to, [][]byte{w.keys.pgp}, o)
	case policy.FormZIP:
		sealed, err = protect.ZIP(ctx, m.env, body, x, to, passphrase, o)
	case policy.FormPDF:
		sealed, err = protect.PDF(ctx, m.env, body, x, to, passphrase, g.set.pdfMode, o)
	case policy.FormAsIs:
		sealed, err = protect.AsIs(ctx, m.env, body, x, to, o)
	default:
		err = fmt.Errorf("form %q is not known", w.decision.Form)
	}
	if err != nil {
		return nil, fmt.Errorf("seal as %s: %w", w.decision.Form, err)
	}
	return sealed, nil
}

// sealedSizes reckons how large a message will be, by form.
func sealedSizes(b *message.Body, x *message.Index) map[string]int64 {
	key := protect.SealedSize(b)
	return map[string]int64{policy.FormSMIME: key, policy.FormOpenPGP: key, policy.FormZIP: protect.ArchiveSize(x), policy.FormPDF: protect.PDFSize(x)}
}

// instead is the way of what the form that was decided does not carry: the vault or, where the rule makes encryption mandatory, back to the
// sender. A null sender's mail is never a deposit: it fails.
func (g *Gateway) instead(ctx context.Context, m *mail, ways []way, i int, why string, err error) error {
	w := &ways[i]
	d := &w.decision
	fallback := d.Fallback
	if fallback == "" {
		return err
	}
	w.instead = ", but " + why + ", by " + string(fallback)
	d.Route, d.Form, d.Scope, d.Reason = fallback, "", "", d.Reason+w.instead
	if fallback == policy.Refuse {
		return refuse(550, [3]int{5, 7, 1}, d.Text, err)
	}
	return g.pickup(ctx, m, ways, i)
}
