package gateway

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
)

// owedReport stands in the ledger's row of a recipient whose sender must still be told that his message was relayed. The row is
// written before the report leaves, so that a crash between them loses no report: the client, who got no reply, comes again.
const owedReport = "Ok, compte rendu de relais du a l'expediteur"

// owesReport tells whether the report of success that the sender asked for is ours to write (RFC 3461 section 5.2.2): the next hop
// takes no DSN parameters, or the message ends here, in the vault. A deposit is "relayed" and not "delivered": the patient has not
// opened it, and nobody reports when he does (RFC 3464 section 2.3.3). Mail from the trust space gets no report from us, as no bounce.
func (m *mail) owesReport(i int, w *way) bool {
	return m.reports && w.fault == nil && !m.env.Sender.IsNull() && slices.Contains(m.env.Recipients[i].Notify, "SUCCESS") &&
		(w.deposit != "" || !w.result.DSN)
}

// noticeNotify is what the hop is told about a notice in the place of a message: that the notice was delivered is not the success that
// the sender asked about.
func noticeNotify(asked []string) []string {
	if !slices.Contains(asked, "SUCCESS") {
		return asked
	}
	rest := slices.DeleteFunc(slices.Clone(asked), func(s string) bool { return s == "SUCCESS" })
	if len(rest) == 0 {
		return []string{"NEVER"} // SUCCESS alone: no report of a failure is wanted either
	}
	return rest
}

// tellRelayed hands one report about all recipients that owe one to the clinic's server, between the ledger's note and the reply. Where it
// cannot be handed over now, these recipients are answered "later": they are served, and what the client repeats is the report alone.
// A crash behind the hand-over and before its mark doubles the report, never the message. Towards the end of the client's patience
// the report is given up: a bounce of what was delivered would be worse than silence.
func (g *Gateway) tellRelayed(ctx context.Context, log *slog.Logger, m *mail, claim *ledger.Claim, ways []way) {
	var open []int
	var about []protect.Failure
	for i := range ways {
		if e := ways[i].entry; e.Outcome == ledger.Delivered && e.Text == owedReport && !e.Bounced {
			open = append(open, i)
			about = append(about, protect.Failure{Recipient: m.env.Recipients[i], Hop: e.Hop, Deposited: e.DepositID != ""})
		}
	}
	if len(open) == 0 {
		return
	}
	err := g.errand(ctx, m, claim, open, func(ctx context.Context) error {
		if err := g.handRelayed(ctx, m, about); err != nil {
			return err
		}
		return claim.Bounced(ctx, open...)
	})
	var hop *relay.Error
	switch {
	case err == nil:
		return
	case errors.As(err, &hop) && hop.Permanent, g.now().Sub(ways[open[0]].entry.First) > g.set.patience:
		log.Warn("report of success is given up", "err", err)
		return
	}
	log.Warn("report of success could not be handed over: the client will repeat", "err", err)
	for _, i := range open {
		ways[i].fault = later("Remis, mais le compte rendu demande est impossible pour l'instant, nouvel essai plus tard", err)
	}
}

func (g *Gateway) handRelayed(ctx context.Context, m *mail, about []protect.Failure) error {
	report, err := protect.Relayed(g.set.hostname, m.env, about, m.header, g.now())
	if err != nil {
		return err
	}
	defer report.Close()
	return g.toClinic(ctx, message.Address{}, m.env.Sender, nil, report)
}
