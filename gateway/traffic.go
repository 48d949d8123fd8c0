package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/gateway/relay"
)

var (
	mHeld = promauto.NewGaugeVec(prometheus.GaugeOpts{Name: "passerelle_gateway_held_sessions",
		Help: "Sessions that wait for a hop longer than relay.slow_after."}, []string{"hop"})
	mStalled = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_gateway_stalled_total",
		Help: "Recipients answered 451 at once because their hop answers nothing."}, []string{"hop"})
)

// traffic is what the house hands on at this moment, by hop. It keeps a slow hop from taking the sessions that other mail needs.
//
// A session waits relay.timeout at most. What is not handed on by then goes on behind the reply (451), its recipients in hand: a
// repeat is answered 451 until the lane has ended, and then as the lane ended.
//
// A letter is slow after relay.slow_after. Two rules then hold for each client and hop:
//
//   - A quarter of the client's sessions (one at least) wait longer than that. Further ones leave their slow letters behind at once. Nothing
//     is refused by this rule: the letters go on, and a hop where some letters hang while others pass keeps all its speed.
//   - A hop that answers nothing is not given more. Stalled is a hop with slow letters of as many messages as a quarter of the sessions (two at
//     least) which all began after its last answer to any letter. Recipients for it are answered 451 at once, but for one
//     message in each relay.timeout, which tries it; the first answer to any letter opens it again.
//
// Why not count slow letters alone: with one hop for all mail where each twentieth letter hangs 20 s, twenty letters a second keep twenty
// slow, and every other letter would be refused although the hop takes them at once. Each of them is an answer, and a slow letter that
// another overtook says nothing of the hop. Two at least: one letter that hangs proves nothing, and a client with few sessions
// open has a small quarter. What the rules leave is bounded by the hop's connections (hops.max_conns): where all of them hang, the hop
// gets nothing more until they end, after relay's own ten minutes at the latest.
type traffic struct {
	timeout, slow time.Duration
	ctx           context.Context // of everything that is handed on for a session; stop ends it
	cancel        context.CancelCauseFunc
	behind        sync.WaitGroup // flights that go on behind their reply
	hands         crew

	mu   sync.Mutex
	hops map[string]*hopTraffic
}

type hopTraffic struct {
	flights  map[*flight]struct{}
	waiting  map[string]int // sessions that wait longer than slow, by client
	answered time.Time      // when the hop last answered a letter
	tried    time.Time      // when a flight was last let begin
}

func newTraffic(timeout, slow time.Duration) *traffic {
	t := &traffic{timeout: timeout, slow: min(slow, timeout), hands: make(crew), hops: map[string]*hopTraffic{}}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	return t
}

func (t *traffic) hop(name string) *hopTraffic {
	h := t.hops[name]
	if h == nil {
		h = &hopTraffic{flights: map[*flight]struct{}{}, waiting: map[string]int{}}
		t.hops[name] = h
	}
	return h
}

// admit lets a flight begin, or says that its hop is stalled. What was let begin must leave.
func (t *traffic) admit(f *flight, sessions int) bool {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	h, slow := t.hop(f.hop), 0
	for o := range h.flights {
		if o.client == f.client && o.began.After(h.answered) && now.Sub(o.began) > t.slow {
			slow++
		}
	}
	if slow >= max(2, sessions/4) && now.Sub(h.tried) < t.timeout {
		return false
	}
	f.began, h.tried = now, now
	h.flights[f] = struct{}{}
	return true
}

func (t *traffic) leave(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.hop(f.hop).flights, f)
}

// answered: the hop said something of a letter, be it no.
func (t *traffic) answered(hop string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hop(hop).answered = time.Now()
}

// wait lets a session wait longer than slow for a hop, if the client's quarter allows it. The session calls release when it waits no more.
func (t *traffic) wait(f *flight, sessions int) (release func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hop(f.hop)
	if h.waiting[f.client] >= max(1, sessions/4) {
		return nil, false
	}
	h.waiting[f.client]++
	mHeld.WithLabelValues(f.hop).Inc()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if h.waiting[f.client]--; h.waiting[f.client] == 0 {
			delete(h.waiting, f.client)
		}
		mHeld.WithLabelValues(f.hop).Dec()
	}, true
}

// stop waits for what goes on behind replies until ctx ends, then gives it up, letters behind their final dot too: nothing is noted of
// those, and the client's repeat decides.
func (t *traffic) stop(ctx context.Context) {
	end := context.AfterFunc(ctx, func() { t.cancel(relay.ErrAbandoned) })
	defer end()
	t.behind.Wait()
}

// close gives up at once; the rooms below are closed next.
func (t *traffic) close() error {
	t.cancel(relay.ErrAbandoned)
	t.behind.Wait()
	return nil
}
