package gateway_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/keyring"
)

const sealedRules = "pickup: {url: \"http://{portal}\"}\nrules:\n  - {name: open, recipient: [\"open@*\"], route: plain}\n" +
	"  - {name: keys, has: [smime, openpgp], route: encrypt}\n  - {name: rest, route: pickup}\n"

// leaves sends a letter to each and says what left to him: smime, openpgp, notice, plain, or the reply's code.
func leaves(t *testing.T, h *house, to ...string) []string {
	t.Helper()
	before := map[string]int{}
	for _, r := range to {
		before[r] = len(h.sink.To(r))
	}
	codes := h.send(h.lmtp, "dr@clinic.test", fmt.Sprintf("From: <dr@clinic.test>\nTo: <x@x.test>\nSubject: s\nMessage-ID: <%d@clinic.test>\n\nMARQUEUR-4713\n", time.Now().UnixNano()), to...)
	var out []string
	for i, r := range to {
		ms := h.sink.To(r)
		switch {
		case len(ms) == before[r]:
			out = append(out, codes[i][:3])
		case bytes.Contains(ms[len(ms)-1].Data, []byte("application/pkcs7-mime")):
			out = append(out, "smime")
		case bytes.Contains(ms[len(ms)-1].Data, []byte("application/pgp-encrypted")):
			out = append(out, "openpgp")
		case bytes.Contains(ms[len(ms)-1].Data, []byte("MARQUEUR")):
			out = append(out, "plain")
		default:
			out = append(out, "notice")
		}
	}
	return out
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestKeyDirectory: who has a key in his domain's directory gets OpenPGP, who has none the next step; a directory that is away holds up nothing, or
// only what a rule would seal, as the operator says; nobody else's domain is asked.
func TestKeyDirectory(t *testing.T) {
	dir := t.TempDir()
	ca, err := gatewaytest.NewCA("web")
	if err != nil {
		t.Fatal(err)
	}
	web, err := gatewaytest.ServeKeys(ca, "a.test", "down.test", "other.test", "clinic.test")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	names, err := gatewaytest.StartNameServer()
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	for _, d := range []string{"a.test", "other.test", "clinic.test"} {
		names.A(d, "127.0.0.1")
	}
	names.A("down.test", "127.0.0.9") // nobody listens
	for i := range 20 {
		names.A(fmt.Sprintf("silent%d.a.test", i), "127.0.0.1")
	}
	gpg, err := gatewaytest.NewGnuPG()
	if err != nil {
		t.Fatal(err)
	}
	defer gpg.Close()
	if _, err := gpg.Run(nil, "--quick-generate-key", "Dr A <dr@a.test>", "future-default", "default", "never"); err != nil {
		t.Fatal(err)
	}
	key, err := gpg.Run(nil, "--export", "dr@a.test")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := gpg.Hash("dr@a.test")
	if err != nil {
		t.Fatal(err)
	}
	web.Publish("a.test", hash, "a.test", key)
	pem := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(pem, ca.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	h := custom(t, withRules("encrypt: {min_trust: discovered, wkd: {enabled: true, domains: [a.test, down.test], unreachable: skip, timeout: 2s, ca: \"{pem}\", networks: [127.0.0.0/8]}}\n"+sealedRules), nil,
		func(h *house) {
			h.opts = []gateway.Option{gateway.Resolver(names.Resolver()), gateway.KeyPort(web.Port), gateway.Clock(func() time.Time { return time.Now().Add(time.Minute) })}
		}, "{pem}", pem)
	expect(t, "first", leaves(t, h, "dr@a.test", "nobody@a.test", "x@down.test", "x@other.test", "open@a.test"), "openpgp", "notice", "notice", "notice", "plain")
	ms := h.sink.To("dr@a.test")
	sealed := ms[len(ms)-1].Data
	i, j := bytes.Index(sealed, []byte("-----BEGIN PGP MESSAGE")), bytes.Index(sealed, []byte("-----END PGP MESSAGE-----"))
	if i < 0 || j < 0 {
		t.Fatalf("no OpenPGP message:\n%s", sealed)
	}
	if open, err := gpg.Run(sealed[i:j+26], "--decrypt"); err != nil || !bytes.Contains(open, []byte("MARQUEUR-4713")) {
		t.Errorf("gpg: %v\n%s", err, open)
	}
	asked := web.Asked()
	if len(asked) != 3 || slices.ContainsFunc(asked, func(s string) bool { return !strings.HasPrefix(s, "a.test/") }) {
		t.Errorf("asked %q, want the three of a.test once", asked)
	}
	expect(t, "the same day", leaves(t, h, "dr@a.test", "nobody@a.test"), "openpgp", "notice")
	if asked := web.Asked(); len(asked) != 0 {
		t.Errorf("asked again within the day: %q", asked)
	}
	x, err := h.g.Explain(t.Context(), "dr@clinic.test", "dr@a.test", []byte("From: <dr@clinic.test>\r\n\r\nx\r\n"))
	if err != nil || !strings.Contains(x.Decision.Reason, "discovered (wkd)") {
		t.Errorf("explain: %v, %+v", err, x)
	}

	stop := make(chan struct{})
	defer close(stop)
	web.Answer(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("x@silent%d.a.test", i))
	}
	begin := time.Now()
	if got := leaves(t, h, many...); slices.ContainsFunc(got, func(s string) bool { return s != "notice" }) {
		t.Errorf("twenty silent domains: %q", got)
	}
	if took := time.Since(begin); took > 12*time.Second {
		t.Errorf("twenty silent domains held a message for %s", took)
	}

	h.reload(t, "unreachable: skip", "unreachable: wait")
	expect(t, "wait", leaves(t, h, "dr@a.test", "x@down.test", "open@down.test", "x@other.test"), "openpgp", "451", "plain", "notice")
	h.reload(t, "enabled: true", "enabled: false")
	expect(t, "off", leaves(t, h, "x@down.test"), "notice")
	if log := h.log.String(); strings.Contains(log, "nobody@") || strings.Contains(log, hash) || strings.Contains(log, "?l=") {
		t.Error("the log names an address")
	}
}

// holder is a certificate of a CA for a mailbox, in PEM.
func holder(t *testing.T, ca *gatewaytest.CA, address string, status *gatewaytest.StatusServer, change func(*x509.Certificate)) *gatewaytest.Issued {
	t.Helper()
	i, err := ca.Issue(gatewaytest.Leaf{Subject: pkix.Name{CommonName: address}, Status: status, Change: func(c *x509.Certificate) {
		c.EmailAddresses, c.KeyUsage, c.ExtKeyUsage = []string{address}, x509.KeyUsageKeyAgreement|x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
		if change != nil {
			change(c)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestCertificates: with roots, what is sealed to has a chain to them and is not revoked, in the list and in the keyring; what nobody tells of waits, or
// not, as the operator says. What is not sealed to takes the next step.
func TestCertificates(t *testing.T) {
	ca, err := gatewaytest.NewCA("mail")
	if err != nil {
		t.Fatal(err)
	}
	other, err := gatewaytest.NewCA("other")
	if err != nil {
		t.Fatal(err)
	}
	quiet, err := gatewaytest.NewCA("quiet") // believed, and says nothing of revocation
	if err != nil {
		t.Fatal(err)
	}
	status, err := ca.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	dir := t.TempDir()
	keep := func(name string, pem []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, revoked, stranger, silent := holder(t, ca, "good@d.test", status, nil), holder(t, ca, "revoked@d.test", status, nil), holder(t, other, "stranger@d.test", nil, nil), holder(t, quiet, "silent@d.test", nil, nil)
	server := holder(t, ca, "server@d.test", status, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	kept, confirmed := holder(t, ca, "kept@d.test", status, nil), holder(t, other, "confirmed@d.test", nil, nil)
	ca.Revoke(revoked)
	var list strings.Builder
	for name, i := range map[string]*gatewaytest.Issued{"good": good, "revoked": revoked, "stranger": stranger, "silent": silent, "server": server} {
		fmt.Fprintf(&list, "- {address: %s@d.test, certificate: %q}\n", name, keep(name+".pem", i.CertPEM()))
	}
	h := custom(t, withRules("encrypt: {smime: {roots: [\"{roots}\"], revocation: {unknown: wait, timeout: 2s}}}\ndirectory: {list: \"{list}\"}\n"+sealedRules), nil, nil,
		"{roots}", keep("roots.pem", append(ca.CertPEM(), quiet.CertPEM()...)), "{list}", keep("list.yaml", []byte(list.String())))
	ring, err := keyring.Open(t.Context(), keyring.Config{Dir: h.cfg.StateDir})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	put := func(i *gatewaytest.Issued, address string, trust keyring.Trust) {
		t.Helper()
		if _, err := ring.Put(t.Context(), keyring.Key{Address: address, Kind: keyring.SMIME, Data: i.Cert.Raw, Source: keyring.Import, Trust: trust}); err != nil {
			t.Fatal(err)
		}
	}
	put(kept, "kept@d.test", keyring.Verified)
	put(stranger, "kept2@d.test", keyring.Verified)
	put(confirmed, "confirmed@d.test", keyring.Confirmed)
	put(revoked, "gone@d.test", keyring.Verified)
	put(revoked, "both@d.test", keyring.Verified)
	put(kept, "both@d.test", keyring.Verified)
	all := []string{"good@d.test", "revoked@d.test", "stranger@d.test", "server@d.test", "silent@d.test", "kept@d.test", "kept2@d.test", "confirmed@d.test", "both@d.test", "gone@d.test", "open@d.test"}
	expect(t, "wait", leaves(t, h, all...), "smime", "notice", "notice", "notice", "451", "smime", "notice", "smime", "smime", "notice", "plain")
	if keys, err := ring.Under(t.Context(), "gone@d.test"); err != nil || len(keys) != 1 || !strings.Contains(keys[0].Revoked, "revoked") {
		t.Errorf("the revocation is not noted in the keyring: %d keys, %v", len(keys), err)
	}
	h.reload(t, "unknown: wait", "unknown: accept")
	expect(t, "accept", leaves(t, h, all...), "smime", "notice", "notice", "notice", "smime", "smime", "notice", "smime", "smime", "notice", "plain")
	h.reload(t, "unknown: accept", "check: false")
	expect(t, "revocation not asked", leaves(t, h, "revoked@d.test", "silent@d.test", "stranger@d.test"), "smime", "smime", "notice")
}

// TestCertificateRevokedLater: a certificate that was sealed to yesterday and is revoked today is not; who is away is no reason to trust.
func TestCertificateRevokedLater(t *testing.T) {
	ca, err := gatewaytest.NewCA("mail")
	if err != nil {
		t.Fatal(err)
	}
	status, err := ca.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	dir := t.TempDir()
	roots := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(roots, ca.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	var ahead time.Duration
	now := make(chan time.Duration, 1)
	now <- 0
	h := custom(t, withRules("encrypt: {smime: {roots: [\"{roots}\"], revocation: {timeout: 2s}}}\n"+sealedRules), nil, func(h *house) {
		h.opts = []gateway.Option{gateway.Clock(func() time.Time { d := <-now; now <- d; return time.Now().Add(d) })}
	}, "{roots}", roots)
	ring, err := keyring.Open(t.Context(), keyring.Config{Dir: h.cfg.StateDir})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	i := holder(t, ca, "a@d.test", status, nil)
	if _, err := ring.Put(t.Context(), keyring.Key{Address: "a@d.test", Kind: keyring.SMIME, Data: i.Cert.Raw, Source: keyring.Harvested, Trust: keyring.Verified}); err != nil {
		t.Fatal(err)
	}
	status.Set(gatewaytest.Status{Down: true})
	expect(t, "nobody tells", leaves(t, h, "a@d.test"), "451")
	status.Set(gatewaytest.Status{})
	pass := func(d time.Duration) { ahead += d; <-now; now <- ahead }
	pass(6 * time.Minute) // a source that failed is left alone for five at most
	expect(t, "good", leaves(t, h, "a@d.test"), "smime")
	ca.Revoke(i)
	pass(23 * time.Hour)
	status.Set(gatewaytest.Status{})
	for range 400 { // the new list is fetched beside the mail that was still good by the old one
		if got := leaves(t, h, "a@d.test"); got[0] == "notice" {
			break
		} else if got[0] != "smime" {
			t.Fatalf("got %q", got)
		}
		time.Sleep(50 * time.Millisecond)
	}
	expect(t, "revoked", leaves(t, h, "a@d.test"), "notice")
	keys, err := ring.Under(context.Background(), "a@d.test")
	if err != nil || len(keys) != 1 || keys[0].Revoked == "" {
		t.Errorf("keyring: %d keys, %v", len(keys), err)
	}
	if !strings.Contains(h.log.String(), "a correspondent's certificate is not sealed to") {
		t.Error("the log tells nothing of it")
	}
}

// TestDirectoryCertificates: a certificate that the region's directory holds is sealed to, where its chain or the operator vouches for it, as long as
// the directory holds it.
func TestDirectoryCertificates(t *testing.T) {
	ca, err := gatewaytest.NewCA("mail")
	must(t, err)
	other, err := gatewaytest.NewCA("other")
	must(t, err)
	good, stranger, another := holder(t, ca, "good@chu.test", nil, nil), holder(t, other, "stranger@chu.test", nil, nil), holder(t, ca, "good@chu.test", nil, nil)
	entry := func(name, mail string, cert *gatewaytest.Issued) string {
		return gatewaytest.Entry("cn="+name+",dc=region,dc=test", "objectClass", "inetOrgPerson", "sn", "Roux", "mail", mail, "userCertificate;binary", string(cert.Cert.Raw))
	}
	s, err := gatewaytest.StartSlapd(t.Context(), gatewaytest.SlapdOptions{LDIF: entry("good", "good@chu.test", good) + entry("stranger", "stranger@chu.test", stranger) +
		entry("wrong", "wrong@chu.test", another)})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	roots := filepath.Join(t.TempDir(), "roots.pem")
	must(t, os.WriteFile(roots, ca.CertPEM(), 0o600))
	h := custom(t, withRules("encrypt: {smime: {roots: [\"{roots}\"], revocation: {check: false}}}\ndirectory:\n  ldap: {url: \"ldap://{ldap}\", start_tls: false, base: \"dc=region,dc=test\", mss: \"*\", "+
		"ask: mail, domains: [chu.test], every: 1m, key_trust: discovered, attributes: {certificate: \"userCertificate;binary\"}}\n"+sealedRules), nil, nil, "{roots}", roots, "{ldap}", s.Addr())
	to := []string{"good@chu.test", "stranger@chu.test", "wrong@chu.test"}
	expect(t, "with roots", leaves(t, h, to...), "smime", "notice", "notice")
	h.reload(t, "key_trust: discovered", "key_trust: verified", "roots: [\""+roots+"\"]", "roots: []")
	expect(t, "the operator vouches for the directory", leaves(t, h, to...), "smime", "smime", "notice")
	ring, err := keyring.Open(t.Context(), keyring.Config{Dir: h.cfg.StateDir})
	must(t, err)
	defer ring.Close()
	keys, err := ring.Under(t.Context(), "good@chu.test")
	if err != nil || len(keys) != 1 || keys[0].Source != keyring.LDAP || keys[0].Trust != keyring.Verified {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}
