package gateway

import (
	"context"
	"errors"
	"net/textproto"
	"strings"

	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/trust"
	"passerelle/policy"
)

// asked is what the house knows about one recipient of one message.
type asked struct {
	policy.Facts
	answer directory.Answer
	keys   sealingKeys
}

// ask gathers the facts that the policy may read: the directory's answer, the clinic's own list, the trust space, the message.
func (g *Gateway) ask(ctx context.Context, m *mail, r message.Recipient) (asked, error) {
	own, err := g.messageFacts(ctx, m)
	if err != nil {
		return asked{}, err
	}
	f := asked{Facts: *own, answer: g.directory.Ask(ctx, r.Address)}
	f.Sender, f.SenderDomain = m.env.Sender.Key(), m.env.Sender.Domain
	f.Recipient, f.RecipientDomain = r.Key(), r.Domain
	f.Recipients = len(m.env.Recipients)
	f.Null = m.env.Sender.IsNull()

	f.Verdict, f.VerdictWhy = policy.Verdict(f.answer.Verdict), f.answer.Why
	f.Source, f.AsOf = f.answer.Source, f.answer.AsOf
	if f.answer.Verdict == directory.Verified && len(f.answer.Records) > 0 { // what does not verify is shown, and nothing is decided on it
		d := f.answer.Records[0]
		f.Kind, f.Profession, f.Category, f.Structure = d.Kind, d.Profession, d.Category, d.Structure
		f.DisplayName = strings.Join(strings.Fields(d.Title+" "+d.FirstName+" "+d.LastName), " ")
	}
	f.Lookalike = f.answer.Lookalike
	if k := f.answer.KnownAs; g.set.knownAs != knownOff && !k.Address.IsNull() {
		f.KnownAs, f.KnownAsConfirmed, f.KnownAsDomain = true, k.Confirmed, k.Address.Domain
	}
	f.answer.Contact = g.givenPhone(m, r.Address, f.answer.Contact)
	if c := f.answer.Contact; c != nil {
		f.Contact, f.Person, f.Preferred, f.Form = c.Listed(), c.Person, policy.Route(c.Prefer), c.Form
		f.Phone, f.Secret = c.Mobile(), c.Secret != ""
		f.Opposed, f.Label = f.Opposed || c.Opposed, c.Label
	}
	if g.space != nil {
		listed, doubt := g.space.Ask(r.Domain) // of one moment: a list that comes between two questions would be neither
		// Our own domains are of the space also where nobody lists them: their mail waits then, and never goes by the Internet.
		f.TrustDomain = listed || g.space.Own(r.Domain)
		if f.TrustDomain { // in the list by its own name: nobody's mistake
			f.Lookalike = ""
		}
		if doubt != nil {
			f.TrustDoubt = doubt.Error()
		}
		f.INSValid, f.PatientINS = g.space.ParseINS(r.Address)
		f.INSQualified = f.PatientINS && g.insQualified(m, &f)
		if err := g.senderFacts(ctx, m, &f.Facts); err != nil {
			return asked{}, err
		}
	} else { // Mon espace sante is never written to over the Internet, by a clinic outside the trust space neither
		f.INSValid, f.PatientINS = trust.ParseINS(r.Address)
	}
	if f.keys, err = g.keysOf(ctx, m, f.answer, r.Address); err != nil && !f.TrustDomain && !g.set.ownDomains[r.Domain] {
		return asked{}, later("Cles des correspondants illisibles pour le moment, nouvel essai plus tard", err)
	}
	f.SMIME, f.OpenPGP = f.keys.cert != nil, len(f.keys.pgp) > 0 || f.keys.unasked != nil
	return f, nil
}

// messageFacts are the same for every recipient and taken once. A message whose parts cannot be read waits: a rule on attachments must
// not miss because we did not look.
func (g *Gateway) messageFacts(ctx context.Context, m *mail) (*policy.Facts, error) {
	if m.facts != nil {
		return m.facts, nil
	}
	x, err := m.parts()
	if err != nil {
		return nil, err
	}
	f := &policy.Facts{}
	f.Size = m.body.Size()
	f.Headers = map[string][]string{}
	for _, h := range m.header.Fields() {
		if h.Name != "" {
			name := textproto.CanonicalMIMEHeaderKey(h.Name)
			f.Headers[name] = append(f.Headers[name], message.DecodeText(h.Value()))
		}
	}
	f.Tags = subjectTags(m.header.Text("Subject"))
	f.Sensitivity = strings.ToLower(strings.TrimSpace(m.header.Get("Sensitivity")))
	if a := strings.ToLower(strings.TrimSpace(m.header.Get("Auto-Submitted"))); a != "" && a != "no" { // RFC 3834 section 5
		f.Auto = true
	}
	switch strings.ToLower(strings.TrimSpace(m.header.Get("Precedence"))) {
	case "list", "bulk", "junk":
		f.List = true
	case "auto_reply": // QUIRK: what autoresponders wrote before RFC 3834, and some write still
		f.Auto = true
	}
	// A receipt or a meeting's answer is a click, under whatever sender: no deposit, no code.
	f.Auto = f.Auto || x.Parts[0].Type == "multipart/report" || calendarReply(x)
	f.List = f.List || m.header.Get("List-Id") != ""
	for _, v := range m.header.Values(oppositionField) {
		f.Opposed = f.Opposed || strings.EqualFold(v, "oui") || strings.EqualFold(v, "yes")
	}
	f.Marked = g.kept(m)
	f.Enclosed = protect.Encloses(g.set.markKey, m.header, g.now())
	f.BrokenMark = f.Marked && !g.marked(m)
	for _, a := range x.Attachments() {
		f.Attachments = append(f.Attachments, policy.Attachment{Type: a.Type, Name: a.Name, Size: a.Size})
	}
	if x.Unclear != "" { // what may hide in it is what a rule on attachments asks about: it counts as one attached message
		f.Attachments = append(f.Attachments, policy.Attachment{Type: "message/rfc822", Name: "message.eml", Size: f.Size})
	}
	f.Calendar = x.Calendar()
	f.Encrypted = protect.Encrypted(ctx, m.body, x) != ""
	f.Sizes = sealedSizes(m.body, x)
	if g.set.sealsFiles {
		f.Whole = protect.Whole(m.body, x)
	}
	m.facts = f
	return f, nil
}

// calendarReply tells whether the message is a client's answer to an invitation (RFC 6047 section 2.4).
func calendarReply(x *message.Index) bool {
	for _, p := range x.Parts {
		if p.Type == "text/calendar" && strings.EqualFold(p.Params["method"], "REPLY") {
			return true
		}
	}
	return false
}

// oppositionField is set by the clinic's own applications: the patient opposes being written to.
const oppositionField = "X-Passerelle-Opposition"

// kept tells whether the message may leave by the trust space alone: it bears our mark, however old, or one that does not verify here. The
// clinic's own software sends a marked message on under another From, Date or Message-ID (a list does, for DMARC), and a server key is
// changed: what it holds came from the trust space all the same. Nobody writes that field on a letter of his own; who forges it on mail for
// the clinic has it kept inside, no more.
func (g *Gateway) kept(m *mail) bool {
	o, err := protect.VerifyMark(g.set.markKey, m.header, g.now())
	return errors.Is(err, protect.ErrForged) || !errors.Is(err, protect.ErrNoMark) && o.Origin != protect.FromNotice
}

// marked tells whether the message bears our own mark: it came from the trust space or from a patient, however long ago.
func (g *Gateway) marked(m *mail) bool {
	from := g.origin(m)
	return from != "" && from != protect.FromNotice
}

// origin is what a true mark on the message says, "" without one.
func (g *Gateway) origin(m *mail) string {
	o, err := protect.VerifyMark(g.set.markKey, m.header, g.now())
	if err != nil && !errors.Is(err, protect.ErrOldMark) {
		return ""
	}
	return o.Origin
}

// parts indexes the message once.
func (m *mail) parts() (*message.Index, error) {
	if m.index == nil {
		x, err := message.Parse(m.body, message.DefaultLimits)
		if err != nil {
			return nil, err
		}
		m.index = x
	}
	return m.index, nil
}

// subjectTags gives the words in brackets at either end of a subject: "[secure] Compte rendu" has the tag "secure".
func subjectTags(s string) []string {
	var tags []string
	for s = strings.TrimSpace(s); strings.HasPrefix(s, "["); s = strings.TrimSpace(s) {
		tag, rest, ok := strings.Cut(s[1:], "]")
		if !ok || len(tag) > 40 {
			break
		}
		tags, s = append(tags, strings.ToLower(strings.TrimSpace(tag))), rest
	}
	for s = strings.TrimSpace(s); strings.HasSuffix(s, "]"); s = strings.TrimSpace(s) {
		i := strings.LastIndexByte(s, '[')
		if i < 0 || len(s)-i > 42 {
			break
		}
		tags, s = append(tags, strings.ToLower(strings.TrimSpace(s[i+1:len(s)-1]))), s[:i]
	}
	return tags
}
