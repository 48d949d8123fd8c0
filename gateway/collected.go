package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	netmail "net/mail"
	"strings"

	"passerelle/gateway/collect"
	"passerelle/gateway/message"
	"passerelle/gateway/smtpd"
)

// Collected carries one message of an operator's mailbox to the clinic's Postfix, marked as Inbound marks: the operator, who showed his
// certificate, stands for the sender. Its identity in the mailbox keys the retry memory, so that it is handed on once however often it is
// fetched. Its sender is never told anything by us: what is refused stays in the mailbox.
func (g *Gateway) Collected(ctx context.Context, b *collect.Box, id collect.ID, body *message.Body) collect.Verdict {
	defer timed("collect")()
	name := pledgeName(id)
	out := g.journey(ctx, smtpd.Client{Sessions: 1}, strangersReply, g.collectedEnvelope(b, id, body), body, func(m *mail, to message.Recipient) (way, error) {
		w, err := g.arrive(ctx, m, to, g.operatorOf(b), "collect", "collected from the mailbox "+b.Name+" at "+hostOf(b.Addr))
		if err != nil {
			return w, err
		}
		r, known, err := g.pledges.earlier(ctx, name, g.set.hopClinic)
		if err != nil {
			return w, err
		}
		if known { // handed on by a process that died before it could note that
			w.handed, w.hop, w.result = true, g.set.hopClinic.Name, r
			if r.Err != nil {
				w.fault = asFault(r.Err)
			}
			return w, nil
		}
		m.pledge = g.pledges.next(name)
		return w, nil
	})
	r := out.Replies[0]
	return collect.Verdict{Code: r.Code, Settled: func() {
		if out.Settled != nil {
			out.Settled(0, true)
		}
		if r.Code >= 400 && r.Code < 500 {
			g.pledges.later(name)
		} else {
			g.pledges.drop(name)
		}
	}}
}

// operatorOf is the operator who keeps a mailbox. He asked his peers for their certificates, so he stands for every listed domain; a clinic
// that only collects may have no list.
func (g *Gateway) operatorOf(b *collect.Box) peer {
	t := g.cfg.Trust
	none := len(t.Domains) == 0 && t.WhiteList.URL == ""
	return peer{says: "operator " + hostOf(b.Addr), speaks: func(domain string) bool { return none || g.space.Listed(domain) }}
}

// pledgeName tells the keeper, the log and the trace nothing of the mailbox.
func pledgeName(id collect.ID) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d", id.Box, id.Validity, id.UID))
	return PledgePrefix + hex.EncodeToString(sum[:16])
}

// PledgePrefix begins the names under which a Keeper is given connections.
const PledgePrefix = "collect-"

func (g *Gateway) collectedEnvelope(b *collect.Box, id collect.ID, body *message.Body) *message.Envelope {
	env := &message.Envelope{ID: newID(), Client: pledgeName(id), Helo: hostOf(b.Addr), Protocol: "IMAP", EightBit: true,
		Recipients: []message.Recipient{{Address: b.DeliverTo, Raw: b.DeliverTo.String()}}}
	env.Sender = g.collectedSender(body)
	env.SMTPUTF8 = !env.Sender.IsASCII() || !b.DeliverTo.IsASCII()
	return env
}

// collectedSender is the envelope's sender as the operator's server noted it at its final delivery (RFC 5321 section 4.4). The null sender is
// taken from there alone: a letter that nobody can answer must have been one before.
func (g *Gateway) collectedSender(body *message.Body) message.Address {
	h, _, err := message.ReadHeader(body, g.set.maxHeader)
	if err != nil { // journey refuses it
		return g.set.noticeFrom
	}
	if v := h.Values("Return-Path"); len(v) > 0 {
		path := strings.TrimSpace(v[0])
		if path == "<>" {
			return message.Address{}
		}
		path = strings.TrimSuffix(strings.TrimPrefix(path, "<"), ">")
		if a, err := message.ParseAddress(path, true); err == nil && !a.IsNull() {
			return a
		}
	}
	if from, err := netmail.ParseAddressList(h.Get("From")); err == nil {
		if a, err := message.ParseAddress(from[0].Address, true); err == nil && !a.IsNull() {
			return a
		}
	}
	return g.set.noticeFrom
}

// tellRefused tells the postmaster of a message that the clinic's server does not take. Its sender cannot be told: the trust space gets no
// bounce from us.
func (g *Gateway) tellRefused(ctx context.Context, b *collect.Box, id collect.ID) error {
	text := fmt.Sprintf("Un message de la boîte MSSanté %s (dossier %s) n'a pas pu être remis à la clinique : votre serveur de messagerie le refuse, "+
		"ou il est trop grand ou illisible.\n\nIl reste dans cette boîte, marqué comme important (numéro %d). Son expéditeur n'en a pas été averti.\n\n"+
		"Le journal de la passerelle en dit la raison.\n", b.Mailbox, b.Folder, id.UID)
	body := g.ownMail(g.set.noticeFrom, "Message MSSanté non remis, resté dans la boîte "+b.Name, text)
	defer body.Close()
	return g.toClinic(ctx, message.Address{}, g.set.noticeFrom, nil, body)
}
