package relay

import (
	"context"
	"errors"
	"time"
)

// maxGroup bounds the commands that are written before their replies are read: more could fill both sides' windows and lock them
// (RFC 2920 section 3.1).
const maxGroup = 16 << 10

// transfer is one letter on its way to one hop.
type transfer struct {
	hop      Hop
	letter   *Letter
	timeouts *Timeouts
	buffers  *buffers
	probe    bool
	survey   survey
	results  []Result

	// of the present connection
	c        *conn
	settled  []bool // the recipient has its result
	accepted []int  // recipients that the hop took at RCPT
	inMail   bool   // a transaction is open
	goAhead  bool   // 354 came
	pledged  bool   // the connection belongs to the letter's pledge
}

// step is one command of a transfer; to is its recipient.
type step struct {
	name string
	to   int
	line string
}

// prepare looks at what does not depend on the hop.
func (t *transfer) prepare() *Error {
	l := t.letter
	if l.Body != nil && (l.Offset < 0 || l.Offset > l.Body.Size()) {
		return t.hop.temporary("content", [3]int{4, 3, 0}, "erreur interne, nouvel essai plus tard", errors.New("offset lies outside of the body"))
	}
	if !wireSafe(l.Sender.String()) {
		return t.hop.permanent("mail", 553, [3]int{5, 1, 7}, "adresse d'expediteur invalide")
	}
	if t.probe {
		return nil
	}
	buf := t.buffers.get(l.Size())
	defer t.buffers.put(buf)
	if err := l.pieces(buf.in, func(p []byte) error { t.survey.add(p); return nil }); err != nil {
		return t.hop.temporary("content", [3]int{4, 3, 0}, "erreur interne, nouvel essai plus tard", err)
	}
	if t.survey.unclean() {
		// RFC 5321 section 2.3.8. A lone CR or LF is read differently by different servers, which smuggles messages.
		return t.hop.permanent("content", 554, [3]int{5, 6, 0}, "message refuse: CR ou LF isole")
	}
	return t.tooLarge(t.hop.MaxSize)
}

// fail settles one recipient.
func (t *transfer) fail(i int, err *Error, reply string) {
	t.results[i].Err, t.results[i].Reply = err, reply
	if t.settled != nil {
		t.settled[i] = true
	}
}

// failOpen settles all that have no result yet.
func (t *transfer) failOpen(err *Error) {
	for i := range t.results {
		if t.settled == nil || !t.settled[i] {
			t.fail(i, err, "")
		}
	}
}

// refuseOpen settles all that have no result yet with a reply.
func (t *transfer) refuseOpen(step string, r reply) {
	for i := range t.results {
		if !t.settled[i] {
			t.fail(i, t.hop.refused(step, r), r.String())
		}
	}
}

// run sends the letter over c. again: the hop had closed before it answered MAIL, nothing was sent of the content.
func (t *transfer) run(ctx context.Context, c *conn) (again bool) {
	t.c, t.settled, t.accepted, t.inMail, t.goAhead = c, make([]bool, len(t.results)), t.accepted[:0], false, false
	for i := range t.results {
		t.results[i].Peer, t.results[i].DSN = c.peer, c.offers("DSN")
	}
	stop := c.abortWith(ctx)
	defer func() {
		if !stop() && ctx.Err() != nil {
			c.broken = true // the abort may have hit it
		}
	}()
	steps := t.steps()
	if steps == nil {
		return false
	}
	if !t.talk(steps, &again) || again {
		return again
	}
	switch {
	case t.goAhead && len(t.accepted) == 0:
		t.takeBack()
	case t.goAhead:
		t.content(ctx, stop)
	case t.inMail && !c.broken:
		c.reset()
	}
	return false
}

// talk sends the steps in groups and reads their replies; false where the connection is of no more use.
func (t *transfer) talk(steps []step, again *bool) bool {
	c := t.c
	first := true
	for len(steps) > 0 {
		n, line := 0, []byte(nil)
		for n < len(steps) && (n == 0 || c.offers("PIPELINING") && len(line)+len(steps[n].line) < maxGroup) {
			line = append(append(line, steps[n].line...), "\r\n"...)
			n++
		}
		if steps[0].name == "data" && len(t.accepted) == 0 {
			return true // nobody to send it to
		}
		err := c.inStep()
		if err == nil {
			err = c.write(line, t.limit(steps[0].name))
		}
		if err != nil {
			*again = first
			t.failOpen(c.lost(steps[0].name, err))
			return false
		}
		for _, s := range steps[:n] {
			r, fail := c.read(s.name, t.limit(s.name))
			if fail == nil {
				fail = t.heard(s, r)
			}
			if first && (fail != nil || r.code == 421) {
				*again = c.broken && (fail == nil || !errors.Is(fail.Err, errProtocol))
			}
			if fail != nil {
				t.failOpen(fail)
			}
			if c.broken {
				return false
			}
			first = false
		}
		steps = steps[n:]
		if !t.inMail {
			return true
		}
	}
	return true
}

// heard takes the reply to one step; an error means that the connection is of no more use.
func (t *transfer) heard(s step, r reply) *Error {
	if r.code == 421 {
		t.refuseOpen(s.name, r)
		return nil
	}
	data := s.name == "data"
	if !r.refusal() && (data && r.code != 354 || !data && !r.ok()) {
		return t.c.unexpected(s.name, r)
	}
	switch s.name {
	case "mail":
		if t.inMail = r.ok(); !t.inMail {
			t.refuseOpen("mail", r)
		}
	case "rcpt":
		switch {
		case t.settled[s.to]: // MAIL was refused
		case r.ok():
			t.accepted = append(t.accepted, s.to)
			t.results[s.to].Reply = r.String()
		default:
			t.fail(s.to, t.hop.refused("rcpt", r), r.String())
		}
	case "data":
		if t.goAhead = r.code == 354; !t.goAhead {
			t.refuseOpen("data", r)
		}
	case "rset":
		t.inMail = !r.ok()
	}
	return nil
}

func (t *transfer) limit(step string) time.Duration {
	switch step {
	case "rcpt":
		return t.timeouts.Rcpt
	case "data":
		return t.timeouts.Data
	}
	return t.timeouts.Mail
}

// takeBack answers a 354 that came although no recipient was taken: RFC 2920 section 3.1 lets a client send a lone dot then. An LMTP
// hop would owe no reply to it, so there the connection ends.
func (t *transfer) takeBack() {
	if t.hop.LMTP {
		t.c.broken = true
		return
	}
	t.c.command("final", t.timeouts.Mail, ".")
}

// sendContent borrows its buffer for the sending alone: a hop may keep us waiting for its final reply.
func (t *transfer) sendContent(ctx context.Context, stop func() bool) (ended bool, err error) {
	buf := t.buffers.get(t.letter.Size())
	defer t.buffers.put(buf)
	return t.c.sendContent(t.letter, &t.survey, buf, func() error {
		if t.c.br.Buffered() > 0 { // a 250 that came before the end was reached must not count as one for the letter
			return errEarly
		}
		if !stop() {
			return ctx.Err()
		}
		t.pledged = !t.probe && len(t.results) == 1 && t.letter.Pledge.take(t.c)
		return nil
	})
}

// content sends header and body and takes the final replies.
func (t *transfer) content(ctx context.Context, stop func() bool) {
	began := time.Now()
	ended, err := t.sendContent(ctx, stop)
	stepSeconds.WithLabelValues("content").Observe(time.Since(began).Seconds())
	switch {
	case err == nil:
		giveUp := context.AfterFunc(ctx, func() {
			if errors.Is(context.Cause(ctx), ErrAbandoned) {
				t.c.abort(ErrAbandoned)
			}
		})
		t.final()
		giveUp()
	case ended:
		t.c.lost("final", err)
		t.failOpen(t.unknown(err))
	case errors.Is(err, errContent):
		// The hop must see a broken connection, never an end: half a message must not be taken for a whole one.
		t.c.broken = true
		t.failOpen(t.hop.temporary("content", [3]int{4, 3, 0}, "erreur interne, nouvel essai plus tard", err))
	default:
		t.cut(ctx, err)
	}
}

// cut: the hop closed or stalled within the content. It may have said why.
func (t *transfer) cut(ctx context.Context, err error) {
	fail := t.c.lost("content", err)
	if ctx.Err() != nil {
		t.failOpen(fail)
		return
	}
	if r, none := t.c.read("content", time.Second); none == nil && r.refusal() {
		t.refuseOpen("content", r)
		return
	}
	t.failOpen(fail)
}

// final reads one reply, or with LMTP one for each recipient taken, in their order (RFC 2033 section 4.2).
func (t *transfer) final() {
	if t.hop.LMTP {
		for _, i := range t.accepted {
			r, ok := t.finalReply()
			if !ok {
				return
			}
			t.finish(i, r)
		}
		return
	}
	if r, ok := t.finalReply(); ok {
		for _, i := range t.accepted {
			t.finish(i, r)
		}
	}
}

func (t *transfer) finalReply() (reply, bool) {
	r, fail := t.readFinal()
	switch {
	case fail != nil:
		t.failOpen(t.unknown(fail.Err))
	case !r.ok() && !r.refusal():
		t.failOpen(t.unknown(t.c.unexpected("final", r).Err))
	default:
		return r, true
	}
	return r, false
}

// readFinal leaves the reply in a connection that is pledged.
func (t *transfer) readFinal() (reply, *Error) {
	if !t.pledged {
		return t.c.read("final", t.timeouts.Final)
	}
	began := time.Now()
	t.c.deadline(t.timeouts.Final)
	r, err := peekReply(t.c.raw)
	stepSeconds.WithLabelValues("final").Observe(time.Since(began).Seconds())
	if err != nil {
		return r, t.c.lost("final", err)
	}
	return r, nil
}

func (t *transfer) finish(i int, r reply) {
	if r.ok() {
		t.results[i].Reply = r.String()
		t.settled[i] = true
	} else {
		t.fail(i, t.hop.refused("final", r), r.String())
	}
}

func (t *transfer) unknown(err error) *Error {
	return t.hop.temporary("final", [3]int{4, 4, 2}, "connexion perdue apres l'envoi, issue inconnue", errors.Join(ErrUnknownOutcome, err))
}
