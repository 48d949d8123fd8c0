package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/relay"
	"passerelle/policy"
)

var mDetached = promauto.NewGauge(prometheus.GaugeOpts{Name: "passerelle_gateway_detached",
	Help: "Recipients whose copies go on behind a reply of 451, until their hop has answered."})

// session is whom the house hands on for: it waits, and is answered.
type session struct {
	client   string
	sessions int // that the client has open
	kind     replyKind
	log      *slog.Logger
	claim    *ledger.Claim
	told     chan struct{} // closed when the reply is known and what it says is noted
}

// handOnFor hands on while a session waits, and gives the ways as the reply must tell them. Lanes that go on have the ways that it
// was given for themselves.
func (g *Gateway) handOnFor(ctx context.Context, s *session, m *mail, ways []way) []way {
	t := g.traffic
	var going []*flight
	before := make([]decided, len(ways)) // a lane adds to its own what it finds
	for i := range ways {
		before[i] = decided{ways[i].decision, ways[i].to, ways[i].from}
	}
	left := func(i int, hop string, f *fault) way {
		d := &before[i]
		return way{decision: d.decision, to: d.to, from: d.from, answer: ways[i].answer, facts: ways[i].facts, hop: hop, fault: f}
	}
	for _, f := range g.flights(m, ways) {
		f.client = s.client
		if f.hop != "" && !t.admit(f, s.sessions) {
			for _, group := range f.lanes {
				for _, i := range group {
					ways[i].hop, ways[i].fault = f.hop, stalled(f.hop)
					mStalled.WithLabelValues(f.hop).Inc()
				}
			}
			continue
		}
		f.carry = func(group []int) {
			g.carry(t.ctx, m, ways, group)
			for _, i := range group {
				if ways[i].result.Reply != "" {
					t.answered(f.hop)
					break
				}
			}
		}
		f.after = func(group []int) { g.behindReply(s, m, ways, f, group) }
		f.left = func() { t.leave(f) }
		going = append(going, f)
		f.start(g.traffic.hands)
	}
	behind := map[int]way{} // what the reply tells of whom it does not wait for
	leave := func(f *flight) {
		on, never := f.leave(func(on []int) { g.detach(s, m, f, on) })
		for _, i := range on {
			w := left(i, f.hop, slow(f.hop))
			w.onWay = true
			behind[i] = w
		}
		for _, i := range never {
			behind[i] = left(i, f.hop, stalled(f.hop))
		}
	}
	var patient []*flight
	for _, f := range await(ctx, t.slow, going) {
		if release, ok := t.wait(f, s.sessions); ok {
			defer release()
			patient = append(patient, f)
		} else {
			leave(f)
		}
	}
	for _, f := range await(ctx, t.timeout-t.slow, patient) {
		leave(f)
	}
	if len(behind) == 0 {
		return ways
	}
	told := make([]way, len(ways))
	for i := range ways {
		if w, left := behind[i]; left {
			told[i] = w
		} else {
			told[i] = ways[i]
		}
	}
	return told
}

// decided is what a way was before its lane began.
type decided struct {
	decision policy.Decision
	to       *message.Recipient
	from     message.Recipient
}

// shared is given back when the last of its holders lets go.
type shared struct {
	mu   sync.Mutex
	n    int
	free func()
}

func (s *shared) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
}

func (s *shared) let() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n--; s.n == 0 {
		s.free()
	}
}

// await waits for flights, and gives those that have not ended by then.
func await(ctx context.Context, d time.Duration, fs []*flight) (open []*flight) {
	if len(fs) == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	over := false
	for _, f := range fs {
		if !over {
			select {
			case <-f.done:
				continue
			case <-timer.C:
			case <-ctx.Done():
			}
			over = true
		}
		select {
		case <-f.done:
		default:
			open = append(open, f)
		}
	}
	return open
}

// detach lets the recipients' lanes go on behind the reply.
func (g *Gateway) detach(s *session, m *mail, f *flight, on []int) {
	for _, i := range on {
		s.claim.Keep(i)
	}
	release := m.body.Hold()
	if m.asCame != nil { // the lanes may fall back on it
		first, second := release, m.asCame.body.Hold()
		release = func() error { return errors.Join(first(), second()) }
	}
	for _, o := range m.openings {
		if o.Opened != nil && o.Body != nil {
			first, second := release, o.Body.Hold()
			release = func() error { return errors.Join(first(), second()) }
		}
	}
	m.room.hold()
	g.traffic.behind.Add(1)
	mDetached.Add(float64(len(on)))
	f.over = func() {
		if err := release(); err != nil {
			s.log.Warn("close a message that went on behind its reply", "err", err)
		}
		m.room.let()
		g.traffic.behind.Done()
	}
}

// behindReply notes how a lane ended whose session did not wait. "Later" is not noted again: the reply said so, and the client repeats.
func (g *Gateway) behindReply(s *session, m *mail, ways []way, f *flight, group []int) {
	<-s.told
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic behind a reply", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		}
		for _, i := range group {
			s.claim.Free(i)
			mDetached.Dec()
		}
	}()
	var entries []ledger.Entry
	for _, i := range group {
		w := &ways[i]
		if s.kind == strangersReply && len(m.env.Recipients) > 1 && w.fault != nil && w.fault.permanent() {
			w.fault = later("Un destinataire a ete refuse apres coup, nouvel essai plus tard", w.fault.err) // as askAgain does
		}
		w.entry = g.entry(m, i, w)
		if w.fault == nil || w.fault.permanent() {
			entries = append(entries, w.entry)
		}
	}
	s.log.Info("handing on ended behind its reply", "hop", f.hop, "recipients", len(group), "final", len(entries), "seconds", time.Since(f.began).Seconds())
	if err := s.claim.Note(context.Background(), entries); err != nil {
		s.log.Error("note behind the reply failed: the client's repeat may be handed on again", "err", err)
	}
	for _, i := range group {
		g.account(s.log, m, i, &ways[i])
	}
}

// errOnWay: it goes on behind the reply.
var errOnWay = errors.New("not answered within relay.timeout, goes on behind the reply")

func slow(hop string) *fault {
	return refuse(451, [3]int{4, 4, 2}, "Relais "+hop+" lent: l'envoi continue, le prochain essai dira son issue", errOnWay)
}

func stalled(hop string) *fault {
	return refuse(451, [3]int{4, 4, 5}, "Relais "+hop+" sature: il ne repond plus aux envois en cours, nouvel essai plus tard", errStalled)
}

var errStalled = errors.New("the hop answers none of the letters on their way to it")

// errand does a deed for all recipients at group while their session waits, a minute at most; it goes on behind the reply then, and
// they stay in hand until it has ended.
func (g *Gateway) errand(ctx context.Context, m *mail, claim *ledger.Claim, group []int, deed func(context.Context) error) error {
	var result error
	f := &flight{hop: "clinic", lanes: [][]int{group}, began: time.Now()}
	f.carry = func([]int) {
		defer func() {
			if p := recover(); p != nil {
				g.log.Error("panic on an errand", "id", m.env.ID, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
				result = errors.New("panic on an errand")
			}
		}()
		result = deed(g.traffic.ctx)
	}
	f.after = func([]int) {
		for _, i := range group {
			claim.Free(i)
			mDetached.Dec()
		}
		g.log.Info("errand ended behind its reply", "id", m.env.ID, "seconds", time.Since(f.began).Seconds(), "err", result)
	}
	f.start(g.traffic.hands)
	if len(await(ctx, min(g.traffic.timeout, errandPatience), []*flight{f})) == 0 {
		return result
	}
	s := &session{claim: claim, log: g.log}
	if on, _ := f.leave(func(on []int) { g.detach(s, m, f, on) }); len(on) > 0 {
		return errOnWay
	}
	return result
}

// errandPatience bounds the wait for the clinic's own server beside relay.timeout: a bounce, and the question at RCPT. The clinic's Postfix
// waits 600 s for the reply to a message and 300 s for that to RCPT; docs/operations.md has the sum, traffic_test.go holds it.
const errandPatience = time.Minute

// probe asks the clinic's server about a recipient, no longer than a client waits.
func (g *Gateway) probe(ctx context.Context, sender message.Address, r message.Recipient) relay.Result {
	ctx, cancel := context.WithTimeout(ctx, min(g.traffic.timeout, errandPatience))
	defer cancel()
	return g.relay.Probe(ctx, g.set.hopClinic, sender, r)
}
