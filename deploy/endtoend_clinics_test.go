package deploy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// clinic is one of two: its own Postfix, its own gateway with a state folder of its own, and the place where its people's mail ends.
type clinic struct {
	*world
	name   string // alpha: people write as @alpha.test, in the trust space @alpha.mss.test
	doctor string // the local part of its doctor, inside
	bal    string // the same in the trust space
	cert   *gatewaytest.Issued
	tap    *tap // in front of listen.trust: all that reaches it from outside
}

func (c *clinic) inside() string  { return c.doctor + "@" + c.name + ".test" }
func (c *clinic) outside() string { return c.bal + "@" + c.name + ".mss.test" }
func (c *clinic) own() string     { return c.name + ".mss.test" }
func (c *clinic) dn() string {
	return "CN=mss." + c.name + ".test,O=" + strings.ToUpper(c.name) + ",C=FR"
}
func (c *clinic) forwarding() string { return "renvoi@" + c.name + ".test" }

const clinicConfig = `mode: enforce
hostname: passerelle.{name}.test
state_dir: {dir}/state
clinic: {name: Clinique {name}, domains: ["{name}.test"], queue_lifetime: 1h}
listen:
  lmtp: {addr: "{lmtp}"}
  smtp: {addr: ""}
  trust: {addr: "{trust}"}
  portal: {addr: ""}
  metrics: {addr: "{metrics}"}
hops:
  clinic: {addr: "{in}", tls: none}
  internet: {addr: "{out}", tls: none}
trust:
  white_list: {url: "{list}", ca: "{dir}/list.pem", signer: {issuer: AC de test}}
  hosts: {"{other}.mss.test": "{peer}"}
  own_domains: ["{name}.mss.test"]
  tls_dir: {dir}/tls
  identities: {table: "{dir}/identities.csv"}
rules:
  - {name: professionals, trust_domain: true, route: trust}
  - {name: others, route: plain}
`

// newClinics are two clinics that find each other in a signed white list, each as an operator of its own.
func newClinics(t *testing.T) (a, b *clinic) {
	t.Helper()
	ca := must(gatewaytest.NewCA("AC de test"))(t)
	a = &clinic{world: &world{dir: t.TempDir()}, name: "alpha", doctor: "j.martin", bal: "jean.martin"}
	b = &clinic{world: &world{dir: t.TempDir()}, name: "beta", doctor: "m.durand", bal: "marie.durand"}
	for _, c := range []*clinic{a, b} {
		c.cert = must(ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{strings.ToUpper(c.name)}, CommonName: "mss." + c.name + ".test"}))(t)
		for _, addr := range []*string{&c.lmtp, &c.trust, &c.metrics, &c.in, &c.out} {
			*addr = freeAddr(t)
		}
	}
	a.tap, b.tap = startTap(t, a.trust, a.cert, b.cert), startTap(t, b.trust, b.cert, a.cert)
	list := serveWhiteList(t, ca, gatewaytest.ListEntry{Domain: a.own(), DN: a.dn()}, gatewaytest.ListEntry{Domain: b.own(), DN: b.dn()})
	for _, c := range [][2]*clinic{{a, b}, {b, a}} {
		c[0].furnish(t, ca, clinicConfig, "{other}", c[1].name, "{peer}", c[1].tap.addr(), "{list}", list)
	}
	return a, b
}

// serveWhiteList serves a signed list as the national host does, and gives its address.
func serveWhiteList(t *testing.T, ca *gatewaytest.CA, entries ...gatewaytest.ListEntry) string {
	t.Helper()
	signer := must(ca.ListSigner())(t)
	list := must(signer.Sign(gatewaytest.WhiteList(time.Now(), entries...)))(t)
	host := must(ca.IssueLocal(pkix.Name{CommonName: "list.test"}))(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(list) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{host.TLS()}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL + "/listeblanchemssante.xml"
}

// furnish starts the clinic's Postfix and gateway; words are replaced in the config, in pairs.
func (c *clinic) furnish(t *testing.T, ca *gatewaytest.CA, config string, words ...string) {
	t.Helper()
	for _, h := range []**gatewaytest.NextHop{&c.mailbox, &c.internet} {
		*h = must(gatewaytest.StartNextHop(gatewaytest.Options{}))(t)
		t.Cleanup(func() { (*h).Close() })
	}
	table := "adresse;bal;titre;prénom;nom\n" + c.inside() + ";" + c.outside() + ";Dr;Prenom;Nom\n" + c.forwarding() + ";renvoi@" + c.own() + ";;Ren;Voi\n"
	text := strings.NewReplacer(append(words, "{name}", c.name, "{dir}", c.dir, "{lmtp}", c.lmtp, "{trust}", c.trust, "{metrics}", c.metrics,
		"{in}", c.in, "{out}", c.out, "{inside}", c.inside(), "{outside}", c.outside())...).Replace(config)
	c.config = filepath.Join(c.dir, "passerelle.yaml")
	for _, err := range []error{ca.WriteDir(filepath.Join(c.dir, "tls"), c.cert), os.WriteFile(filepath.Join(c.dir, "list.pem"), ca.CertPEM(), 0o600),
		os.WriteFile(filepath.Join(c.dir, "identities.csv"), []byte(table), 0o600), os.WriteFile(c.config, []byte(text), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.postfix = must(gatewaytest.StartPostfix(t.Context(), gatewaytest.PostfixOptions{Name: "clinic-" + c.name, Domains: []string{c.name + ".test"}, LocalHop: c.mailbox.Addr(),
		Users: []string{c.inside(), c.forwarding()}, Snippet: "postfix/lmtp", Replace: gatewaytest.Wiring{LMTP: c.lmtp, In: c.in, Out: c.out, Internet: c.internet.Addr()}.Replace(),
		Main: []string{"virtual_alias_maps = inline:{ " + c.forwarding() + "=ailleurs@world.test }"}}))(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.postfix.LogText())
		}
		if err := c.postfix.Close(); err != nil {
			t.Error(err)
		}
	})
	c.start(t)
}

// writes hands a message in as the clinic's doctor does, from a computer with an inner name.
func (c *clinic) writes(t *testing.T, id, headers, to string) {
	t.Helper()
	text := "Received: from pc7." + c.name + ".test (pc7." + c.name + ".test [192.168.7.7]) by mail." + c.name + ".test; Mon, 23 Nov 2026 10:00:00 +0100\r\n" +
		"From: Docteur <" + c.inside() + ">\r\nTo: <" + to + ">\r\nReply-To: " + c.inside() + "\r\nMessage-ID: <" + id + ">\r\n" + headers +
		"Subject: Compte rendu\r\nDate: Mon, 23 Nov 2026 10:00:00 +0100\r\nX-Mailer: Inner/1.0 on pc7." + c.name + ".test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nBonjour, voici le résultat.\r\n"
	if err := smtp.SendMail(c.postfix.SubmissionAddr(), nil, c.inside(), []string{to}, []byte(text)); err != nil {
		t.Fatalf("submit: %v", err)
	}
}

// reads waits for the nth message of somebody inside and gives its header.
func (c *clinic) reads(t *testing.T, who string, n int) (mail.Header, gatewaytest.Message) {
	t.Helper()
	if _, err := c.mailbox.WaitFor(within(t), func([]gatewaytest.Message) bool { return len(c.mailbox.To(who)) >= n }); err != nil {
		t.Fatalf("%s did not get message %d: %v\n%s", who, n, err, c.postfix.LogText())
	}
	m := c.mailbox.To(who)[n-1]
	parsed := must(mail.ReadMessage(bytes.NewReader(m.Data)))(t)
	return parsed.Header, m
}

// TestTwoClinics: two passerelles of two clinics, each behind its own Postfix, are operators of the trust space for each other.
func TestTwoClinics(t *testing.T) {
	if testing.Short() {
		t.Log("real Postfix instances are left to the full run")
		return
	}
	a, b := newClinics(t)
	converse(t, a, b, a.dn(), b.dn())
	crossed(t, a, b, 3, a.tap, b.tap)
	a.well(t, []string{b.own()}, "ok    trust.listener", "ok    trust.certificate dn: ", "mail for "+b.own()+" may go there")
	b.well(t, []string{a.own()}, "ok    trust.listener", "ok    trust.certificate dn: ", "mail for "+a.own()+" may go there")

	// Somebody at beta has his mail forwarded to an address of the Internet.
	a.writes(t, "20261123.4@pc7.alpha.test", "", "renvoi@"+b.own())
	_, told := a.reads(t, a.inside(), 2) // beta's Postfix gives it back
	if !bytes.Contains(told.Data, []byte("delivery-status")) {
		t.Errorf("want a report of what was not forwarded:\n%s", told.Data)
	}
	a.settled(t)
	b.settled(t)
	if n := len(b.internet.Messages()); n != 0 {
		t.Errorf("a forwarded message left to the Internet:\n%s", b.internet.Messages()[0].Data)
	}
	crossed(t, a, b, 5, a.tap, b.tap)
}

// converse has a's doctor write to b's, who answers, and is answered. The marks at each side must name these: who wrote from a, from b.
func converse(t *testing.T, a, b *clinic, atBMark, atAMark string) {
	t.Helper()
	first, reply, second := "20261123.1@pc7."+a.name+".test", "20261123.2@pc9."+b.name+".test", "20261123.3@pc7."+a.name+".test"

	a.writes(t, first, "", b.outside())
	atB, m := b.reads(t, b.inside(), 1)
	if from := atB.Get("From"); !strings.Contains(from, a.outside()) {
		t.Errorf("From is %q", from)
	}
	if m.Sender != a.outside() {
		t.Errorf("envelope sender is %q", m.Sender)
	}
	marked(t, atB, atBMark)
	if want := []byte("\r\n\r\nBonjour, voici le résultat.\r\n"); !bytes.HasSuffix(m.Data, want) {
		t.Errorf("the body was changed:\n%s", m.Data)
	}

	// The reply, as a mail program writes it.
	b.writes(t, reply, thread(atB), a.outside())
	atA, _ := a.reads(t, a.inside(), 1)
	if got := atA.Get("In-Reply-To"); got != "<"+first+">" {
		t.Errorf("In-Reply-To at alpha is %q, want the id that alpha wrote", got)
	}
	if got := atA.Get("References"); got != "<"+first+">" {
		t.Errorf("References at alpha is %q", got)
	}
	marked(t, atA, atAMark)

	a.writes(t, second, thread(atA), b.outside())
	again, _ := b.reads(t, b.inside(), 2)
	if got := again.Get("In-Reply-To"); got != "<"+reply+">" {
		t.Errorf("In-Reply-To at beta is %q, want the id that beta wrote", got)
	}
	if got, want := strings.Fields(again.Get("References")), []string{atB.Get("Message-Id"), "<" + reply + ">"}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("References at beta are %q, want %q", got, want)
	}

	for _, c := range []*clinic{a, b} {
		c.settled(t)
		if n := len(c.internet.Messages()); n != 0 {
			t.Errorf("%d messages of %s left by the Internet", n, c.name)
		}
	}
}

// thread is how a mail program answers a message.
func thread(h mail.Header) string {
	id := h.Get("Message-Id")
	return "In-Reply-To: " + id + "\r\nReferences: " + strings.TrimSpace(h.Get("References")+" "+id) + "\r\n"
}

// marked looks for our own mark alone, with who was verified.
func marked(t *testing.T, h mail.Header, who string) {
	t.Helper()
	marks := h["X-Passerelle-Origine"]
	if len(marks) != 1 || !strings.Contains(marks[0], "trust") || !strings.Contains(marks[0], who) {
		t.Errorf("marks are %q, want one that names %s", marks, who)
	}
}

// crossed looks at every byte that crossed between the clinics, both ways: letters came, and nothing of the inside of either.
func crossed(t *testing.T, a, b *clinic, letters int, taps ...*tap) {
	t.Helper()
	var both []byte
	for _, p := range taps {
		both = append(both, p.seen()...)
	}
	if n := bytes.Count(both, []byte("\r\nDATA\r\n")) + bytes.Count(both, []byte("BDAT ")); n != letters {
		t.Errorf("%d letters crossed, want %d", n, letters)
	}
	for _, c := range []*clinic{a, b} {
		if !bytes.Contains(both, []byte(c.outside())) {
			t.Errorf("%s was not seen to cross: the tap hears nothing", c.outside())
		}
		for _, secret := range []string{"@" + c.name + ".test", "." + c.name + ".test", c.doctor, "pc7", "pc9", "192.168.", c.dir} {
			for at := range bytes.SplitSeq(both, []byte("\r\n")) {
				if bytes.Contains(at, []byte(secret)) {
					t.Errorf("%q crossed: %q", secret, at)
				}
			}
		}
	}
}

// well asks the doctor beside the running gateway, as its operator does.
func (c *clinic) well(t *testing.T, domains []string, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary(t), append([]string{"doctor", "--config", c.config}, domains...)...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) { // a certificate of a month is a warning at least
		t.Errorf("doctor: %v\n%s", err, out)
	} else if code := exit.ExitCode(); len(domains) == 0 && code != 1 { // without names to ask the machine's DNS for
		t.Errorf("doctor: exit code %d, want 1\n%s", code, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "fail  ") && !strings.HasPrefix(line, "fail  dns") {
			t.Errorf("doctor: %s", line)
		}
	}
	for _, w := range append(want, "ok    process: ", "ok    trust.white_list", "ok    hop clinic") {
		if !strings.Contains(string(out), w) {
			t.Errorf("doctor does not say %q:\n%s", w, out)
		}
	}
}
