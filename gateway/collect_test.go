package gateway_test

import (
	"bytes"
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
	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus"

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

func letter(n any) string {
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
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
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

// What lies there and what comes later arrives once each, marked, from who sent it, for whom the config says; IDLE brings it at once.
func TestCollectBringsMail(t *testing.T) {
	o := newOperator(t, "every: 25m")
	c := o.imap("one@op.test")
	put(t, c, letter(1))
	until(t, "the first letter", func() bool { return len(o.clinic.Messages()) == 1 })
	var slowest time.Duration
	for n := 2; n < 8; n++ {
		put(t, c, letter(n))
		began := time.Now()
		until(t, "a letter behind IDLE", func() bool { return len(o.clinic.Messages()) == n })
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("behind IDLE: %s at most", slowest)
	if slowest > 5*time.Second { // nothing polls before 25 minutes
		t.Errorf("a letter took %s", slowest)
	}
	m := o.clinic.Messages()[0]
	if m.Sender != "dr.martin@medecin.mssante.test" || len(m.Recipients) != 1 || m.Recipients[0] != "accueil@clinic.test" {
		t.Errorf("from %s to %v", m.Sender, m.Recipients)
	}
	if !bytes.HasSuffix(m.Data, []byte(letter(1)[strings.Index(letter(1), "From:"):])) || !bytes.Contains(m.Data, []byte("\r\nX-Passerelle-")) || !bytes.Contains(m.Data, []byte("operator 127.0.0.1")) {
		t.Errorf("arrived:\n%s", m.Data)
	}
	until(t, "flags", func() bool {
		f := flags(t, c, "INBOX")
		return len(f) == 7 && !slices.ContainsFunc(f, func(s string) bool { return s != `$passerellecollected \seen` })
	})
	o.stop()
	o.start()
	put(t, c, letter(8))
	until(t, "a letter behind a restart", func() bool { return len(o.clinic.Messages()) >= 8 })
	if n := len(o.clinic.Messages()); n != 8 {
		t.Errorf("%d letters arrived, want 8", n)
	}
	if n := counter(t, "passerelle_collect_messages_total", "box", "one", "result", "taken"); n != 1 { // a stopped box is forgotten
		t.Errorf("counted %v", n)
	}
	until(t, "success is told", func() bool {
		return time.Now().Unix()-int64(counter(t, "passerelle_collect_last_success_seconds", "box", "one")) < 60
	})
	if l := o.log.String(); strings.Contains(l, "one@") || strings.Contains(l, "accueil@") || strings.Contains(l, "martin") {
		t.Errorf("the log names people:\n%s", l)
	}
}

// What the clinic's server refuses for good stays, flagged, and the postmaster hears of it once; what is too large is not even fetched. Mail behind
// it is not held up.
func TestCollectLeavesPoison(t *testing.T) {
	o := prepareOperator(t, gatewaytest.DovecotOptions{})
	o.clinicReply = func(to string) gatewaytest.Reply {
		if strings.HasPrefix(to, "inconnu@") {
			return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}
		}
		return gatewaytest.Reply{}
	}
	c := o.imap("one@op.test")
	put(t, c, letter(1)+strings.Repeat("x\r\n", 400<<10)) // 1.2 MB
	put(t, c, letter(2)+"a lone \n")
	put(t, c, letter(3))
	o.build(collectConfig, nil, "{more}", "after: delete", "{imap}", o.d.Addr())
	until(t, "all is settled", func() bool { return len(o.clinic.To("accueil@clinic.test")) == 1 && len(o.clinic.To("postmaster@clinic.test")) >= 1 })
	until(t, "flags", func() bool { return slices.Equal(flags(t, c, "INBOX"), []string{`$passerellerefused \flagged`}) || len(flags(t, c, "INBOX")) == 2 })
	o.stop()
	o.start()
	put(t, c, letter(4))
	until(t, "mail behind it", func() bool { return len(o.clinic.To("accueil@clinic.test")) >= 2 })
	t.Log(flags(t, c, "INBOX"), len(o.clinic.To("postmaster@clinic.test")))
	for _, m := range o.clinic.To("postmaster@clinic.test") {
		t.Logf("%s", m.Data)
	}
}
