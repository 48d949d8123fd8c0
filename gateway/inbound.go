package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"mime"
	netmail "net/mail"
	"regexp"
	"slices"
	"strings"
	"time"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/policy"
)

// inbound is what the config says of mail from the trust space (inbound).
type inbound struct {
	subjectMark string
	unpackXDM   bool
	exact       map[string]string // by address, key form
	patterns    []mailboxPattern  // longest first
	limit       int64             // limits.message
}

type mailboxPattern struct {
	*regexp.Regexp
	text, how string
}

func newInbound(cfg *config.Config) inbound {
	in := inbound{subjectMark: cfg.Inbound.SubjectMark, unpackXDM: cfg.Inbound.UnpackXDM, exact: map[string]string{}, limit: int64(cfg.Limits.Message)}
	for box, how := range cfg.Inbound.Mailboxes {
		if a, err := message.ParseAddress(box, true); err == nil && !strings.Contains(box, "*") {
			in.exact[a.Key()] = how
			continue
		}
		glob := strings.ReplaceAll(regexp.QuoteMeta(strings.ToLower(box)), `\*`, ".*")
		in.patterns = append(in.patterns, mailboxPattern{regexp.MustCompile(`(?s)\A` + glob + `\z`), box, how})
	}
	slices.SortFunc(in.patterns, func(a, b mailboxPattern) int {
		if n := len(b.text) - len(a.text); n != 0 {
			return n
		}
		return strings.Compare(b.how, a.how) // vault before deliver
	})
	return in
}

// sealed tells whether what comes for a mailbox is kept for the portal: its own line decides, else the longest pattern.
func (in *inbound) sealed(box message.Address) bool {
	how, ok := in.exact[box.Key()]
	if !ok {
		for _, p := range in.patterns {
			if p.MatchString(box.Key()) {
				how = p.how
				break
			}
		}
	}
	return how == config.InboundVault
}

// peer is who handed a message of the trust space over to us.
type peer struct {
	says, cert string
	// speaks tells whether it may vouch for an author in that domain.
	speaks func(domain string) bool
	// fetched is the operator's mailbox that the message was fetched from, null where the peer handed it in.
	fetched message.Address
}

// peerOf is the server at the other end of a session.
func (g *Gateway) peerOf(cs *tls.ConnectionState) peer {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return peer{says: "peer none", speaks: func(string) bool { return false }}
	}
	sum := sha256.Sum256(cs.PeerCertificates[0].Raw)
	return peer{says: "peer " + cs.PeerCertificates[0].Subject.String(), cert: hex.EncodeToString(sum[:]),
		speaks: func(domain string) bool { return domain != "" && g.space.AdmitPeer(*cs, domain) == nil }}
}

// arrive readies a message of the trust space for one recipient of the clinic: the mark and what the config adds, once for all of them, and
// the way on. Who handed it over is from; rule and reason are the ledger's.
func (g *Gateway) arrive(ctx context.Context, m *mail, r message.Recipient, from peer, rule, reason string) (way, error) {
	if m.marks == nil {
		o := protect.Origin{Origin: protect.FromTrust, Verified: from.says, Cert: from.cert, Sender: g.author(ctx, m, from)}
		if err := g.tagSubject(m); err != nil {
			return way{}, err
		}
		if err := g.layBeside(ctx, m); err != nil {
			return way{}, err
		}
		if err := m.mark(g, o); err != nil {
			return way{}, err
		}
	}
	if from.cert != "" { // the row's own peer is the clinic's server
		reason += ", " + cut(from.says, 240) + ", certificate " + from.cert
	}
	w := way{decision: policy.Decision{Route: policy.Local, Rule: rule, Reason: reason + ", sender: " + m.origin.Sender + m.beside}, from: r}
	if to, mapped := g.homeward(r); mapped {
		w.to, w.mapped = &to, true
	}
	names := g.names(r, from.fetched)
	if err := g.open(ctx, m, &w, names); err != nil {
		return w, err
	}
	if !g.sealed(names) {
		return w, nil
	}
	w.sealed, w.decision.Form = true, config.InboundVault
	w.decision.Reason += ", kept in the vault"
	if _, err := m.parts(); err != nil { // before several lanes ask for them at once
		return w, err
	}
	w.answer = g.holder(ctx, names)
	if err := g.canProve(&w.answer); err != nil { // at RCPT he could; the list has changed since
		return w, err
	}
	return w, nil
}

// author says who wrote, as the mark has it: a patient or a professional, and what the directory knows of him. It is asked about the one
// author that a reader sees (From), and only if the peer may speak for his domain: for the record of somebody else would lend his name.
//
// A person whom the directory does not show is marked so and delivered, whatever trust.listed_unverified says: that is about whom the clinic
// writes to. The peer has proved the domain, laboratories write from application mailboxes that no directory shows, and a refusal would
// cost the clinic a result that it cannot ask for again.
func (g *Gateway) author(ctx context.Context, m *mail, from peer) string {
	values := m.header.Values("From")
	if len(values) != 1 {
		return "unproven"
	}
	list, err := netmail.ParseAddressList(values[0])
	if err != nil || len(list) != 1 {
		return "unproven"
	}
	a, err := message.ParseAddress(list[0].Address, true)
	if err != nil || !from.speaks(a.Domain) {
		return "unproven"
	}
	if valid, is := g.space.ParseINS(a); is { // nobody is asked about a patient
		if valid {
			return "patient, INS valid"
		}
		return "patient, INS not valid"
	}
	answer := g.directory.Ask(ctx, a)
	switch {
	case answer.Verdict == directory.CouldNotAsk:
		return "professional, could not ask"
	case answer.Verdict != directory.Verified || len(answer.Records) == 0:
		return "professional, not listed"
	}
	rec := answer.Records[0]
	said := "professional, verified, " + answer.Source
	if !answer.AsOf.IsZero() {
		said += answer.AsOf.UTC().Format(" 2006-01-02")
	}
	what := rec.Profession
	if what == "" {
		what = rec.Kind
	}
	if what != "" {
		said += ", " + what
	}
	return said
}

// mark puts our mark on top of a message for the clinic; what bore that name before is dropped by unchanged. The mark covers Message-ID
// and Date, and a Postfix that takes us for a local client adds what is missing: so we add it before.
func (m *mail) mark(g *Gateway, o protect.Origin) error {
	if o.Origin == protect.FromTrust {
		g.takeHome(m)
	}
	had := len(m.header.Fields())
	if err := g.complete(m, &m.header); err != nil {
		return err
	}
	m.rewritten = m.rewritten || len(m.header.Fields()) > had
	o.ID = m.env.ID
	v, err := protect.Mark(g.set.markKey, o, m.header, g.now())
	if err != nil {
		return err
	}
	m.origin = o
	m.marks, err = message.FormatField(protect.MarkField, v)
	return err
}

// complete adds what a mark covers and a message lacks.
func (g *Gateway) complete(m *mail, h *message.Header) error {
	for _, f := range [][2]string{{"Message-ID", "<" + m.env.ID + "@" + g.set.hostname + ">"}, {"Date", g.now().Format(time.RFC1123Z)}} {
		if len(h.Values(f[0])) > 0 {
			continue
		}
		if err := h.Append(f[0], f[1]); err != nil {
			return err
		}
	}
	return nil
}

// tagSubject puts inbound.subject_mark before the subject, for people; only the mark of origin proves anything. Replies bear it already.
// What software reads in a subject (health documents, MES) must stay at its beginning. No signature of a body covers the header's Subject.
func (g *Gateway) tagSubject(m *mail) error {
	h, tagged, err := g.tagged(m.header)
	if err == nil && tagged {
		m.header, m.rewritten = h, true
	}
	return err
}

func (g *Gateway) tagged(was message.Header) (h message.Header, tagged bool, err error) {
	mark := g.set.inbound.subjectMark
	if mark == "" {
		return was, false, nil
	}
	text := was.Text("Subject")
	if strings.Contains(strings.ToLower(text), strings.ToLower(mark)) || machineSubject.MatchString(text) {
		return was, false, nil
	}
	fields := slices.Clone(was.Fields())
	i := slices.IndexFunc(fields, func(f message.Field) bool { return strings.EqualFold(f.Name, "Subject") })
	if i < 0 {
		fields, i = append(fields, message.Field{Name: "Subject", Raw: []byte("Subject:\r\n")}), len(fields)
	}
	name := fields[i].Name
	rest := strings.TrimLeft(string(fields[i].Raw[len(name)+1:]), " \t")
	if strings.HasPrefix(strings.TrimLeft(rest, "\r\n \t"), "=?") && mime.QEncoding.Encode("utf-8", mark) != mark {
		mark += " " // a blank between two encoded words is not shown (RFC 2047 section 6.2)
	}
	top := name + ": " + mime.QEncoding.Encode("utf-8", mark)
	switch {
	case strings.TrimSpace(rest) == "":
		rest = "\r\n"
	case !strings.HasPrefix(rest, "\r\n"):
		rest = "\r\n " + rest // a fold: what was one long line does not become too long
	}
	fields[i] = message.Field{Name: name, Raw: []byte(top + rest)}
	h.AppendRaw(fields...)
	return h, true, nil
}

// machineSubject begins the subjects that software reads: XDM/1.0/DDM+ (ECO.2.1.3), [Annule et remplace], a report of a failed
// integration, and the words that close an exchange with a patient.
var machineSubject = regexp.MustCompile(`^(?:XDM/1\.0/|\[Annule et remplace\]|\[KO Int|\[FIN\]$)`)
