package gateway_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// TestPeerPostfix has a real Postfix as an operator of the trust space: while its certificate is revoked it gets nothing and delivers nothing,
// its queue holds what it wrote; once the certificate is good again both messages arrive.
func TestPeerPostfix(t *testing.T) {
	if err := gatewaytest.PostfixTools(); err != nil {
		if testing.Short() {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	p, a := newIGC(t), audit{name: "postfix"}
	cert := p.issue(a.cn(), nil)
	key, err := cert.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	// The chain as operators install it: the certificate and who signed it, but not the root.
	dir, chain := t.TempDir(), append(cert.CertPEM(), p.inter.CertPEM()...)
	for name, b := range map[string][]byte{"key.pem": key, "cert.pem": chain, "ca.pem": p.root.CertPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port, err := gatewaytest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	by, opt := lead()
	text := listening(withRules("rules:\n  - {name: listed, trust_domain: true, route: trust}\n  - {name: rest, route: plain}\n"))
	h := custom(t, text+p.spaceText("  revocation: {ocsp: off}\n", []audit{a}, map[string]string{a.domain(): fmt.Sprint("127.0.0.1:", port)}), nil, func(h *house) { h.opts = append(h.opts, opt) })
	mailbox := startHop(t, gatewaytest.Options{})
	_, trustPort, _ := net.SplitHostPort(h.trust)
	relay := "[127.0.0.1]:" + trustPort
	far, err := gatewaytest.StartPostfix(t.Context(), gatewaytest.PostfixOptions{Name: "operator", Port: port, Domains: []string{a.domain()}, LocalHop: mailbox.Addr(), Main: []string{
		"relayhost = " + relay, "smtp_tls_policy_maps = inline:{ {" + relay + " = encrypt} }",
		"smtp_tls_cert_file = " + dir + "/cert.pem", "smtp_tls_key_file = " + dir + "/key.pem", "smtp_tls_CAfile = " + dir + "/ca.pem",
		"smtpd_tls_security_level = may", "smtpd_tls_ask_ccert = yes", "smtpd_tls_CAfile = " + dir + "/ca.pem",
		"smtpd_tls_cert_file = " + dir + "/cert.pem", "smtpd_tls_key_file = " + dir + "/key.pem",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	p.inter.Revoke(cert)
	to, letter := "dr@"+a.domain(), p.letter()
	wantReply(t, "revoked", h.send(h.lmtp, "dr@mss.clinic.test", letter, to), strings.ReplaceAll(outTLS, "{domain}", a.domain()))
	if got := h.once(far.Addr(), to, p.letter(), "dr@clinic.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	for n := 0; !strings.Contains(h.log.String(), `"listener":"trust"`) || !strings.Contains(h.log.String(), "certificate is revoked"); n++ {
		if n == 1000 {
			t.Fatalf("Postfix never came: %s", h.log.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n, m := len(mailbox.Messages()), len(h.clinic.Messages()); n != 0 || m != 0 {
		t.Fatalf("%d messages at the revoked operator, %d of it", n, m)
	}
	p.inter.Restore(cert)
	by.Store(int64(61 * time.Minute)) // its list is looked for again
	for n := 0; len(mailbox.To(to)) == 0 || len(h.clinic.To("dr@clinic.test")) == 0; n++ {
		if n == 600 {
			t.Fatalf("%d went, %d came: %s\n%s", len(mailbox.To(to)), len(h.clinic.To("dr@clinic.test")), h.log.String(), far.LogText())
		}
		if len(mailbox.To(to)) == 0 {
			h.send(h.lmtp, "dr@mss.clinic.test", letter, to)
		}
		if n%50 == 49 { // it may have given the whole transport a rest of a minute
			if err := far.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n, m := len(mailbox.Messages()), len(h.clinic.Messages()); n != 1 || m != 1 || len(h.sink.Messages()) != 0 {
		t.Errorf("%d went, %d came, %d by the Internet", n, m, len(h.sink.Messages()))
	}
}
