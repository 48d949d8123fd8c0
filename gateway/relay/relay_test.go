package relay

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
)

var full = []string{"PIPELINING", "size 1000000", "8bitmime", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8"}

func TestHandsOnAndKeepsTheConnection(t *testing.T) {
	done := make(chan struct{})
	hop := hopTo(peer(t, func(s *session) {
		defer close(done)
		s.greet(full...)
		lines, content := s.take(2)
		if want := "MAIL FROM:<from@clinic.test> SIZE=25 RET=HDRS ENVID=a+20b+2B; RCPT TO:<a@d.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;O+3Dx@d.test; RCPT TO:<\"b c\"@d.test>"; strings.Join(lines, "; ") != want {
			t.Errorf("got %s\nwant %s", strings.Join(lines, "; "), want)
		}
		if want := "Subject: x\r\n\r\n..dot\r\nend\r\n"; content != want {
			t.Errorf("got %q, want %q", content, want)
		}
		s.take(1)
		s.quit()
	}))
	r := newRelay(t, Config{})
	l := letter(t, ".dot\r\nend", "a@d.test", `"b c"@d.test`)
	l.Ret, l.EnvID = "HDRS", "a b+"
	l.Recipients[0].Notify, l.Recipients[0].ORcpt = []string{"SUCCESS", "DELAY"}, "rfc822;O=x@d.test"
	l.Body = message.BytesBody([]byte("dropped\r\n.dot\r\nend"))
	l.Offset = 9
	l.Header = append(l.Header, "\r\n"...)
	res := r.Send(background(), hop, l)
	wantCodes(t, res, "accepted, accepted")
	if res[0].Reply != "250 2.0.0 Ok: queued as 4Rx" || !res[0].DSN || res[0].Peer.Addr != hop.Addr {
		t.Errorf("got %+v", res[0])
	}
	wantCodes(t, r.Send(background(), hop, letter(t, "two", "c@d.test")), "accepted")
	r.Close()
	<-done
	wantCodes(t, r.Send(background(), hop, letter(t, "three", "c@d.test")), "451 4.3.2 connect")
}

func TestMixedRepliesArePipelined(t *testing.T) {
	hop := hopTo(peer(t, func(s *session) {
		s.greet("PIPELINING")
		for _, w := range []string{"MAIL", "RCPT", "RCPT", "RCPT", "RCPT", "DATA"} { // all before the first reply
			s.want(w)
		}
		s.send("250 ok", "250 2.1.5 ok", "450 4.2.1 greylisted\u00e9", "550-5.1.1 no such", "550 5.1.1 user", "552 too many", "354 go")
		s.content()
		s.send("250 ok")
		s.quit()
	}))
	res := newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test", "b@d.test", "c@d.test", "d@d.test"))
	wantCodes(t, res, "accepted, 450 4.2.1 rcpt, 550 5.1.1 rcpt, 452 4.5.3 rcpt")
	if res[1].Err.Text != "greylisted?" || res[2].Err.Text != "no such user" || res[2].Reply != "550 5.1.1 no such user" {
		t.Errorf("got %q, %q, %q", res[1].Err.Text, res[2].Err.Text, res[2].Reply)
	}
	if strings.Contains(res[2].Err.Error(), "no such") {
		t.Error("an error for the log repeats the hop's words")
	}
}

func TestGoAheadWithoutRecipients(t *testing.T) {
	hop := hopTo(peer(t, func(s *session) {
		s.greet("PIPELINING")
		s.want("MAIL")
		s.want("RCPT")
		s.want("DATA")
		s.send("250 ok", "550 5.1.1 no", "354 go")
		if got := s.content(); got != "" {
			t.Errorf("content %q was sent to nobody", got)
		}
		s.send("554 5.5.1 nobody")
		s.take(1) // the connection is good
		s.quit()
	}))
	r := newRelay(t, Config{})
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "550 5.1.1 rcpt")
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
}

func TestRefusalsOfAllRecipients(t *testing.T) {
	for name, c := range map[string]struct {
		script func(*session)
		want   string
	}{
		"banner 5xx": {func(s *session) { s.send("554 5.7.1 go away") }, "451 4.7.1 banner"},
		"banner 4xx": {func(s *session) { s.send("421 4.3.2 later") }, "451 4.3.2 banner"},
		"hello 5xx":  {func(s *session) { s.send("220 x"); s.want("EHLO"); s.send("550 no"); s.gone() }, "451 4.0.0 hello"},
		"mail 5xx":   {func(s *session) { s.greet("x"); s.want("MAIL"); s.send("553 5.1.8 no"); s.quit() }, "553 5.1.8 mail"},
		"mail 4xx":   {func(s *session) { s.greet("x"); s.want("MAIL"); s.send("451 no"); s.quit() }, "451 4.0.0 mail"},
		"data 4xx":   {dataRefused, "451 4.3.0 data"},
		"421 at rcpt": {func(s *session) {
			s.greet("x")
			s.want("MAIL")
			s.send("250 ok")
			s.want("RCPT")
			s.send("421 4.3.2 bye")
		}, "451 4.3.2 rcpt"},
		"final 5xx": {func(s *session) {
			s.greet("x")
			s.want("MAIL")
			s.send("250 ok")
			s.want("RCPT")
			s.send("250 ok")
			s.want("DATA")
			s.send("354 ok")
			s.content()
			s.send("554 5.7.1 virus")
			s.quit()
		}, "554 5.7.1 final"},
		"HELO only": {func(s *session) {
			s.send("220 x")
			s.want("EHLO")
			s.send("502 what")
			s.want("HELO")
			s.send("250 x")
			s.take(1)
			s.quit()
		}, "accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			hop := hopTo(peer(t, c.script))
			wantCodes(t, newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test")), c.want)
		})
	}
}

func dataRefused(s *session) {
	s.greet("x")
	s.want("MAIL")
	s.send("250 ok")
	s.want("RCPT")
	s.send("250 ok")
	s.want("DATA")
	s.send("451 4.3.0 full")
	s.want("RSET")
	s.send("250 ok")
	s.quit()
}

func TestLMTPHasAReplyForEach(t *testing.T) {
	script := func(last string) func(*session) {
		return func(s *session) {
			s.send("220 x LMTP")
			s.want("LHLO client.test")
			s.send("250-x", "250 PIPELINING")
			for _, w := range []string{"MAIL", "RCPT", "RCPT", "RCPT", "DATA"} {
				s.want(w)
			}
			s.send("250 ok", "250 ok", "550 5.1.1 no", "250 ok", "354 go")
			s.content()
			s.send("250 2.0.0 a")
			if last != "" {
				s.send(last)
				s.quit()
			}
		}
	}
	for last, want := range map[string]string{
		"452 4.2.2 full": "accepted, 550 5.1.1 rcpt, 452 4.2.2 final",
		"":               "accepted, 550 5.1.1 rcpt, 451 4.4.2 final",
	} {
		hop := hopTo(peer(t, script(last)))
		hop.LMTP = true
		res := newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test", "b@d.test", "c@d.test"))
		wantCodes(t, res, want)
		if last == "" && !errors.Is(res[2].Err, ErrUnknownOutcome) {
			t.Errorf("got %v", res[2].Err)
		}
	}
}

func TestWhatTheHopCannotTake(t *testing.T) {
	for name, c := range map[string]struct {
		ext    []string
		change func(*Letter)
		want   string
		mail   string
	}{
		"size":              {[]string{"SIZE 20"}, nil, "552 5.3.4 mail, 552 5.3.4 mail", ""},
		"size 0":            {[]string{"SIZE 0"}, nil, "accepted, accepted", "MAIL FROM:<from@clinic.test> SIZE=29"},
		"8 bits":            {nil, func(l *Letter) { l.Body = message.BytesBody([]byte("\r\né\r\n")) }, "554 5.6.3 mail, 554 5.6.3 mail", ""},
		"8 bits offered":    {[]string{"8BITMIME"}, func(l *Letter) { l.Body = message.BytesBody([]byte("\r\né\r\n")) }, "accepted, accepted", "MAIL FROM:<from@clinic.test> BODY=8BITMIME"},
		"8 bits only said":  {nil, func(l *Letter) { l.EightBit = true }, "accepted, accepted", "MAIL FROM:<from@clinic.test>"},
		"utf8 rcpt":         {nil, func(l *Letter) { l.Recipients[0].Local = "é" }, "553 5.6.7 rcpt, accepted", "MAIL FROM:<from@clinic.test>"},
		"utf8 offered":      {[]string{"SMTPUTF8"}, func(l *Letter) { l.Recipients[0].Local = "é" }, "accepted, accepted", "MAIL FROM:<from@clinic.test> SMTPUTF8"},
		"utf8 sender":       {nil, func(l *Letter) { l.Sender.Local = "é" }, "553 5.6.7 mail, 553 5.6.7 mail", ""},
		"utf8 only said":    {[]string{"SMTPUTF8"}, func(l *Letter) { l.SMTPUTF8 = true }, "accepted, accepted", "MAIL FROM:<from@clinic.test>"},
		"requiretls":        {[]string{"REQUIRETLS"}, func(l *Letter) { l.RequireTLS = true }, "550 5.7.30 mail, 550 5.7.30 mail", ""},
		"null sender":       {nil, func(l *Letter) { l.Sender = message.Address{} }, "accepted, accepted", "MAIL FROM:<>"},
		"CRLF in rcpt":      {nil, func(l *Letter) { l.Recipients[1].Local = "b\r\nRSET" }, "accepted, 553 5.1.3 rcpt", "MAIL FROM:<from@clinic.test>"},
		"bracket in domain": {nil, func(l *Letter) { l.Recipients[1].Domain = "d> NOTIFY=NEVER" }, "accepted, 553 5.1.3 rcpt", "MAIL FROM:<from@clinic.test>"},
		"bad dsn words": {[]string{"DSN"}, func(l *Letter) {
			l.Ret = "X\r\n"
			l.Recipients[0].Notify = []string{"NEVER", "DELAY"}
			l.Recipients[0].ORcpt = "a b;c"
		}, "accepted, accepted", "MAIL FROM:<from@clinic.test>"},
	} {
		t.Run(name, func(t *testing.T) {
			hop := hopTo(peer(t, func(s *session) {
				s.greet(append([]string{"X-A"}, c.ext...)...)
				if c.mail != "" {
					lines, _ := s.take(strings.Count(c.want, "accepted"))
					if lines[0] != c.mail {
						t.Errorf("got %s, want %s", lines[0], c.mail)
					}
				}
				s.quit()
			}))
			l := letter(t, "some content.", "a@d.test", "b@d.test")
			if c.change != nil {
				c.change(&l)
			}
			wantCodes(t, newRelay(t, Config{}).Send(background(), hop, l), c.want)
		})
	}
}

func TestSmugglingContentNeverLeaves(t *testing.T) {
	for _, body := range []string{"a\n.\r\nMAIL", "a\r.\r\n", "a\r\n.\rb", "\n", "a\r"} {
		l := letter(t, body, "a@d.test")
		wantCodes(t, newRelay(t, Config{}).Send(background(), hopTo("127.0.0.1:1"), l), "554 5.6.0 content")
	}
}

func TestProbe(t *testing.T) {
	hop := hopTo(peer(t, func(s *session) {
		s.greet("PIPELINING", "SIZE 1")
		for range 2 {
			if got := s.want("MAIL"); got != "MAIL FROM:<from@clinic.test>" {
				t.Errorf("got %s", got)
			}
			s.want("RCPT")
			s.want("RSET")
			s.send("250 ok", "550 5.1.1 unknown", "250 ok")
		}
		s.quit()
	}))
	r := newRelay(t, Config{})
	for range 2 {
		res := r.Probe(background(), hop, addr(t, "from@clinic.test"), message.Recipient{Address: addr(t, "a@d.test")})
		wantCodes(t, []Result{res}, "550 5.1.1 rcpt")
	}
}

func TestWaitForAConnectionEndsWithContext(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	hop := hopTo(peer(t, func(s *session) { close(inside); <-release; s.send("554 no") }))
	hop.MaxConns = 1
	r := newRelay(t, Config{})
	first := make(chan []Result)
	go func() { first <- r.Send(background(), hop, letter(t, "x", "a@d.test")) }()
	<-inside
	ctx, cancel := context.WithTimeout(background(), 10*time.Millisecond)
	defer cancel()
	res := r.Send(ctx, hop, letter(t, "x", "a@d.test"))
	wantCodes(t, res, "451 4.4.5 connect")
	if !errors.Is(res[0].Err, context.DeadlineExceeded) {
		t.Errorf("got %v", res[0].Err)
	}
	close(release)
	wantCodes(t, <-first, "451 4.0.0 banner")
}
