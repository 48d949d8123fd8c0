package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"passerelle/crypto/smime"
	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/policy"
)

// Record and Contact are the directory's, for whoever prints them.
type (
	Record  = directory.Record
	Contact = directory.Contact
)

// Explanation is what `passerelle explain` prints: the real engine's word on one recipient, with all that it stands on.
type Explanation struct {
	From, To string
	Answer   directory.Answer
	Facts    policy.Facts
	Decision policy.Decision
	Hop      string
	Observe  bool
	// Instead is where the message goes in the place of To, by an alias or a confirmed link; "" where it goes to To.
	Instead string
	// WhiteList is the signed list of the trust space; nil where none is configured.
	WhiteList *WhiteListStatus
	// Keys are those that the keyring has for the recipient and his domain, used or not, a line each.
	Keys []string
	// Sees says what the recipient would see.
	Sees string

	mailbox message.Address // whose session it would go in
}

// CertificateFault says why no S/MIME can be sealed to a contact now, "" where it can or where no certificate is known.
func CertificateFault(c *Contact, now time.Time) string {
	if c.Certificate == nil {
		return ""
	}
	if err := smime.Usable(c.Certificate, now); err != nil {
		return err.Error()
	}
	return ""
}

// AddressError: what was asked about is no address.
type AddressError struct {
	Flag string // of the command line
	Err  error
}

func (e *AddressError) Error() string { return e.Flag + ": " + e.Err.Error() }
func (e *AddressError) Unwrap() error { return e.Err }

// Explain decides about one recipient as Outbound would, and hands nothing on. The message is message.eml or, where the operator
// gave none, a short text.
func (g *Gateway) Explain(ctx context.Context, from, to string, raw []byte) (*Explanation, error) {
	g = g.current()
	var sender message.Address
	if from != "" && from != "<>" { // the null sender, of reports
		var err error
		if sender, err = message.ParseAddress(from, true); err != nil {
			return nil, &AddressError{"--from", err}
		}
	}
	rcpt, err := message.ParseAddress(to, true)
	if err != nil || rcpt.IsNull() {
		return nil, &AddressError{"--to", fmt.Errorf("not a mailbox (%v)", err)}
	}
	env := &message.Envelope{ID: "explain", Client: "explain", Sender: sender, Recipients: []message.Recipient{{Address: rcpt, Raw: to}}}
	m, err := g.read(env, message.BytesBody(raw))
	if err != nil {
		return nil, err
	}
	w, err := g.settle(ctx, m, env.Recipients[0], g.policy.Explain)
	if err != nil {
		return nil, err
	}
	x := &Explanation{From: from, To: to, Answer: w.answer, Facts: w.facts, Decision: w.decision, Observe: g.set.observe, WhiteList: g.WhiteList()}
	if w.to != nil {
		x.Instead = w.to.String()
	}
	if w.to != nil {
		rcpt = w.to.Address
	}
	if x.Keys, err = g.keyLines(ctx, rcpt); err != nil {
		return nil, err
	}
	x.mailbox = m.mailbox()
	x.Hop, x.Sees = g.sees(ctx, x, g.observed(&w))
	if err := g.unclear(m, &w); err != nil && !g.observed(&w) {
		x.Sees = "nothing; the sender is told: " + asFault(err).Text
	}
	if w.decision.Route == policy.Trust && !g.observed(&w) {
		ways := []way{w}
		if _, err := g.inSpace(ctx, m, ways, []int{0}); err != nil {
			x.Sees = "nothing; the sender is told: " + asFault(err).Text
		}
		x.Decision.Reason = ways[0].decision.Reason
	}
	if w.decision.Route == policy.Local && g.opensMail() && !g.internal(m) {
		if index, err := m.parts(); err == nil && protect.Protected(m.body, index) {
			x.Sees = "the message opened and verified with his keys among the clinic's (inbound.decrypt), through the clinic's own server"
		}
	}
	if !g.observed(&w) {
		says, err := g.explainSigning(ctx, m, &w)
		var no *fault
		switch {
		case errors.As(err, &no):
			x.Sees = "nothing; the sender is told: " + no.Text
		case err != nil:
			return nil, err
		}
		x.Decision.Reason += says
	}
	return x, nil
}

// Verify holds the operator's expect pairs against the rules, each with the message that sample gives and with what the directory
// and the clinic's list say now.
func (g *Gateway) Verify(ctx context.Context, expect []policy.Expectation, sample func(from, to string) []byte) []policy.Mismatch {
	return policy.Verify(g.policy, expect, func(from, to string) (policy.Facts, error) {
		x, err := g.Explain(ctx, from, to, sample(from, to))
		if err != nil {
			return policy.Facts{}, err
		}
		return x.Facts, nil
	})
}

func (g *Gateway) sees(ctx context.Context, x *Explanation, observed bool) (hop, sees string) {
	d := x.Decision
	if observed {
		return g.set.hopInternet.Addr, "the message unchanged (mode: observe); this is counted as left in clear"
	}
	switch d.Route {
	case policy.Local:
		return g.set.hopClinic.Addr, "the message unchanged, through the clinic's own server"
	case policy.Trust:
		hops, err := g.trustHops(ctx, x.Facts.RecipientDomain, x.mailbox)
		var no *fault
		if errors.As(err, &no) && no.permanent() {
			return "", "nothing; the sender is told: " + no.Text
		}
		if err != nil {
			return "", "nothing yet: " + err.Error()
		}
		if g.submission != nil {
			return hops[0].Addr + " (trust.submission)", inSpaceSees(x) + ", from the clinic's operator in a session of " + as(g.submission.credential(x.mailbox))
		}
		addrs := make([]string, len(hops))
		for i, h := range hops {
			addrs[i] = h.Addr
		}
		return strings.Join(addrs, ", else "), inSpaceSees(x)
	case policy.Plain:
		h := g.internetHop(d.Hop, x.Facts.RecipientDomain)
		if d.Form == policy.FormReport {
			return named(h), "the report's headers and status, without the returned content"
		}
		return named(h), "the message unchanged"
	case policy.Encrypt:
		h := named(g.internetHop("", x.Facts.RecipientDomain))
		if g.set.protect.KeepSubject {
			return h, sealedSees(d) + ", under its own subject"
		}
		return h, sealedSees(d) + ", under a neutral subject"
	case policy.Pickup:
		return named(g.internetHop("", x.Facts.RecipientDomain)), "a neutral notice with a link; the content after a code (SMS, or told by the sender)"
	case policy.Later:
		return "", "nothing yet: the clinic's server keeps the message and repeats"
	}
	return "", "nothing; the sender is told: " + d.Text
}

// sealedSees says what is seen of an encrypted message.
func sealedSees(d policy.Decision) string {
	files := d.Scope == policy.ScopeAttachments
	switch d.Form {
	case policy.FormZIP:
		if files {
			return "the text readable, a short cover text and documents.zip (AES-256); the passphrase comes by another channel"
		}
		return "a short cover text and message.zip (AES-256); the passphrase comes by another channel"
	case policy.FormPDF:
		if files {
			return "the text readable, a short cover text and encrypted PDF (AES-256); the passphrase comes by another channel"
		}
		return "a short cover text and encrypted PDF (AES-256); the passphrase comes by another channel"
	case policy.FormSMIME:
		return "an S/MIME message"
	case policy.FormAsIs:
		return "the message as its sender encrypted it"
	}
	if files {
		return "the text readable, a short cover text and each file encrypted (OpenPGP)"
	}
	return "a PGP/MIME message"
}

// as names whose session a letter goes in.
func as(c *credential) string {
	switch {
	case c.identity != "":
		return c.identity
	case c.user != "":
		return c.user
	}
	return "the mailbox that our certificate names"
}

// named writes a hop as the operator knows it: hops.internet by its address, as the config's own hop, any other with its name.
func named(h relay.Hop) string {
	if h.Name == "internet" {
		return h.Addr
	}
	return h.Addr + " (hops." + h.Name + ")"
}
