package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

func listFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const knownRules = "rules:\n  - {name: space, trust_domain: true, route: trust}\n  - {name: near, lookalike: true, route: refuse, text: \"Domaine douteux\"}\n  - {name: rest, route: plain}\n"

// A correspondent with an MSSante address, written to elsewhere: the message leaves as the rule says, and the sender is told once a week.
func TestKnownAsSuggested(t *testing.T) {
	var clock atomic.Int64
	list := listFile(t, "adresse;mss;rpps\nmarie@dest.test;marie.durand@peer.mssante.test;\nplain@dest.test;;\n")
	h := newInSpace(t, knownRules+"#directory: known_as: suggest, list: \""+list+"\"\n", nil, func(h *house) {
		h.opts = append(h.opts, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }))
	})
	const from = "dr@mss.clinic.test"
	told := func() (n int) {
		for _, m := range h.clinic.To(from) {
			if data := string(m.Data); strings.Contains(data, "MSSant=C3=A9") && strings.Contains(data, "marie.durand@peer.mssante.test") && strings.Contains(data, "Auto-Submitted: auto-generated") {
				n++
			}
		}
		return n
	}
	for range 3 {
		if got := h.send(h.lmtp, from, hello, "marie@dest.test", "plain@dest.test"); codes(got) != "250 250" {
			t.Fatal(got)
		}
	}
	if n := told(); n != 1 || len(h.clinic.Messages()) != 1 {
		t.Errorf("told %d times in %d mails", n, len(h.clinic.Messages()))
	}
	if n := len(h.sink.To("marie@dest.test")); n != 3 {
		t.Errorf("%d copies left as the rule says", n)
	}
	h.send(h.lmtp, from, "Auto-Submitted: auto-replied\n"+hello, "marie@dest.test")
	h.send(h.lmtp, "", hello, "marie@dest.test")
	if n := told(); n != 1 {
		t.Errorf("a machine was told: %d", n)
	}
	clock.Store(int64(8 * 24 * time.Hour))
	h.clinicRefuses = func() bool { return true } // the telling fails, the message does not
	if got := h.send(h.lmtp, from, hello, "marie@dest.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	h.clinicRefuses = nil
	if got := h.send(h.lmtp, from, hello, "marie@dest.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	if n := told(); n != 2 {
		t.Errorf("told %d times after a week", n)
	}
	if got := h.send(h.lmtp, from, hello, "a@gmial.com"); codes(got) != "550" || !strings.Contains(got[0], "Domaine douteux") {
		t.Errorf("near gmail.com: %q", got)
	}
	if strings.Contains(h.log.String(), "marie") {
		t.Error("the log names who was written to")
	}
}

// A link that the operator confirmed is followed into the trust space, header untouched; who may not write there is not redirected.
func TestKnownAsRedirected(t *testing.T) {
	list := listFile(t, "adresse;mss;oppose\nmarie@dest.test;marie.durand@peer.mssante.test;\naway@dest.test;nobody@unlisted.test;\nno@dest.test;marie.durand@peer.mssante.test;oui\n")
	h := newInSpace(t, knownRules+"#directory: known_as: redirect, list: \""+list+"\"\n", nil, nil)
	if got := h.send(h.lmtp, "dr@mss.clinic.test", hello, "marie@dest.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	ms := h.peer.To("marie.durand@peer.mssante.test")
	if len(ms) != 1 || len(h.sink.Messages()) != 0 || !strings.Contains(string(ms[0].Data), "To: <a@dest.test>") {
		t.Fatalf("%d in the trust space, %d outside", len(ms), len(h.sink.Messages()))
	}
	if n := len(h.clinic.To("dr@mss.clinic.test")); n != 1 {
		t.Errorf("the sender was told %d times", n)
	}
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "marie@dest.test"); codes(got) != "250" || len(h.sink.To("marie@dest.test")) != 1 {
		t.Errorf("a sender outside the trust space: %q", got)
	}
	if got := h.send(h.lmtp, "dr@mss.clinic.test", hello, "away@dest.test"); codes(got) != "250" || len(h.sink.To("away@dest.test")) != 1 {
		t.Errorf("a link that leads to no mailbox of the space: %q", got)
	}
	if got := h.send(h.lmtp, "dr@mss.clinic.test", hello, "no@dest.test"); codes(got) != "550" || !strings.Contains(got[0], "s'oppose") {
		t.Errorf("who opposes: %q", got)
	}
	x, err := h.g.Explain(t.Context(), "dr@mss.clinic.test", "marie@dest.test", []byte(strings.ReplaceAll(hello, "\n", "\r\n")))
	if err != nil || x.Instead != "marie.durand@peer.mssante.test" || !strings.Contains(x.Decision.Reason, "redirected") || strings.Contains(x.Decision.Reason, "marie") {
		t.Errorf("%v: to %q, %q", err, x.Instead, x.Decision.Reason)
	}
	if rows := h.rows(); rows["marie@dest.test"] != "delivered delivered" || rows["marie.durand@peer.mssante.test"] != "" {
		t.Errorf("the ledger must name whom the sender wrote to: %v", rows)
	}
}

// Of a person with several mailboxes the sender is told of all, and nothing is redirected: the RPPS does not say which one he reads.
func TestKnownAsSeveral(t *testing.T) {
	const rpps = "10003456786"
	list := listFile(t, "adresse;rpps\nmarie@dest.test;"+rpps+"\nlabo@refuse.test;"+rpps+"\n")
	for _, mode := range []string{"suggest", "redirect"} {
		t.Run(mode, func(t *testing.T) {
			h := newInSpace(t, "rules:\n  - {name: space, trust_domain: true, route: trust}\n  - {name: told, domain: [refuse.test], known_as: true, route: refuse, text: Non}\n  - {name: rest, route: plain}\n"+
				"#directory: known_as: "+mode+", list: \""+list+"\"\n", nil, func(h *house) {
				var boxes []gatewaytest.Mailbox
				for i := range 500 {
					boxes = append(boxes, gatewaytest.Doctor(fmt.Sprintf("d%d@peer.mssante.test", i), "Paul", "Petit"))
				}
				for _, a := range []string{"m.durand@peer.mssante.test", "durand@chu.mssante.test"} {
					d := gatewaytest.Doctor(a, "Marie", "Durand")
					d.RPPS = rpps
					boxes = append(boxes, d)
				}
				newer := filepath.Join(t.TempDir(), "newer.txt")
				if err := gatewaytest.WriteDirectory(newer, boxes...); err != nil {
					t.Fatal(err)
				}
				if _, err := gateway.ImportDirectory(t.Context(), filepath.Join(h.dir, "state"), newer, true, nil); err != nil {
					t.Fatal(err)
				}
			})
			if got := h.send(h.lmtp, "dr@mss.clinic.test", hello, "marie@dest.test"); codes(got) != "250" || len(h.sink.To("marie@dest.test")) != 1 || len(h.peer.Messages()) != 0 {
				t.Fatalf("%q, %d in the trust space", got, len(h.peer.Messages()))
			}
			told := h.clinic.To("dr@mss.clinic.test")
			if len(told) != 1 || !strings.Contains(string(told[0].Data), "durand@chu.mssante.test") || !strings.Contains(string(told[0].Data), "m.durand@peer.mssante.test") {
				t.Fatalf("told %d times", len(told))
			}
			got := h.send(h.lmtp, "dr@mss.clinic.test", hello, "labo@refuse.test")
			if codes(got) != "550" || !strings.HasSuffix(got[0], ": durand@chu.mssante.test, m.durand@peer.mssante.test") {
				t.Errorf("the refusal: %q", got)
			}
		})
	}
}

// An alias is decided on its target and goes there, under any sender and any mode of known_as.
func TestAliasDecidedOnItsTarget(t *testing.T) {
	list := listFile(t, "adresse;alias_of;oppose\ncabinet@clinic.test;marie@dest.test;\nmarie@dest.test;marie.durand@peer.mssante.test;\nfour@clinic.test;shop@dest.test;\nshop@dest.test;;\nstop@clinic.test;end@dest.test;\nend@dest.test;;oui\n")
	h := newInSpace(t, knownRules+"#directory: list: \""+list+"\"\n", func(to string) gatewaytest.Reply { return gatewaytest.Reply{} }, nil)
	got := h.send(h.lmtp, "dr@mss.clinic.test", hello, "cabinet@clinic.test", "four@clinic.test", "stop@clinic.test", "dr@clinic.test")
	if codes(got) != "250 250 550 250" {
		t.Fatal(got)
	}
	if len(h.peer.To("marie.durand@peer.mssante.test")) != 1 || len(h.sink.To("shop@dest.test")) != 1 || len(h.clinic.To("dr@clinic.test")) != 1 ||
		len(h.sink.Messages()) != 1 || len(h.clinic.Messages()) != 1 {
		t.Errorf("trust %d, outside %d, home %d", len(h.peer.Messages()), len(h.sink.Messages()), len(h.clinic.Messages()))
	}
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "cabinet@clinic.test"); codes(got) != "550" {
		t.Errorf("a sender who may not write to the target: %q", got)
	}
	h.mirror(false)
	h.cfg.Trust.ListedUnverified = "refuse"
	if got := h.send(h.lmtp, "dr@mss.clinic.test", hello, "four@clinic.test"); codes(got) != "250" {
		t.Errorf("a target outside the space while the directory is away: %q", got)
	}
}

// While its hop is slow, the ledger names whom the sender wrote to, as it does once the copy is there.
func TestAliasBehindASlowHop(t *testing.T) {
	g := newGate(t)
	text := strings.Replace(withRules("relay: {timeout: 1s, slow_after: 200ms}\nrules:\n  - {name: slow, domain: [slow.test], route: plain, hop: slow}\n  - {name: rest, route: plain}\n"),
		"hops:\n", "hops:\n  slow: {addr: \""+g.hop.Addr()+"\", tls: none}\n", 1) + "directory: {list: \"" + listFile(t, "adresse;alias_of\ncabinet@dest.test;slow@slow.test\nslow@slow.test;\n") + "\"}\n"
	h := custom(t, text, nil, nil)
	if got := h.once(h.lmtp, "dr@clinic.test", hello, "cabinet@dest.test"); codes(got) != "451" {
		t.Fatal(got)
	}
	g.open()
	if got := h.settled(h.lmtp, "dr@clinic.test", "cabinet@dest.test"); got != "250" || len(g.hop.To("slow@slow.test")) != 1 {
		t.Fatal(got)
	}
	if why := h.reasonFor("cabinet@dest.test"); strings.Count(why, "\n") != 1 {
		t.Errorf("the ledger says of whom the sender wrote to: %q, want two rows", why)
	}
}
