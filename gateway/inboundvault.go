package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/gateway/vault"
)

// sealed tells whether what comes for a mailbox is kept for the portal: under the name that the trust space has for it, or the clinic's own.
func (g *Gateway) sealed(r message.Recipient) bool {
	in, mapped := g.homeward(r)
	return g.set.inbound.sealed(r.Address) || mapped && g.set.inbound.sealed(in.Address)
}

// holder is what the clinic's list says of who holds a mailbox, under either name.
func (g *Gateway) holder(ctx context.Context, r message.Recipient) directory.Answer {
	a := g.directory.Ask(ctx, r.Address)
	if in, mapped := g.homeward(r); mapped && g.canProve(&a) != nil {
		return g.directory.Ask(ctx, in.Address)
	}
	return a
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
func (g *Gateway) keepForStaff(ctx context.Context, m *mail, ways []way, i int) (err error) {
	w := &ways[i]
	if g.vault == nil {
		return unset("Retrait securise non configure sur la passerelle, a completer dans pickup.url", fmt.Errorf("inbound.mailboxes says vault, pickup.url is empty"))
	}
	dep, err := g.staffDeposit(ctx, m, w, i)
	if err != nil {
		return err
	}
	w.deposit = dep.ID
	defer func() {
		if err != nil || w.fault != nil {
			if derr := g.vault.Destroy(context.WithoutCancel(ctx), dep.ID); derr != nil {
				g.log.Error("deposit of a failed hand-over was not destroyed, the sweep will", "id", m.env.ID, "err", derr)
			}
			w.deposit = ""
		}
	}()
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
	if w.fault != nil {
		return nil
	}
	if err := g.vault.Activate(ctx, dep.ID); err != nil {
		return fmt.Errorf("activate deposit: %w", err)
	}
	return nil
}

func (g *Gateway) staffDeposit(ctx context.Context, m *mail, w *way, i int) (*vault.Deposit, error) {
	release, err := g.sealingRoom(ctx, m, w)
	if err != nil {
		return nil, err
	}
	defer release()
	req, err := g.depositRequest(m, w, i)
	if err != nil {
		return nil, err
	}
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
