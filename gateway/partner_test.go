package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// wiretap hands connections on to addr and keeps what the client wrote.
func wiretap(t *testing.T, addr string) (string, *lockedBuffer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	heard := newBuffer()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", addr)
			if err != nil {
				c.Close()
				continue
			}
			go func() { io.Copy(io.MultiWriter(s, heard), c); s.Close() }()
			go func() { io.Copy(c, s); c.Close() }()
		}
	}()
	return l.Addr().String(), heard
}

const partnerRules = "encrypt: {keys: {leroy@labo.test: \"{key}\"}}\npickup: {url: \"http://{portal}\"}\n" +
	"rules:\n  - {name: named, recipient: [\"named@*\"], route: plain, hop: other}\n  - {name: keys, has: [openpgp], route: encrypt, form: openpgp}\n" +
	"  - {name: plain, recipient: [\"plain@*\"], route: plain}\n  - {name: rest, route: pickup}\n"

// atPartner opens a house with a partner's hop for labo.test and all below chu.test, and another hop that a rule names.
func atPartner(t *testing.T, addr, ca, other string) *house {
	t.Helper()
	text := strings.Replace(withRules(partnerRules), "  internet:", "  labo: {addr: \""+addr+"\", tls: verify, ca: \""+ca+"\", server_name: mx.labo.test, domains: [labo.test, \"*.chu.test\"]}\n"+
		"  other: {addr: \""+other+"\", tls: none}\n  internet:", 1)
	return custom(t, text, nil, func(h *house) { h.key = recipientKey(t, h.dir, "leroy@labo.test") })
}

// A partner's letters, plain, encrypted or a notice, go by his hop alone; a rule's own hop wins; everybody else goes by internet.
func TestPartnerHop(t *testing.T) {
	ca, cert, caFile := partnerCA(t, gatewaytest.Leaf{Subject: pkix.Name{CommonName: "mx"}, DNS: []string{"mx.labo.test"}})
	labo, other := startHop(t, gatewaytest.Options{TLS: ca.ServerTLS(cert, false)}), startHop(t, gatewaytest.Options{})
	h := atPartner(t, labo.Addr(), caFile, other.Addr())
	for to, hop := range map[string]*gatewaytest.NextHop{
		"plain@labo.test": labo, "leroy@labo.test": labo, "patient@labo.test": labo, "plain@a.b.chu.test": labo, "patient@x.chu.test": labo,
		"plain@chu.test": h.sink, "plain@xlabo.test": h.sink, "plain@sub.labo.test": h.sink, "patient@dest.test": h.sink, "named@labo.test": other,
	} {
		if got := h.send(h.lmtp, "dr@clinic.test", hello, to); codes(got) != "250" {
			t.Fatalf("%s: %q", to, got)
		}
		for name, n := range map[string]*gatewaytest.NextHop{"labo": labo, "internet": h.sink, "other": other} {
			ms := n.To(to)
			if (len(ms) == 1) != (n == hop) {
				t.Errorf("%s: %d messages at %s", to, len(ms), name)
			}
			if n == labo && len(ms) == 1 && ms[0].TLS == nil {
				t.Errorf("%s: in clear", to)
			}
		}
	}
	// Two recipients of one rule share no transaction where their hops differ.
	labo.Reset()
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "plain@labo.test", "plain@dest.test", "plain@y.chu.test"); codes(got) != "250 250 250" {
		t.Errorf("got %q", got)
	}
	if ms := labo.Messages(); len(ms) != 1 || len(ms[0].Recipients) != 2 || len(h.sink.To("plain@dest.test")) != 1 {
		t.Errorf("%d at the partner's", len(ms))
	}
	if log := h.log.String(); !strings.Contains(log, `"hop":"labo"`) {
		t.Error("the log does not name the hop")
	}
	g, err := gateway.OpenReadOnly(t.Context(), h.cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, to := range []string{"plain@labo.test", "leroy@labo.test", "patient@labo.test"} {
		if x, err := g.Explain(t.Context(), "dr@clinic.test", to, []byte(strings.ReplaceAll(hello, "\n", "\r\n"))); err != nil || x.Hop != labo.Addr()+" (hops.labo)" {
			t.Errorf("explain %s: %v, %+v", to, err, x)
		}
	}
	if w := g.CheckPartners(t.Context()); len(w) != 0 {
		t.Errorf("check: %q", w)
	}
}

// A partner who cannot be verified gets nothing, by no way; the clinic's server keeps the message.
func TestPartnerThatDoesNotVerify(t *testing.T) {
	ca, good, caFile := partnerCA(t, gatewaytest.Leaf{DNS: []string{"mx.labo.test"}})
	issue := func(l gatewaytest.Leaf) *gatewaytest.Issued {
		i, err := ca.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	old := ca.ServerTLS(good, false)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for name, c := range map[string]struct {
		tls    *tls.Config
		reason string
	}{
		"wrong name":   {ca.ServerTLS(issue(gatewaytest.Leaf{DNS: []string{"mx.evil.test"}}), false), "mx.evil.test"},
		"expired":      {ca.ServerTLS(issue(gatewaytest.Leaf{DNS: []string{"mx.labo.test"}, Days: -1}), false), "expired"},
		"self-signed":  {selfSigned(t, "mx.labo.test"), "unknown authority"},
		"no STARTTLS":  {nil, "STARTTLS"},
		"TLS 1.1 only": {old, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			labo := startHop(t, gatewaytest.Options{TLS: c.tls})
			addr, heard := wiretap(t, labo.Addr())
			h := atPartner(t, addr, caFile, "127.0.0.1:1")
			for _, to := range []string{"plain@labo.test", "leroy@labo.test", "patient@labo.test"} {
				got := h.send(h.lmtp, "dr@clinic.test", hello, to)
				if codes(got) != "451" {
					t.Errorf("%s: %q", to, got)
				}
				t.Logf("%s: %q", to, got)
			}
			if n := len(labo.Messages()) + len(h.sink.Messages()); n != 0 {
				t.Errorf("%d messages left", n)
			}
			for _, s := range []string{"MAIL", "dr@clinic", "bonjour", "essai"} {
				if strings.Contains(heard.String(), s) {
					t.Errorf("%q went over the wire in clear", s)
				}
			}
			if !strings.Contains(h.log.String(), c.reason) {
				t.Errorf("the log does not say %q:\n%s", c.reason, h.log.String())
			}
			g, err := gateway.OpenReadOnly(t.Context(), h.cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			if w := g.CheckPartners(t.Context()); len(w) != 1 || !strings.Contains(w[0], "hops.labo: mail for *.chu.test, labo.test waits") || !strings.Contains(w[0], c.reason) {
				t.Errorf("check: %q", w)
			}
		})
	}
}

func startHop(t *testing.T, o gatewaytest.Options) *gatewaytest.NextHop {
	t.Helper()
	n, err := gatewaytest.StartNextHop(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func partnerCA(t *testing.T, l gatewaytest.Leaf) (*gatewaytest.CA, *gatewaytest.Issued, string) {
	t.Helper()
	ca, err := gatewaytest.NewCA("partner")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(l)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, ca.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca, cert, path
}

func selfSigned(t *testing.T, name string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
