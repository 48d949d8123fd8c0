package gateway_test

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"passerelle/gateway/gatewaytest"
)

const collectConfig = `
hostname: gw.clinic.test
state_dir: {dir}/state
clinic: {name: Clinique Test, domains: [clinic.test]}
limits: {message: 1MiB}
listen: {lmtp: {addr: "{lmtp}"}, smtp: {addr: "{smtp}"}, portal: {addr: ""}, metrics: {addr: ""}}
hops:
  clinic: {addr: "{clinic}", tls: none}
  internet: {addr: "{sink}", tls: none}
trust: {tls_dir: "{dir}/tls"}
collect:
  - {name: one, mailbox: one@op.test, addr: "{imap}", deliver_to: accueil@clinic.test, {more}}
rules:
  - {name: rest, route: plain}
`

// operator is a clinic whose mailboxes lie at a real Dovecot.
type operator struct {
	*house
	d  *gatewaytest.Dovecot
	ca *gatewaytest.CA
}

// newOperator serves under collectConfig; more are further keys of the mailbox one@op.test.
func newOperator(t *testing.T, more string, replace ...string) *operator {
	t.Helper()
	o := prepareOperator(t, gatewaytest.DovecotOptions{})
	o.build(collectConfig, nil, append([]string{"{more}", more, "{imap}", o.d.Addr()}, replace...)...)
	return o
}

func prepareOperator(t *testing.T, opt gatewaytest.DovecotOptions) *operator {
	t.Helper()
	if err := gatewaytest.DovecotTools(); err != nil {
		if testing.Short() {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	o := &operator{house: &house{t: t, dir: t.TempDir(), log: newBuffer()}}
	var err error
	if o.ca, err = gatewaytest.NewCA("IGC test"); err != nil {
		t.Fatal(err)
	}
	opt.CA = o.ca
	if o.d, err = gatewaytest.StartDovecot(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dovecot: %s", o.d.LogText())
			t.Logf("gateway: %s", o.log)
		}
		o.d.Close()
	})
	own, err := o.ca.IssueLocal(pkix.Name{CommonName: "one@op.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ca.WriteDir(filepath.Join(o.dir, "tls"), own); err != nil {
		t.Fatal(err)
	}
	return o
}

// imap is a test's own session, with the inbox open.
func (o *operator) imap(mailbox string) *imapclient.Client {
	o.t.Helper()
	c, err := imapclient.DialTLS(o.d.TLSAddr(), &imapclient.Options{TLSConfig: &tls.Config{RootCAs: o.ca.Pool()}})
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { c.Close() })
	if err := c.Login(mailbox, gatewaytest.DovecotPassword).Wait(); err != nil {
		o.t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		o.t.Fatal(err)
	}
	return c
}

func arrival(n any) string {
	return strings.ReplaceAll(fmt.Sprintf("Return-Path: <dr.martin@medecin.mssante.test>\nFrom: Dr Martin <dr.martin@medecin.mssante.test>\nTo: <one@op.test>\nSubject: essai %v\nMessage-ID: <%v@medecin.mssante.test>\n"+
		"Date: Mon, 23 Nov 2026 10:00:00 +0100\n\nbonjour %v\n", n, n, n), "\n", "\r\n")
}

func put(t *testing.T, c *imapclient.Client, raw string) {
	t.Helper()
	cmd := c.Append("INBOX", int64(len(raw)), nil)
	if _, err := io.WriteString(cmd, raw); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// flags of every message in a folder, by their order.
func flags(t *testing.T, c *imapclient.Client, folder string) (out []string) {
	t.Helper()
	d, err := c.Select(folder, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if d.NumMessages == 0 {
		return nil
	}
	ms, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: d.NumMessages}}, &imap.FetchOptions{Flags: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		var f []string
		for _, s := range m.Flags {
			if s != `\Recent` {
				f = append(f, strings.ToLower(string(s)))
			}
		}
		slices.Sort(f)
		out = append(out, strings.Join(f, " "))
	}
	return out
}

func counter(t *testing.T, name string, labels ...string) (sum float64) {
	t.Helper()
	all, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
	next:
		for _, m := range f.Metric {
			for i := 0; i+1 < len(labels); i += 2 {
				if !slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] }) {
					continue next
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}
