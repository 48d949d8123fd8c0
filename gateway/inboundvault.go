package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/gateway/vault"
)

// sealed tells whether what comes for a mailbox is kept for the portal: one of its names is enough.
func (g *Gateway) sealed(names []message.Address) bool {
	return slices.ContainsFunc(names, g.set.inbound.sealed)
}

// names are those that the config and the clinic's list may know a mailbox by: as the sender wrote it, without the detail behind a "+"
// (RFC 5233) that a server may drop, as the clinic has it, as the trust space has it, and the operator's mailbox that it was fetched from.
// Whoever writes chooses among them, and must not choose by that whether his message is sealed.
func (g *Gateway) names(r message.Recipient, fetched message.Address) []message.Address {
	all := []message.Address{r.Address}
	if base, _, detailed := strings.Cut(r.Local, "+"); detailed && base != "" {
		r.Address.Local = base
		all = append(all, r.Address)
	}
	if !fetched.IsNull() {
		all = append(all, fetched)
	}
	if g.mailboxes == nil {
		return all
	}
	for _, a := range slices.Clone(all) {
		in, mapped := g.homeward(message.Recipient{Address: a})
		if mapped {
			all = append(all, in.Address)
		}
		if box, ok := g.mailboxes.Of(in.Address); ok {
			all = append(all, box.Mailbox)
		}
	}
	return all
}

// holder is what the clinic's list says of who holds a mailbox, under the first name that he can prove himself by: an entry of that name
// before one for a whole domain, whose telephone may be anybody's.
func (g *Gateway) holder(ctx context.Context, names []message.Address) (found directory.Answer) {
	for _, a := range names {
		answer := g.directory.Ask(ctx, a)
		if g.canProve(&answer) != nil {
			continue
		}
		if answer.Contact.Address == a.Key() {
			return answer
		}
		if found.Contact == nil {
			found = answer
		}
	}
	return found
}

// canProve tells whether the holder of a sealed mailbox can open what waits for him: by an SMS to the mobile of the clinic's list, or by the
// phrase agreed with him there. Where neither is known nobody could, and a message that went to the mailbox in clear would be what the
// operator shut out: the trust space's server keeps it and repeats, and the log says what to mend.
func (g *Gateway) canProve(a *directory.Answer) error {
	if c := a.Contact; c != nil && (c.Mobile() && g.sms != nil || c.Secret != "") {
		return nil
	}
	return unset("Boite protegee par un code: telephone mobile ou phrase convenue a completer par la clinique dans sa liste",
		errors.New("inbound.mailboxes says vault, the clinic's list has neither a mobile (with sms.url) nor a secret for the mailbox"))
}

// keepForStaff keeps a message from the trust space in the vault for a member of the clinic's staff, and hands a neutral notice to his
// mailbox. What pickup promises holds here too: the 250 stands on the sealed deposit and the accepted notice. Nobody tells a code: whoever
// wrote is a stranger.
//
// The deposit has no sender, so the page takes no answer: it would reach the author by way of the clinic's server, in clear on the
// Internet at worst. Nor does the notice: it comes from the postmaster, and a patient's number is in none of its addresses.
func (g *Gateway) keepForStaff(ctx context.Context, m *mail, ways []way, i int) error {
	w := &ways[i]
	seal := func() (*vault.Deposit, error) { return g.staffDeposit(ctx, m, w, i) }
	return g.entrust(ctx, m, w, seal, func(dep *vault.Deposit) error {
		if dep.Mode == vault.BySender {
			return g.canProve(&directory.Answer{})
		}
		notice, err := g.vault.Notice(dep, vault.NoticeRequest{From: g.set.noticeFrom, Staff: true})
		if err != nil {
			return fmt.Errorf("write notice: %w", err)
		}
		defer notice.Close()
		mark, err := g.noticeMark(m, notice)
		if err != nil {
			return fmt.Errorf("mark notice: %w", err)
		}
		l := relay.Letter{Sender: g.set.noticeFrom, Ret: "HDRS", Header: slices.Concat(m.discreet, mark), Body: notice, EightBit: true}
		l.SMTPUTF8 = !m.env.Recipients[i].IsASCII()
		g.send(ctx, m, ways, []int{i}, g.set.hopClinic, l)
		return nil
	})
}

func (g *Gateway) staffDeposit(ctx context.Context, m *mail, w *way, i int) (*vault.Deposit, error) {
	release, err := g.sealingRoom(ctx, m, w)
	if err != nil {
		return nil, err
	}
	defer release()
	req, done, err := g.depositRequest(m, w, i)
	if err != nil {
		return nil, err
	}
	defer done()
	req.Sender, req.Mode = message.Address{}, vault.BySMS
	if c := w.answer.Contact; req.Phone == "" || g.sms == nil {
		req.Mode, req.Secret = vault.BySecret, string(c.Secret)
	}
	dep, err := g.vault.Deposit(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("seal deposit: %w", err)
	}
	return dep, nil
}

// noticeMark says on the notice what the mark of the message says.
func (g *Gateway) noticeMark(m *mail, notice *message.Body) ([]byte, error) {
	h, _, err := message.ReadHeader(notice, g.set.maxHeader)
	if err != nil {
		return nil, err
	}
	o := m.origin
	o.Origin = protect.FromNotice
	v, err := protect.Mark(g.set.markKey, o, h, g.now())
	if err != nil {
		return nil, err
	}
	return message.FormatField(protect.MarkField, v)
}
