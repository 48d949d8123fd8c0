package relay

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/trust"
)

// counted is a source whose tokens are token-1, token-2 and so on; runs tells how many there were.
func counted(t *testing.T) (tokens *trust.Tokens, runs func() int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "runs")
	runs = func() int { b, _ := os.ReadFile(file); return len(b) }
	return trust.NewTokens([]string{"/bin/sh", "-c", `printf x >>"$0"; echo token-$(wc -c <"$0" | tr -d ' ')`, file}, nil), runs
}

// authHop is a hop that is verified; offers stand in its EHLO under TLS.
type authHop struct {
	t      *testing.T
	cert   tls.Certificate
	config *tls.Config
}

func newAuthHop(t *testing.T) *authHop {
	cert, pool := certificate(t)
	return &authHop{t, cert, &tls.Config{RootCAs: pool}}
}

// hop leads to the scripts, each of which begins behind the EHLO under TLS.
func (h *authHop) hop(a *Auth, offers string, scripts ...func(*session)) Hop {
	var all []func(*session)
	for _, script := range scripts {
		all = append(all, func(s *session) {
			s.greet("STARTTLS", "AUTH PLAIN LOGIN") // what stands in clear counts for nothing
			if s.startTLS(h.cert) == nil {
				s.hello("PIPELINING", offers)
				script(s)
			}
		})
	}
	hop := hopTo(peer(h.t, all...))
	hop.TLS, hop.Auth = TLS{Mode: Verify, Config: h.config}, a
	return hop
}

// said reads a line of base64.
func (s *session) said(want string) {
	line := s.want("")
	if raw, err := base64.StdEncoding.DecodeString(line); err != nil || string(raw) != want {
		s.t.Errorf("hop got %q (%q, %v), want %q", line, raw, err, want)
	}
}

// letIn answers the last step of an exchange and the greeting behind it.
func (s *session) letIn() {
	s.send("235 2.7.0 ok")
	s.hello("PIPELINING", "SIZE 100000")
}

const refusal = "334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=" // {"status":"401","schemes":"bearer","scope":"mail"}

// xoauth2 is the exchange up to the answer to the n-th token.
func xoauth2(n int) func(*session) {
	return func(s *session) {
		if line := s.want("AUTH XOAUTH2"); line != "AUTH XOAUTH2" {
			s.t.Errorf("%q: an initial response", line)
		}
		s.send("334 ")
		s.said(fmt.Sprintf("user=bal@mss.test\x01auth=Bearer token-%d\x01\x01", n))
	}
}

func TestAuthExchanges(t *testing.T) {
	accept := func(s *session) { s.letIn(); s.take(1); s.quit() }
	external := func(answers ...string) func(*session) {
		return func(s *session) {
			s.want("AUTH EXTERNAL =")
			s.send(answers[0])
			for _, a := range answers[1:] {
				if line := s.want(""); line != "" {
					s.t.Errorf("got %q", line)
				}
				s.send(a)
			}
			if strings.HasPrefix(answers[len(answers)-1], "235") {
				s.hello("PIPELINING")
				s.take(1)
				s.quit()
			} else {
				s.gone()
			}
		}
	}
	drop := func(n int, lines ...string) func(*session) {
		return func(s *session) {
			xoauth2(n)(s)
			if len(lines) > 0 {
				s.send(lines...)
			}
		}
	}
	for name, c := range map[string]struct {
		mechanisms []string
		user       string
		offers     string
		scripts    []func(*session)
		want       string
		runs       int
	}{
		"EXTERNAL": {[]string{External}, "", "AUTH EXTERNAL PLAIN", []func(*session){external("235 2.7.0 ok")}, "accepted", 0},
		"EXTERNAL for a mailbox": {[]string{External}, "bal@mss.test", "AUTH EXTERNAL", []func(*session){func(s *session) {
			s.want("AUTH EXTERNAL YmFsQG1zcy50ZXN0")
			accept(s)
		}}, "accepted", 0},
		"EXTERNAL asked again": {[]string{External}, "", "AUTH EXTERNAL", []func(*session){external("334 ", "235 ok")}, "accepted", 0},
		"EXTERNAL refused":     {[]string{External}, "", "AUTH EXTERNAL", []func(*session){external("535 5.7.8 no such certificate")}, "451 4.7.0 auth", 0},
		"not offered":          {[]string{External}, "", "AUTH PLAIN LOGIN", []func(*session){func(s *session) { s.gone() }}, "451 4.7.0 auth", 0},
		"not offered at all":   {[]string{External}, "", "SIZE 1000", []func(*session){func(s *session) { s.gone() }}, "451 4.7.0 auth", 0},
		"certificate alone":    {nil, "", "SIZE 100000", []func(*session){func(s *session) { s.take(1); s.quit() }}, "accepted", 0},
		"certificate is not enough": {nil, "", "SIZE 100000", []func(*session){func(s *session) {
			for range 3 {
				s.want("")
			}
			s.send("530 5.7.0 Authentication required", "503 5.5.1 no", "503 5.5.1 no")
			s.quit()
		}}, "451 4.7.0 mail", 0},
		"XOAUTH2": {[]string{XOAuth2, OAuthBearer}, "bal@mss.test", "AUTH OAUTHBEARER XOAUTH2", []func(*session){func(s *session) { xoauth2(1)(s); accept(s) }}, "accepted", 1},
		"OAUTHBEARER": {[]string{XOAuth2, OAuthBearer}, "b,a=l@mss.test", "AUTH oauthbearer", []func(*session){func(s *session) {
			s.want("AUTH OAUTHBEARER")
			s.send("334 ")
			host, port, _ := strings.Cut(s.conn.LocalAddr().String(), ":")
			s.said("n,a=b=2Ca=3Dl@mss.test,\x01host=" + host + "\x01port=" + port + "\x01auth=Bearer token-1\x01\x01")
			accept(s)
		}}, "accepted", 1},
		"OAUTHBEARER refused": {[]string{OAuthBearer}, "bal@mss.test", "AUTH OAUTHBEARER", []func(*session){func(s *session) {
			s.want("AUTH OAUTHBEARER")
			s.send("334 ")
			s.want("")
			s.send("334 eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=")
			s.said("\x01") // RFC 7628 section 3.2.3
			s.send("535 5.7.8 no")
			s.gone()
		}, func(s *session) {
			s.want("AUTH OAUTHBEARER")
			s.send("334 ")
			s.want("")
			accept(s)
		}}, "accepted", 2},
		"refused and dropped, the fresh one is good": {[]string{XOAuth2}, "bal@mss.test", "AUTH XOAUTH2",
			[]func(*session){drop(1, refusal), func(s *session) { xoauth2(2)(s); accept(s) }}, "accepted", 2},
		"dropped without a word, the fresh one is good": {[]string{XOAuth2}, "bal@mss.test", "AUTH XOAUTH2",
			[]func(*session){drop(1), func(s *session) { xoauth2(2)(s); accept(s) }}, "accepted", 2},
		"refused twice": {[]string{XOAuth2}, "bal@mss.test", "AUTH XOAUTH2", []func(*session){drop(1, refusal), drop(2, refusal)}, "451 4.7.0 auth", 2},
		"refused by 535": {[]string{XOAuth2}, "bal@mss.test", "AUTH XOAUTH2", []func(*session){func(s *session) {
			drop(1, refusal)(s)
			s.want("")
			s.send("535 5.7.8 no")
			s.gone()
		}, func(s *session) { drop(2, "535 5.7.8 no")(s); s.gone() }}, "451 4.7.0 auth", 2},
		"535 without a challenge, the fresh one is good": {[]string{XOAuth2}, "bal@mss.test", "AUTH XOAUTH2",
			[]func(*session){func(s *session) { drop(1, "535 5.7.8 no")(s); s.gone() }, func(s *session) { xoauth2(2)(s); accept(s) }}, "accepted", 2},
		"a refusal that lets in": {[]string{XOAuth2}, "bal@mss.test", "AUTH XOAUTH2", []func(*session){func(s *session) {
			drop(1, refusal)(s)
			s.want("")
			s.send("235 2.7.0 ok")
			s.gone()
		}}, "451 4.5.0 auth", 1},
		"not now":            {[]string{XOAuth2}, "bal@mss.test", "AUTH XOAUTH2", []func(*session){func(s *session) { drop(1, "454 4.7.0 later")(s); s.gone() }}, "451 4.7.0 auth", 1},
		"mechanism too weak": {[]string{XOAuth2}, "bal@mss.test", "AUTH XOAUTH2", []func(*session){func(s *session) { drop(1, "534 5.7.9 weak")(s); s.gone() }}, "451 4.7.0 auth", 1},
		"unknown after all":  {[]string{XOAuth2}, "bal@mss.test", "AUTH XOAUTH2", []func(*session){func(s *session) { s.want("AUTH"); s.send("504 5.5.4 no"); s.gone() }}, "451 4.7.0 auth", 1},
	} {
		t.Run(name, func(t *testing.T) {
			tokens, runs := counted(t)
			hop := newAuthHop(t).hop(&Auth{Identity: "bal", Mechanisms: c.mechanisms, User: c.user, Tokens: tokens}, c.offers, c.scripts...)
			res := newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test"))
			wantCodes(t, res, c.want)
			if runs() != c.runs {
				t.Errorf("the command ran %d times, want %d", runs(), c.runs)
			}
			if err := res[0].Err; err != nil && (strings.Contains(err.Error(), "token-") || strings.Contains(err.Error(), "eyJ")) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// TestAuthNeverInClear: neither a hop without TLS nor one that is not verified learns who we are.
func TestAuthNeverInClear(t *testing.T) {
	h := newAuthHop(t)
	a := &Auth{Identity: "bal", Mechanisms: []string{External}}
	stripped := hopTo(peer(t, func(s *session) { s.greet("AUTH EXTERNAL XOAUTH2"); s.gone() }))
	stripped.TLS, stripped.Auth = TLS{Mode: Verify, Config: h.config}, a
	wantCodes(t, newRelay(t, Config{}).Send(background(), stripped, letter(t, "x", "a@d.test")), "451 4.7.4 starttls")
	for _, mode := range []Mode{None, Opportunistic, Encrypt} {
		hop := hopTo(peer(t))
		hop.TLS, hop.Auth = TLS{Mode: mode, Config: h.config}, a
		wantCodes(t, newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test")), "451 4.3.5 connect")
	}
	for _, a := range []*Auth{{Mechanisms: []string{XOAuth2}, User: "bal@mss.test"}, {Mechanisms: []string{"PLAIN"}}, {Mechanisms: []string{External}, User: "a\x01b"}} {
		hop := hopTo(peer(t))
		hop.TLS, hop.Auth = TLS{Mode: Verify, Config: h.config}, a
		wantCodes(t, newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test")), "451 4.3.5 connect")
	}
}

func TestImplicitTLS(t *testing.T) {
	h := newAuthHop(t)
	under := func(script func(*session)) func(*session) {
		return func(s *session) {
			tc := tls.Server(s.conn, &tls.Config{Certificates: []tls.Certificate{h.cert}})
			if tc.Handshake() != nil {
				return
			}
			s.conn, s.br = tc, bufio.NewReader(tc)
			script(s)
		}
	}
	send := func(tlsOf TLS, a *Auth, scripts ...func(*session)) []Result {
		hop := hopTo(peer(t, scripts...))
		hop.TLS, hop.Auth = tlsOf, a
		return newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test"))
	}
	verify := TLS{Mode: Verify, Implicit: true, Config: h.config}
	a := &Auth{Identity: "bal", Mechanisms: []string{External}}
	res := send(verify, a, under(func(s *session) {
		s.greet("AUTH EXTERNAL", "STARTTLS")
		s.want("AUTH EXTERNAL =")
		s.letIn()
		s.take(1)
		s.quit()
	}))
	wantCodes(t, res, "accepted")
	if p := res[0].Peer; p.Fingerprint == "" || p.TLSVersion != "TLS 1.3" {
		t.Errorf("peer %+v", p)
	}
	wantCodes(t, send(verify, nil, under(func(s *session) { s.greet("X"); s.take(1); s.quit() })), "accepted")
	wantCodes(t, send(TLS{Mode: Verify, Implicit: true}, a, under(func(s *session) { s.gone() })), "451 4.7.5 starttls")
	wantCodes(t, send(verify, a, func(s *session) { s.send("220 in clear"); s.gone() }), "451 4.7.5 starttls")
	wantCodes(t, send(TLS{Mode: Opportunistic, Implicit: true}, nil), "451 4.3.5 connect")
}

// TestIdentitiesShareNoConnection: the kept connection of one mailbox never carries another's letter, and is there when its own comes.
func TestIdentitiesShareNoConnection(t *testing.T) {
	h := newAuthHop(t)
	serve := func(s *session) {
		s.want("AUTH EXTERNAL")
		s.letIn()
		var from []string
		for range 2 {
			lines, _ := s.take(1)
			from = append(from, lines[0])
		}
		if from[0] != from[1] {
			t.Errorf("one connection carried %q", from)
		}
		s.quit()
	}
	hop := h.hop(nil, "AUTH EXTERNAL", serve, serve)
	r := newRelay(t, Config{})
	for _, who := range []string{"one", "two", "one", "two"} {
		l := letter(t, "x", "a@d.test")
		l.Sender = addr(t, who+"@mss.test")
		hop.Auth = &Auth{Identity: who, Mechanisms: []string{External}} // made anew for each letter, as the gateway does
		wantCodes(t, r.Send(background(), hop, l), "accepted")
	}
}

// TestConnectionDoesNotOutliveItsRights: another token source, certificate or mailbox under the same identity begins a session of its own.
func TestConnectionDoesNotOutliveItsRights(t *testing.T) {
	h := newAuthHop(t)
	serve := func(s *session) { s.want("AUTH EXTERNAL"); s.letIn(); s.take(1); s.quit() }
	hop := h.hop(&Auth{Identity: "bal", Mechanisms: []string{External}}, "AUTH EXTERNAL", serve, serve, serve)
	r := newRelay(t, Config{})
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
	hop.Auth = &Auth{Identity: "bal", Mechanisms: []string{External}, User: "other@mss.test"}
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
	hop.TLS.Config = h.config.Clone() // as with a renewed certificate
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
}

// TestConnectionDoesNotOutliveItsToken: the session ends with the token that it began with, not with the server's patience.
func TestConnectionDoesNotOutliveItsToken(t *testing.T) {
	tokens, _ := counted(t)
	serve := func(n, letters int) func(*session) {
		return func(s *session) {
			xoauth2(n)(s)
			s.letIn()
			for range letters {
				s.take(1)
			}
			s.quit()
		}
	}
	hop := newAuthHop(t).hop(&Auth{Identity: "bal", Mechanisms: []string{XOAuth2}, User: "bal@mss.test", Tokens: tokens}, "AUTH XOAUTH2", serve(1, 2), serve(2, 1))
	r := newRelay(t, Config{})
	for n := range 3 {
		if n == 2 {
			tokens.Evict("token-1") // as another session learned
		}
		wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
	}
}

// TestRefusedIdentityIsLeftAlone: no account is locked by our own zeal, and the others go on.
func TestRefusedIdentityIsLeftAlone(t *testing.T) {
	h := newAuthHop(t)
	refuse := func(s *session) { s.want("AUTH EXTERNAL"); s.send("535 5.7.8 no"); s.gone() }
	var log bytes.Buffer
	hop := h.hop(&Auth{Identity: "bad", Mechanisms: []string{External}}, "AUTH EXTERNAL", refuse, refuse,
		func(s *session) { s.want("AUTH EXTERNAL"); s.letIn(); s.take(1); s.quit() })
	r := newRelay(t, Config{BreakAfter: 2, BreakMin: time.Hour, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 4 {
		res := r.Send(background(), hop, letter(t, "x", "a@d.test"))
		wantCodes(t, res, "451 4.7.0 auth")
		if !strings.Contains(res[0].Err.Text, "certificat ou boite refuse") {
			t.Errorf("text %q", res[0].Err.Text)
		}
	}
	hop.Auth = &Auth{Identity: "good", Mechanisms: []string{External}}
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
	if !strings.Contains(log.String(), "left alone") {
		t.Errorf("log %q", log.String())
	}
}

// TestSilenceIsNoRefusal: a token is not given up because a hop is slow.
func TestSilenceIsNoRefusal(t *testing.T) {
	tokens, runs := counted(t)
	done := make(chan struct{})
	defer close(done)
	hop := newAuthHop(t).hop(&Auth{Identity: "bal", Mechanisms: []string{XOAuth2}, User: "bal@mss.test", Tokens: tokens}, "AUTH XOAUTH2",
		func(s *session) { xoauth2(1)(s); <-done })
	r := newRelay(t, Config{Timeouts: Timeouts{Hello: time.Second}})
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "451 4.4.2 auth")
	if _, err := tokens.Get(background()); err != nil || runs() != 1 {
		t.Errorf("%d runs, %v: the token was given up", runs(), err)
	}
}

// TestTheSameTokenIsNotTriedTwice: where the command has no other, the hop is not called again.
func TestTheSameTokenIsNotTriedTwice(t *testing.T) {
	tokens := trust.NewTokens([]string{"/bin/echo", "token-1"}, nil)
	hop := newAuthHop(t).hop(&Auth{Identity: "bal", Mechanisms: []string{XOAuth2}, User: "bal@mss.test", Tokens: tokens}, "AUTH XOAUTH2",
		func(s *session) { xoauth2(1)(s); s.send(refusal) })
	wantCodes(t, newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test")), "451 4.7.0 auth")
}

// TestNoToken: the hop is not even called.
func TestNoToken(t *testing.T) {
	hop := hopTo(peer(t))
	hop.TLS = TLS{Mode: Verify, Config: newAuthHop(t).config}
	hop.Auth = &Auth{Identity: "bal", Mechanisms: []string{XOAuth2}, User: "bal@mss.test", Tokens: trust.NewTokens([]string{"/bin/false"}, nil)}
	res := newRelay(t, Config{}).Send(background(), hop, letter(t, "x", "a@d.test"))
	wantCodes(t, res, "451 4.7.0 auth")
	if !strings.Contains(res[0].Err.Error(), "exit status 1") {
		t.Errorf("got %v", res[0].Err)
	}
}
