package deploy_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// TestGatewayKeepsNothing drives the built binary by the bench files as they are: what a message says stands nowhere on the gateway's
// side: below its state folder, in its log, its temp folder or an open file without a name. TestSearcher is the control.
func TestGatewayKeepsNothing(t *testing.T) {
	bin := binary(t)
	for _, route := range []string{"plain", "trust", "smime", "openpgp", "pickup"} {
		t.Run(route, func(t *testing.T) { markerStaysOut(t, bin, route) })
	}
}

// markerStaysOut holds 5 MB messages before a stalled hop, kills, repeats and stops; it searches at each halt.
func markerStaysOut(t *testing.T, bin, route string) {
	const sessions, repeated, size = 20, 4, 5 << 20
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sentence := benchMark()
	s := newSearcher(sentence)
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	defer goOn() // a session that stalls for ever would keep the sink from closing
	// "data": the message fills the sockets and waits. "dot": the hop has the notice, its reply is what the kill destroys.
	stall := &gatewaytest.Stall{At: "data", Go: release}
	if route == "pickup" {
		stall.At = "dot"
	}
	var begun atomic.Int64
	sink, env := benchSink(t, route, gatewaytest.Options{Stall: stall, Rcpt: func(string, string) gatewaytest.Reply {
		begun.Add(1)
		return gatewaytest.Reply{}
	}})
	b := benchStart(t, bin, route, sink.Addr(), env)

	letters := make([][]byte, sessions)
	first := make(chan error, sessions)
	to := func(i int) string { return fmt.Sprintf("r%d@dest.test", i) }
	rest := benchRest(func(string) string { return sentence }, size)
	for i := range letters {
		letters[i] = append(benchHead(fmt.Sprint("m", i), sentence), rest...)
		go func() { first <- b.send(i%2 == 0, letters[i], to(i)) }()
	}
	half, err := b.dial(false) // one more is in the middle of its DATA all the while
	benchCheck(t, err)
	defer half.Close()
	_, err = half.data(letters[0][:size/2], to(sessions))
	benchCheck(t, err)

	// A hop is asked only when the whole message is in hand.
	benchUntil(t, ctx, "the hop holds every session", func() bool {
		select {
		case err := <-first:
			t.Fatalf("a client was answered while the hop stalls: %v", err)
		default:
		}
		return begun.Load() >= sessions
	})
	n := searchGateway(t, "while the hop stalls", b, s, true)
	if n == 0 {
		t.Errorf("no temp file without a name is open: %d messages of %d bytes did not leave memory, the test shows nothing", sessions, size)
	}
	t.Logf("%d temp files without a name", n)
	b.kill(t)
	for range letters {
		if err := <-first; err == nil {
			t.Error("a client was told 250 though the hop had not answered")
		}
	}
	searchGateway(t, "after kill -9", b, s, false)

	goOn()
	b.start(t)
	again := make(chan error, repeated)
	for i := range repeated { // the hop reads slowly under the race detector; killedUnderLoad repeats all
		go func() { again <- b.repeat(ctx, i%2 == 0, letters[i], to(i)) }()
	}
	for range repeated {
		if err := <-again; err != nil {
			t.Error(err)
		}
	}
	searchGateway(t, "after the repetition", b, s, true)
	b.stop(t)
	searchGateway(t, "after the stop", b, s, false)

	// The hop may have taken what the dead process gave it: each notice, and of large messages what its sockets held to the end.
	benchArrivals(t, sink, repeated, sessions, 2, repeated)
	for _, m := range sink.Messages() {
		if route == "trust" && m.TLS == nil {
			t.Error("a message for the trust space came in clear")
		}
		switch way, whole := s.in(m.Data), route == "plain" || route == "trust"; {
		case whole && way == "":
			t.Errorf("what left for %q should hold the sentence", m.Recipients)
		case !whole && way != "":
			t.Errorf("what left for %q holds the sentence %s", m.Recipients, way)
		}
	}
	if route == "pickup" {
		vaultIsWhole(t, b, repeated, repeated, sessions)
	}
}
