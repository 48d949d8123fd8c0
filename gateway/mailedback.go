package gateway

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"strings"
	"sync"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/relay"
	"passerelle/gateway/vault"
	"passerelle/policy"
)

// toldAgain is how long a patient who goes on answering by mail gets no other answer (RFC 3834 section 2), and his correspondent no other mail.
const toldAgain = 6 * time.Hour

// mailedBack remembers whom an answer was sent, by deposit. A restart forgets it: what is automatic is never answered, so no loop waits for that.
type mailedBack struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (b *mailedBack) recently(id string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.at[id]
	return ok && now.Sub(at) < toldAgain
}

func (b *mailedBack) done(id string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil {
		b.at = map[string]time.Time{}
	}
	for k, at := range b.at {
		if now.Sub(at) >= toldAgain {
			delete(b.at, k)
		}
	}
	b.at[id] = now
}

// repliesHere tells whether a recipient is pickup.reply_to: a patient has answered a notice.
func (g *Gateway) repliesHere(r message.Recipient) bool {
	return g.vault != nil && !g.set.replyTo.IsNull() && r.Key() == g.set.replyTo.Key()
}

// replyWay is how such a mail goes: nowhere.
func replyWay() way {
	return way{mailedBack: true, decision: policy.Decision{Route: policy.Local, Rule: "(reply to a notice)", Reason: "a mail to pickup.reply_to"}}
}

// answerMailed takes a patient's mail to the notice: he is sent the link again, at the address that the notice went to, whoever wrote; his
// correspondent hears that he wrote. What he wrote goes nowhere: he was told so, and a mail box proves nobody. What a machine wrote is not
// answered (RFC 3834 section 2).
func (g *Gateway) answerMailed(ctx context.Context, m *mail, w *way) error {
	f, err := g.messageFacts(ctx, m)
	if err != nil {
		return err
	}
	if m.env.Sender.IsNull() || f.Auto || f.List || f.Marked || machine(m.env.Sender.Local) || m.header.Get("List-Unsubscribe") != "" || m.header.Get("X-Auto-Response-Suppress") != "" {
		w.decision.Reason += ", automatic: not answered"
		return nil
	}
	writers := []message.Address{m.env.Sender}
	if list, err := message.ParseMailboxes(m.header.Get("From")); err == nil && len(list) == 1 {
		writers = append(writers, list[0].Address)
	}
	dep, err := g.vault.MailedFor(ctx, m.header.Get("In-Reply-To")+" "+m.header.Get("References"), writers...)
	if err != nil {
		return err
	}
	if dep == nil {
		w.decision.Route = policy.Refuse
		return refuse(550, [3]int{5, 7, 1}, "Cette adresse ne lit pas de courrier: repondez sur la page du lien recu, ou appelez l'etablissement", nil)
	}
	w.deposit = dep.ID
	if g.mailedBack.recently(dep.ID, g.now()) {
		w.decision.Reason += ", told before"
		return nil
	}
	if err := g.linkAgain(ctx, dep, m.header.Get("Message-Id")); err != nil {
		return fmt.Errorf("send the link again: %w", err)
	}
	if err := g.tellOfMail(ctx, dep); err != nil {
		return fmt.Errorf("tell the sender of a mail: %w", err)
	}
	g.mailedBack.done(dep.ID, g.now())
	w.decision.Reason += ", answered with the link, the sender told"
	return nil
}

// machine tells whether a local part is one that programs write from (RFC 3834 section 2, RFC 2142).
func machine(local string) bool {
	l := strings.ToLower(local)
	switch l {
	case "mailer-daemon", "postmaster", "noreply", "no-reply", "donotreply", "do-not-reply", "bounce", "bounces", "listserv", "majordomo", "root":
		return true
	}
	return strings.HasPrefix(l, "owner-") || strings.HasSuffix(l, "-request") || strings.HasSuffix(l, "-owner") || strings.HasSuffix(l, "-bounces")
}

// linkAgain is the automatic answer, from nobody: no machine answers it, and it brings no bounce.
func (g *Gateway) linkAgain(ctx context.Context, s *vault.Status, inReplyTo string) error {
	linkFR, linkEN := "Ouvrez le lien du courriel que vous avez reçu.", "Open the link of the e-mail that you received."
	if dep, err := g.vault.Reissue(ctx, s.ID); err == nil {
		linkFR, linkEN = "Ouvrez cette page :\n"+dep.Link, "Open this page:\n"+dep.Link
	} // else there is no record of the link any more: he has it
	name := g.set.clinicName
	text := mailedText(name, g.cfg.Clinic.Phone, linkFR, linkEN)
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s <%s>\r\nTo: <%s>\r\n", message.Phrase(name), g.set.noticeFrom, s.Recipient)
	fmt.Fprintf(&b, "Subject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n", mime.QEncoding.Encode("utf-8", "Votre courriel n'est pas transmis / Your e-mail is not passed on"), g.now().Format(time.RFC1123Z), newID(), g.set.hostname)
	if inReplyTo != "" {
		writeField(&b, "In-Reply-To", oneLine(inReplyTo))
		writeField(&b, "References", oneLine(inReplyTo))
	}
	b.WriteString("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	writeQP(&b, text)
	l := relay.Letter{Recipients: []message.Recipient{{Address: s.Recipient, Raw: s.Recipient.String()}}, Body: message.BytesBody(b.Bytes()), SMTPUTF8: !s.Recipient.IsASCII()}
	if err := g.sign(&l, false); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if r := g.relay.Send(ctx, g.internetHop("", s.Recipient.Domain), l)[0]; r.Err != nil {
		return r.Err
	}
	return nil
}

// mailedText is what a patient reads who answered a notice by mail; phone is the clinic's, "" for none.
func mailedText(clinic, phone, linkFR, linkEN string) string {
	callFR, callEN := "", ""
	if phone != "" {
		callFR, callEN = " Pour joindre "+clinic+" : "+phone, " To reach "+clinic+": "+phone
	}
	return fmt.Sprintf("Bonjour,\n\nVotre courriel n'a PAS été lu et n'est pas transmis : le courriel ordinaire ne protège\npas vos données de santé.\n\nPour lire votre message et y répondre :\n%s\n\n"+
		"En cas d'urgence appelez le 15.%s\n\n--------------------\n\nHello,\n\nYour e-mail was NOT read and is not passed on: ordinary e-mail does not protect your\nhealth data.\n\nTo read your message and to answer it:\n%s\n\n"+
		"In an emergency call 15 or 112.%s\n", linkFR, callFR, linkEN, callEN)
}

// tellOfMail says to a sender that his patient has written by mail, and nothing of what.
func (g *Gateway) tellOfMail(ctx context.Context, s *vault.Status) error {
	thread := ""
	if s.Sending != "" {
		if all, err := g.vault.Sending(ctx, s.Sending); err == nil {
			thread = all.MessageID
		}
	}
	text := fmt.Sprintf("%s a répondu par courriel ordinaire à l'avis de votre message.\n\nCe qu'il a écrit n'est ni lu ni transmis : rien ne prouve qui a écrit. Le lien de la page sécurisée lui est renvoyé ; sa\n"+
		"réponse vous parvient dès qu'il la donne sur cette page. Si c'est urgent, appelez-le.\n\n--------------------\n\n%s has answered the notice of your message by ordinary e-mail.\n\n"+
		"What was written is neither read nor passed on: nothing proves who wrote it. The link of the secure page was sent\nagain; the answer reaches you as soon as it is given there. If it is urgent, call.\n", s.Recipient, s.Recipient)
	return g.toClinic(ctx, message.Address{}, s.Sender, nil, g.tellSender(s.Sender, thread, "Votre patient a répondu par courriel", text))
}
