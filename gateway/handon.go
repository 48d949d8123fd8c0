package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"passerelle/gateway/directory"
	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/policy"
)

// way is what was decided for one recipient, and what came of it.
type way struct {
	decision policy.Decision
	answer   directory.Answer
	facts    policy.Facts
	keys     sealingKeys
	done     bool // served by an earlier attempt: entry says how
	entry    ledger.Entry
	fault    *fault
	result   relay.Result
	hop      string
	deposit  string
	// to is where the copy goes in the place of from, whom the sender wrote to: nil where both are one. redirected: by a link, not an alias.
	to         *message.Recipient
	from       message.Recipient
	redirected bool
	sealed     bool // mail from the trust space that waits in the vault for a member of the staff
	handed     bool // by an earlier process, which could not note it: result says how
	mapped     bool // to is the clinic's own name for a mailbox
	clear      bool // left in clear
	// instead is why the copy did not leave in the form that was decided, for the reason.
	instead string
	onWay   bool     // told to go on behind the reply
	opened  *opening // what the recipient sees in the place of the message; nil: the message
}

// handOn carries out the decisions and waits for their end. Recipients whose copies are the same bytes to the same hop share a
// transaction, a lane; different lanes go side by side, so that a slow one costs the others nothing.
func (g *Gateway) handOn(ctx context.Context, m *mail, ways []way) {
	fs := g.flights(m, ways)
	for _, f := range fs {
		f.carry = func(group []int) { g.carry(ctx, m, ways, group) }
		f.start(g.traffic.hands)
	}
	for _, f := range fs {
		<-f.done
	}
}

// flights gathers the lanes by the hop that they lead to.
func (g *Gateway) flights(m *mail, ways []way) []*flight {
	lanes := map[string]int{} // its place in its flight
	var fs []*flight
	of := map[string]*flight{}
	for i := range ways {
		w := &ways[i]
		if w.done || w.handed || w.fault != nil {
			continue
		}
		hop := g.hopName(m, i, w)
		f := of[hop]
		if f == nil {
			f = &flight{hop: hop}
			of[hop], fs = f, append(fs, f)
		}
		key := g.lane(m, i, w)
		n, ok := lanes[key]
		if !ok {
			n, f.lanes = len(f.lanes), append(f.lanes, nil)
			lanes[key] = n
		}
		f.lanes[n] = append(f.lanes[n], i)
	}
	return fs
}

// hopName is where a way leads, "" where to none. A pickup or a told passphrase asks other servers too, and is counted under the hop
// that takes its mail.
func (g *Gateway) hopName(m *mail, i int, w *way) string {
	d := w.decision
	switch {
	case d.Route == policy.Local:
		return "clinic"
	case g.observed(w):
		return "internet"
	case d.Route == policy.Trust && g.submission != nil:
		return operatorName
	case d.Route == policy.Trust:
		return "trust " + m.env.Recipients[i].Domain
	case d.Route == policy.Refuse, d.Route == policy.Later:
		return ""
	}
	return g.internetHop(d.Hop, m.env.Recipients[i].Domain).Name
}

// lane names the transaction that a recipient's copy may share.
func (g *Gateway) lane(m *mail, i int, w *way) string {
	if first, twin := m.twins[i]; twin {
		i = first
	}
	d := w.decision
	switch d.Route {
	case policy.Local:
		if w.sealed {
			return fmt.Sprint("sealed ", i)
		}
		return fmt.Sprint("local ", slices.Index(m.openings, w.opened))
	case policy.Plain:
		if d.Form == policy.FormReport { // it names its recipient
			return fmt.Sprint(i)
		}
		hop := g.internetHop(d.Hop, m.env.Recipients[i].Domain).Name
		return fmt.Sprintf("plain %s %s %t %t", hop, d.Form, d.VerifiedTLS, d.Unreduced)
	case policy.Trust:
		if w.facts.PatientINS {
			return fmt.Sprint("patient ", i) // one patient, one message
		}
		return "trust " + m.env.Recipients[i].Domain
	}
	return fmt.Sprint(i)
}

// carry serves the recipients at group, all by the way of the first. A panic stays with them: it would end the process, for nobody
// else recovers on this goroutine.
func (g *Gateway) carry(ctx context.Context, m *mail, ways []way, group []int) {
	w := &ways[group[0]]
	d := w.decision
	fail := func(err error) {
		for _, i := range group {
			ways[i].fault = asFault(err)
		}
	}
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("panic while handing on", "id", m.env.ID, "route", string(d.Route), "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			fail(fmt.Errorf("panic while handing on"))
		}
	}()
	if g.observed(w) { // also what would be refused or wait: observe changes nothing of the clinic's mail
		l := m.unchanged()
		g.sendOut(ctx, m, ways, group, g.set.hopInternet, l, l.Offset == 0)
		inClear(ways, group)
		return
	}
	switch d.Route {
	case policy.Refuse:
		if f := suggestion(w); f != nil {
			fail(f)
			return
		}
		fail(refuse(550, [3]int{5, 7, 1}, d.Text, nil))
		return
	case policy.Later:
		text, why := d.Text, w.answer.Why
		if w.facts.TrustDoubt != "" {
			why = w.facts.TrustDoubt
		}
		if w.answer.Reply != "" && w.facts.TrustDomain && w.facts.TrustDoubt == "" { // elsewhere the directory is not what is waited for
			text = w.answer.Reply
		}
		fail(refuse(451, [3]int{4, 4, 3}, text, errors.New(why)))
		return
	}
	if err := g.unclear(m, w); err != nil {
		fail(err)
		return
	}
	switch d.Route {
	case policy.Local:
		seen := g.seenBy(m, w.opened)
		if !w.sealed {
			g.send(ctx, seen, ways, group, g.set.hopClinic, g.home(seen.came()))
			g.sendAsCame(ctx, seen, ways, group)
			g.sendUnopened(ctx, m, ways, group)
			break
		}
		if err := g.keepForStaff(ctx, seen, ways, group[0]); err != nil {
			fail(err)
		}
		share(ways, group)
	case policy.Plain:
		g.plain(ctx, m, ways, group)
	case policy.Trust:
		if err := g.trust(ctx, m, ways, group); err != nil {
			fail(err)
		}
	case policy.Encrypt:
		if err := g.encrypt(ctx, m, ways, group[0]); err != nil {
			fail(err)
		}
		share(ways, group)
	case policy.Pickup:
		if err := g.pickup(ctx, m, ways, group[0]); err != nil {
			fail(err)
		}
		share(ways, group)
	default:
		fail(later("Incident interne de la passerelle, nouvel essai plus tard", fmt.Errorf("route %q", d.Route)))
	}
	g.tellKnownAs(ctx, m, ways, group)
}

// observed tells whether observe mode sends the copy unchanged. What came from the trust space is the exception: its law stands above the
// mode, and that mail only came to the clinic through us.
func (g *Gateway) observed(w *way) bool {
	return g.set.observe && w.decision.Route != policy.Local && !w.facts.Marked && !w.facts.Enclosed
}

// inClear counts what left unprotected, at once: a note that fails later does not bring it back.
func inClear(ways []way, group []int) {
	for _, i := range group {
		if ways[i].clear = ways[i].fault == nil; ways[i].clear {
			mClear.Inc()
		}
	}
}

// home is the message as the clinic's own server gets it back: a mark that is ours stays on it, or a second pass (a forwarding
// mailbox) would let it out by any way.
//
// X-MSS fields speak inside the trust space: on mail from anywhere else they are taken off, for software of the clinic believes them.
func (g *Gateway) home(m *mail) relay.Letter {
	if len(m.marks) > 0 {
		return m.unchanged()
	}
	h, changed := m.header, m.rewritten
	if g.origin(m) == "" {
		changed = !g.set.ownDomains[m.env.Sender.Domain] && protect.StripSpace(&h) || changed
	}
	if changed = protect.StripForged(g.set.markKey, &h) || changed; changed {
		return m.letter(slices.Concat(m.trace, h.Bytes()), m.body, m.start)
	}
	return m.letter(m.trace, m.body, 0)
}

// unchanged is the message as received under our trace: body bytes untouched, marks of whatever hand removed but the one we set now.
func (m *mail) unchanged() relay.Letter {
	top := slices.Concat(m.trace, m.marks)
	h := m.header
	if !protect.Strip(&h) && !m.rewritten { // the header leaves as part of the body, byte for byte
		return m.letter(top, m.body, 0)
	}
	return m.letter(append(top, h.Bytes()...), m.body, m.start)
}

func (m *mail) letter(top []byte, body *message.Body, from int64) relay.Letter {
	e := m.env
	return relay.Letter{Sender: e.Sender, EightBit: e.EightBit, SMTPUTF8: e.SMTPUTF8, RequireTLS: e.RequireTLS,
		Ret: e.Ret, EnvID: e.EnvID, Header: top, Body: body, Offset: from, Pledge: m.pledge}
}

// send hands one letter to a hop for the recipients at group.
func (g *Gateway) send(ctx context.Context, m *mail, ways []way, group []int, hop relay.Hop, l relay.Letter) {
	var place []int
	l.Recipients, place = m.envelope(ways, group)
	for k, i := range group {
		l.Recipients[place[k]] = g.shown(&ways[i], l.Recipients[place[k]])
	}
	if hop.Addr == "" {
		for _, i := range group {
			ways[i].fault = unset("Relais suivant non configure sur la passerelle, a completer dans hops", fmt.Errorf("hop %s has no address", hop.Name))
		}
		return
	}
	results := g.relay.Send(ctx, hop, l)
	for k, i := range group {
		w, r := &ways[i], results[place[k]]
		w.hop, w.result, w.fault = hop.Name, r, nil
		if r.Err != nil {
			w.fault = asFault(r.Err)
		}
	}
}

// plain leaves unchanged to the hop that the rule names. What does not go over verified TLS is counted as left in clear.
func (g *Gateway) plain(ctx context.Context, m *mail, ways []way, group []int) {
	d := ways[group[0]].decision
	hop := g.internetHop(d.Hop, m.env.Recipients[group[0]].Domain)
	if d.VerifiedTLS {
		hop.TLS.Mode = relay.Verify
	}
	l, reduced := m.unchanged(), false
	if d.Form == policy.FormReport {
		body, err := m.report()
		switch {
		case err == nil:
			defer body.Close()
			l, reduced = m.letter(m.trace, body, 0), true
		case !errors.Is(err, protect.ErrNoReport):
			for _, i := range group {
				ways[i].fault = asFault(err)
			}
			return
		case !d.Unreduced: // else the rule itself says plain
			l, reduced = m.letter(m.trace, protect.Withheld(m.env, m.header, m.env.Recipients[group[0]], g.set.protect), 0), true
		}
	}
	as := !reduced && l.Offset == 0
	if !reduced {
		signed, done, err := g.signLetter(ctx, m, l, policy.Plain, ways, group)
		if err != nil {
			for _, i := range group {
				ways[i].fault = asFault(err)
			}
			return
		}
		defer done()
		as, l = as && signed.Body == l.Body, signed
	}
	g.sendOut(ctx, m, ways, group, hop, l, as)
	if hop.TLS.Mode != relay.Verify && !reduced {
		inClear(ways, group)
	}
}

// report is null-sender mail without a person behind it: its headers and status, not the returned content.
func (m *mail) report() (*message.Body, error) {
	x, err := m.parts()
	if err != nil {
		return nil, err
	}
	return protect.Report(m.env, m.body, x)
}

// toClinic hands a mail of our own (bounce, code, answer) to the clinic's server.
func (g *Gateway) toClinic(ctx context.Context, from, to message.Address, top []byte, body *message.Body) error {
	r := g.relay.Send(ctx, g.set.hopClinic, relay.Letter{Sender: from, Recipients: []message.Recipient{{Address: to, Raw: to.String()}},
		Header: top, Body: body, EightBit: true})[0]
	if r.Err != nil {
		return r.Err
	}
	return nil
}

// HopTimeouts sets how long each step of a session with a hop may take; tests have no minutes.
func HopTimeouts(t relay.Timeouts) Option { return func(g *Gateway) { g.timeouts = t } }
