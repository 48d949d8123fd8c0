package gateway

import (
	"slices"
	"strings"

	"passerelle/gateway/message"
)

// fromOutside tells whether a message is one of the Internet that a mailbox of the clinic sends on: its authors (From) are not all of the
// clinic, and it has no sender or was delivered before. Such mail never enters the trust space, under whatever sender. An application of the
// clinic may write under an odd From of its own; what trust.identities says is stricter. Reports are the exception, for their authors are
// machines with names of their own, and mail that came from the trust space itself.
func (g *Gateway) fromOutside(m *mail, marked bool) bool {
	null := m.env.Sender.IsNull()
	if marked || null && m.index != nil && m.index.Parts[0].Type == "multipart/report" || !null && !delivered(m.header) {
		return false
	}
	authors := 0
	for _, v := range m.header.Values("From") {
		list, err := message.ParseMailboxes(v)
		if err != nil {
			return true
		}
		for _, a := range list {
			if !g.ours(a.Address.Domain) {
				return true
			}
			authors++
		}
	}
	return authors == 0
}

// ours tells whether a domain is one of the clinic's, in the trust space or outside, or below one: MAILER-DAEMON@mail.clinique.example.
func (g *Gateway) ours(domain string) bool {
	for d, ok := domain, true; ok; _, d, ok = strings.Cut(d, ".") {
		if g.set.inboundDomains[d] {
			return true
		}
	}
	return false
}

// delivered tells whether a mailbox, or a server at the border, had the message before: each of these fields is theirs.
func delivered(h message.Header) bool {
	return slices.ContainsFunc(h.Fields(), func(f message.Field) bool {
		return slices.ContainsFunc([]string{"Delivered-To", "X-Original-To", "Return-Path", "Resent-From", "X-Sieve-Redirected-From", "X-Forwarded-To", "Authentication-Results",
			"Received-SPF", "DKIM-Signature", "ARC-Seal"}, func(name string) bool { return strings.EqualFold(f.Name, name) })
	})
}
