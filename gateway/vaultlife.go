package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"passerelle/config"
	"passerelle/gateway/duties"
	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/gateway/vault"
)

// What the duties in the background are called.
const (
	dutyRemind  = "remind"  // the notice again, to who has not opened his message
	dutyReceipt = "receipt" // a summary, to the sender
)

// tendVault does what time brings to deposits: what is past its end goes, what the ledger does not know is noted, reminders and receipts get
// into the queue. All of it may be cut short and run again.
func (g *Gateway) tendVault(ctx context.Context) error {
	_, err := g.vault.Sweep(ctx)
	if g.queue == nil {
		return err
	}
	return errors.Join(err, g.alone(ctx, "note", func() error { return g.noteDeposits(ctx) }), g.queueDuties(ctx), g.db.Settle(ctx)) // what was destroyed in the last minute stays in no log
}

// queueDuties finds reminders and receipts in the vault's rows, which are what remembers them: a queue that was lost is filled again
// within the hour.
func (g *Gateway) queueDuties(ctx context.Context) error {
	due, err := g.vault.Due(ctx)
	if err != nil {
		return err
	}
	var ds []duties.Duty
	for id, n := range due.Remind {
		ds = append(ds, duties.Duty{What: dutyRemind, Of: id, Step: n})
	}
	for _, id := range due.Sendings {
		s, err := g.vault.Sending(ctx, id)
		if vault.Why(err) == vault.NotFound { // another gateway has swept it
			continue
		}
		if err != nil {
			return err
		}
		ds = append(ds, duties.Duty{What: dutyReceipt, Of: id, Step: s.Step(g.now(), time.Duration(g.cfg.Pickup.Report))})
	}
	if err := g.queue.Add(ctx, ds...); err != nil {
		return err
	}
	return g.vault.Queued(ctx, due)
}

// doDuty is what the queue calls, until it succeeds.
func (g *Gateway) doDuty(ctx context.Context, d duties.Duty) error {
	if g.vault == nil {
		return nil
	}
	switch d.What {
	case dutyRemind:
		return g.remind(ctx, d.Of, d.Step)
	case dutyReceipt:
		return g.receipt(ctx, d.Of)
	}
	g.log.Error("duty of an unknown kind is dropped", "what", d.What)
	return nil
}

// remind sends the notice of a deposit again. A refusal for good counts as sent: the next one may find the mailbox open.
func (g *Gateway) remind(ctx context.Context, id string, n int) error {
	dep, err := g.vault.Remind(ctx, id, n)
	if err != nil || dep == nil {
		return err
	}
	if refused, err := g.vault.Refused(ctx, dep); err != nil {
		return err
	} else if refused {
		return g.vault.Reminded(ctx, id, n)
	}
	if err := g.sendNotice(ctx, dep, vault.NoticeRequest{Again: true}); err != nil {
		if f := asFault(err); !f.permanent() {
			return fmt.Errorf("send reminder: %w", err)
		}
		g.log.Warn("a reminder was refused", "deposit", id, "err", err)
	}
	return g.noteSent(ctx, func() error { return g.vault.Reminded(ctx, id, n) })
}

// sendNotice hands a deposit's notice to the hop that takes it, outside of the message that it came from.
func (g *Gateway) sendNotice(ctx context.Context, dep *vault.Deposit, r vault.NoticeRequest) error {
	if r.From, r.Staff = g.set.noticeFrom, dep.Staff; !dep.Staff {
		r.ReplyTo = g.set.replyTo
	}
	notice, err := g.vault.Notice(dep, r)
	if err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	defer notice.Close()
	l := relay.Letter{Sender: dep.Sender, Recipients: []message.Recipient{{Address: dep.Recipient, Raw: dep.Recipient.String()}}, Ret: "HDRS", Body: notice, EightBit: true,
		SMTPUTF8: !dep.Recipient.IsASCII()}
	hop := g.set.hopClinic
	if dep.Staff {
		l.Sender = g.set.noticeFrom
		l.Recipients[0], _ = g.homeward(l.Recipients[0]) // as the first notice went
		if l.Header, err = g.markNotice(protect.Origin{Verified: "deposit " + dep.ID, ID: dep.ID}, notice); err != nil {
			return fmt.Errorf("mark notice: %w", err)
		}
	} else {
		hop = g.internetHop("", dep.Recipient.Domain)
		if err := g.sign(&l, false); err != nil {
			return fmt.Errorf("sign notice: %w", err)
		}
	}
	if r := g.relay.Send(ctx, hop, l)[0]; r.Err != nil {
		return r.Err
	}
	return nil
}

// receipt tells a sender of one message, where he is to be told of that.
func (g *Gateway) receipt(ctx context.Context, id string) error {
	s, err := g.vault.Sending(ctx, id)
	if vault.Why(err) == vault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	what := s.Due(g.now(), time.Duration(g.cfg.Pickup.Report))
	needed := s.Asks() || s.Undelivered() // the client had its 250 for what is held or destroyed: nobody is spared that
	if needed || g.wantsReceipt(what) {
		if err := g.toClinic(ctx, message.Address{}, s.Sender, nil, g.receiptMail(s, what)); err != nil {
			if f := asFault(err); needed || !f.permanent() {
				return fmt.Errorf("hand over receipt: %w", err)
			}
			g.log.Warn("a receipt was refused", "sending", id, "err", err)
		}
	}
	return g.noteSent(ctx, func() error { return g.vault.Told(ctx, s, what) })
}

func (g *Gateway) wantsReceipt(what vault.Summary) bool {
	name := map[vault.Summary]string{vault.SentTo: config.ReceiptSent, vault.NotOpened: config.ReceiptUnopened, vault.AllSettled: config.ReceiptEnd}[what]
	for _, r := range g.cfg.Pickup.Receipts {
		if r == name {
			return true
		}
	}
	return false
}

const (
	notesAtOnce = 50               // in one commit of noteDeposits: mail waits for it
	notesTime   = 20 * time.Second // of one round; what is left is for the next minute
)

// noteDeposits tells the ledger of openings, with their level of proof, and of ends. Its memory keeps a note that was written, and not marked
// in the vault before a crash, from being written again.
func (g *Gateway) noteDeposits(ctx context.Context) error {
	for start := time.Now(); ; {
		begin := time.Now()
		n, err := g.noteSome(ctx)
		if err != nil {
			return fmt.Errorf("note deposits: %w", err)
		}
		if n < notesAtOnce || time.Since(start) >= notesTime {
			return nil
		}
		select { // mail has the ledger for three quarters of the time
		case <-ctx.Done():
			return fmt.Errorf("note deposits: %w", ctx.Err())
		case <-time.After(3 * time.Since(begin)):
		}
	}
}

func (g *Gateway) noteSome(ctx context.Context) (n int, err error) {
	states, err := g.vault.Unnoted(ctx, notesAtOnce)
	if err != nil || len(states) == 0 {
		return 0, err
	}
	if err := g.ledger.Ready(); err != nil {
		return 0, err
	}
	asks := make([]ledger.Ask, len(states))
	for i, s := range states {
		asks[i] = ledger.Ask{Client: "vault", Sender: s.Sender.String(), Recipient: s.Recipient.String(), Body: sha256.Sum256([]byte(s.ID + " " + string(s.State)))}
	}
	claim, err := g.ledger.Claim(ctx, asks, nil)
	if err != nil {
		return 0, err
	}
	var entries []ledger.Entry
	for i, s := range states {
		if _, known := claim.Served(i); known {
			continue
		}
		entries = append(entries, ledger.Entry{I: i, MessageID: s.Sending, Sender: s.Sender.String(), Recipient: s.Recipient.String(), Route: "pickup", Rule: "deposit",
			Reason: depositReason(s), Outcome: ledger.Delivered, Code: 250, Enhanced: "2.0.0", DepositID: s.ID, Size: s.Size, First: depositTime(s), Last: depositTime(s)})
	}
	if len(entries) > 0 {
		err = claim.Note(ctx, entries)
	}
	claim.Release()
	if err != nil {
		return 0, err
	}
	return len(states), g.vault.Noted(ctx, states...)
}

func depositTime(s vault.Status) time.Time {
	if s.State == vault.Opened {
		return s.Opened
	}
	return s.Ended
}

// depositReason is what the ledger says of a deposit's state, with the level of proof.
func depositReason(s vault.Status) string {
	switch {
	case s.State == vault.Opened:
		return "deposit opened, proved by " + s.Level
	case s.Opened.IsZero():
		return "deposit " + string(s.State) + ", never opened"
	}
	return "deposit " + string(s.State) + ", opened first on " + s.Opened.Format(time.RFC3339) + ", proved by " + s.Level
}
