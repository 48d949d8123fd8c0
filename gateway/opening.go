package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
)

var mOpened = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_gateway_opened_total",
	Help: "Messages for the clinic that came encrypted or signed, once for each set of keys that they were opened with, by result."}, []string{"result"}) // opened, verified (signed alone), no-key, altered, not-authenticated, weak, too-large, too-deep, malformed, binary

// harvester is told of every S/MIME signature on mail from outside that is of its content and of its author's address; verified: an authority
// that is believed vouches for the chain.
type harvester func(ctx context.Context, from message.Address, chain []*x509.Certificate, verified bool, at time.Time)

// opening is a message as those see it who have one set of keys.
type opening struct {
	ids []string // of the sets of keys
	*protect.Opened
	field []byte // our protection field
}

// open opens and verifies what came protected for a recipient of the clinic. It is done before anything is handed on, once for all recipients
// with the same keys. Mail for whom the clinic holds no key is left alone, and so is what is neither signed nor encrypted as a whole.
func (g *Gateway) open(ctx context.Context, m *mail, w *way, names []message.Address) error {
	if g.set.opens.off || g.set.observe || g.keys.none() || !m.passedFirst(g) {
		return nil
	}
	x, err := m.parts()
	if err != nil || !protect.Protected(m.body, x) || !g.opensMail() {
		return err
	}
	k := g.keyBunchOf(names)
	if i := slices.IndexFunc(m.openings, func(o *opening) bool { return slices.Contains(o.ids, k.id) }); i >= 0 {
		w.opened = m.openings[i]
	} else {
		if w.opened, err = g.openWith(ctx, m, k); err != nil {
			return err
		}
		w.opened = m.share(w.opened)
	}
	if w.opened.Opened == nil {
		w.opened = nil
		return nil
	}
	w.decision.Reason = cut(w.decision.Reason+w.opened.says(), 900)
	return nil
}

// share keeps an opening beside those that are there, and no content twice: a message to fifty people of the clinic, each with a key of his own, is
// one in memory.
func (m *mail) share(o *opening) *opening {
	for _, e := range m.openings {
		switch {
		case e.Opened == nil || o.Opened == nil:
			if e.Opened == nil && o.Opened == nil {
				e.ids = append(e.ids, o.ids...)
				return e
			}
		case e.Trouble == protect.NoKey && o.Trouble == protect.NoKey: // nothing in it is of the keys
			o.close()
			e.ids = append(e.ids, o.ids...)
			return e
		case e.Body != nil && o.Body != nil && e.Body.Sum() == o.Body.Sum():
			o.close()
			o.Body = e.Body
			m.openings = append(m.openings, o)
			return o
		}
	}
	m.openings = append(m.openings, o)
	return o
}

// opensMail tells whether anything that comes protected is looked at.
func (g *Gateway) opensMail() bool { return !g.set.opens.off && !g.set.observe && g.keys.decrypts() }

// passedFirst tells whether the message comes through for the first time: what bears a true field of ours was looked at then.
func (m *mail) passedFirst(g *Gateway) bool {
	if len(m.marks) > 0 {
		return true
	}
	_, err := protect.VerifyProtection(g.set.markKey, m.header, g.now())
	return err != nil && !errors.Is(err, protect.ErrOldMark) && g.origin(m) == ""
}

// openWith opens it, as it came to us, with one set of keys; without Opened where it is left alone.
func (g *Gateway) openWith(ctx context.Context, m *mail, k keyBunch) (*opening, error) {
	came := m.came()
	x, err := came.parts()
	if err != nil {
		return nil, err
	}
	release, err := g.budget.Reserve(ctx, min(weighKey+min(m.body.Size(), weighIndex), g.budget.HalfWork()))
	if err != nil {
		return nil, err
	}
	defer release()
	o := g.set.protect
	o.Budget = g.budget
	h := came.header
	protect.Strip(&h)
	out, err := g.opener(ctx, m, k).Open(ctx, h, came.body, x, o)
	if err != nil {
		return nil, err
	}
	made := &opening{ids: []string{k.id}, Opened: out}
	if out == nil {
		return made, nil
	}
	kept := false
	defer func() { // also where what is told of it panics: nobody else knows of the body yet
		if !kept {
			made.close()
		}
	}()
	if out.Err != nil {
		g.log.Warn("a message that came encrypted is not shown opened", "id", m.env.ID, "why", string(out.Trouble), "err", out.Err)
	}
	result := "opened"
	switch {
	case out.Trouble != "":
		result = strings.ReplaceAll(string(out.Trouble), " ", "-")
	case out.Result == protect.ResultUnchanged:
		result = "verified"
	}
	mOpened.WithLabelValues(result).Inc()
	if s := out.Signature; s != nil && g.harvest != nil && s.Valid && s.Of && len(s.Chain) > 0 {
		if author, one := onlyAddress(m.header, "From"); one {
			g.harvest(ctx, author, s.Chain, s.Trusted, g.now())
		}
	}
	if out.Subject != "" && len(m.marks) > 0 {
		if out.Header, _, err = g.tagged(out.Header); err != nil {
			return nil, err
		}
	}
	if err := g.complete(m, &out.Header); err != nil {
		return nil, err
	}
	out.ID = m.env.ID
	field, err := message.FormatField(protect.ProtectionField, protect.FormatProtection(g.set.markKey, out.Protection, out.Header, g.now()))
	if err != nil {
		return nil, err
	}
	made.field, kept = field, true
	return made, nil
}

func (o *opening) close() {
	if o.Opened != nil && o.Body != nil {
		o.Body.Close()
	}
}

// internal tells whether the message is of the clinic's own people: what they seal to each other is not ours to open.
func (g *Gateway) internal(m *mail) bool {
	return g.set.ownDomains[m.env.Sender.Domain] && !g.fromOutside(m)
}

// says is what the ledger tells of it.
func (o *opening) says() string {
	s := ", came as " + o.Form
	if o.Encrypted != "" {
		s += ", " + o.Encrypted
	}
	if s += ", " + o.Result; o.Key != "" {
		s += " with the key of " + o.Key
	}
	if o.Signed != "" {
		s += ", signed by " + cut(o.Signed, 200) + ": " + cut(o.Verified, 200)
	}
	return s
}

// seenBy is the message as the recipients of a way get it: itself, or as it was opened for them. What they see goes on under our trace, our marks,
// and the field that says how it came.
func (g *Gateway) seenBy(m *mail, o *opening) *mail {
	if o == nil {
		return m
	}
	came := m.came()
	seen := &mail{env: m.env, room: m.room, header: o.Header, body: came.body, start: came.start, trace: m.trace, marks: slices.Concat(m.marks, o.field), origin: m.origin,
		discreet: m.discreet, reports: m.reports, pledge: m.pledge, twins: m.twins, rewritten: true}
	if o.Body != nil {
		seen.body, seen.start = o.Body, o.Start
	} else {
		seen.index = came.index
	}
	if len(m.marks) == 0 && !g.set.ownDomains[m.env.Sender.Domain] { // as home does
		protect.StripSpace(&seen.header)
	}
	return seen
}

// sendUnopened hands the message on as it came to those whose server refused it opened for its size or its 8 bits: opening loses no mail. What it
// refused for any other reason, a virus above all, stays refused.
func (g *Gateway) sendUnopened(ctx context.Context, m *mail, ways []way, group []int) {
	if w := ways[group[0]]; w.opened == nil || w.opened.Body == nil {
		return
	}
	shape := refusedFor(ways, group, func(e *relay.Error) bool { return large(e) || e.Enhanced == [3]int{5, 6, 3} })
	if len(shape) == 0 {
		return
	}
	g.log.Warn("the clinic's server takes the message only as it came, not opened: raise its message_size_limit, let it take 8BITMIME", "id", m.env.ID)
	l := g.home(m.came())
	l.Pledge = g.pledges.another(m.pledge) // m is the other lanes' too
	g.send(ctx, m, ways, shape, g.set.hopClinic, l)
	for _, i := range shape {
		ways[i].decision.Reason += ", but not taken so by the clinic's server, and handed on as it came"
	}
}

// refusedFor are those of group whose server refused the letter for good, and for that.
func refusedFor(ways []way, group []int, why func(*relay.Error) bool) (refused []int) {
	for _, i := range group {
		var e *relay.Error
		if f := ways[i].fault; f != nil && errors.As(f.err, &e) && e.Permanent && why(e) {
			refused = append(refused, i)
		}
	}
	return refused
}

// large tells whether a letter was refused for its size.
func large(e *relay.Error) bool { return e.Code == 552 || e.Enhanced[1] == 3 && e.Enhanced[2] == 4 }
