package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/gateway/smtpd"
)

// fault is why a recipient's copy did not leave: the reply that says so, and the detail for the log alone.
type fault struct {
	smtpd.Reply
	err error
}

// Error is fit for a log: of what a hop refused only its codes are told, for its own words may name the recipient.
func (f *fault) Error() string {
	if hop := (*relay.Error)(nil); errors.As(f.err, &hop) {
		return f.err.Error()
	}
	if f.err != nil {
		return f.Text + ": " + f.err.Error()
	}
	return f.Text
}
func (f *fault) Unwrap() error   { return f.err }
func (f *fault) permanent() bool { return f.Code >= 500 }

func refuse(code int, enhanced [3]int, text string, err error) *fault {
	return &fault{smtpd.Reply{Code: code, Enhanced: enhanced, Text: text}, err}
}

// later is the answer to every doubt: the client keeps the message and repeats.
func later(text string, err error) *fault { return refuse(451, [3]int{4, 3, 0}, text, err) }

// unset is "later" until the operator completes the config (RFC 3463: X.3.5, system incorrectly configured).
func unset(text string, err error) *fault { return refuse(451, [3]int{4, 3, 5}, text, err) }

// laterNote: the ledger could not take a note, or another copy of this message is in hand.
func laterNote(err error) *fault {
	if errors.Is(err, ledger.ErrInHand) {
		return later("Ce message est deja en cours de traitement, nouvel essai plus tard", err)
	}
	return later("Registre de la passerelle indisponible, nouvel essai plus tard", err)
}

// asFault turns any error into a reply. What is not known to be permanent is passing.
func asFault(err error) *fault {
	var f *fault
	var hop *relay.Error
	var sealing *protect.Error
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &hop):
		code, enh := hop.Code, hop.Enhanced
		if code < 400 || code > 599 || hop.Permanent != (code >= 500) {
			code, enh = 451, [3]int{4, 4, 0}
			if hop.Permanent {
				code, enh = 554, [3]int{5, 0, 0}
			}
		}
		return refuse(code, enh, fmt.Sprintf("Relais %s: %s", hop.Hop, hop.Text), err)
	case errors.As(err, &sealing) && sealing.Step == "key": // design: a missing key is "later"; who can mend it must read so
		return refuse(451, [3]int{4, 7, 5}, "Cle de chiffrement du destinataire perimee ou inutilisable: demandez-lui la nouvelle", err)
	case errors.As(err, &sealing) && sealing.Step == "passphrase": // an agreed one: ours are good
		return refuse(451, [3]int{4, 3, 5}, "Phrase convenue avec ce destinataire inutilisable: la clinique doit en mettre une de 12 caracteres au moins, sans accents, dans sa liste", err)
	case errors.Is(err, message.ErrNoRoom):
		return refuse(452, [3]int{4, 3, 1}, "Plus de place pour ce message, nouvel essai plus tard", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT): // a deposit that the disk does not hold
		return refuse(452, [3]int{4, 3, 1}, "Plus de place sur la passerelle, nouvel essai plus tard", err)
	}
	return later("Incident interne de la passerelle, nouvel essai plus tard", err)
}

var accepted = smtpd.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "Ok"}

// all gives every recipient of a message the same fault.
func all(env *message.Envelope, err error) []way {
	ways := make([]way, len(env.Recipients))
	for i := range ways {
		ways[i].fault = asFault(err)
	}
	return ways
}

// replyKind is how a client is answered.
type replyKind int

const (
	ownReplies     replyKind = iota // LMTP: each recipient has his own
	wholeReply                      // SMTP from the clinic: one reply for all, and a bounce for who failed beside others
	strangersReply                  // SMTP from the trust space: one reply for all, and never a bounce
)

// askAgain turns failures beside others into "later", those that an earlier attempt noted too. The trust space gets no bounce from us, a
// 5xx would tell its sender that nobody was reached, and a 250 would swallow the failure: so the client repeats, RCPT is asked of the
// clinic's server again, and there each recipient has a reply of his own. The served ones are remembered.
func (g *Gateway) askAgain(ways []way) {
	failed := func(w way) bool { return g.replyOf(&w).Code >= 500 }
	if !slices.ContainsFunc(ways, func(w way) bool { return !failed(w) }) {
		return
	}
	for i := range ways {
		if w := &ways[i]; failed(*w) {
			var err error
			if w.fault != nil {
				err = w.fault.err
			}
			w.fault = later("Un destinataire a ete refuse apres coup, nouvel essai plus tard", err)
		}
	}
}

// finish notes what happened to each recipient, then words the replies. Under SMTP, where one reply must do for all, it follows
// the design: 4xx while any recipient waits and the others are remembered; one bounce where some failed for good.
func (g *Gateway) finish(ctx context.Context, log *slog.Logger, kind replyKind, m *mail, claim *ledger.Claim, ways []way) smtpd.Outcome {
	switch {
	case len(ways) == 1:
	case kind == wholeReply:
		g.giveUp(claim, ways)
	case kind == strangersReply:
		g.askAgain(ways)
	}
	entries := make([]ledger.Entry, 0, len(ways))
	for i := range ways {
		if w := &ways[i]; !w.done {
			w.entry = g.entry(m, i, w)
			entries = append(entries, w.entry)
		}
	}
	if err := claim.Note(ctx, entries); err != nil {
		log.Error("note before reply failed: the client will repeat", "err", err)
		return g.outcome(claim, all(m.env, laterNote(err)))
	}
	for i := range ways {
		g.account(log, m, i, &ways[i])
	}
	g.tellRelayed(ctx, log, m, claim, ways)
	if kind == ownReplies {
		return g.outcome(claim, ways)
	}
	return g.whole(ctx, log, m, claim, ways)
}

// whole words the single SMTP reply.
func (g *Gateway) whole(ctx context.Context, log *slog.Logger, m *mail, claim *ledger.Claim, ways []way) smtpd.Outcome {
	var failed []int
	served := anyBounced(ways)
	for i := range ways {
		switch r := g.replyOf(&ways[i]); {
		case r.Code < 400:
			served = true
		case r.Code < 500:
			return g.answer(claim, ways, r)
		default:
			failed = append(failed, i)
		}
	}
	switch {
	case len(failed) == 0:
		return g.answer(claim, ways, &accepted)
	case !served: // the client tells its sender
		return g.answer(claim, ways, g.replyOf(&ways[failed[0]]))
	}
	if err := g.bounce(ctx, m, claim, ways, failed); err != nil {
		log.Warn("bounce could not be handed over: the client will repeat", "err", err)
		return g.answer(claim, ways, &later("Avis de non-remise impossible pour l'instant, nouvel essai plus tard", err).Reply)
	}
	return g.answer(claim, ways, &accepted)
}

func anyBounced(ways []way) bool {
	for _, w := range ways {
		if w.entry.Bounced {
			return true
		}
	}
	return false
}

// bounce hands one report about the failed recipients to the clinic's server; the headers alone, never the content.
func (g *Gateway) bounce(ctx context.Context, m *mail, claim *ledger.Claim, ways []way, failed []int) error {
	var open []int
	var about []protect.Failure
	for _, i := range failed {
		if w := ways[i]; !w.entry.Bounced {
			r := g.replyOf(&w)
			open = append(open, i)
			first, _, ok := claim.Waiting(i)
			if !ok {
				first = w.entry.First
			}
			about = append(about, protect.Failure{Recipient: m.env.Recipients[i], Code: r.Code, Enhanced: r.Enhanced, Text: r.Text, Hop: w.entry.Hop, Arrived: first})
		}
	}
	if len(open) == 0 || m.env.Sender.IsNull() { // a report about a report is never sent (RFC 5321 section 6.1)
		return nil
	}
	report, err := protect.Bounce(g.set.hostname, m.env, about, m.header, g.now())
	if errors.Is(err, protect.ErrNoBounce) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.errand(ctx, m, claim, open, func(ctx context.Context) error {
		defer report.Close()
		err := g.toClinic(ctx, message.Address{}, m.env.Sender, nil, report)
		if hop := (*relay.Error)(nil); errors.As(err, &hop) && hop.Permanent { // the sender cannot be told: his postmaster is, as by any mail server
			g.log.Warn("sender refused its bounce for good, the postmaster gets it", "id", m.env.ID, "err", err)
			err = g.toClinic(ctx, message.Address{}, g.set.noticeFrom, nil, report)
		}
		if err != nil {
			return fmt.Errorf("hand over bounce: %w", err)
		}
		return claim.Bounced(ctx, open...)
	})
}

// giveUp turns "later" into a failure where the client's own patience is about to end: it would bounce all recipients, the served
// ones too.
func (g *Gateway) giveUp(claim *ledger.Claim, ways []way) {
	if !g.clock.steady(g.now) {
		return
	}
	servedBefore := false
	for i := range ways {
		servedBefore = servedBefore || ways[i].done || ways[i].fault == nil
	}
	for i := range ways {
		w := &ways[i]
		if w.fault == nil || w.fault.permanent() || w.onWay || !servedBefore {
			continue
		}
		if first, _, ok := claim.Waiting(i); ok && g.now().Sub(first) > g.set.patience {
			w.fault = refuse(554, [3]int{5, 4, 7}, fmt.Sprintf("Abandon apres %d h d'essais: %s", int(g.now().Sub(first).Round(time.Hour).Hours()), w.fault.Text), w.fault.err)
		}
	}
}

// replyOf words one recipient's reply.
func (g *Gateway) replyOf(w *way) *smtpd.Reply {
	switch {
	case w.fault != nil:
		return &w.fault.Reply
	case w.done && w.entry.Code >= 400:
		return &smtpd.Reply{Code: w.entry.Code, Enhanced: enhancedOf(w.entry), Text: w.entry.Text}
	}
	return &accepted
}

// enhancedOf reads the enhanced code of a remembered failure back (RFC 3463).
func enhancedOf(e ledger.Entry) [3]int {
	var x [3]int
	if _, err := fmt.Sscanf(e.Enhanced, "%d.%d.%d", &x[0], &x[1], &x[2]); err != nil || x[0] != e.Code/100 {
		return [3]int{e.Code / 100, 0, 0}
	}
	return x
}

// outcome answers each recipient for himself.
func (g *Gateway) outcome(claim *ledger.Claim, ways []way) smtpd.Outcome {
	return g.answer(claim, ways, g.replyOf(&ways[0]))
}

// answer gives the replies, whole being the one for all of SMTP, and ties the retry memory to their being written.
func (g *Gateway) answer(claim *ledger.Claim, ways []way, whole *smtpd.Reply) smtpd.Outcome {
	out := smtpd.Outcome{Replies: make([]*smtpd.Reply, len(ways)), Whole: whole}
	for i := range ways {
		out.Replies[i] = g.replyOf(&ways[i])
	}
	if claim == nil {
		return out
	}
	out.Settled = func(i int, written bool) {
		r := whole
		if i >= 0 {
			r = out.Replies[i]
		}
		claim.Settled(i, r.Code < 400 || r.Code >= 500, written)
	}
	return out
}
