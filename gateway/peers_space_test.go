package gateway_test

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// igc is a national PKI: a root, an authority for organisations below it, and the servers that both publish revocation at. Our own place in it
// lies in dir, without a list: certificates name theirs.
type igc struct {
	t                  *testing.T
	root, inter        *gatewaytest.CA
	rootStatus, status *gatewaytest.StatusServer
	dir                string
	own                *gatewaytest.Issued
	weak               *rsa.PrivateKey
	n                  atomic.Int64
}

func newIGC(t *testing.T) *igc {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	p := &igc{t: t, dir: filepath.Join(t.TempDir(), "tls")}
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p.root, err = gatewaytest.NewCA("AC RACINE IGC-SANTE TEST")
	must()
	p.rootStatus = p.serve(p.root)
	p.inter, err = p.root.Sub("AC IGC-SANTE TEST ORGANISATIONS", p.rootStatus)
	must()
	p.status = p.serve(p.inter)
	p.weak, err = rsa.GenerateKey(rand.Reader, 1024)
	must()
	p.own = p.issue("nous.clinic.test", nil)
	err = p.inter.WriteDir(p.dir, p.own)
	must()
	err = os.Remove(filepath.Join(p.dir, "crl.pem"))
	must()
	err = os.WriteFile(filepath.Join(p.dir, "ca.pem"), append(p.root.CertPEM(), p.inter.CertPEM()...), 0o600)
	must()
	return p
}

func (p *igc) serve(ca *gatewaytest.CA) *gatewaytest.StatusServer {
	p.t.Helper()
	s, err := ca.Serve()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { s.Close() })
	return s
}

// orgName is an organisation's subject in the order of IGC-Santé; orgDN is how the white list writes it.
func orgName(cn, o string) pkix.Name {
	return pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: []int{2, 5, 4, 6}, Value: "FR"}, {Type: []int{2, 5, 4, 8}, Value: "Haute-Garonne (31)"}, {Type: []int{2, 5, 4, 10}, Value: o},
		{Type: []int{2, 5, 4, 11}, Value: "318000000000018"}, {Type: []int{2, 5, 4, 3}, Value: cn}}}
}

func orgDN(cn, o string) string {
	return "CN=" + cn + ",OU=318000000000018,O=" + o + ",ST=Haute-Garonne (31),C=FR"
}

// issue makes an operator's certificate; change alters what is asked of the authority.
func (p *igc) issue(cn string, change func(*gatewaytest.Leaf)) *gatewaytest.Issued {
	return p.issueBy(p.inter, cn, change)
}

func (p *igc) issueBy(ca *gatewaytest.CA, cn string, change func(*gatewaytest.Leaf)) *gatewaytest.Issued {
	p.t.Helper()
	l := gatewaytest.Leaf{Subject: orgName(cn, "CH PEER"), DNS: []string{cn}, Status: p.status}
	if change != nil {
		change(&l)
	}
	i, err := ca.Issue(l)
	if err != nil {
		p.t.Fatal(err)
	}
	return i
}

// audit is a peer as the audit domains of ANS and our further cases have it: what is wrong with it, and what makes it good again.
type audit struct {
	name string // of its domain below audit.test
	dns  []string
	bad  func(p *igc, cn string) *gatewaytest.Issued // nil: it is good as it is
	// out and in are the replies to a message for it and of it; in "TLS": it gets no further than the handshake.
	out, in string
	noTLS   bool
	log     string // what the log says why
}

const (
	outTLS  = "451 4.7.5 Relais trust {domain}: liaison TLS refusee avec le relais suivant"
	outName = "451 4.7.5 Relais trust {domain}: certificat du relais suivant refuse"
	inName  = "550 5.7.1 Certificat ou domaine expediteur non admis dans l'espace de confiance"
	inDoubt = "451 4.7.5 Revocation non verifiable pour l'instant, nouvel essai plus tard"
	ok      = "250 2.0.0 Ok"
)

var audits = []audit{
	{name: "cert-valide-audit"},
	{name: "cert-expire-audit", out: outTLS, in: "TLS", log: "expired", bad: func(p *igc, cn string) *gatewaytest.Issued {
		return p.issue(cn, func(l *gatewaytest.Leaf) { l.Days = -1 })
	}},
	{name: "cert-revoque-audit", out: outTLS, in: "TLS", log: "revoked: certificate is revoked", bad: func(p *igc, cn string) *gatewaytest.Issued {
		i := p.issue(cn, nil)
		p.inter.Revoke(i)
		return i
	}},
	{name: "cert-non-igc-audit", out: outTLS, in: "TLS", log: "chain: x509: certificate signed by unknown authority", bad: func(p *igc, cn string) *gatewaytest.Issued {
		other, err := gatewaytest.NewCA("AC IGC-SANTE TEST ORGANISATIONS")
		if err != nil {
			p.t.Fatal(err)
		}
		return p.issueBy(other, cn, nil)
	}},
	{name: "cert-no-match-audit", out: outName, in: inName, log: "dn-mismatch", bad: func(p *igc, cn string) *gatewaytest.Issued {
		return p.issue("autre.audit.test", func(l *gatewaytest.Leaf) { l.Subject = orgName("autre.audit.test", "AUTRE"); l.DNS = []string{cn} })
	}},
	{name: "cert-cn-diff-dn-audit", out: outName, in: inName, log: "dn-mismatch", bad: func(p *igc, cn string) *gatewaytest.Issued {
		return p.issue("smtp2."+cn, func(l *gatewaytest.Leaf) { l.DNS = append(l.DNS, cn) })
	}},
	{name: "sans-tls-audit", out: "451 4.7.4 Relais trust {domain}: le relais suivant ne propose pas STARTTLS", in: "530 5.7.0 ", log: "STARTTLS", noTLS: true},
	{name: "pas-encore-valide", out: outTLS, in: "TLS", log: "expired: x509: certificate has expired or is not yet valid", bad: func(p *igc, cn string) *gatewaytest.Issued {
		return p.issue(cn, func(l *gatewaytest.Leaf) {
			l.Change = func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }
		})
	}},
	{name: "autre-usage", out: outTLS, in: "TLS", log: "chain: x509: certificate specifies an incompatible key usage", bad: func(p *igc, cn string) *gatewaytest.Issued {
		return p.issue(cn, func(l *gatewaytest.Leaf) {
			l.Change = func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }
		})
	}},
	{name: "cle-faible", out: outTLS, in: "TLS", log: "weak-key", bad: func(p *igc, cn string) *gatewaytest.Issued {
		return p.issue(cn, func(l *gatewaytest.Leaf) { l.Key = p.weak })
	}},
	{name: "cn-seul", out: outName, in: inName, log: "dn-mismatch", bad: func(p *igc, cn string) *gatewaytest.Issued {
		return p.issue(cn, func(l *gatewaytest.Leaf) { l.Subject = pkix.Name{CommonName: cn} })
	}},
	{name: "plusieurs-dn", dns: []string{orgDN("ancien.audit.test", "AUTRE"), orgDN("{cn}", "CH PEER"), orgDN("secours.audit.test", "CH PEER")}, out: outName, in: inName,
		log: "dn-mismatch", bad: func(p *igc, cn string) *gatewaytest.Issued { return p.issue("troisieme.audit.test", nil) }},
	{name: "dn-entre-guillemets", dns: []string{orgDN("{cn}", `"CH  PEER"`)}},
	{name: "dn-a-lettres", dns: []string{"C=FR, ST=Haute-Garonne (31), O=CH\u00a0PEER, OU=318000000000018, CN={cn}"}},
}

func (a audit) domain() string { return a.name + ".audit.test" }
func (a audit) cn() string     { return "smtp." + a.domain() }

func (a audit) listed() []string {
	if a.dns == nil {
		return []string{orgDN(a.cn(), "CH PEER")}
	}
	var out []string
	for _, dn := range a.dns {
		out = append(out, strings.ReplaceAll(dn, "{cn}", a.cn()))
	}
	return out
}

// spaceText is the trust section for these peers; hosts may lack.
func (p *igc) spaceText(extra string, peers []audit, hosts map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "trust:\n  own_domains: [mss.clinic.test]\n  tls_dir: %s\n%s  domains:\n", p.dir, extra)
	for _, a := range peers {
		fmt.Fprintf(&b, "    %s:\n", a.domain())
		for _, dn := range a.listed() {
			fmt.Fprintf(&b, "      - '%s'\n", dn)
		}
	}
	if len(hosts) > 0 {
		b.WriteString("  hosts:\n")
		for d, h := range hosts {
			fmt.Fprintf(&b, "    %s: %q\n", d, h)
		}
	}
	return b.String()
}

// letter is one that no other is like.
func (p *igc) letter() string {
	return strings.Replace(hello, "<1@", fmt.Sprintf("<%d@", p.n.Add(1)), 1)
}

// far is an operator's server whose certificate may change.
type far struct {
	hop   *gatewaytest.NextHop
	addr  string
	heard *lockedBuffer // what went over the wire, before TLS in clear
	cert  atomic.Pointer[tls.Certificate]
}

func (p *igc) far(first *gatewaytest.Issued) *far {
	p.t.Helper()
	f := &far{}
	f.show(first)
	f.hop = startHop(p.t, gatewaytest.Options{RequireTLS: true, RequireClientCert: true, TLS: &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.cert.Load(), nil }}})
	f.addr, f.heard = wiretap(p.t, f.hop.Addr())
	return f
}

func (f *far) show(i *gatewaytest.Issued) { c := i.TLS(); f.cert.Store(&c) }

// inClear tells what of an envelope or a message could be read on the wire.
func (f *far) inClear() (out []string) {
	for _, s := range []string{"MAIL FROM", "RCPT TO", "mss.clinic.test>", "bonjour", "essai"} {
		if strings.Contains(f.heard.String(), s) {
			out = append(out, s)
		}
	}
	return out
}

// write sends a message to the door of the trust space as a peer does, and gives the last reply, or "TLS" and why where the handshake was the end.
func (h *house) write(cert *gatewaytest.Issued, t *tls.Config, from, to, content string) string {
	h.t.Helper()
	c, err := net.DialTimeout("tcp", h.trust, 5*time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { c.Close() }()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	br := bufio.NewReader(c)
	last := ""
	say := func(line string) bool {
		if line != "" {
			fmt.Fprintf(c, "%s\r\n", line)
		}
		for {
			reply, err := br.ReadString('\n')
			if err != nil {
				last = "TLS: " + err.Error()
				return false
			}
			last = strings.TrimSpace(reply)
			if len(reply) < 4 || reply[3] != '-' {
				return last[0] == '2' || last[0] == '3'
			}
		}
	}
	if !say("") || !say("EHLO smtp.peer.test") {
		return last
	}
	if cert != nil {
		if !say("STARTTLS") {
			return last
		}
		if t == nil {
			t = &tls.Config{}
		}
		t.InsecureSkipVerify, t.Certificates = true, []tls.Certificate{cert.TLS()}
		tc := tls.Client(c, t)
		if err := tc.Handshake(); err != nil {
			return "TLS: " + err.Error()
		}
		c, br = tc, bufio.NewReader(tc)
		if !say("EHLO smtp.peer.test") {
			return last
		}
	}
	for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">", "DATA", strings.ReplaceAll(content, "\n", "\r\n") + "."} {
		if !say(line) {
			return last
		}
	}
	fmt.Fprint(c, "QUIT\r\n")
	return last
}
