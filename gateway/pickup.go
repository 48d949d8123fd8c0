package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/vault"
)

// pickup keeps the copy of one recipient in the vault and sends a neutral notice instead. Its 250 stands also on a code for the sender to
// tell, which the clinic's server accepted.
func (g *Gateway) pickup(ctx context.Context, m *mail, ways []way, i int) (err error) {
	w := &ways[i]
	seal := func() (*vault.Deposit, error) { return g.deposit(ctx, m, w, i) }
	defer func() {
		if err == nil && w.fault == nil && endsExchange(m.header) {
			if err := g.vault.CloseExchange(ctx, notifyAddress(w.decision.Notify, m.env.Sender), m.env.Recipients[i].Address, true); err != nil {
				g.log.Error("an exchange stays open that its sender closed", "id", m.env.ID, "err", err)
			}
		}
	}()
	if err := g.wanted(ctx, notifyAddress(w.decision.Notify, m.env.Sender), m.env.Recipients[i].Address); err != nil {
		return err
	}
	return g.entrust(ctx, m, w, seal, func(dep *vault.Deposit) error {
		if dep.Held { // his sender is asked for the number in one mail for all recipients (receipt); his server must take it
			return g.takesMail(ctx, dep.Sender)
		}
		notice, err := g.vault.Notice(dep, vault.NoticeRequest{From: g.set.noticeFrom, ReplyTo: g.set.replyTo, Keep: g.keep(m)})
		if err != nil {
			return fmt.Errorf("write notice: %w", err)
		}
		if dep.Code != "" { // before the notice: a patient must not get a link that is dead because the code could not be told
			if err := g.takesMail(ctx, notifyAddress(w.decision.Notify, m.env.Sender)); err != nil {
				return err
			}
		}
		l := m.letter(nil, notice, 0)
		l.Ret, l.EnvID = "HDRS", m.env.EnvID
		l.Sender = notifyAddress(w.decision.Notify, m.env.Sender) // who hears of a bounce is a person
		g.sendOut(ctx, m, ways, []int{i}, g.internetHop("", m.env.Recipients[i].Domain), l, false)
		if w.fault != nil || dep.Code == "" {
			return nil
		}
		mail, err := g.vault.CodeForSender(dep, vault.NoticeRequest{From: g.set.noticeFrom})
		if err != nil {
			return fmt.Errorf("write the code for the sender: %w", err)
		}
		if err := g.toClinic(ctx, message.Address{}, notifyAddress(w.decision.Notify, m.env.Sender), nil, mail); err != nil {
			return fmt.Errorf("hand the code to the sender: %w", err)
		}
		return nil
	})
}

// endsExchange tells whether the message is the last of its exchange: the patient reads it and answers no more.
func endsExchange(h message.Header) bool {
	return strings.EqualFold(strings.TrimSpace(h.Get("X-MSS-MES")), "FIN") || strings.HasPrefix(strings.ToUpper(strings.TrimSpace(h.Text("Subject"))), "[FIN]")
}

// entrust is what every deposit promises: the 250 stands on content sealed on disk and a notice that was accepted; what tells leaves its refusal
// in w.fault. A deposit whose notice was not accepted is destroyed before the reply.
func (g *Gateway) entrust(ctx context.Context, m *mail, w *way, seal func() (*vault.Deposit, error), tell func(*vault.Deposit) error) (err error) {
	if g.vault == nil {
		return unset("Retrait securise non configure sur la passerelle, a completer dans pickup.url", fmt.Errorf("the vault is needed, pickup.url is empty"))
	}
	dep, err := seal()
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
	if err := tell(dep); err != nil || w.fault != nil {
		return err
	}
	begin := g.vault.Activate
	if dep.Held {
		begin = g.vault.Hold
	}
	ctx, cancel := context.WithTimeout(ctx, handPatience)
	defer cancel()
	if err := g.noteSent(ctx, func() error { return begin(ctx, dep.ID) }); err != nil { // the recipient has the link
		return g.sharedAway(fmt.Errorf("activate deposit: %w", err))
	}
	return nil
}

// deposit seals one recipient's copy.
func (g *Gateway) deposit(ctx context.Context, m *mail, w *way, i int) (*vault.Deposit, error) {
	return g.keepAs(ctx, m, w, i, func(req *vault.DepositRequest) error {
		req.Sending = g.vault.SendingKey(req.Sender, m.body.Sum())
		req.Face = g.face(m.header.Get("From"), w.answer.Contact)
		req.Identity = g.identityFor(m, req.Recipient, w.answer.Contact)
		return g.proof(req, w.answer.Contact, vault.Mode(w.decision.Proof))
	})
}

// keepAs seals one recipient's copy, once prove has said who may open it.
func (g *Gateway) keepAs(ctx context.Context, m *mail, w *way, i int, prove func(*vault.DepositRequest) error) (*vault.Deposit, error) {
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
	if err := prove(&req); err != nil {
		return nil, err
	}
	dep, err := g.vault.Deposit(ctx, req)
	if err != nil {
		return nil, g.sharedAway(fmt.Errorf("seal deposit: %w", err))
	}
	return dep, nil
}

// keep gives the header fields that headers.keep copies to notices and sealed messages.
func (g *Gateway) keep(m *mail) []byte {
	var out []byte
	for _, k := range protect.Kept(m.header, g.set.protect.Keep) {
		if f, err := message.FormatField(k.Name, k.Value()); err == nil {
			out = append(out, f...)
		}
	}
	return out
}

func notifyAddress(notify string, sender message.Address) message.Address {
	if a, err := message.ParseAddress(notify, true); err == nil && !a.IsNull() {
		return a
	}
	return sender
}

// depositRequest takes the message apart for the patient: a text to read, files to keep. done gives back what the files lie in.
func (g *Gateway) depositRequest(m *mail, w *way, i int) (req vault.DepositRequest, done func(), err error) {
	x, err := m.parts()
	if err != nil {
		return req, nil, err
	}
	whole := x.Whole() || x.Check(m.body) != nil // what cannot be read unambiguously is never taken apart: the patient gets it whole
	var u *message.Unpacked
	if !whole {
		if u, err = message.Unpack(m.body, x, g.budget); errors.Is(err, message.ErrNotUnpacked) {
			whole = true
		} else if err != nil {
			return req, nil, fmt.Errorf("unpack: %w", err)
		}
	}
	req = vault.DepositRequest{Sender: notifyAddress(w.decision.Notify, m.env.Sender), Recipient: m.env.Recipients[i].Address,
		Mode: g.set.codeMode, Subject: m.header.Text("Subject"), FromLabel: m.header.Text("From"), MessageID: protect.MessageID(m.header), Date: g.now()}
	if c := w.answer.Contact; c != nil {
		req.Lang = c.Lang
		if c.Mobile() {
			req.Phone = c.Phone
		}
	}
	if whole {
		req.Text = "Ce message est joint en entier, au format courrier (.eml)."
		top, start := protect.Inside(m.header), m.start // without Bcc, the lists of others and the clinic's inner trace
		req.Files = []vault.File{{Name: "message.eml", Type: "message/rfc822", Size: int64(len(top)) + m.body.Size() - start, Open: func() io.Reader {
			return io.MultiReader(bytes.NewReader(top), m.body.Section(start, -1))
		}}}
		return req, u.Close, nil
	}
	files := map[int]bool{}
	unpack := func(n int) {
		for _, f := range u.Part(n).Files {
			name := f.Name
			if name == "" {
				name = "piece-jointe"
			}
			req.Files = append(req.Files, vault.File{Name: name, Type: f.Type, Size: f.Size(), Open: f.Open})
		}
	}
	for _, a := range x.Attachments() {
		files[a.Part] = true
		if part := u.Part(a.Part); part != nil {
			unpack(a.Part)
			if part.Text == nil && !part.Original {
				continue
			}
		}
		name := a.Name
		if name == "" {
			name = "piece-jointe"
		}
		if p := x.Parts[a.Part]; p.Opaque && strings.HasPrefix(a.Type, "multipart/") { // its signature covers its bytes: the entity as it is
			req.Files = append(req.Files, vault.File{Name: name + ".eml", Type: "message/rfc822", Size: p.End - p.Start,
				Open: func() io.Reader { return m.body.Section(p.Start, p.End-p.Start) }})
			continue
		}
		req.Files = append(req.Files, vault.File{Name: name, Type: a.Type, Size: a.Size, Open: partOf(m.body, x.Parts[a.Part])})
	}
	for n, p := range x.Parts {
		if files[n] || len(p.Children) > 0 {
			continue
		}
		page := map[string]*string{"text/plain": &req.Text, "text/html": &req.HTML}[p.Type]
		if page != nil && *page == "" {
			text := message.DecodePart(m.body, p)
			if part := u.Part(n); part != nil && part.Text != nil {
				text = part.Text.Section(0, -1)
			}
			if *page, err = g.text(p, text); err == nil {
				if u.Part(n) != nil {
					unpack(n)
				}
				continue
			}
			*page = ""
		}
		// An inline picture, a part that no page shows, a text too long or in an unknown charset: nothing of the message may be lost.
		name := p.Name
		if name == "" {
			name = fmt.Sprintf("partie-%d", n)
		}
		req.Files = append(req.Files, vault.File{Name: name, Type: p.Type, Size: p.End - p.HeaderEnd, Open: partOf(m.body, p)})
	}
	return req, u.Close, nil
}

// text reads a text part for the page.
func (g *Gateway) text(p message.Part, decoded io.Reader) (string, error) {
	r, err := p.UTF8(decoded)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(r, g.set.maxText+1))
	if err == nil && int64(len(b)) > g.set.maxText {
		err = fmt.Errorf("text is longer than %d bytes", g.set.maxText)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD"), err
}

// takesMail asks the clinic's server whether it would take a mail of ours for that address.
func (g *Gateway) takesMail(ctx context.Context, to message.Address) error {
	r := g.relay.Probe(ctx, g.set.hopClinic, message.Address{}, message.Recipient{Address: to, Raw: to.String()})
	if r.Err != nil {
		return fmt.Errorf("ask the clinic's server about the sender: %w", r.Err)
	}
	return nil
}
