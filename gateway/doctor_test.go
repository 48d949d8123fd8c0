package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// findings are what a doctor said, with what a test asks of it.
type findings []gateway.Finding

func (l findings) String() string {
	var b strings.Builder
	for _, f := range l {
		fmt.Fprintf(&b, "%s %s [%s] %s: %s > %s\n", f.Level, f.Check, f.About, f.Step, f.Finding, f.Remedy)
	}
	return b.String()
}

// want looks for a finding of a check with these words (in about, step or finding) and a level.
func (l findings) want(t *testing.T, level gateway.Level, check string, words ...string) {
	t.Helper()
next:
	for _, f := range l {
		if f.Check != check || f.Level != level {
			continue
		}
		for _, w := range words {
			if !strings.Contains(f.About+" "+f.Step+" "+f.Finding, w) {
				continue next
			}
		}
		if level != gateway.Fine && f.Remedy == "" {
			t.Errorf("no remedy: %+v", f)
		}
		return
	}
	t.Errorf("want %s %s %q in\n%s", level, check, words, l)
}

// examine asks the doctor beside the house's gateway.
func (h *house) examine(t *testing.T, o gateway.Examination) findings {
	t.Helper()
	if o.Each == 0 {
		o.Each = 5 * time.Second
	}
	return gateway.Examine(t.Context(), h.cfg, slog.New(slog.DiscardHandler), o)
}

// doctorText opens the patients' door with a certificate, the trust space's and the metrics'.
func doctorText(s *space, portal string) string {
	text := withRules("rules:\n  - {name: rest, route: plain}\n  - {name: never, route: pickup}\npickup: {url: \"" + portal + "\"}\n")
	text = strings.Replace(text, "  portal: {addr: \"{portal}\"}", "  trust: {addr: \"{trust}\"}\n  portal: {addr: \"{portal}\", tls_dir: \""+s.dir+"\"}", 1)
	return strings.Replace(text, `metrics: {addr: ""}`, `metrics: {addr: "{metrics}"}`, 1)
}

// TestDoctorWell: a gateway that serves between living neighbours is well, but for what a test cannot have.
func TestDoctorWell(t *testing.T) {
	s := newSpace(t)
	peer, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: s.ca.ServerTLS(s.peer, true), RequireTLS: true, RequireClientCert: true})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	text := doctorText(s, "https://{portal}") + strings.NewReplacer(`"127.0.0.1:1"`, strconv.Quote(peer.Addr()),
		"domains: {", `domains: {mss.clinic.test: ["CN=mss.clinic.test,O=CLINIC,C=FR"], `).Replace(trustText)
	h := custom(t, text, nil, nil, "{tls}", s.dir, "{metrics}", freeAddr(t))
	dns, err := gatewaytest.StartNameServer()
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	dns.MX("mss.clinic.test", gatewaytest.MX{Preference: 10, Host: "mx.clinic.test"})
	l := h.examine(t, gateway.Examination{Domains: []string{"peer.mssante.test"}, Roots: s.ca.Pool(), Resolver: dns.Resolver()})
	for _, f := range l {
		if f.Level == gateway.Fail {
			t.Errorf("%+v", f)
		}
		if f.Level == gateway.Fine && f.Remedy != "" {
			t.Errorf("a remedy for what is well: %+v", f)
		}
	}
	l.want(t, gateway.Fine, "process", "ready")
	l.want(t, gateway.Fine, "disk", h.dir, "free")
	l.want(t, gateway.Fine, "hop", "clinic", "greets as hop.test")
	l.want(t, gateway.Warn, "certificate", "trust", "29 days left")
	l.want(t, gateway.Fine, "certificate", "listen.portal", "29 days left") // renewed by a program
	l.want(t, gateway.Fine, "dns", "MX mx.clinic.test")
	l.want(t, gateway.Fine, "portal", "the gateway's page answers")
	l.want(t, gateway.Fine, "trust.certificate", "chain")
	l.want(t, gateway.Fine, "trust.certificate", "dn", "mss.clinic.test")
	l.want(t, gateway.Fine, "trust.listener", "greets with trust.cert, TLS 1.3")
	for _, step := range []string{"server", "connect", "banner", "hello", "starttls", "certificate", "chain", "validity", "key", "revocation", "dn", "verdict"} {
		l.want(t, gateway.Fine, "trust.peer", "peer.mssante.test", step)
	}
	if n := peer.Attempts(); n != 0 {
		t.Errorf("the doctor handed in %d letters", n)
	}

	// A renewed certificate that the gateway has not read yet.
	other, err := s.ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"CLINIC"}, CommonName: "mss.clinic.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ca.WriteDir(s.dir, other); err != nil {
		t.Fatal(err)
	}
	h.examine(t, gateway.Examination{Roots: s.ca.Pool()}).want(t, gateway.Warn, "trust.listener", "another certificate")
	h.stop()
	l = h.examine(t, gateway.Examination{Roots: s.ca.Pool()})
	l.want(t, gateway.Fail, "process", "no gateway answers")
	l.want(t, gateway.Fail, "portal", "patients cannot open it")
	l.want(t, gateway.Fail, "trust.listener", "does not greet")
}

// TestDoctorPeers: each way in which a far server is bad is told at its step, with all that held before it.
func TestDoctorPeers(t *testing.T) {
	s := newSpace(t)
	stranger, err := gatewaytest.NewCA("AC test")
	if err != nil {
		t.Fatal(err)
	}
	name := s.peer.Cert.Subject
	issue := func(ca *gatewaytest.CA, l gatewaytest.Leaf) *gatewaytest.Issued {
		i, err := ca.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	revoked := issue(s.ca, gatewaytest.Leaf{Subject: name})
	s.ca.Revoke(revoked)
	crl, err := s.ca.CRL(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "crl.pem"), crl, 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(cfg *tls.Config) string {
		h, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: cfg})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		return h.Addr()
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	notOurs := s.ca.ServerTLS(s.peer, true)
	notOurs.ClientCAs = stranger.Pool()
	cases := []struct {
		domain, addr, step, words string
		before                    []string
	}{
		{"gone.test", "127.0.0.1:1", "connect", "refused", []string{"server"}},
		{"silent.test", silent.Addr().String(), "banner", "", []string{"connect"}},
		{"clear.test", serve(nil), "starttls", "not offered", []string{"banner", "hello"}},
		{"expired.test", serve(s.ca.ServerTLS(issue(s.ca, gatewaytest.Leaf{Subject: name, Days: -2}), false)), "validity", "expired", []string{"starttls", "certificate"}},
		{"stranger.test", serve(s.ca.ServerTLS(issue(stranger, gatewaytest.Leaf{Subject: name}), false)), "chain", "unknown authority", []string{"certificate"}},
		{"revoked.test", serve(s.ca.ServerTLS(revoked, false)), "revocation", "revoked", []string{"key"}},
		{"other.test", serve(s.ca.ServerTLS(issue(s.ca, gatewaytest.Leaf{Subject: pkix.Name{CommonName: "mss.peer.test"}}), false)), "dn", "is not listed for other.test", []string{"revocation"}},
		{"refuses.test", serve(notOurs), "hello", "", []string{"starttls", "dn"}},
	}
	trust := "trust:\n  own_domains: [mss.clinic.test]\n  tls_dir: {tls}\n  domains:\n"
	hosts := "  hosts:\n"
	var domains []string
	for _, c := range cases {
		domains = append(domains, c.domain)
		trust += "    " + c.domain + ": [\"CN=mss.peer.test,O=PEER,C=FR\"]\n"
		hosts += "    " + c.domain + ": \"" + c.addr + "\"\n"
	}
	h := custom(t, withRules("rules:\n  - {name: rest, route: plain}\n")+trust+hosts, nil, nil, "{tls}", s.dir)
	began := time.Now()
	l := h.examine(t, gateway.Examination{Domains: append(domains, "unlisted.test"), Each: 3 * time.Second})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s: a silent server held the others", took)
	}
	for _, c := range cases {
		l.want(t, gateway.Fail, "trust.peer", c.domain, c.step, c.words)
		for _, step := range c.before {
			l.want(t, gateway.Fine, "trust.peer", c.domain, step)
		}
		for _, f := range l {
			if strings.HasPrefix(f.About, c.domain+" ") && f.Step == "verdict" && f.Level == gateway.Fine {
				t.Errorf("%s: %+v", c.domain, f)
			}
		}
	}
	l.want(t, gateway.Fail, "trust.peer", "unlisted.test", "not-listed")
	l.want(t, gateway.Warn, "trust.certificate", "mss.clinic.test is not in the white list")
}

// TestDoctorServers: a domain is well while one of its servers is; the others are warnings.
func TestDoctorServers(t *testing.T) {
	dns, err := gatewaytest.StartNameServer()
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	s := newSpace(t)
	good, err := gatewaytest.StartNextHop(gatewaytest.Options{Addr: "127.0.0.3:0", TLS: s.ca.ServerTLS(s.peer, true)})
	if err != nil {
		t.Fatal(err)
	}
	closed := sync.OnceFunc(func() { good.Close() })
	defer closed()
	_, port, _ := net.SplitHostPort(good.Addr())
	dns.A("mx1.peer.test", "127.0.0.2")
	dns.A("mx2.peer.test", "127.0.0.3")
	dns.MX("peer.mssante.test", gatewaytest.MX{Preference: 10, Host: "mx1.peer.test"}, gatewaytest.MX{Preference: 20, Host: "mx2.peer.test"})
	h := custom(t, withRules("rules:\n  - {name: rest, route: plain}\n")+strings.Replace(trustText, `hosts: {peer.mssante.test: "127.0.0.1:1"}`, "port: "+port, 1), nil, nil, "{tls}", s.dir)
	ask := func() findings {
		return h.examine(t, gateway.Examination{Domains: []string{"peer.mssante.test"}, Resolver: dns.Resolver()})
	}
	l := ask()
	l.want(t, gateway.Warn, "trust.peer", "mx1.peer.test", "connect")
	l.want(t, gateway.Fine, "trust.peer", "mx2.peer.test", "verdict")
	closed()
	ask().want(t, gateway.Fail, "trust.peer", "mx2.peer.test", "connect")
	dns.Away(true)
	ask().want(t, gateway.Fail, "trust.peer", "peer.mssante.test", "server")
}

// TestDoctorSurroundings: what is wrong outside of mail.
func TestDoctorSurroundings(t *testing.T) {
	s := newSpace(t)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(-10*time.Minute-30*time.Second).UTC().Format(http.TimeFormat))
		if r.Header.Get("Authorization") != "Bearer tres-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"data": [{"left": "41,5"}]}`)
	}))
	defer provider.Close()
	page := httptest.NewTLSServer(http.NotFoundHandler()) // of somebody else
	defer page.Close()
	pool := x509.NewCertPool()
	pool.AddCert(page.Certificate())
	text := withRules("rules:\n  - {name: rest, route: pickup}\npickup: {url: \""+page.URL+"\"}\n") + `
sms:
  url: ` + provider.URL + `/send?key=cle-secrete
  headers: {Authorization: Bearer tres-secret}
  credit: {url: "` + provider.URL + `/cle-secrete", path: data.0.left, below: 50}
directory: {extraction: "{dir}/none.txt"}
`
	h := custom(t, text, nil, nil)
	l := h.examine(t, gateway.Examination{Roots: pool})
	l.want(t, gateway.Warn, "sms.credit", "41.5 left, fewer than 50")
	l.want(t, gateway.Fail, "clock", "differs by 10m")
	l.want(t, gateway.Fail, "portal", "not the gateway's page")
	l.want(t, gateway.Warn, "process", "listen.metrics is shut")
	l.want(t, gateway.Fail, "directory", "extraction")
	provider.Close()
	if err := os.Chmod(h.cfg.StateDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.cfg.StateDir, "copy"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.cfg.Hops["internet"] = config.Hop{Addr: "127.0.0.1:1", TLS: "none"}
	l = h.examine(t, gateway.Examination{})
	l.want(t, gateway.Fail, "disk", "mode 0755")
	l.want(t, gateway.Warn, "disk", "others may read copy")
	l.want(t, gateway.Fail, "hop", "internet", "refused")
	l.want(t, gateway.Warn, "sms.credit", "could not be asked")
	l.want(t, gateway.Fail, "portal", "certificate signed by unknown authority")
	h.cfg.Directory.List = filepath.Join(h.dir, "gone-279035121518989@patient.mssante.fr.csv") // a number where nobody expects one
	without := h.examine(t, gateway.Examination{})
	without.want(t, gateway.Fail, "config", "no such file")
	without.want(t, gateway.Fail, "disk", "mode 0755") // the rest is looked at all the same
	text = l.String() + without.String()
	for _, secret := range []string{"secret", "279035121518989"} {
		if strings.Contains(strings.ReplaceAll(text, "<secret>", ""), secret) {
			t.Errorf("%q is shown:\n%s", secret, text)
		}
	}

	// What cannot be opened is a finding, in the same form.
	if err := os.WriteFile(filepath.Join(s.dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := *h.cfg
	broken.Directory.List = ""
	broken.Trust.Domains, broken.Trust.Cert, broken.Trust.Key = map[string][]string{"x.test": {"CN=x"}}, filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem")
	l = gateway.Examine(t.Context(), &broken, slog.New(slog.DiscardHandler), gateway.Examination{})
	l.want(t, gateway.Fail, "config")
	if b, err := json.Marshal(l[0]); err != nil || !strings.HasPrefix(string(b), `{"level":"fail","check":"config","finding":"`) {
		t.Errorf("%s, %v", b, err)
	}
}
