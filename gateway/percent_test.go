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
