package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/smtpd"
	"passerelle/gateway/trust"
)

// clinicDoor answers the clinic's server: LMTP or SMTP.
type clinicDoor struct {
	g    *Gateway
	lmtp bool
}

func (d clinicDoor) Mail(_ context.Context, _ smtpd.Client, _ *message.Envelope) error {
	if err := d.g.ledger.Ready(); err != nil {
		return &laterNote(err).Reply
	}
	return nil
}

// Rcpt refuses domains that the operator shut out, before any content is sent.
func (d clinicDoor) Rcpt(_ context.Context, _ smtpd.Client, _ *message.Envelope, r message.Recipient) error {
	if only := d.g.set.recipientDomains; len(only) > 0 && !only[r.Domain] && r.Domain != "" { // <postmaster>: RFC 5321 section 4.5.1
		return &smtpd.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "Domaine de destination non desservi par cette passerelle (recipients.domains)"}
	}
	return nil
}

func (d clinicDoor) Data(ctx context.Context, c smtpd.Client, env *message.Envelope, body *message.Body) smtpd.Outcome {
	name := "smtp"
	if d.lmtp {
		name = "lmtp"
	}
	defer timed(name)()
	return d.g.Outbound(ctx, c, d.lmtp, env, body)
}

// trustDoor admits listed peers of the trust space, for our own domains alone.
type trustDoor struct{ g *Gateway }

func (d trustDoor) Mail(_ context.Context, c smtpd.Client, env *message.Envelope) error {
	if c.TLS == nil {
		return &smtpd.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: "STARTTLS avec certificat client exige"}
	}
	if err := d.g.space.AdmitPeer(*c.TLS, env.Sender.Domain); err != nil {
		d.g.log.Warn("peer was not admitted", "id", env.ID, "client", c.Addr, "sender", env.Sender, "err", err)
		if doubt := (*trust.Error)(nil); errors.As(err, &doubt) && doubt.Later { // no fresh revocation list: not the peer's fault
			if doubt.Reason == trust.ListUnknown {
				return &smtpd.Reply{Code: 451, Enhanced: [3]int{4, 7, 1}, Text: "Liste blanche MSSante indisponible pour l'instant, nouvel essai plus tard"}
			}
			return &smtpd.Reply{Code: 451, Enhanced: [3]int{4, 7, 5}, Text: "Revocation non verifiable pour l'instant, nouvel essai plus tard"}
		}
		return &smtpd.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "Certificat ou domaine expediteur non admis dans l'espace de confiance"}
	}
	if err := d.g.ledger.Ready(); err != nil {
		return &laterNote(err).Reply
	}
	return nil
}

// Rcpt asks the clinic's Postfix first, so that the trust space never gets a bounce from us. A local part with another address within
// (user%elsewhere, elsewhere!user) is a route through the clinic's server, which relays what we bring (RFC 5321 appendix F.2).
func (d trustDoor) Rcpt(ctx context.Context, _ smtpd.Client, env *message.Envelope, r message.Recipient) error {
	g := d.g
	r = g.postmaster(r)
	if routed := strings.ContainsAny(r.Local, "@%!"); routed || !g.set.inboundDomains[r.Domain] { // a postmaster elsewhere is no exception: that would be a relay out of the trust space
		return &smtpd.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "Aucun relais: ce domaine n'est pas celui de la clinique"}
	}
	if g.sealed(r) {
		answer := g.holder(ctx, r)
		if err := g.canProve(&answer); err != nil {
			g.log.Error("mailbox of inbound.mailboxes cannot be served: its holder has no way to prove himself in the clinic's list", "to", r.Address)
			return &asFault(err).Reply
		}
	}
	r, _ = g.homeward(r)
	if res := g.probe(ctx, env.Sender, r); res.Err != nil {
		return g.toSpace(&asFault(res.Err).Reply)
	}
	return nil
}

func (d trustDoor) Data(ctx context.Context, c smtpd.Client, env *message.Envelope, body *message.Body) smtpd.Outcome {
	defer timed("trust")()
	out := d.g.Inbound(ctx, c, env, body)
	out.Whole = d.g.toSpace(out.Whole)
	for i, r := range out.Replies {
		out.Replies[i] = d.g.toSpace(r)
	}
	return out
}

func timed(listener string) func() {
	start := time.Now()
	return func() { mWay.WithLabelValues(listener).Observe(time.Since(start).Seconds()) }
}

// postmaster gives `<postmaster>`, the one path without a domain (RFC 5321 section 4.5.1), the address of clinic.postmaster. Raw stays: the
// retry memory knows the path as it was written.
func (g *Gateway) postmaster(r message.Recipient) message.Recipient {
	if r.Domain == "" {
		r.Address = g.set.noticeFrom
	}
	return r
}

func (g *Gateway) postmasters(env *message.Envelope) {
	for i, r := range env.Recipients {
		env.Recipients[i] = g.postmaster(r)
	}
}
