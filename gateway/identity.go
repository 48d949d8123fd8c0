package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/gateway/smtpd"
	"passerelle/gateway/trust"
	"passerelle/policy"
)

var mIdentity = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_gateway_identity_total",
	Help: "Letters for the trust space by who wrote them, and recipients refused or waiting because of who did."}, []string{"result"}) // author, delegate, report; no-mailbox, refused, foreign, not-delegate, unclear, not-in-directory, could-not-ask

// identities is who of the clinic writes as which mailbox, and what of the clinic no header in the trust space may show. Nil: senders
// write with their own addresses of the trust space, and headers leave as they are.
type identities struct {
	*trust.Identities
	names   protect.Names
	ids     *protect.IDs
	verify  string
	login   string
	reports message.Address
	host    string
}

func newIdentities(cfg *config.Config, key [32]byte, g *Gateway) (*identities, error) {
	c := cfg.Trust.Identities
	if !c.On() || !inTrust(cfg) {
		return nil, nil
	}
	who, err := trust.NewIdentities(trust.IdentityConfig{Table: c.Table, Mailboxes: c.Mailboxes, Delegates: c.Delegates, Pattern: c.Pattern, Domains: c.Domains,
		ClinicDomains: cfg.Clinic.Domains, OwnDomains: cfg.Trust.OwnDomains, Now: g.now, Log: g.log})
	if err != nil {
		return nil, err
	}
	inner := append(slices.Clone(cfg.Clinic.Domains), c.Hide...)
	inner = append(inner, cfg.Hostname)
	if host := hostOf(cfg.Hops["clinic"].Addr); strings.Contains(host, ".") {
		if _, err := netip.ParseAddr(host); err != nil {
			inner = append(inner, host)
		}
	}
	x := &identities{Identities: who, verify: c.Verify, login: c.Login, host: c.Hostname, names: protect.NewNames(inner, append(slices.Clone(cfg.Trust.OwnDomains), c.Hostname))}
	x.ids = protect.NewIDs(derive(key, "message ids"), x.names, cfg.Trust.OwnDomains[0])
	if x.reports, err = message.ParseAddress(c.Reports, false); err != nil {
		return nil, fmt.Errorf("trust.identities.reports: %w", err)
	}
	return x, nil
}

// writer is the mailbox that one message leaves from, or why it has none.
type writer struct {
	as      trust.As
	label   string
	trouble string          // one of policy.Sender*, "" where it may leave
	author  message.Address // of From; null where it is not clear
	report  bool            // a delivery or reading report, to be written anew
}

// writer finds it once; the recipients of a message are decided one after the other.
func (g *Gateway) writer(ctx context.Context, m *mail) (*writer, error) {
	if m.writer != nil {
		return m.writer, nil
	}
	x, err := m.parts()
	if err != nil {
		return nil, err
	}
	author, one := onlyAddress(m.header, "From")
	w := &writer{author: author, report: x.Parts[0].Type == "multipart/report"}
	login, known := message.Address{}, true
	if g.mailboxes.login != "" {
		login, known = onlyAddress(m.header, g.mailboxes.login)
	}
	sender, clear := onlyAddress(m.header, "Sender")
	switch {
	case m.env.Sender.IsNull():
		// Who sends without an envelope sender proved nothing of himself: what he wrote leaves from the mailbox for reports. The
		// status of a report alone, which is written anew, leaves from the mailbox of who reports.
		w.as = trust.As{Account: trust.Account{Mailbox: g.mailboxes.reports, Address: g.mailboxes.reports, By: "reports", Label: g.set.clinicName}}
		if as, refusal := g.mailboxes.WritesAs(trust.Writing{Author: author, Login: login}); w.report && one && known && !author.IsNull() && refusal == "" && g.confirmed(ctx, as.Account) == "" {
			w.as = as
		}
	case !one || !known || !clear:
		w.trouble = policy.SenderUnclear
	default:
		if w.as, w.trouble = g.mailboxes.WritesAs(trust.Writing{Envelope: m.env.Sender, Author: author, Sender: sender, Login: login}); w.trouble == "" {
			w.trouble = g.confirmed(ctx, w.as.Account)
		}
	}
	if id, ok := g.mailboxes.Of(w.as.Writer); ok && g.confirmed(ctx, id) != "" {
		w.as.Sender = message.Address{}
	}
	if w.trouble == "" {
		w.label = g.label(ctx, m, w.as)
	}
	m.writer = w
	return w, nil
}

// onlyAddress reads a field that names one mailbox: null where there is no such field, false where it is not clear whom it names.
func onlyAddress(h message.Header, name string) (message.Address, bool) {
	values := h.Values(name)
	if len(values) == 0 {
		return message.Address{}, true
	}
	list, err := message.ParseMailboxes(values[0])
	if err != nil || len(list) != 1 || len(values) != 1 {
		return message.Address{}, false
	}
	return list[0].Address, true
}

// confirmed holds a mailbox against the directory and the clinic's list, where the operator wants it: "" or the trouble.
func (g *Gateway) confirmed(ctx context.Context, a trust.Account) string {
	if g.mailboxes.verify == "off" || g.mailboxes.verify == "pattern" && a.By != "pattern" {
		return ""
	}
	answer := g.directory.Ask(ctx, a.Mailbox)
	switch {
	case answer.Verdict == directory.Verified, answer.Contact.Listed() && answer.Contact.Address == a.Mailbox.Key():
		return ""
	case answer.Verdict == directory.CouldNotAsk:
		return policy.SenderNotAsked
	}
	return policy.SenderNotFound
}

// label is From's display name (ECO.2.2.7): the table's, else what the directory knows of the mailbox, else the message's own.
func (g *Gateway) label(ctx context.Context, m *mail, as trust.As) string {
	label := trust.LabelText(as.Label)
	if label == "" {
		if answer := g.directory.Ask(ctx, as.Mailbox); answer.Verdict == directory.Verified && len(answer.Records) > 0 {
			r := answer.Records[0]
			label = trust.Label(r.Kind, r.Title, r.FirstName, r.LastName, r.Structure)
		}
	}
	if list, err := message.ParseMailboxes(m.header.Get("From")); label == "" && err == nil && len(list) == 1 {
		if label = trust.LabelText(list[0].Name); strings.ContainsAny(label, "@＠﹫") { // his own word, and not for another's address
			label = ""
		}
	}
	if g.mailboxes.names.In(label) {
		return ""
	}
	return label
}

// senderFacts says whether and as whom the message may go into the trust space.
func (g *Gateway) senderFacts(ctx context.Context, m *mail, f *policy.Facts) error {
	if (g.mailboxes == nil || f.Null) && (f.TrustDomain || f.PatientINS) && g.fromOutside(m, f.Marked) {
		f.SenderTrouble = policy.SenderForeign
		return nil
	}
	if g.mailboxes == nil {
		f.TrustSender = g.space.Own(m.env.Sender.Domain)
		return nil
	}
	w, err := g.writer(ctx, m)
	if err != nil {
		return err
	}
	f.TrustSender, f.SenderTrouble = w.trouble == "", w.trouble
	f.SendsAs = w.as.String()
	if w.trouble != "" {
		f.SendsAs = "From " + w.author.String()
	}
	if w.trouble != "" && (f.TrustDomain || f.PatientINS) {
		mIdentity.WithLabelValues(w.trouble).Inc()
	}
	return nil
}

// spaceLetter is the message for the trust space: unchanged where nobody is mapped, else from its writer's mailbox under a header of a
// closed list. The body stays byte for byte, but for reports.
func (g *Gateway) spaceLetter(ctx context.Context, m *mail) (relay.Letter, error) {
	if g.mailboxes == nil {
		return m.unchanged(), nil
	}
	w, err := g.writer(ctx, m)
	if err != nil {
		return relay.Letter{}, err
	}
	if w.trouble != "" { // policy has refused it before
		return relay.Letter{}, later("Incident interne de la passerelle, nouvel essai plus tard", errors.New("route trust without a mailbox"))
	}
	x := g.mailboxes
	env := message.Envelope{Helo: x.host, Client: "clinic", Protocol: m.env.Protocol, SMTPUTF8: m.env.SMTPUTF8}
	top := append(protect.Trace(&env, x.host, g.now(), m.env.ID), protect.LoopField+": "+g.set.loopToken+"\r\n"...)
	o := &protect.Identity{From: message.Mailbox{Name: w.label, Address: w.as.Mailbox}, Sender: w.as.Sender, Names: x.names, IDs: x.ids, Keep: g.set.protect.Keep,
		Known: g.mailboxOf(ctx), Reachable: func(d string) bool { return x.Own(d) || g.space.Listed(d) }, ID: "<" + m.env.ID + "@" + x.host + ">", Host: x.host, Now: g.now}
	var l relay.Letter
	result := "author"
	if w.report {
		result = "report"
		index, err := m.parts()
		if err != nil {
			return l, err
		}
		report, err := o.Report(m.body, index)
		if errors.Is(err, protect.ErrNoReport) {
			return l, refuse(554, [3]int{5, 6, 0}, "Rapport de remise ou de lecture illisible, non transmis dans l'espace de confiance", err)
		}
		if err != nil {
			return l, err
		}
		l = m.letter(top, report, 0)
	} else {
		h := o.Outgoing(m.header)
		l = m.letter(append(top, h.Bytes()...), m.body, m.start)
	}
	if !m.env.Sender.IsNull() {
		l.Sender = w.as.Mailbox
	}
	if x.names.In(l.EnvID) {
		l.EnvID = ""
	}
	if !w.as.Writer.IsNull() {
		result = "delegate"
	}
	mIdentity.WithLabelValues(result).Inc()
	return l, nil
}

// mailboxOf gives the mailbox of a colleague whom the header names; one that is not sure to exist is none.
func (g *Gateway) mailboxOf(ctx context.Context) func(message.Address) (message.Address, bool) {
	return func(a message.Address) (message.Address, bool) {
		id, ok := g.mailboxes.Of(a)
		return id.Mailbox, ok && g.confirmed(ctx, id) == ""
	}
}

// shown is a recipient as a server is told of him: in the trust space without the inner address that stood for him on the way here, and
// nowhere but there with a patient's number, which a list or an alias of the clinic led away from.
func (g *Gateway) shown(w *way, r message.Recipient) message.Recipient {
	if r.ORcpt == "" {
		return r
	}
	inner := false
	if g.mailboxes != nil && w.decision.Route == policy.Trust {
		_, who, _ := strings.Cut(r.ORcpt, ";")
		a, err := message.ParseAddress(who, true)
		inner = err != nil || g.mailboxes.names.Address(a) || g.mailboxes.names.In(r.ORcpt)
	}
	if inner || w.decision.Route != policy.Local && r.Domain != g.set.patientDomain && g.set.patientBox.MatchString(r.ORcpt) {
		r.ORcpt = ""
	}
	return r
}

// spaceName is how we call ourselves among the servers of the trust space.
func (g *Gateway) spaceName() string {
	if g.mailboxes != nil {
		return g.mailboxes.host
	}
	return g.set.hostname
}

// homeward is the recipient as the clinic knows him: where a mailbox stands for an address of the clinic, that address.
func (g *Gateway) homeward(r message.Recipient) (message.Recipient, bool) {
	if g.mailboxes == nil {
		return r, false
	}
	to, ok := g.mailboxes.Internal(r.Address)
	if !ok && r.Key() == g.mailboxes.reports.Key() {
		to, ok = g.set.noticeFrom, true
	}
	if !ok {
		return r, false
	}
	in := message.Recipient{Address: to, Raw: to.String(), Notify: r.Notify, ORcpt: r.ORcpt}
	if in.ORcpt == "" && r.IsASCII() { // RFC 3461 section 5.2.3: reports name whom the sender wrote to
		in.ORcpt = "rfc822;" + r.String()
	}
	return in, true
}

// toSpace is a reply as the trust space may read it: the clinic's server names people and hosts in its own.
func (g *Gateway) toSpace(r *smtpd.Reply) *smtpd.Reply {
	if g.mailboxes == nil || r == nil || !g.mailboxes.names.In(r.Text) {
		return r
	}
	quiet := *r
	quiet.Text = g.mailboxes.names.Scrub(r.Text, func(a message.Address) (message.Address, bool) {
		id, ok := g.mailboxes.Of(a)
		return id.Mailbox, ok
	})
	return &quiet
}

// takeHome gives a message from the trust space the addresses and message ids that the clinic knows.
func (g *Gateway) takeHome(m *mail) {
	if g.mailboxes != nil && protect.Incoming(&m.header, g.mailboxes.Internal, g.mailboxes.ids) {
		m.rewritten = true
	}
}

// inSpaceSees is what `passerelle explain` says of the trust route.
func inSpaceSees(x *Explanation) string {
	if x.Facts.SendsAs == "" { // nobody is mapped
		return "the message unchanged, in the MSSante mailbox"
	}
	return "the message " + x.Facts.SendsAs + ", in the MSSante mailbox: its header written anew, its body unchanged"
}
