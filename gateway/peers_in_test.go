package gateway_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/config"
	"passerelle/gateway/gatewaytest"
)

// listening has the door of the trust space open.
func listening(text string) string {
	return strings.Replace(text, "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1)
}

// TestPeersInbound lets every audit domain write to the clinic: a bad peer delivers nothing, and its message comes once it is good.
func TestPeersInbound(t *testing.T) {
	p := newIGC(t)
	h := custom(t, listening(withRules("rules:\n  - {name: rest, route: plain}\n"))+p.spaceText("", audits, nil), nil, nil)
	bad := map[string]*gatewaytest.Issued{} // before the first list is fetched
	for _, a := range audits {
		if a.bad != nil {
			bad[a.name] = a.bad(p, a.cn())
		}
	}
	for _, a := range audits {
		t.Run(a.name, func(t *testing.T) {
			h.t = t
			from, to, letter := "dr.peer@"+a.domain(), fmt.Sprintf("dr%d@clinic.test", p.n.Add(1)), p.letter()
			good := p.issue(a.cn(), nil)
			want := ok
			switch {
			case a.bad != nil:
				want = a.in
				got := h.write(bad[a.name], nil, from, to, letter)
				if !strings.HasPrefix(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
				want = got
			case a.noTLS:
				got := h.write(nil, nil, from, to, letter)
				if !strings.HasPrefix(got, a.in) {
					t.Errorf("got %q, want %q", got, a.in)
				}
				want = got
			}
			if n := len(h.clinic.To(to)); n != 0 {
				t.Errorf("%d messages of a bad peer", n)
			}
			if !a.noTLS { // a handshake ends before its line is written
				until(t, "the log says "+a.log, func() bool { return strings.Contains(h.log.String(), a.log) })
			}
			if got := h.write(good, nil, from, to, letter); got != ok {
				t.Errorf("good: got %q", got)
			}
			if n := len(h.clinic.To(to)); n != 1 {
				t.Errorf("%d messages of the good peer", n)
			}
			t.Logf("%s: %s", a.name, want)
		})
	}
	h.t = t
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		a := audits[0]
		if got := h.write(p.issue(a.cn(), nil), &tls.Config{MinVersion: version, MaxVersion: version}, "dr@"+a.domain(), "dr@clinic.test", p.letter()); got != ok {
			t.Errorf("%s: %q", tls.VersionName(version), got)
		}
	}
	if got := h.write(p.issue(audits[0].cn(), nil), &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "dr@"+audits[0].domain(), "dr@clinic.test", p.letter()); !strings.HasPrefix(got, "TLS: ") {
		t.Errorf("TLS 1.1: %q", got)
	}
	if got := h.write(p.issue(audits[0].cn(), nil), nil, "dr@"+audits[1].domain(), "dr@clinic.test", p.letter()); got != inName {
		t.Errorf("another's domain: %q", got)
	}
}

// TestSuspendedDomain: a domain that was listed and is no more gets nothing and delivers nothing; listed again, it does.
func TestSuspendedDomain(t *testing.T) {
	p := newIGC(t)
	a, other := audit{name: "suspendu"}, audit{name: "autre"}
	cert := p.issue(a.cn(), nil)
	f := p.far(cert)
	rules := listening(withRules("rules:\n  - {name: peers, domain: [\"*.audit.test\"], route: trust}\n  - {name: rest, route: plain}\n"))
	hosts := map[string]string{a.domain(): f.addr}
	with, without := rules+p.spaceText("", []audit{a, other}, hosts), rules+p.spaceText("", []audit{other}, hosts)
	h := custom(t, with, nil, nil)
	put := func(text string) {
		t.Helper()
		path := filepath.Join(h.dir, "passerelle.yaml")
		text = strings.NewReplacer("{dir}", h.dir, "{lmtp}", h.lmtp, "{smtp}", h.smtp, "{trust}", h.trust, "{clinic}", h.clinic.Addr(), "{sink}", h.sink.Addr()).Replace(text)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := h.g.Reload(t.Context(), func() (*config.Config, error) { return config.Load(path, os.LookupEnv) }); err != nil {
			t.Fatal(err)
		}
	}
	both := func(when, out, in string, n int) {
		t.Helper()
		wantReply(t, when, h.send(h.lmtp, "dr@mss.clinic.test", p.letter(), "x@"+a.domain()), out)
		if got := h.write(cert, nil, "x@"+a.domain(), "dr@clinic.test", p.letter()); got != in {
			t.Errorf("%s, inbound: got %q, want %q", when, got, in)
		}
		if to, of := len(f.hop.Messages()), len(h.clinic.To("dr@clinic.test")); to != n || of != n {
			t.Errorf("%s: %d messages went, %d came, want %d each", when, to, of, n)
		}
	}
	both("listed", ok, ok, 1)
	put(without)
	both("suspended", "550 5.7.1 Le domaine du destinataire n'est pas dans l'espace de confiance MSSante, verifiez l'adresse ou choisissez un autre mode d'envoi", inName, 1)
	put(with)
	both("listed again", ok, ok, 2)
	if n := len(h.sink.Messages()); n != 0 {
		t.Errorf("%d messages left by the Internet", n)
	}
}
