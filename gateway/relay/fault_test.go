package relay

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
)

// upTo plays a hop that behaves until a step and does act there.
func upTo(step string, act func(*session)) func(*session) {
	return func(s *session) {
		for _, m := range []struct {
			step string
			do   func()
		}{
			{"banner", func() { s.send("220 peer.test") }},
			{"hello", func() { s.hello("X") }},
			{"mail", func() { s.want("MAIL"); s.send("250 ok") }},
			{"rcpt", func() { s.want("RCPT"); s.send("250 ok") }},
			{"data", func() { s.want("DATA"); s.send("354 go") }},
			{"final", func() { s.content() }},
		} {
			if m.step == step {
				if step == "hello" || step == "mail" || step == "rcpt" || step == "data" {
					s.want("")
				}
				if step == "final" {
					m.do()
				}
				act(s)
				return
			}
			m.do()
		}
	}
}

func TestFaultsAtEachStep(t *testing.T) {
	short := 30 * time.Millisecond // for the step that stalls; the others may take their time
	for step, quick := range map[string]Timeouts{"banner": {Banner: short}, "hello": {Hello: short}, "mail": {Mail: short}, "rcpt": {Rcpt: short}, "data": {Data: short}, "final": {Final: short}} {
		for name, c := range map[string]struct {
			act      func(*session)
			timeouts Timeouts
			enhanced string
		}{
			"stall":         {func(s *session) { s.gone() }, quick, "4.4.2"},
			"close":         {func(s *session) {}, Timeouts{}, "4.4.2"},
			"half a reply":  {func(s *session) { s.conn.Write([]byte("250 o")) }, Timeouts{}, "4.4.2"},
			"garbage":       {func(s *session) { s.send("SSH-2.0-OpenSSH"); s.gone() }, Timeouts{}, "4.5.0"},
			"wrong class":   {func(s *session) { s.send("333 hm"); s.gone() }, Timeouts{}, "4.5.0"},
			"endless line":  {func(s *session) { s.send("250 " + strings.Repeat("x", maxLine)); s.gone() }, Timeouts{}, "4.5.0"},
			"endless reply": {func(s *session) { s.send(strings.Repeat("250-x\r\n", maxLines+1)); s.gone() }, Timeouts{}, "4.5.0"},
			"two codes":     {func(s *session) { s.send("250-x", "550 y"); s.gone() }, Timeouts{}, "4.5.0"},
		} {
			t.Run(step+" "+name, func(t *testing.T) {
				hop := hopTo(peer(t, upTo(step, c.act)))
				res := newRelay(t, Config{Timeouts: c.timeouts}).Send(background(), hop, letter(t, "x", "a@d.test"))
				enhanced := c.enhanced
				if step == "final" {
					enhanced = "4.4.2"
				}
				wantCodes(t, res, "451 "+enhanced+" "+step)
				if got := errors.Is(res[0].Err, ErrUnknownOutcome); got != (step == "final") {
					t.Errorf("unknown outcome: got %v", got)
				}
			})
		}
	}
}

func TestDialFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	wantCodes(t, newRelay(t, Config{}).Send(background(), hopTo(l.Addr().String()), letter(t, "x", "a@d.test")), "451 4.4.1 connect")
}

func TestStallWithinContent(t *testing.T) {
	stalled := make(chan struct{})
	hop := hopTo(peer(t, func(s *session) {
		s.greet("X")
		s.want("MAIL")
		s.send("250 ok")
		s.want("RCPT")
		s.send("250 ok")
		s.want("DATA")
		s.send("354 go")
		<-stalled
	}))
	l := letter(t, strings.Repeat(strings.Repeat("x", 70)+"\r\n", 400_000), "a@d.test")
	res := newRelay(t, Config{Timeouts: Timeouts{Write: 100 * time.Millisecond}}).Send(background(), hop, l)
	close(stalled)
	wantCodes(t, res, "451 4.4.2 content")
}

// TestReplyBeforeTheEnd: a hop that refuses early is believed, one that accepts early is not; the connection is not kept.
func TestReplyBeforeTheEnd(t *testing.T) {
	for early, want := range map[string]string{"552 5.3.4 too big": "552 5.3.4 content", "250 2.0.0 yes": "451 4.5.0 content"} {
		hop := hopTo(peer(t, func(s *session) {
			s.greet("X")
			s.want("MAIL")
			s.send("250 ok")
			s.want("RCPT")
			s.send("250 ok")
			s.want("DATA")
			s.send("354 go", early)
			s.gone()
		}))
		wantCodes(t, newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test")), want)
	}
	hop := hopTo(peer(t, func(s *session) {
		s.greet("X")
		s.want("MAIL")
		s.send("250 ok", "250 ok")
		s.gone()
	}))
	wantCodes(t, newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test")), "451 4.5.0 rcpt")
}

// TestBrokenBodyIsNeverFinished: a body that cannot be read to its end leaves a cut connection, no final dot.
func TestBrokenBodyIsNeverFinished(t *testing.T) {
	got := make(chan string, 1)
	hop := hopTo(peer(t, func(s *session) {
		s.greet("PIPELINING")
		s.want("MAIL")
		s.want("RCPT")
		s.want("DATA")
		s.send("250 ok", "250 ok", "354 go")
		got <- s.content()
		if _, err := s.br.ReadByte(); err == nil {
			t.Error("the hop saw an end of the content")
		}
	}))
	w := message.NewBudget(0, t.TempDir()).NewWriter(0)
	w.Write([]byte(strings.Repeat(strings.Repeat("y", 98)+"\r\n", 5000)))
	body, err := w.Body()
	if err != nil {
		t.Fatal(err)
	}
	l := letter(t, "", "a@d.test")
	l.Body = body
	r := newRelay(t, Config{})
	tr := &transfer{hop: hop, letter: &l, timeouts: &r.cfg.Timeouts, buffers: &r.buffers, results: make([]Result, 1)}
	if err := tr.prepare(); err != nil {
		t.Fatal(err)
	}
	body.Close() // from here on each read fails
	r.do(background(), hop, tr)
	wantCodes(t, tr.results, "451 4.3.0 content")
	if c := <-got; strings.Contains(c, "\r\n.\r\n") {
		t.Error("content was ended")
	}
}

func TestContextAbortsBeforeTheDot(t *testing.T) {
	ctx, cancel := context.WithCancel(background())
	hop := hopTo(peer(t, upTo("data", func(s *session) { cancel(); s.gone() })))
	res := newRelay(t, Config{}).Send(ctx, hop, letter(t, "x", "a@d.test"))
	wantCodes(t, res, "451 4.4.2 data")
	if !errors.Is(res[0].Err, context.Canceled) {
		t.Errorf("got %v", res[0].Err)
	}

	ctx, cancel = context.WithCancel(background())
	hop = hopTo(peer(t, upTo("final", func(s *session) { cancel(); s.send("250 ok") })))
	wantCodes(t, newRelay(t, Config{}).Send(ctx, hop, letter(t, "x", "a@d.test")), "accepted")
}

func TestDeadKeptConnectionIsReplaced(t *testing.T) {
	for name, end := range map[string]func(*session){
		"closed":           func(s *session) {},
		"421 while idle":   func(s *session) { s.send("421 4.4.2 idle too long") },
		"421 to MAIL":      func(s *session) { s.want("MAIL"); s.send("421 4.4.2 idle too long") },
		"closed upon MAIL": func(s *session) { s.want("MAIL") },
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			hop := hopTo(peer(t, func(s *session) {
				s.greet("X")
				s.take(1)
				if strings.HasSuffix(name, "MAIL") {
					close(ended)
				}
				end(s)
				s.conn.Close()
				if !strings.HasSuffix(name, "MAIL") {
					close(ended)
				}
			}, func(s *session) { s.greet("X"); s.take(1); s.quit() }))
			r := newRelay(t, Config{})
			wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
			<-ended
			wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
		})
	}
}

// TestNoSecondTryOnceTheContentBegan: peer allows one connection only.
func TestNoSecondTryOnceTheContentBegan(t *testing.T) {
	for _, step := range []string{"rcpt", "final"} {
		hop := hopTo(peer(t, func(s *session) {
			s.greet("X")
			s.take(1)
			s.want("MAIL")
			s.send("250 ok")
			s.want("RCPT")
			if step == "final" {
				s.send("250 ok")
				s.want("DATA")
				s.send("354 ok")
				s.content()
			}
		}))
		r := newRelay(t, Config{})
		wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
		wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "451 4.4.2 "+step)
	}
}

func TestKeptConnectionsEnd(t *testing.T) {
	now := time.Unix(1000, 0)
	quit := make(chan struct{}, 2)
	one := func(s *session) { s.greet("X"); s.take(1); s.quit(); quit <- struct{}{} }
	two := func(s *session) { s.greet("X"); s.take(1); s.take(1); s.quit(); quit <- struct{}{} }
	hop := hopTo(peer(t, one, two))
	r := newRelay(t, Config{Now: func() time.Time { return now }, IdleMax: time.Hour, MaxUses: 2})
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
	now = now.Add(2 * time.Hour)
	r.sweep(false)
	<-quit
	for range 2 {
		wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
	}
	<-quit
}

func TestBreaker(t *testing.T) {
	now := time.Unix(1000, 0)
	hop := hopTo(peer(t, func(s *session) {}, func(s *session) {}, func(s *session) {}, func(s *session) {}, // three failures, a failed probe
		func(s *session) { s.greet("X"); s.take(1); s.quit() }))
	r := newRelay(t, Config{Now: func() time.Time { return now }, IdleMax: 100 * time.Hour})
	send := func(want string) {
		t.Helper()
		wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), want)
	}
	for range 3 {
		send("451 4.4.2 banner")
	}
	send("451 4.4.1 connect")
	now = now.Add(5 * time.Second)
	send("451 4.4.2 banner")
	now = now.Add(9 * time.Second)
	send("451 4.4.1 connect")
	now = now.Add(time.Second)
	send("accepted")
	if pause := r.pools[poolKey{hop.Name, hop.Addr, hop.identity(), hop.MaxConns}].breaker.pause; pause != 0 {
		t.Errorf("breaker still waits %s", pause)
	}
}

func TestBreakerLetsOneProbeThrough(t *testing.T) {
	b := breaker{after: 1, min: 5 * time.Second, max: 60 * time.Second}
	now := time.Unix(0, 0)
	b.allow(now)
	want := []time.Duration{5, 10, 20, 40, 60, 60}
	for _, w := range want {
		if got := b.failed(now, errCheck); got != w*time.Second {
			t.Errorf("got %s, want %d s", got, w)
		}
		if got := b.failed(now, errCheck); got != 0 {
			t.Errorf("a failure within the pause made it %s", got)
		}
		now = now.Add(w * time.Second)
		if err := b.allow(now); err != nil {
			t.Errorf("no probe after the pause: %v", err)
		}
		if err := b.allow(now); !errors.Is(err, errCheck) {
			t.Errorf("second probe: got %v", err)
		}
	}
	b.undecided()
	if b.allow(now) != nil {
		t.Error("a probe given up blocks the next one")
	}
	b.succeeded()
	for range 2 {
		if b.allow(now) != nil {
			t.Error("breaker stays open after a success")
		}
	}
}
