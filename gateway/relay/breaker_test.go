package relay

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A hop that can be reached and takes nothing is down as one that cannot; it is probed back to life, and no other hop suffers.
func TestBreakerOpensForAHopThatTakesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		down func(*session)
		want string
	}{
		"stalls before the greeting":   {func(s *session) { s.gone() }, "451 4.4.2 banner"},
		"421 at the banner":            {func(s *session) { s.send("421 4.3.2 no system resources"); s.gone() }, "451 4.3.2 banner"},
		"421 at EHLO":                  {func(s *session) { s.send("220 x"); s.want("EHLO"); s.send("421 4.7.0 busy"); s.gone() }, "451 4.7.0 hello"},
		"5xx at the banner":            {func(s *session) { s.send("554 5.7.1 no service for you"); s.gone() }, "451 4.7.1 banner"},
		"talks nonsense at the banner": {func(s *session) { s.send("HTTP/1.1 400 Bad Request"); s.gone() }, "451 4.5.0 banner"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(1000, 0)
			hop := hopTo(peer(t, c.down, c.down, c.down, func(s *session) { s.greet("X"); s.take(1); s.quit() }))
			other := hopTo(peer(t, func(s *session) { s.greet("X"); s.take(1); s.take(1); s.quit() }))
			other.Name = "other"
			r := newRelay(t, Config{Now: func() time.Time { return now }, IdleMax: time.Hour, Timeouts: Timeouts{Banner: time.Second}})
			for range 3 {
				wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), c.want)
			}
			wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "451 4.4.1 connect")
			wantCodes(t, r.Send(background(), other, letter(t, "x", "a@d.test")), "accepted")
			now = now.Add(5 * time.Second)
			wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
			wantCodes(t, r.Send(background(), other, letter(t, "x", "a@d.test")), "accepted")
		})
	}
}

// A question that its asker gave up counts against the hop if the hop had time to greet, and does not if it had none.
func TestBreakerCountsAnAskersPatience(t *testing.T) {
	hop := hopTo(peer(t, func(s *session) { s.gone() }, func(s *session) { s.gone() }))
	r := newRelay(t, Config{BreakAfter: 1})
	for _, c := range []struct {
		patience time.Duration
		want     string
	}{{100 * time.Millisecond, "451 4.4.2 banner"}, {greetingPatience + 200*time.Millisecond, "451 4.4.2 banner"}, {time.Second, "451 4.4.1 connect"}} {
		ctx, cancel := context.WithTimeout(background(), c.patience)
		l := letter(t, "x", "a@d.test")
		wantCodes(t, []Result{r.Probe(ctx, hop, l.Sender, l.Recipients[0])}, c.want)
		cancel()
	}
}

// A stop that gives up does not wait ten minutes behind the final dot.
func TestAbandonedBehindTheDot(t *testing.T) {
	ctx, cancel := context.WithCancelCause(background())
	hop := hopTo(peer(t, upTo("final", func(s *session) { cancel(ErrAbandoned); s.gone() })))
	began := time.Now()
	res := newRelay(t, Config{Timeouts: Timeouts{Final: time.Minute}}).Send(ctx, hop, letter(t, "x", "a@d.test"))
	wantCodes(t, res, "451 4.4.2 final")
	if !errors.Is(res[0].Err, ErrUnknownOutcome) || !errors.Is(res[0].Err, ErrAbandoned) || time.Since(began) > 10*time.Second {
		t.Errorf("got %v after %s", res[0].Err, time.Since(began))
	}
}
