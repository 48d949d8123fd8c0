package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/openid"
	"passerelle/gateway/portal"
	"passerelle/gateway/relay"
	"passerelle/gateway/vault"
)

// proof says how the recipient will prove himself: as the rule asks; else by a code that an SMS brings, by the phrase agreed with him, by a
// code in his mailbox where the operator lets it, by a code that the sender tells. Where codes go by SMS and no number is known the deposit is
// held until the sender gives one.
func (g *Gateway) proof(req *vault.DepositRequest, c *directory.Contact, asked vault.Mode) error {
	if c != nil {
		req.Phone = c.Phone
	}
	secret := c != nil && c.Secret != ""
	req.Proof = asked
	switch asked {
	case vault.BySMS:
		if g.sms == nil {
			return unset("Envoi de SMS non configure sur la passerelle, a completer dans sms.url", errors.New("a rule asks for an SMS, sms.url is empty"))
		}
		req.Mode, req.Hold = vault.BySMS, !c.Mobile()
		return nil
	case vault.BySecret:
		if !secret {
			return refuse(550, [3]int{5, 7, 1}, "Aucune phrase convenue avec ce destinataire: l'ajouter dans la liste de la clinique", errors.New("a rule asks for a phrase, the list has none"))
		}
		req.Mode, req.Secret = vault.BySecret, string(c.Secret)
		return nil
	case vault.ByOIDC:
		if !g.vouched(req.Identity) {
			return refuse(550, [3]int{5, 7, 1}, "Identite du destinataire inconnue: donner nom de naissance, prenoms et date de naissance (ou RPPS) dans la liste de la clinique ou avec le message",
				errors.New("a rule asks for an OpenID provider, the recipient's identity is not known"))
		}
		req.Mode = vault.ByOIDC
		return nil
	case vault.ByEmail, vault.BySender:
		req.Mode = asked
		return nil
	}
	bySMS := g.sms != nil && req.Mode != vault.BySender
	switch {
	case bySMS && c.Mobile():
	case secret && req.Mode != vault.BySender:
		req.Mode, req.Secret = vault.BySecret, string(c.Secret)
	case req.Phone == "" && g.cfg.Pickup.EmailCode && g.cfg.Pickup.NoPhone == "" && req.Mode != vault.BySender:
		req.Mode = vault.ByEmail
	case req.Phone == "": // a landline is called
		req.Hold = g.cfg.Pickup.NoPhone == "hold" || g.cfg.Pickup.NoPhone == "" && bySMS
	}
	return nil
}

// vouched tells whether a provider can say that somebody is this person.
func (g *Gateway) vouched(i vault.Identity) bool {
	for _, o := range g.cfg.Pickup.OIDC {
		if o.For == "professionals" && i.Professional() || o.For == "patients" && i.Patient() {
			return true
		}
	}
	return false
}

// identityFor is who a recipient is: as the sender's application says, else the clinic's list. It is kept where a provider can say so too.
func (g *Gateway) identityFor(m *mail, to message.Address, c *directory.Contact) vault.Identity {
	if len(g.cfg.Pickup.OIDC) == 0 {
		return vault.Identity{}
	}
	i := m.phones.who[to.Key()]
	if i == (vault.Identity{}) && m.phones.onlyWho != (vault.Identity{}) && g.aloneWith(m, to) {
		i = m.phones.onlyWho
	}
	if i == (vault.Identity{}) && c != nil {
		i = vault.Identity{BirthName: c.BirthName, FirstNames: c.FirstNames, BirthDate: c.BirthDate, RPPS: c.RPPS}
	}
	i, err := vault.ParseIdentity(i)
	if err != nil {
		return vault.Identity{}
	}
	return i
}

// readIdentity takes "to=patient@example; birth_name=Durand; first_name=Anne Marie; birth_date=1962-08-24", or rpps=...; to may be left out
// where nobody else outside the clinic is written to.
func (g *Gateway) readIdentity(m *mail, value string) {
	var i vault.Identity
	key := ""
	for _, part := range strings.Split(message.DecodeText(value), ";") {
		name, v, _ := strings.Cut(part, "=")
		v = strings.TrimSpace(v)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "to":
			a, err := message.ParseAddress(strings.Trim(v, "<>"), true)
			if err != nil {
				return
			}
			key = a.Key()
		case "birth_name":
			i.BirthName = v
		case "first_name":
			i.FirstNames = v
		case "birth_date":
			i.BirthDate = v
		case "rpps":
			i.RPPS = v
		}
	}
	i, err := vault.ParseIdentity(i)
	if err != nil { // its recipient proves himself another way, or the rule refuses
		g.log.Warn("an identity in the header is of no use", "id", m.env.ID, "err", err)
		return
	}
	if key == "" {
		m.phones.onlyWho = i
		return
	}
	if m.phones.who == nil {
		m.phones.who = map[string]vault.Identity{}
	}
	if len(m.phones.who) < maxPhones {
		m.phones.who[key] = i
	}
}

// toRecipient hands a mail of the vault's own, a code, to the server of a recipient's mailbox.
func (g *Gateway) toRecipient(ctx context.Context, to message.Address, body *message.Body) error {
	defer body.Close()
	l := relay.Letter{Recipients: []message.Recipient{{Address: to, Raw: to.String()}}, Ret: "HDRS", Body: body, EightBit: true, SMTPUTF8: !to.IsASCII()}
	if err := g.sign(&l, false); err != nil {
		return fmt.Errorf("sign the code: %w", err)
	}
	if r := g.relay.Send(ctx, g.internetHop("", to.Domain), l)[0]; r.Err != nil {
		return r.Err
	}
	return nil
}

// newProviders are the OpenID providers of the portal.
func (g *Gateway) newProviders(cfg *config.Config) ([]*openid.Provider, error) {
	var out []*openid.Provider
	for _, o := range cfg.Pickup.OIDC {
		secret, err := o.Secret()
		if err != nil {
			return nil, err
		}
		label := o.Label
		if label == "" {
			label = o.Name
		}
		p, err := openid.New(openid.Config{Name: o.Name, Label: label, Issuer: o.Issuer, Discovery: o.Discovery, ClientID: o.ClientID, ClientSecret: secret, Scopes: o.Scopes,
			ACR: o.ACRValues, Claims: o.Claims, Professionals: o.For == "professionals", RedirectURL: strings.TrimRight(cfg.Pickup.URL, "/") + portal.IdentityPath,
			Timeout: time.Duration(o.Timeout)})
		if err != nil {
			return nil, fmt.Errorf("pickup.oidc %s: %w", o.Name, err)
		}
		out = append(out, p)
	}
	return out, nil
}
