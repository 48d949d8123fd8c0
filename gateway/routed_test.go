package gateway_test

import (
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// TestRoutedRecipients: a peer's recipient that bears another address within (percent hack, bang path, quoted @) goes nowhere. A real Postfix that
// takes us for one of its own relays such mail to the outside.
func TestRoutedRecipients(t *testing.T) {
	if err := gatewaytest.PostfixTools(); err != nil {
		if testing.Short() {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	outside, err := gatewaytest.StartNextHop(gatewaytest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outside.Close() })
	mailbox := startHop(t, gatewaytest.Options{})
	_, port, _ := strings.Cut(outside.Addr(), ":")
	clinic, err := gatewaytest.StartPostfix(t.Context(), gatewaytest.PostfixOptions{Domains: []string{"clinic.test"}, LocalHop: mailbox.Addr(),
		Main: []string{"relayhost = [127.0.0.1]:" + port}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { clinic.Close() })
	p, a := newIGC(t), audit{name: "routeur"}
	cert := p.issue(a.cn(), nil)
	text := listening(withRules("rules:\n  - {name: rest, route: plain}\n"))
	text = strings.ReplaceAll(text, "{clinic}", clinic.Addr())
	h := custom(t, text+p.spaceText("", []audit{a}, nil), nil, nil)
	if got := h.write(cert, nil, "dr@"+a.domain(), "dr@clinic.test", p.letter()); got != ok {
		t.Fatal(got)
	}
	for _, to := range []string{"victim%outside.test@clinic.test", `"victim@outside.test"@clinic.test`, "outside.test!victim@clinic.test", "@clinic.test:victim@outside.test",
		`"victim%outside.test"@clinic.test`} {
		if got := h.write(cert, nil, "dr@"+a.domain(), to, p.letter()); !strings.HasPrefix(got, "550 5.") {
			t.Errorf("%s: got %q", to, got)
		}
	}
	queued, err := clinic.Queue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queued {
		t.Errorf("on its way: %+v", q)
	}
	for _, m := range outside.Messages() {
		t.Errorf("relayed to the outside: %v", m.Recipients)
	}
}

// TestSenderForms: however a peer writes its sender, the domain that its certificate must be listed for is the one that the clinic sees.
func TestSenderForms(t *testing.T) {
	p, a, b := newIGC(t), audit{name: "un"}, audit{name: "deux"}
	cert := p.issue(a.cn(), nil)
	h := custom(t, listening(withRules("rules:\n  - {name: rest, route: plain}\n"))+p.spaceText("", []audit{a, b}, nil), nil, nil)
	for from, want := range map[string]string{
		"dr@UN.Audit.TEST": "dr@un.audit.test", "dr@un.audit.test.": "dr@un.audit.test", "@deux.audit.test:dr@un.audit.test": "dr@un.audit.test",
		`"dr@deux.audit.test"@un.audit.test`: "dr@deux.audit.test@un.audit.test", "": "", // as the hop tells it, without the quotes
		"dr@deux.audit.test": "550", "@un.audit.test:dr@deux.audit.test": "550", "dr@sub.un.audit.test": "550", "dr@audit.test": "550", "dr@clinic.test": "550", "dr@mss.clinic.test": "550",
		"dr@[127.0.0.1]": "550", "dr@un.audit.test@deux.audit.test": "5", "dr@un.audit.test\x00.x": "5", "dr": "5", "postmaster": "5", "dr@un.audit.test> <dr@deux.audit.test": "5",
	} {
		n := len(h.clinic.Messages())
		got := h.write(cert, nil, from, "dr@clinic.test", p.letter())
		ms := h.clinic.Messages()[n:]
		if got == ok {
			if len(ms) != 1 || ms[0].Sender != want {
				t.Errorf("%q: the clinic got %d messages, not one of %q", from, len(ms), want)
			}
		} else if want == "" || !strings.HasPrefix(got, want) || len(ms) != 0 {
			t.Errorf("%q: got %q, want %q", from, got, want)
		}
	}
	stranger := p.issue("inconnu.audit.test", nil)
	if got := h.write(stranger, nil, "", "dr@clinic.test", p.letter()); got != inName {
		t.Errorf("null sender of a peer that is in no list: %q", got)
	}
}

// TestOwnSpaceDomain: the clinic's own domain of the trust space is of the trust space, also while nobody lists it: its mail never leaves over the
// Internet.
func TestOwnSpaceDomain(t *testing.T) {
	p, a := newIGC(t), audit{name: "un"}
	h := custom(t, withRules("rules:\n  - {name: rest, route: plain}\n")+p.spaceText("", []audit{a}, nil), nil, nil)
	got := h.send(h.lmtp, "dr@mss.clinic.test", p.letter(), "x@mss.clinic.test", "x@dest.test")
	if !strings.HasPrefix(got[0], "451 4.7.1 ") || got[1] != ok || len(h.sink.To("x@mss.clinic.test")) != 0 {
		t.Errorf("got %q, %d left", got, len(h.sink.To("x@mss.clinic.test")))
	}
}
