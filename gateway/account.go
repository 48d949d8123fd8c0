package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/gateway/ledger"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/policy"
)

var (
	mDecided = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_gateway_decided_total",
		Help: "Recipients decided, by way."}, []string{"route"}) // local, trust, encrypt, pickup, plain, refuse, later
	mClear = promauto.NewCounter(prometheus.CounterOpts{Name: "passerelle_gateway_left_in_clear_total",
		Help: "Recipients whose copy left without encryption that we can vouch for (observe mode and rules of the operator)."})
	mWay = promauto.NewHistogramVec(prometheus.HistogramOpts{Name: "passerelle_gateway_message_seconds",
		Help: "Time from the last byte of a message to its replies.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10)}, []string{"listener"})
)

// entry is the ledger's row about one recipient.
func (g *Gateway) entry(m *mail, i int, w *way) ledger.Entry {
	now := g.now().UTC()
	d := w.decision
	e := ledger.Entry{I: i, MessageID: m.env.ID, HeaderMessageID: cut(protect.MessageID(m.header), 250),
		Sender: m.env.Sender.String(), Recipient: m.env.Recipients[i].String(),
		Route: string(d.Route), Form: d.Form, Rule: d.Rule, Reason: d.Reason, Source: w.answer.Source, AsOf: w.answer.AsOf,
		Hop: w.hop, DepositID: w.deposit, Clear: w.clear, Size: m.body.Size(), First: now, Last: now, Count: 1,
		PeerSubject: w.result.Peer.Subject, PeerFingerprint: w.result.Peer.Fingerprint, TLS: w.result.Peer.TLSVersion}
	if w.to != nil {
		e.Recipient, e.Reason = w.from.String(), e.Reason+", to "+w.to.String()
	}
	if w.hop == operatorName && w.result.Peer.Subject != "" { // the peer of this row is the operator, not the recipient's server: what the far side shows, only he sees
		did := "handed to"
		if w.fault != nil {
			did = "refused by"
		}
		e.Reason = cut(e.Reason+"; "+did+" the clinic's MSSante operator, whose certificate this is", 900)
	}
	if len(w.answer.Contradictions) > 0 {
		e.Reason = cut(e.Reason+"; "+strings.Join(w.answer.Contradictions, "; "), 900)
	}
	r := g.replyOf(w)
	e.Code, e.Text, e.Enhanced = r.Code, r.Text, fmt.Sprintf("%d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
	if m.owesReport(i, w) {
		e.Text = owedReport
	}
	switch {
	case w.fault == nil:
		e.Outcome = ledger.Delivered
	case !w.fault.permanent():
		e.Outcome, e.Reason = ledger.Deferred, waitingFor(w)
	case d.Route == policy.Refuse:
		e.Outcome = ledger.Refused
	default:
		e.Outcome = ledger.Failed
	}
	return e
}

// account writes the log line of one recipient and moves the counters.
func (g *Gateway) account(log *slog.Logger, m *mail, i int, w *way) {
	r := g.replyOf(w)
	attrs := []any{"to", m.env.Recipients[i].Address, "route", string(w.decision.Route), "rule", w.decision.Rule, "code", r.Code}
	if w.hop != "" {
		attrs = append(attrs, "hop", w.hop)
	}
	if w.done {
		log.Info("recipient was served by an earlier attempt", "to", m.env.Recipients[i].Address, "code", r.Code)
		return
	}
	if w.fault != nil {
		if hop := (*relay.Error)(nil); !errors.As(w.fault.err, &hop) && !w.decision.Suggest { // a hop's own words may name the recipient, a suggestion does
			attrs = append(attrs, "reply", r.Text)
		}
		if w.fault.err != nil {
			attrs = append(attrs, "err", w.fault.err.Error())
		}
	}
	log.Info("recipient", attrs...)
}

// waitingFor is a label of the metric "oldest recipient still waiting": directory, white list, hop or gateway.
func waitingFor(w *way) string {
	switch {
	case w.decision.Route == policy.Later && w.facts.TrustDoubt != "":
		return "white list"
	case w.decision.Route == policy.Later:
		return "directory"
	case w.hop != "":
		return "hop"
	}
	return "gateway"
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
