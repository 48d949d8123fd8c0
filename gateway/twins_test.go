package gateway_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// Who is written to at both his addresses, or at two that lead to one mailbox, gets one copy; each of the two addresses has its reply and its
// row. Whom the client names twice in the same words is served twice, as it asked.
func TestOneMailboxTwice(t *testing.T) {
	list := listFile(t, "adresse;mss;alias_of;secret\nmarie@dest.test;marie.durand@peer.mssante.test;;\nm.durand@dest.test;marie.durand@peer.mssante.test;;\n"+
		"cabinet@dest.test;;leroy@sealed.test;\ndocteur@dest.test;;leroy@sealed.test;\nleroy@sealed.test;;;une phrase convenue\nshop@dest.test;;plain@dest.test;\nfille@dest.test;;petit@kept.test;\npetit@kept.test;;;\n")
	var refuse atomic.Bool
	h := newInSpace(t, "pickup: {url: \"http://{portal}\"}\nrules:\n  - {name: kept, domain: [kept.test], route: pickup}\n  - {name: space, trust_domain: true, route: trust}\n  - {name: sealed, domain: [sealed.test], has: [secret], route: encrypt, form: zip}\n  - {name: rest, route: plain}\n"+
		"#directory: known_as: redirect, list: \""+list+"\"\n", func(string) gatewaytest.Reply {
		if refuse.Load() {
			return gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 2, 0}, Text: "try again"}
		}
		return gatewaytest.Reply{}
	}, nil)
	const from, box = "dr@mss.clinic.test", "marie.durand@peer.mssante.test"
	asked := 0
	for name, c := range map[string]struct {
		to             []string
		inside, beyond string // the recipients of each message there
	}{
		"both his addresses":         {[]string{"marie@dest.test", box}, "[" + box + "]", ""},
		"the other way round":        {[]string{box, "marie@dest.test NOTIFY=SUCCESS"}, "[" + box + "]", ""},
		"two addresses, others too":  {[]string{"d1@peer.mssante.test", "marie@dest.test", "x@dest.test", "m.durand@dest.test"}, "[d1@peer.mssante.test " + box + "]", "[x@dest.test]"},
		"two aliases, encrypted":     {[]string{"cabinet@dest.test", "docteur@dest.test", "leroy@sealed.test"}, "", "[leroy@sealed.test]"},
		"an alias, plain":            {[]string{"plain@dest.test", "shop@dest.test"}, "", "[plain@dest.test]"},
		"an alias, in the vault":     {[]string{"petit@kept.test", "fille@dest.test"}, "", "[petit@kept.test]"},
		"twice in the client's word": {[]string{"x@dest.test", "X@dest.test"}, "", "[x@dest.test X@dest.test]"},
	} {
		t.Run(name, func(t *testing.T) {
			h.peer.Reset()
			h.sink.Reset()
			asked++
			got := h.send(h.lmtp, from, strings.Replace(hello, "<1@", fmt.Sprintf("<%d@", asked), 1), c.to...)
			if len(got) != len(c.to) || strings.Trim(codes(got), "250 ") != "" {
				t.Fatalf("%q", got)
			}
			var in, out []string
			for _, m := range h.peer.Messages() {
				in = append(in, fmt.Sprint(m.Recipients))
			}
			for _, m := range h.sink.Messages() {
				out = append(out, fmt.Sprint(m.Recipients))
			}
			if strings.Join(in, "") != c.inside || strings.Join(out, "") != c.beyond {
				t.Errorf("in the trust space %q, want %s; beyond %q, want %s", in, c.inside, out, c.beyond)
			}
		})
	}
	h.peer.Reset()
	refuse.Store(true) // the one reply is both's
	if got := h.send(h.lmtp, from, strings.Replace(hello, "<1@", "<later@", 1), "shop@dest.test", "plain@dest.test"); codes(got) != "451 451" {
		t.Errorf("the hop says later: %q", got)
	}
	refuse.Store(false)
	if got := h.send(h.smtp, from, strings.Replace(hello, "<1@", "<smtp@", 1), "marie@dest.test", box); codes(got) != "250" || len(h.peer.Messages()) != 1 {
		t.Errorf("SMTP: %q, %d copies", got, len(h.peer.Messages()))
	}
	rows := h.rows()
	for who, n := range map[string]int{"marie@dest.test": 4, box: 3, "m.durand@dest.test": 1, "cabinet@dest.test": 1, "docteur@dest.test": 1, "leroy@sealed.test": 1, "shop@dest.test": 1, "fille@dest.test": 1, "petit@kept.test": 1, "plain@dest.test": 1} {
		if got := slices.DeleteFunc(strings.Fields(rows[who]), func(s string) bool { return s != "delivered" }); len(got) != n {
			t.Errorf("%s has %q, want %d delivered", who, rows[who], n)
		}
	}
}
