package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/store"
	"passerelle/policy"
)

var mKnownAs = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_gateway_known_as_total",
	Help: "Recipients known under an MSSante address too, by what was done about it."}, []string{"result"}) // refused, redirected, told, untold

// What directory.known_as may be.
const (
	knownOff      = "off"
	knownSuggest  = "suggest"
	knownRedirect = "redirect"
)

const knownTables = `CREATE TABLE known_as_told (key BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID`

// toldEvery is how long a sender who was told of a better address is left in peace about it.
const toldEvery = 7 * 24 * time.Hour

// settle asks about a recipient and decides: on the one whom he stands for, where the clinic's list says so.
//
// An alias (alias_of) is decided on its target and written to there: what was decided holds for the target's domain and its server, a
// verified mailbox or a partner's TLS, and for no other that the alias may lead to. A link (mss) with directory.known_as redirect is
// followed into the trust space or not at all; whoever may not write there has his message protected at the address that he wrote.
func (g *Gateway) settle(ctx context.Context, m *mail, r message.Recipient, decide func(policy.Facts) policy.Decision) (way, error) {
	f, err := g.ask(ctx, m, r)
	if err != nil {
		return way{}, err
	}
	w := way{decision: f.keys.named(decide(f.Facts)), answer: f.answer, facts: f.Facts, keys: f.keys}
	if f.Opposed || g.set.observe && w.decision.Route == policy.Local { // observe changes nothing of the clinic's mail
		return w, nil
	}
	alias := f.answer.Contact != nil && f.answer.Contact.AliasOf != ""
	var target message.Address
	var why string
	switch k := f.answer.KnownAs; {
	case alias:
		if target, err = message.ParseAddress(f.answer.Contact.AliasOf, true); err != nil {
			return way{}, fmt.Errorf("alias of the clinic's list: %w", err)
		}
		why = "alias of *@" + target.Domain
	case g.set.knownAs == knownRedirect && k.Confirmed:
		target, why = k.Address, "known as *@"+k.Address.Domain+" by the clinic's list, redirected"
	default:
		return w, nil
	}
	to := message.Recipient{Address: target, Raw: target.String(), Notify: r.Notify, ORcpt: r.ORcpt}
	if to.ORcpt == "" && r.IsASCII() { // RFC 3461 section 5.2.3: reports name whom the sender wrote to
		to.ORcpt = "rfc822;" + r.String()
	}
	t, err := g.ask(ctx, m, to)
	if err != nil {
		return way{}, err
	}
	d := t.keys.named(decide(t.Facts))
	if !alias && d.Route != policy.Trust && d.Route != policy.Later {
		return w, nil
	}
	d.Reason += " (" + why + ")"
	return way{decision: d, answer: t.answer, facts: t.Facts, keys: t.keys, to: &to, from: r, redirected: !alias}, nil
}

// redirect puts the recipients that were decided on another address there. Observe mode sends everything where it was written to.
func (g *Gateway) redirect(m *mail, ways []way) {
	led := false
	for i := range ways {
		if w := &ways[i]; w.to != nil && (w.mapped || !g.set.observe) {
			m.env.Recipients[i], led = *w.to, true
			if w.redirected {
				mKnownAs.WithLabelValues("redirected").Inc()
			}
		}
	}
	if led {
		m.findTwins(ways)
	}
}

// suggestion is the refusal that names the right address, or the three that may be, where the rule asked for it and they can stand in a reply.
func suggestion(w *way) *fault {
	var all []string
	for _, a := range w.answer.KnownAs.All() {
		if a.IsASCII() && len(strings.Join(append(all, a.String()), ", ")) <= 300 {
			all = append(all, a.String())
		}
	}
	if !w.decision.Suggest || len(all) == 0 {
		return nil
	}
	mKnownAs.WithLabelValues("refused").Inc()
	if len(w.answer.KnownAs.Others) > 0 {
		return refuse(550, [3]int{5, 1, 6}, fmt.Sprintf("Ce destinataire a plusieurs adresses MSSante, ecrivez-lui a celle qu'il lit: %s", strings.Join(all, ", ")), nil)
	}
	return refuse(550, [3]int{5, 1, 6}, fmt.Sprintf("Ce destinataire a une adresse MSSante, ecrivez-lui a %s", all[0]), nil)
}

// tellKnownAs tells the sender, once a week for each pair, that his correspondent has an MSSanté address. It never holds up or fails a
// message that has left: what could not be told is told with the next one.
func (g *Gateway) tellKnownAs(ctx context.Context, m *mail, ways []way, group []int) {
	for _, i := range group {
		w := &ways[i]
		f := &w.facts
		better, wrote := w.answer.KnownAs, m.env.Recipients[i].Address
		if w.redirected {
			better, wrote = directory.KnownAs{Address: w.to.Address}, w.from.Address
		}
		if w.fault != nil || !w.redirected && !f.KnownAs || f.Null || f.Auto || f.List || better.Address.IsNull() {
			continue
		}
		teller := notifyAddress(w.decision.Notify, m.env.Sender)
		key := g.toldKey(m.env.Sender, wrote)
		due, err := g.toldDue(ctx, key)
		if err == nil && !due {
			continue
		}
		if err == nil {
			if err = g.toClinic(ctx, message.Address{}, teller, nil, knownAsMail(g, teller, wrote, better, w.redirected)); err != nil {
				g.forgetTold(ctx, key)
			}
		}
		if err != nil {
			mKnownAs.WithLabelValues("untold").Inc()
			g.log.Warn("a sender was not told of an MSSante address", "id", m.env.ID, "err", err)
			continue
		}
		mKnownAs.WithLabelValues("told").Inc()
	}
}

func (g *Gateway) toldKey(from, to message.Address) []byte {
	key := derive(g.key, "known as")
	h := hmac.New(sha256.New, key[:])
	fmt.Fprintf(h, "%s\x00%s", from.Key(), to.Key())
	return h.Sum(nil)
}

// toldDue notes that the pair is told now; false where it was this week.
func (g *Gateway) toldDue(ctx context.Context, key []byte) (due bool, err error) {
	now := g.now()
	err = g.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec("DELETE FROM known_as_told WHERE at <= ? OR at > ?", now.Add(-toldEvery).Unix(), now.Add(toldEvery).Unix()); err != nil {
			return err
		}
		r, err := tx.Exec("INSERT INTO known_as_told (key, at) VALUES (?, ?) ON CONFLICT DO NOTHING", key, now.Unix())
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		due = n == 1
		return err
	})
	return due, err
}

func (g *Gateway) forgetTold(ctx context.Context, key []byte) {
	err := g.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("DELETE FROM known_as_told WHERE key = ?", key)
		return err
	})
	if err != nil {
		g.log.Warn("a note about a sender who was not told stays", "err", err)
	}
}

func knownAsMail(g *Gateway, teller, wrote message.Address, better directory.KnownAs, redirected bool) *message.Body {
	done := "Votre message a été envoyé à l'adresse que vous avez écrite, protégé selon les règles de l'établissement."
	if redirected {
		done = "Votre message lui a été remis à cette adresse MSSanté, et non à celle que vous avez écrite: le service informatique a confirmé ce lien."
	}
	has, use := "une adresse MSSanté :", "Utilisez l'adresse MSSanté la prochaine fois et corrigez votre carnet d'adresses."
	if len(better.Others) > 0 {
		has, use = "plusieurs adresses MSSanté :", "L'annuaire ne dit pas laquelle il lit: demandez-la-lui, utilisez-la la prochaine fois et corrigez votre carnet d'adresses."
	}
	var lines strings.Builder
	for _, a := range better.All() {
		fmt.Fprintf(&lines, "    %s\n", a)
	}
	if better.More {
		lines.WriteString("    (et d'autres encore)\n")
	}
	return g.ownMail(teller, "Votre correspondant a une adresse MSSanté", fmt.Sprintf("Vous avez écrit à %s.\n\nCe professionnel a %s\n\n%s\n%s\n\n"+
		"%s Ce rappel vous est envoyé une fois par semaine au plus.\n", wrote, has, &lines, done, use))
}
