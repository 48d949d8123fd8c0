package gateway

import (
	"fmt"
	"io"
	"mime"
	"regexp"
	"slices"
	"strings"

	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/vault"
)

// telTag is a telephone number in a subject: [tel:06 12 34 56 78], also as French typing has it: [Tél : 06/12/34/56/78].
var telTag = regexp.MustCompile(`(?i)[\s\x{00a0}\x{202f}]*\[[\s\x{00a0}\x{202f}]*t(?:e\x{0301}?|é)l\.?[\s\x{00a0}\x{202f}]*:[\s\x{00a0}\x{202f}]*([+(0-9][0-9 ./()\-\x{00a0}\x{202f}]{5,30})\][\s\x{00a0}\x{202f}]*`)

// subjects are the fields that hold a message's subject: Outlook copies it (MS-OXOMSG section 2.2.1.5).
var subjects = []string{"Subject", "Thread-Topic"}

func holdsSubject(name string) bool {
	return slices.ContainsFunc(subjects, func(s string) bool { return strings.EqualFold(name, s) })
}

// maxPhones bounds the numbers that one message brings.
const maxPhones = 100

// phones are the numbers that a sender gave with his message: in the subject, or in the field that pickup.phone_header names.
type phones struct {
	only string            // of a message with one recipient outside the clinic
	of   map[string]string // by address, as message.Address.Key
	// who they are, in the field that pickup.identity_header names.
	onlyWho vault.Identity
	who     map[string]vault.Identity
	// taken: they were taken out of the message, asCame has it whole.
	taken bool
}

// takePhones reads the numbers that a sender gave and takes them out of the message: it leaves without them by every way but local, whose
// copy stays as it came.
func (g *Gateway) takePhones(m *mail) error {
	subject, field := m.header.Text("Subject"), g.cfg.Pickup.PhoneHeader
	tag := telTag.FindAllStringSubmatch(subject, maxPhones)
	given := g.vault != nil && field != "" && len(m.header.Values(field)) > 0
	idField := g.cfg.Pickup.IdentityHeader
	named := idField != "" && len(m.header.Values(idField)) > 0
	if g.vault == nil || tag == nil && !given && !named {
		return nil
	}
	if named {
		for _, v := range m.header.Values(idField) {
			g.readIdentity(m, v)
		}
	}
	for _, one := range tag {
		m.phones.give(one[1])
	}
	if given {
		for _, v := range m.header.Values(field) {
			m.phones.read(v)
		}
	}
	var h message.Header
	for _, f := range m.header.Fields() {
		switch {
		case given && strings.EqualFold(f.Name, field), named && strings.EqualFold(f.Name, idField):
		case tag != nil && repeatsSubject(f.Name) && telTag.MatchString(message.DecodeText(f.Value())):
			rest := strings.TrimSpace(telTag.ReplaceAllString(message.DecodeText(f.Value()), " "))
			if err := h.Append(f.Name, foldable(mime.QEncoding.Encode("utf-8", rest))); err != nil {
				continue // what cannot be written without the number does not leave with it
			}
		default:
			h.AppendRaw(f)
		}
	}
	w := g.budget.NewWriter(m.body.Size())
	if _, err := w.Write(h.Bytes()); err != nil {
		w.Abort()
		return err
	}
	if _, err := io.Copy(w, m.body.Section(m.start, -1)); err != nil {
		w.Abort()
		return fmt.Errorf("write the message without its number: %w", err)
	}
	body, err := w.Body()
	if err != nil {
		return err
	}
	m.asCame = &asCame{body: m.body, header: m.header, start: m.start}
	m.body, m.own, m.index, m.phones.taken = body, body, nil, true
	if m.header, m.start, err = message.ReadHeader(body, g.set.maxHeader); err != nil {
		return fmt.Errorf("read the message without its number: %w", err)
	}
	return nil
}

// repeatsSubject tells of Subject and the fields in which mail programs say it again (Thread-Topic is Outlook's, X-* are of others): the number would
// leave in them.
func repeatsSubject(name string) bool {
	return holdsSubject(name) || len(name) > 2 && strings.EqualFold(name[:2], "X-")
}

// foldable: what the encoder breaks into lines is one value here.
func foldable(s string) string { return strings.ReplaceAll(s, "\r\n", "") }

// give takes a number without an address. Two of them are nobody's: which one is meant is not known.
func (p *phones) give(number string) {
	was, _, werr := vault.ParsePhone(p.only)
	is, _, err := vault.ParsePhone(number)
	if p.only != "" && (werr != nil || err != nil || was != is) {
		number = "?"
	}
	p.only = number
}

// read takes "06 12 34 56 78" or "patient@example=0612345678, ...".
func (p *phones) read(value string) {
	for _, one := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ';' }) {
		to, number, named := strings.Cut(one, "=")
		if !named {
			p.give(strings.TrimSpace(one))
			continue
		}
		if a, err := message.ParseAddress(strings.Trim(strings.TrimSpace(to), "<>"), true); err == nil && len(p.of) < maxPhones {
			if p.of == nil {
				p.of = map[string]string{}
			}
			p.of[a.Key()] = strings.TrimSpace(number)
		}
	}
}

// phoneFor is the number that the sender gave for one recipient, "" where none. A number without an address counts only for who is written to
// alone: another's code must not reach him.
func (g *Gateway) phoneFor(m *mail, to message.Address) string {
	if n := m.phones.of[to.Key()]; n != "" {
		return n
	}
	if m.phones.only == "" || !g.aloneWith(m, to) {
		return ""
	}
	return m.phones.only
}

// aloneWith tells whether the header names him and nobody else outside the clinic is written to, in the envelope and in the header. The
// envelope alone tells nothing: a client that sends one copy for each recipient shows one of many who were in Bcc, or behind an alias.
func (g *Gateway) aloneWith(m *mail, to message.Address) bool {
	other := func(a message.Address) bool { return a.Key() != to.Key() && !g.set.ownDomains[a.Domain] }
	if slices.ContainsFunc(m.env.Recipients, func(r message.Recipient) bool { return other(r.Address) }) {
		return false
	}
	named := false
	for _, name := range []string{"To", "Cc", "Bcc", "Resent-To", "Resent-Cc"} {
		for _, v := range m.header.Values(name) {
			list, err := message.ParseMailboxes(v)
			if err != nil || slices.ContainsFunc(list, func(b message.Mailbox) bool { return other(b.Address) }) {
				return false // somebody else is written to, or who is not known
			}
			named = named || slices.ContainsFunc(list, func(b message.Mailbox) bool { return b.Address.Key() == to.Key() })
		}
	}
	return named
}

// givenPhone puts the number that the sender gave in the place of the list's: he knows his patient's newest one. What is no number is none.
func (g *Gateway) givenPhone(m *mail, to message.Address, c *directory.Contact) *directory.Contact {
	e164, _, err := vault.ParsePhone(g.phoneFor(m, to))
	if err != nil {
		return c
	}
	with := directory.Contact{Address: to.Key()}
	if c != nil {
		with = *c
	}
	with.Phone = e164
	return &with
}

// came is the message as the clinic's own people get it: with what was taken out of it for everybody else.
func (m *mail) came() *mail {
	if !m.phones.taken {
		return m
	}
	as := &mail{env: m.env, body: m.asCame.body, header: m.asCame.header, start: m.asCame.start, trace: m.trace, marks: m.marks, origin: m.origin, pledge: m.pledge}
	return as
}
