package gateway_test

import (
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/relay"
)

const (
	hopSilent  = "451 4.4.2 Relais {hop}: le relais suivant ne repond plus"
	hopLost    = "451 4.4.2 Relais {hop}: connexion perdue avec le relais suivant"
	hopUnclear = "451 4.5.0 Relais {hop}: reponse incomprehensible du relais suivant"
	hopUnknown = "451 4.4.2 Relais {hop}: connexion perdue apres l'envoi, issue inconnue"
	hopBusy    = "451 4.3.2 Relais {hop}: closing"
)

// rogueFaults: what a far side does wrong, and the reply to whoever writes there.
var rogueFaults = []struct {
	name   string
	step   string
	do     func(*rogueSession)
	ext    []string
	tls    string // "none" where empty
	want   string
	copies int64 // that the hop may have when the repetition was taken; 1 where 0
}{
	{name: "stalls before its banner", step: "banner", want: hopSilent, do: stalls},
	{name: "stalls at EHLO", step: "ehlo", want: hopSilent, do: stalls},
	{name: "stalls at MAIL", step: "mail", want: hopSilent, do: stalls},
	{name: "stalls at RCPT", step: "rcpt", want: hopSilent, do: stalls},
	{name: "stalls at DATA", step: "data", want: hopSilent, do: stalls},
	{name: "stalls behind the dot", step: "dot", want: hopUnknown, do: stalls},
	{name: "stalls behind the dot and keeps the message", step: "dot", want: hopUnknown, do: keeps(stalls), copies: 2},
	{name: "closes before its banner", step: "banner", want: hopLost, do: closes},
	{name: "closes at MAIL", step: "mail", want: hopLost, do: closes},
	{name: "closes in the middle of pipelined replies", step: "rcpt", want: hopLost, do: closes, ext: []string{"PIPELINING"}},
	{name: "drops behind the dot before it keeps the message", step: "dot", want: hopUnknown, do: closes},
	{name: "drops behind the dot after it kept the message", step: "dot", want: hopUnknown, do: keeps(closes), copies: 2},
	{name: "resets before its banner", step: "banner", want: hopLost, do: resets},
	{name: "resets at DATA", step: "data", want: hopLost, do: resets},
	{name: "resets behind the dot after it kept the message", step: "dot", want: hopUnknown, do: keeps(resets), copies: 2},
	{name: "talks nonsense as banner", step: "banner", want: hopUnclear, do: says("\x00\xff\x80 SSH-2.0-OpenSSH_9.2")},
	{name: "talks nonsense at RCPT", step: "rcpt", want: hopUnclear, do: says("\x1b[2J\x00\xff")},
	{name: "talks nonsense behind the dot", step: "dot", want: hopUnknown, do: keeps(says("\xff\xfe\x00")), copies: 2},
	{name: "says a line of 60 kB", step: "mail", want: hopUnclear, do: says("250 " + strings.Repeat("x", 60<<10))},
	{name: "says a reply without end", step: "ehlo", want: hopUnclear, do: endless},
	{name: "says a reply without end behind the dot", step: "dot", want: hopUnknown, do: keeps(endless), copies: 2},
	{name: "drips a reply", step: "mail", want: hopSilent, do: drips},
	{name: "gives a good reply byte by byte", step: "dot", do: keeps(bytewise), want: "250 2.0.0 Ok", copies: 2}, // the second is a new message
	{name: "says 250 to DATA", step: "data", want: hopUnclear, do: says("250 2.0.0 ok")},
	{name: "says 354 to MAIL", step: "mail", want: hopUnclear, do: says("354 go")},
	{name: "says 354 behind the dot", step: "dot", want: hopUnknown, do: says("354 more")},
	{name: "says too much", step: "mail", want: hopUnclear, do: says("250 2.1.0 ok", "250 2.1.5 ok", "354 go", "250 2.0.0 kept")},
	{name: "says 421 as banner", step: "banner", want: hopBusy, do: says("421 4.3.2 closing")},
	{name: "says 421 at RCPT", step: "rcpt", want: hopBusy, do: says("421 4.3.2 closing")},
	{name: "says 421 behind the dot", step: "dot", want: hopBusy, do: says("421 4.3.2 closing")},
	{name: "offers STARTTLS and refuses it", step: "starttls", want: "451 4.7.4 Relais {hop}: le relais suivant refuse STARTTLS", do: says("454 4.7.0 not now"), ext: []string{"STARTTLS"}, tls: "encrypt"},
	{name: "offers STARTTLS and goes on in clear", step: "starttls", want: "451 4.7.5 Relais {hop}: STARTTLS falsifie par le relais suivant", do: says("220 go", "250 2.0.0 ok"), ext: []string{"STARTTLS"}, tls: "encrypt"},
	{name: "offers STARTTLS and talks nonsense in it", step: "starttls", want: "451 4.7.5 Relais {hop}: liaison TLS refusee avec le relais suivant", do: func(s *rogueSession) {
		s.say("220 go")
		s.br.ReadByte() // its ClientHello
		says("\x00\x01nonsense")(s)
	}, ext: []string{"STARTTLS"}, tls: "encrypt"},
	{name: "offers STARTTLS and stalls in it", step: "starttls", want: hopSilent, do: says("220 go"), ext: []string{"STARTTLS"}, tls: "encrypt"},
	{name: "offers SIZE and refuses it", step: "mail", want: "452 4.3.1 Relais {hop}: disk full", do: says("452 4.3.1 disk full"), ext: []string{"SIZE 1000000"}},
	{name: "offers 8BITMIME and refuses it", step: "mail", want: "451 4.5.1 Relais {hop}: BODY=8BITMIME what", do: says("451 4.5.1 BODY=8BITMIME what"), ext: []string{"8BITMIME"}},
	{name: "offers SMTPUTF8 and refuses it", step: "mail", want: "451 4.5.1 Relais {hop}: SMTPUTF8 what", do: says("451 4.5.1 SMTPUTF8 what"), ext: []string{"SMTPUTF8", "8BITMIME"}},
	{name: "offers PIPELINING and forgets what came early", step: "mail", want: hopSilent, do: func(s *rogueSession) {
		s.br.Discard(s.br.Buffered())
		says("250 2.1.0 ok")(s)
	}, ext: []string{"PIPELINING"}},
}

// TestFaultFarSide: a far side that does wrong costs its own recipients a "later" each and nobody else anything; healed, it gets what
// was kept for it, once, or twice where only it knew that it had it already.
func TestFaultFarSide(t *testing.T) {
	short := time.Second // a hop that does well answers within it under load too
	times := relay.Timeouts{Dial: short, Banner: short, Hello: short, StartTLS: short, Mail: short, Rcpt: short, Data: short, Write: short, Final: short}
	ca, err := gatewaytest.NewCA("rogue")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.IssueLocal(pkix.Name{CommonName: "rogue.test"})
	if err != nil {
		t.Fatal(err)
	}
	var hops, rules strings.Builder
	rogues := make([]*rogue, len(rogueFaults))
	for i, f := range rogueFaults {
		r := &rogue{step: f.step, do: f.do, ext: f.ext, tls: ca.ServerTLS(leaf, false)}
		startRogue(t, r)
		rogues[i] = r
		mode := f.tls
		if mode == "" {
			mode = "none"
		}
		fmt.Fprintf(&hops, "  h%d: {addr: %q, tls: %s}\n", i, r.addr, mode)
		fmt.Fprintf(&rules, "  - {name: h%d, recipient: [\"h%d@*\"], route: plain, hop: h%d}\n", i, i, i)
	}
	text := strings.Replace(withRules("rules:\n"+rules.String()+"  - {name: rest, route: plain}\n"), "rules:", strings.TrimLeft(hops.String(), "\n")+"rules:", 1)
	h := &house{t: t, dir: t.TempDir(), log: newBuffer(), opts: []gateway.Option{gateway.HopTimeouts(times)}}
	h.build(text, nil)
	t.Run("faults", func(t *testing.T) {
		for i, f := range rogueFaults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				to, r := fmt.Sprintf("h%d@dest.test", i), rogues[i]
				letter := strings.Replace(hello, "<1@", fmt.Sprintf("<%d@", i), 1)
				if strings.Contains(f.name, "8BITMIME") {
					letter += "caf\xc3\xa9\n"
				}
				began := time.Now()
				got := h.send(h.lmtp, "dr@clinic.test", letter, to, fmt.Sprintf("other%d@dest.test", i))
				if d := time.Since(began); d > 15*time.Second {
					t.Errorf("the reply took %v", d)
				}
				want := strings.ReplaceAll(f.want, "{hop}", fmt.Sprint("h", i))
				if got[0] != want {
					t.Errorf("got %q\nwant %q", got[0], want)
				}
				if codes(got[1:]) != "250" || len(h.sink.To(fmt.Sprintf("other%d@dest.test", i))) != 1 {
					t.Errorf("the other recipient: %q", got[1])
				}
				r.healed.Store(true)
				if got := h.send(h.lmtp, "dr@clinic.test", letter, to); codes(got) != "250" {
					t.Errorf("healed: %q", got)
				}
				allowed := max(f.copies, 1)
				if n := r.stored.Load(); n < 1 || n > allowed {
					t.Errorf("%d copies, %d allowed", n, allowed)
				}
				for wait := time.Now(); r.open.Load() > 1; time.Sleep(5 * time.Millisecond) {
					if time.Since(wait) > 20*time.Second {
						t.Fatalf("%d connections are open, one may be kept", r.open.Load())
					}
				}
			})
		}
	})
	if log := h.log.String(); strings.Contains(log, "panic") {
		t.Errorf("log:\n%s", log)
	}
}
