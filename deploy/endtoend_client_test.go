package deploy_test

import (
	"crypto/x509/pkix"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

const clientConfig = `mode: enforce
hostname: passerelle.{name}.test
state_dir: {dir}/state
clinic: {name: Clinique {name}, domains: ["{name}.test"], queue_lifetime: 1h}
listen:
  lmtp: {addr: "{lmtp}"}
  smtp: {addr: ""}
  portal: {addr: ""}
  metrics: {addr: "{metrics}"}
hops:
  clinic: {addr: "{in}", tls: none}
  internet: {addr: "{out}", tls: none}
trust:
  white_list: {url: "{list}", ca: "{dir}/list.pem", signer: {issuer: AC de test}}
  own_domains: ["{name}.mss.test"]
  tls_dir: {dir}/tls
  submission: {addr: "{submission}", auth: external}
  identities: {table: "{dir}/identities.csv"}
collect:
  - {name: paul, mailbox: "{outside}", addr: "{imap}", deliver_to: "{inside}", every: 10s}
rules:
  - {name: professionals, trust_domain: true, route: trust}
  - {name: others, route: plain}
`

// mss is an MSSanté operator as its clients and the other operators see it: Dovecot for submission in front of a Postfix, Dovecot for the
// mailboxes, and the Postfix that speaks with the trust space both ways by mutual TLS.
type mss struct {
	cert     *gatewaytest.Issued
	service  *gatewaytest.Operator
	imap     *gatewaytest.Dovecot
	exchange *gatewaytest.Postfix
	door     string // where other operators deliver
}

// newMSS serves one mailbox; peer is the door of the one other domain of the trust space.
func newMSS(t *testing.T, ca *gatewaytest.CA, mailbox, domain, peer string) *mss {
	t.Helper()
	o := &mss{door: freeAddr(t)}
	o.cert = must(ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"OPERATEUR"}, CommonName: "mss.operateur.test"}, "mss.operateur.test"))(t)
	dir := filepath.Join(t.TempDir(), "tls")
	if err := ca.WriteDir(dir, o.cert); err != nil {
		t.Fatal(err)
	}
	o.imap = must(gatewaytest.StartDovecot(t.Context(), gatewaytest.DovecotOptions{CA: ca}))(t)
	t.Cleanup(func() { o.imap.Close() })
	_, own, _ := strings.Cut(mailbox, "@")
	host, port, _ := strings.Cut(peer, ":")
	keys := "_tls_cert_file = " + dir + "/cert.pem"
	o.exchange = must(gatewaytest.StartPostfix(t.Context(), gatewaytest.PostfixOptions{Name: "operator-mx", Main: []string{
		fmt.Sprintf("transport_maps = inline:{ %s=smtp:[%s]:%s }", domain, host, port), "relay_domains = " + domain,
		"smtp_tls_security_level = encrypt", "smtp" + keys, "smtp_tls_key_file = " + dir + "/key.pem",
		"virtual_mailbox_domains = " + own, "virtual_mailbox_base = " + o.imap.Dir + "/mail", "virtual_mailbox_maps = inline:{ " + mailbox + "=" + mailbox + "/Maildir/ }",
		"virtual_uid_maps = static:8", "virtual_gid_maps = static:8", "virtual_minimum_uid = 8", "virtual_mailbox_limit = 0",
	}, Master: []string{
		o.door + " inet n - n - - smtpd",
		" -o smtpd_tls_security_level=encrypt -o smtpd_tls_req_ccert=yes -o smtpd_tls_CAfile=" + dir + "/ca.pem",
		" -o smtpd_tls_cert_file=" + dir + "/cert.pem -o smtpd_tls_key_file=" + dir + "/key.pem",
		"virtual unix - n n - - virtual",
	}}))(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(o.exchange.LogText())
		}
		o.exchange.Close()
	})
	o.service = must(gatewaytest.StartOperator(t.Context(), gatewaytest.OperatorOptions{CA: ca, Cert: o.cert, Relay: o.exchange.Addr()}))(t)
	t.Cleanup(func() { o.service.Close() })
	return o
}

// TestClinicOfAnOperator: one clinic is an operator itself, the other a client of a Dovecot and Postfix operator; they exchange mail as two operators
// do.
func TestClinicOfAnOperator(t *testing.T) {
	if testing.Short() {
		t.Log("real Postfix and Dovecot instances are left to the full run")
		return
	}
	ca := must(gatewaytest.NewCA("AC de test"))(t)
	a := &clinic{world: &world{dir: t.TempDir()}, name: "alpha", doctor: "j.martin", bal: "jean.martin"}
	c := &clinic{world: &world{dir: t.TempDir()}, name: "gamma", doctor: "p.leroy", bal: "paul.leroy"}
	for _, x := range []*clinic{a, c} {
		for _, addr := range []*string{&x.lmtp, &x.trust, &x.metrics, &x.in, &x.out} {
			*addr = freeAddr(t)
		}
	}
	a.cert = must(ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"ALPHA"}, CommonName: "mss.alpha.test"}))(t)
	c.cert = must(ca.IssueLocal(pkix.Name{CommonName: c.outside()}))(t) // of an application mailbox
	door := freeAddr(t)                                                 // of alpha, behind the tap that needs the operator's key
	o := newMSS(t, ca, c.outside(), a.own(), door)
	a.tap = startTapAt(t, door, a.trust, a.cert, o.cert)
	c.tap = startTap(t, o.door, o.cert, a.cert)
	list := serveWhiteList(t, ca, gatewaytest.ListEntry{Domain: a.own(), DN: a.dn()}, gatewaytest.ListEntry{Domain: c.own(), DN: "CN=mss.operateur.test,O=OPERATEUR,C=FR"})
	a.furnish(t, ca, clinicConfig, "{other}", c.name, "{peer}", c.tap.addr(), "{list}", list)
	c.furnish(t, ca, clientConfig, "{list}", list, "{submission}", fmt.Sprintf("127.0.0.1:%d", o.service.Submission), "{imap}", o.imap.Addr())

	converse(t, a, c, "operator 127.0.0.1", "CN=mss.operateur.test")
	crossed(t, a, c, 3, a.tap, c.tap)
	c.well(t, nil, "ok    trust.submission", "ok    collect paul")
	a.well(t, []string{c.own()}, "mail for "+c.own()+" may go there")
}
