package gateway_test

import (
	"strings"
	"testing"
)

// TestPeersOutbound writes to every audit domain: a bad peer gets no message, by no way and nothing in clear; the sender's server keeps it, and it
// goes out once the peer is good.
func TestPeersOutbound(t *testing.T) {
	p := newIGC(t)
	peers, hosts := map[string]*far{}, map[string]string{}
	clear := map[string]*rogue{}
	for _, a := range audits {
		cert := p.issue(a.cn(), nil)
		if a.bad != nil {
			cert = a.bad(p, a.cn())
		}
		if a.noTLS {
			r := &rogue{step: "starttls"}
			startRogue(t, r)
			hosts[a.domain()], clear[a.domain()] = r.addr, r
			continue
		}
		peers[a.domain()] = p.far(cert)
		hosts[a.domain()] = peers[a.domain()].addr
	}
	h := custom(t, withRules("rules:\n  - {name: listed, trust_domain: true, route: trust}\n  - {name: rest, route: plain}\n")+p.spaceText("", audits, hosts), nil, nil)
	for _, a := range audits {
		t.Run(a.name, func(t *testing.T) {
			h.t = t
			want, letter, to := ok, p.letter(), "dr.peer@"+a.domain()
			if a.out != "" {
				want = strings.ReplaceAll(a.out, "{domain}", a.domain())
			}
			wantReply(t, a.name, h.send(h.lmtp, "dr@mss.clinic.test", letter, to), want)
			if a.noTLS {
				if n := clear[a.domain()].stored.Load(); n != 0 {
					t.Errorf("%d messages in clear", n)
				}
				t.Logf("%s: %s", a.name, want)
				return
			}
			f := peers[a.domain()]
			if a.out != "" {
				if n := f.hop.Attempts(); n != 0 {
					t.Errorf("%d messages at a bad peer", n)
				}
				if !strings.Contains(h.log.String(), a.log) {
					t.Errorf("the log does not say %q", a.log)
				}
				f.show(p.issue(a.cn(), nil))
				wantReply(t, a.name+", good again", h.send(h.lmtp, "dr@mss.clinic.test", letter, to), ok)
			}
			if ms := f.hop.To(to); len(ms) != 1 || ms[0].TLS == nil || ms[0].TLS.PeerCertificates[0].Subject.CommonName != "nous.clinic.test" {
				t.Errorf("%d messages at the good peer", len(ms))
			}
			if s := f.inClear(); len(s) > 0 {
				t.Errorf("in clear on the wire: %q", s)
			}
			t.Logf("%s: %s", a.name, want)
		})
	}
	h.t = t
	if n := len(h.sink.Messages()) + len(h.clinic.Messages()); n != 0 {
		t.Errorf("%d messages left by another way", n)
	}
	if strings.Contains(h.log.String(), "dr.peer@") || strings.Contains(h.log.String(), "dr@mss") {
		t.Error("the log names a person")
	}
}

// TestPeersWithoutTLS: whatever a peer does in the place of TLS, no envelope goes to it; healed, it gets the message.
func TestPeersWithoutTLS(t *testing.T) {
	p := newIGC(t)
	good := p.issue("smtp.sans-tls-audit.audit.test", nil)
	a := audit{name: "sans-tls-audit"}
	for name, c := range map[string]struct {
		r    *rogue
		want string
	}{
		"no STARTTLS":        {&rogue{}, "451 4.7.4 Relais trust {domain}: le relais suivant ne propose pas STARTTLS"},
		"STARTTLS refused":   {&rogue{step: "starttls", do: says("454 4.7.0 no"), ext: []string{"STARTTLS"}}, "451 4.7.4 Relais trust {domain}: le relais suivant refuse STARTTLS"},
		"goes on in clear":   {&rogue{step: "starttls", do: says("220 go", "250 2.0.0 ok"), ext: []string{"STARTTLS"}}, "451 4.7.5 Relais trust {domain}: STARTTLS falsifie par le relais suivant"},
		"closes at STARTTLS": {&rogue{step: "starttls", do: closes, ext: []string{"STARTTLS"}}, "451 4.4.2 Relais trust {domain}: connexion perdue avec le relais suivant"},
	} {
		t.Run(name, func(t *testing.T) {
			c.r.tls = p.inter.ServerTLS(good, false)
			startRogue(t, c.r)
			addr, heard := wiretap(t, c.r.addr)
			h := custom(t, withRules("rules:\n  - {name: listed, trust_domain: true, route: trust}\n  - {name: rest, route: plain}\n")+
				p.spaceText("", []audit{a}, map[string]string{a.domain(): addr}), nil, nil)
			letter := p.letter()
			wantReply(t, name, h.send(h.lmtp, "dr@mss.clinic.test", letter, "x@"+a.domain()), strings.ReplaceAll(c.want, "{domain}", a.domain()))
			if c.r.stored.Load() != 0 || strings.Contains(strings.ToUpper(heard.String()), "MAIL FROM") {
				t.Error("an envelope went out")
			}
			c.r.healed.Store(true)
			wantReply(t, name+", healed", h.send(h.lmtp, "dr@mss.clinic.test", letter, "x@"+a.domain()), ok)
			if n := c.r.stored.Load(); n != 1 || strings.Contains(strings.ToUpper(heard.String()), "MAIL FROM") {
				t.Errorf("%d messages, or an envelope in clear", n)
			}
			if n := len(h.sink.Messages()); n != 0 {
				t.Errorf("%d messages left by the Internet", n)
			}
		})
	}
}
