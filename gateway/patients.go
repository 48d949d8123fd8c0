package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"passerelle/config"
	"passerelle/gateway/message"
	"passerelle/gateway/relay"
	"passerelle/gateway/trust"
	"passerelle/policy"
)

// patientSize is what a Mon espace santé mailbox takes, on the wire (CNAM ENS-Messagerie, section 6), unless trust.limits says otherwise.
const patientSize = 25_000_000

// trustLimit is what the operator of a domain takes.
func (s *settings) trustLimit(domain string) config.TrustLimit {
	l := s.trustLimits[domain]
	if l.Size == 0 && domain == s.patientDomain {
		l.Size = patientSize
	}
	return l
}

// insQualified tells whether the message's own header or the clinic's list vouches for the patient's identity.
func (g *Gateway) insQualified(m *mail, f *asked) bool {
	if c := f.answer.Contact; c != nil && c.Qualified {
		return true
	}
	if g.set.patients.Header == "" {
		return false
	}
	values := m.header.Values(g.set.patients.Header)
	return len(values) == 1 && slices.Contains([]string{"oui", "yes", "o", "1"}, strings.ToLower(strings.TrimSpace(values[0])))
}

// namesOthers tells whether a field that its reader sees names a patient's mailbox other than that of the INS: a client that hands one message
// in for each of several patients would tell each of them who the others are.
func (g *Gateway) namesOthers(h message.Header, ins string) bool {
	for _, name := range []string{"To", "Cc", "Bcc", "Reply-To"} {
		for _, v := range h.Values(name) {
			for _, found := range g.set.patientBox.FindAllStringSubmatch(message.DecodeText(v), -1) {
				if !trust.SameINS(found[1], ins) {
					return true
				}
			}
		}
	}
	return false
}

// closing tells whether a message to a patient ends the exchange: X-MSS-MES: FIN, or a subject that is [FIN] and nothing else (CNAM
// ENS-Messagerie section 7). The operator of Mon espace santé acts on it; writing again opens a new exchange.
func closing(h message.Header) bool {
	return h.Get("X-MSS-MES") == "FIN" || h.Text("Subject") == "[FIN]"
}

// noMailbox tells whether the patients' operator said of this recipient that there is no such mailbox.
func (g *Gateway) noMailbox(w *way) bool {
	var e *relay.Error
	return w.fault != nil && errors.As(w.fault.err, &e) && e.Permanent && e.Step == "rcpt" &&
		slices.Contains(g.set.patients.NoMailbox, fmt.Sprintf("%d.%d.%d", e.Enhanced[0], e.Enhanced[1], e.Enhanced[2]))
}

// withoutMailbox goes on by pickup for a patient who turned out to have no Mon espace santé mailbox, where the rule and the clinic's list
// allow it, and tells the sender. He was asked for once: what fails now is repeated by the client, and Mon espace santé is asked again.
func (g *Gateway) withoutMailbox(ctx context.Context, m *mail, ways []way, i int) error {
	w := &ways[i]
	c := w.answer.Contact
	if w.decision.Fallback != policy.Pickup || c == nil || c.PickupAt == "" {
		return refuse(550, [3]int{5, 1, 1}, "Ce patient n'a pas de boite Mon espace sante, ecrivez-lui a son adresse courriel (lien de retrait)", w.fault)
	}
	if closing(m.header) { // nothing was opened there that could be closed
		return refuse(550, [3]int{5, 1, 1}, "Ce patient n'a pas de boite Mon espace sante, il n'y a pas d'echange a clore", w.fault)
	}
	at, err := message.ParseAddress(c.PickupAt, true)
	if err != nil {
		return fmt.Errorf("pickup_at of the clinic's list: %w", err)
	}
	if listed, _ := g.space.Ask(at.Domain); listed || g.set.inboundDomains[at.Domain] { // nothing for these goes by the Internet
		return refuse(550, [3]int{5, 1, 1}, "Ce patient n'a pas de boite Mon espace sante, ecrivez-lui a son adresse courriel (lien de retrait)",
			fmt.Errorf("pickup_at of the clinic's list is in the trust space or the clinic: %w", w.fault))
	}
	there := g.directory.Ask(ctx, at)
	if there.Contact != nil && there.Contact.Opposed {
		return refuse(550, [3]int{5, 7, 1}, "Ce patient n'a pas de boite Mon espace sante et s'oppose aux courriels, joignez-le autrement", nil)
	}
	to := message.Recipient{Address: at, Raw: at.String(), Notify: m.env.Recipients[i].Notify}
	if w.to == nil { // else an alias led to the patient, and from is whom the sender wrote to
		w.from = m.env.Recipients[i]
	}
	w.to = &to
	env := *m.env // the message's own may be read by a session that answers meanwhile
	env.Recipients = slices.Clone(env.Recipients)
	env.Recipients[i] = to
	m = &mail{env: &env, body: m.body, header: m.header, start: m.start, index: m.index, discreet: m.discreet, rewritten: m.rewritten}
	w.fault, w.result, w.hop = nil, relay.Result{}, ""
	w.decision.Route = policy.Pickup
	w.decision.Reason += ", no Mon espace sante mailbox, by pickup"
	if err := g.pickup(ctx, m, ways, i); err != nil {
		return err
	}
	if w.fault == nil {
		g.tellNoMailbox(ctx, m, w)
	}
	return nil
}

// tellNoMailbox tells the sender by which way his message went. It has left: a telling that fails is in the log, and the ledger knows.
func (g *Gateway) tellNoMailbox(ctx context.Context, m *mail, w *way) {
	to := notifyAddress(w.decision.Notify, m.env.Sender)
	if to.IsNull() {
		return
	}
	text := fmt.Sprintf("Ce patient n'a pas de boîte Mon espace santé. Votre message « %s » lui a été proposé à son adresse %s, par un lien de retrait protégé par un code.\n",
		m.header.Text("Subject"), w.to.Address)
	if err := g.toClinic(ctx, message.Address{}, to, nil, g.ownMail(to, "Message remis par lien de retrait", text)); err != nil {
		g.log.Warn("sender was not told that a patient has no mailbox", "id", m.env.ID, "err", err)
	}
}
