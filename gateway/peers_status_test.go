package gateway_test

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"passerelle/gateway/gatewaytest"
)

// pair is a house and one peer, who write to each other.
type pair struct {
	*igc
	*house
	a      audit
	peer   *gatewaytest.Issued
	far    *far
	ahead  *atomic.Int64 // of the house's clock
	served int           // messages that went, and that came
	held   string        // the message that waits
}

// newPair opens the house; change alters the peer's certificate, revocation is trust.revocation.
func newPair(t *testing.T, p *igc, revocation string, change func(*gatewaytest.Leaf)) *pair {
	t.Helper()
	x := &pair{igc: p, a: audit{name: "pair"}}
	x.peer = p.issue(x.a.cn(), change)
	x.far = p.far(x.peer)
	by, opt := lead()
	x.ahead = by
	text := listening(withRules("rules:\n  - {name: listed, trust_domain: true, route: trust}\n  - {name: rest, route: plain}\n"))
	x.house = custom(t, text+p.spaceText("  revocation: {"+revocation+"}\n", []audit{x.a}, map[string]string{x.a.domain(): x.far.addr}), nil, func(h *house) { h.opts = append(h.opts, opt) })
	return x
}

// want sends a message each way and holds both replies against what is wanted: ok, or how they begin. What waited goes first.
func (x *pair) want(when, out, in string) {
	t := x.house.t
	t.Helper()
	out = strings.ReplaceAll(out, "{domain}", x.a.domain())
	letter := x.held
	if letter == "" {
		letter = x.letter()
	}
	if got := x.send(x.lmtp, "dr@mss.clinic.test", letter, "dr@"+x.a.domain()); got[0] != out {
		t.Errorf("%s, outbound: got %q, want %q", when, got, out)
	}
	if got := x.write(x.peer, nil, "dr@"+x.a.domain(), "dr@clinic.test", letter); !strings.HasPrefix(got, in) {
		t.Errorf("%s, inbound: got %q, want %q", when, got, in)
	}
	x.held = letter
	if out == ok {
		x.served, x.held = x.served+1, ""
	}
	if a, b := len(x.far.hop.Messages()), len(x.clinic.To("dr@clinic.test")); a != x.served || b != x.served {
		t.Errorf("%s: %d messages went, %d came, want %d each", when, a, b, x.served)
	}
	if s := x.far.inClear(); len(s) > 0 || len(x.sink.Messages()) > 0 {
		t.Errorf("%s: in clear %q, %d by the Internet", when, s, len(x.sink.Messages()))
	}
	t.Logf("%s: out %q, in %q", when, out, in)
}

func (x *pair) good(when string)      { x.house.t.Helper(); x.want(when, ok, ok) }
func (x *pair) doubt(when string)     { x.house.t.Helper(); x.want(when, outTLS, inDoubt) }
func (x *pair) refused(when string)   { x.house.t.Helper(); x.want(when, outTLS, "TLS") }
func (x *pair) clock(d time.Duration) { x.ahead.Store(int64(d)) }

// TestStatusUnreachable: what was good counts for its time and the grace while nobody answers, and not longer; what waits goes out when
// somebody does.
func TestStatusUnreachable(t *testing.T) {
	for name, revocation := range map[string]string{"CRL": "ocsp: off", "OCSP": "ocsp: require, fetch: false", "OCSP of what the lists do not tell": "ocsp: fallback"} {
		t.Run(name, func(t *testing.T) {
			p := newIGC(t)
			noCRL := strings.HasPrefix(name, "OCSP of")
			p.status.Set(gatewaytest.Status{Valid: time.Hour, NoCRL: noCRL})
			p.rootStatus.Set(gatewaytest.Status{Valid: 24 * time.Hour})
			x := newPair(t, p, revocation, nil)
			x.good("all is well")
			p.status.Set(gatewaytest.Status{Down: true})
			x.clock(50 * time.Minute)
			x.good("away, what is held is good")
			x.clock(4*time.Hour + 50*time.Minute)
			x.good("away, within the grace of 4 h")
			x.clock(5*time.Hour + 10*time.Minute)
			x.doubt("away, past the grace")
			if log := x.log.String(); !strings.Contains(log, "revocation-unknown") || !strings.Contains(log, "was to be renewed by") || !strings.Contains(log, "status 503") {
				t.Error("the log does not say why")
			}
			p.status.Set(gatewaytest.Status{NoCRL: noCRL})
			x.clock(5*time.Hour + 30*time.Minute)
			x.good("back")
		})
	}
}

// TestStatusAtFirst: a peer of whom nobody can say anything waits; so does one whose CA serves what is out of date.
func TestStatusAtFirst(t *testing.T) {
	for name, c := range map[string]struct {
		revocation string
		how        gatewaytest.Status
	}{
		"CRL away":           {"ocsp: off", gatewaytest.Status{Down: true}},
		"CRL stale":          {"ocsp: off", gatewaytest.Status{Valid: -time.Hour}},
		"CRL is none":        {"ocsp: off", gatewaytest.Status{CRL: []byte("<html>proxy</html>")}},
		"OCSP away":          {"ocsp: require", gatewaytest.Status{NoOCSP: true}},
		"OCSP stale":         {"ocsp: require", gatewaytest.Status{Valid: -time.Hour}},
		"OCSP stale, no CRL": {"ocsp: prefer, fetch: false", gatewaytest.Status{Valid: -time.Hour}},
		"both away":          {"", gatewaytest.Status{Down: true}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newIGC(t)
			p.status.Set(c.how)
			x := newPair(t, p, c.revocation, nil)
			x.doubt(name)
			p.status.Set(gatewaytest.Status{})
			x.clock(10 * time.Minute)
			x.good("back")
		})
	}
}

// TestStatusEither: where one of the two does not answer, the other is enough, but where require says otherwise.
func TestStatusEither(t *testing.T) {
	for name, c := range map[string]struct {
		revocation string
		how        gatewaytest.Status
	}{
		"fallback, no CRL":  {"", gatewaytest.Status{NoCRL: true}},
		"fallback, no OCSP": {"", gatewaytest.Status{NoOCSP: true}},
		"prefer, no CRL":    {"ocsp: prefer", gatewaytest.Status{NoCRL: true}},
		"prefer, no OCSP":   {"ocsp: prefer", gatewaytest.Status{NoOCSP: true}},
		"require, no CRL":   {"ocsp: require", gatewaytest.Status{NoCRL: true}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newIGC(t)
			p.status.Set(c.how)
			newPair(t, p, c.revocation, nil).good(name)
		})
	}
}

// TestStatusRevoked: revoked while it works, a peer is refused as soon as the list or the answer says so, over kept connections too; taken
// off again (a hold, RFC 5280 section 5.3.1), it is believed again.
func TestStatusRevoked(t *testing.T) {
	for name, revocation := range map[string]string{"CRL": "ocsp: off", "OCSP": "ocsp: require", "the CA's own certificate": ""} {
		t.Run(name, func(t *testing.T) {
			p := newIGC(t)
			x := newPair(t, p, revocation, nil)
			ca, victim := p.inter, x.peer
			if strings.HasPrefix(name, "the CA") {
				ca, victim = p.root, &gatewaytest.Issued{Cert: p.inter.Cert}
			}
			x.good("before")
			ca.Revoke(victim)
			x.clock(time.Hour + time.Minute)
			x.turns("revoked", func(string) bool { return strings.Contains(x.log.String(), "revoked: certificate is revoked") })
			x.refused("revoked")
			time.Sleep(1100 * time.Millisecond) // of two answers of one second the worse counts
			ca.Restore(victim)
			x.clock(2*time.Hour + 10*time.Minute)
			x.turns("restored", func(last string) bool { return !strings.HasPrefix(last, "TLS") })
			x.good("restored")
		})
	}
}

// turns lets the peer knock until what is renewed beside its sessions has come; come is given the last it hears.
func (x *pair) turns(what string, come func(last string) bool) {
	t := x.house.t
	t.Helper()
	until(t, what, func() bool {
		return come(x.write(x.peer, nil, "dr@"+x.a.domain(), "nobody@elsewhere.test", ""))
	})
}

// TestStatusSilent: a responder that says nothing holds a session for the timeout, and the next ones not even that.
func TestStatusSilent(t *testing.T) {
	p := newIGC(t)
	p.status.Set(gatewaytest.Status{Silent: true})
	x := newPair(t, p, "timeout: 300ms", nil)
	began := time.Now()
	x.doubt("silent")
	if d := time.Since(began); d > 10*time.Second { // each asks twice
		t.Errorf("two messages took %s", d)
	}
}

// TestStatusNobody: a certificate that names nobody who would know is believed where a whole list of its issuer is held, else not.
func TestStatusNobody(t *testing.T) {
	p := newIGC(t)
	nameless := func(l *gatewaytest.Leaf) { l.Status = nil }
	newPair(t, p, "", nameless).doubt("names nobody")
	newPair(t, p, fmt.Sprintf("crl: [%q]", p.status.CRLURL()), nameless).good("a list is configured")
	newPair(t, p, fmt.Sprintf("ocsp_url: %q", p.status.OCSPURL()), nameless).good("a responder is configured")
	newPair(t, p, "fetch: false, ocsp: off", nameless).good("nobody is to be asked")
}

// TestStatusAhead: a configured list is there before the first session asks.
func TestStatusAhead(t *testing.T) {
	p := newIGC(t)
	newPair(t, p, fmt.Sprintf("crl: [%q]", p.status.CRLURL()), nil)
	until(t, "somebody looks for the list", func() bool {
		n, _ := p.status.Asked()
		return n > 0
	})
}

// TestStatusOfStrangers: what a certificate names whose chain is not the space's is not fetched, in neither direction.
func TestStatusOfStrangers(t *testing.T) {
	var hits atomic.Int64
	spy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer spy.Close()
	p := newIGC(t)
	x := newPair(t, p, "ocsp: prefer", nil)
	other, err := gatewaytest.NewCA("AC IGC-SANTE TEST ORGANISATIONS")
	if err != nil {
		t.Fatal(err)
	}
	x.peer = p.issueBy(other, x.a.cn(), func(l *gatewaytest.Leaf) {
		l.Status, l.Change = nil, func(c *x509.Certificate) {
			c.CRLDistributionPoints, c.OCSPServer, c.IssuingCertificateURL = []string{spy.URL + "/crl"}, []string{spy.URL + "/ocsp"}, []string{spy.URL + "/ca"}
		}
	})
	x.far.show(x.peer)
	x.refused("a stranger")
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests to what a stranger's certificate names", n)
	}
	x.peer = p.issue(x.a.cn(), nil)
	x.far.show(x.peer)
	x.good("the space's own")
}

// TestStatusKept: lists are kept over a restart and verified again; a folder that somebody wrote in is no proof.
func TestStatusKept(t *testing.T) {
	p := newIGC(t)
	x := newPair(t, p, "ocsp: off", nil)
	x.good("before")
	p.status.Set(gatewaytest.Status{Down: true})
	p.rootStatus.Set(gatewaytest.Status{Down: true})
	x.stop()
	x.start()
	x.good("after a restart, all CA servers away")
	x.stop()
	lists, err := filepath.Glob(filepath.Join(x.house.dir, "state", "revocation", "*.crl"))
	if err != nil || len(lists) != 2 {
		t.Fatalf("%q, %v", lists, err)
	}
	for _, l := range lists {
		raw, err := os.ReadFile(l)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)-1] ^= 1
		if fi, _ := os.Stat(l); fi.Mode().Perm() != 0o600 {
			t.Errorf("mode %s", fi.Mode())
		}
		if err := os.WriteFile(l, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x.start()
	x.doubt("the kept lists were tampered with")
	x.stop() // its wait after a failure
	p.status.Set(gatewaytest.Status{})
	p.rootStatus.Set(gatewaytest.Status{})
	x.start()
	x.good("fetched again")
}

// TestStatusDelegate: a responder that its CA made one is believed; another certificate of the CA is not.
func TestStatusDelegate(t *testing.T) {
	p := newIGC(t)
	by, err := p.inter.Responder()
	if err != nil {
		t.Fatal(err)
	}
	p.status.Set(gatewaytest.Status{Delegate: p.issue("smtp.quelconque.test", nil)})
	x := newPair(t, p, "ocsp: require", nil)
	x.doubt("answered by an operator")
	if !strings.Contains(x.log.String(), "no OCSP responder") {
		t.Error("the log does not say why")
	}
	p.status.Set(gatewaytest.Status{Delegate: by})
	x.clock(time.Minute)
	x.good("answered by a delegate")
}

// TestStatusStapled: what a peer's handshake brings counts as if it had been asked for; another's does not.
func TestStatusStapled(t *testing.T) {
	p := newIGC(t)
	p.status.Set(gatewaytest.Status{NoOCSP: true})
	x := newPair(t, p, "ocsp: require, fetch: false", nil)
	staple := func(serial *big.Int, valid time.Duration) {
		t.Helper()
		raw, err := p.inter.OCSP(&ocsp.Request{HashAlgorithm: crypto.SHA1, SerialNumber: serial}, valid, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := x.peer.TLS()
		c.OCSPStaple = raw
		x.far.cert.Store(&c)
	}
	serial := x.peer.Cert.SerialNumber
	staple(new(big.Int).Add(serial, big.NewInt(1)), time.Hour)
	x.doubt("another's answer")
	staple(serial, -time.Hour)
	x.clock(time.Minute)
	x.doubt("an old answer")
	staple(serial, time.Hour)
	x.clock(2 * time.Minute)
	x.good("its own") // inbound by the answer that the outbound session brought
}

// TestStatusOpenSSL asks OpenSSL's own responder.
func TestStatusOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if testing.Short() {
			t.Skip("no openssl")
		}
		t.Fatal("install the Debian package openssl")
	}
	p := newIGC(t)
	by, err := p.inter.Responder()
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	at := "ocsp: require, fetch: false, ocsp_url: \"http://" + addr + "\""
	x, gone, unknown := newPair(t, p, at, nil), newPair(t, p, at, nil), newPair(t, p, at, nil)
	p.inter.Revoke(gone.peer)
	dir := t.TempDir()
	if err := p.inter.WriteOpenSSL(dir, by, x.peer, gone.peer); err != nil {
		t.Fatal(err)
	}
	x.doubt("the responder is not up")
	_, port, _ := strings.Cut(addr, ":")
	cmd := exec.Command("openssl", "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "signer.pem", "-rkey", "signer-key.pem", "-port", port, "-nmin", "5", "-ignore_err")
	cmd.Dir = dir
	said := newBuffer()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	until(t, "openssl listens", func() bool {
		c, err := http.Get("http://" + addr + "/")
		if err == nil {
			c.Body.Close()
		}
		return err == nil
	})
	x.clock(time.Minute)
	x.good("openssl says good")
	gone.refused("openssl says revoked")
	unknown.doubt("openssl does not know it")
	if t.Failed() {
		t.Log(said.String(), x.log.String())
	}
}
