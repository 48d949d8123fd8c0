package gateway_test

import (
	"context"
	"crypto/x509/pkix"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// clientWorld is a trust space in which the clinic is the client of an operator: bal@mss.clinic.test and dr@mss.clinic.test are its mailboxes.
type clientWorld struct {
	t      *testing.T
	ca     *gatewaytest.CA
	cert   *gatewaytest.Issued // the operator's
	dir    string              // ca.pem, crl.pem; bal.pem, bal.key, dr.pem, dr.key
	far    *gatewaytest.NextHop
	tokens string // the file that the token command prints
}

func newClientWorld(t *testing.T) *clientWorld {
	t.Helper()
	ca, err := gatewaytest.NewCA("AC test")
	if err != nil {
		t.Fatal(err)
	}
	w := &clientWorld{t: t, ca: ca, dir: t.TempDir()}
	w.tokens = filepath.Join(w.dir, "token")
	if w.cert, err = ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"OPERATEUR"}, CommonName: "smtp.operateur.test"}); err != nil {
		t.Fatal(err)
	}
	w.write("ca.pem", ca.CertPEM())
	w.list()
	for _, name := range []string{"bal", "dr"} {
		w.issue(name, name+"@mss.clinic.test", 30)
	}
	if w.far, err = gatewaytest.StartNextHop(gatewaytest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.far.Close() })
	return w
}

func (w *clientWorld) write(name string, b []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), b, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// list writes the revocation list anew.
func (w *clientWorld) list() {
	w.t.Helper()
	crl, err := w.ca.CRL(24 * time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("crl.pem", crl)
}

func (w *clientWorld) issue(name, mailbox string, days int) {
	w.t.Helper()
	i, err := w.ca.Issue(gatewaytest.Leaf{Subject: pkix.Name{Country: []string{"FR"}, Organization: []string{"CLINIC"}, CommonName: mailbox}, Days: days})
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := i.KeyPEM()
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(name+".key", key)
	w.write(name+".pem", i.CertPEM())
}

func (w *clientWorld) operator(opt gatewaytest.OperatorOptions) *gatewaytest.Operator {
	w.t.Helper()
	opt.CA = w.ca
	if opt.Cert == nil { // else nobody gets as far as a message
		opt.Cert, opt.Relay = w.cert, w.far.Addr()
	}
	o, err := gatewaytest.StartOperator(w.t.Context(), opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Log(o.LogText())
		}
		o.Close()
	})
	return o
}

// house is a gateway whose trust.submission is this.
func (w *clientWorld) house(submission string) *house {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "extraction.txt")
	text := withRules("rules:\n  - {name: rest, route: plain}\n") + `
trust:
  domains: {peer.mssante.test: ["CN=mss.peer.test,O=PEER,C=FR"], other.mssante.test: ["CN=other.test,C=FR"]}
  own_domains: [mss.clinic.test]
  ca: {w}/ca.pem
  crl: {w}/crl.pem
  submission: {` + submission + `}
directory: {extraction: "` + file + `"}
`
	return custom(w.t, strings.ReplaceAll(text, "{w}", w.dir), nil, func(h *house) {
		if err := gatewaytest.WriteDirectory(file, gatewaytest.Doctor("marie.durand@peer.mssante.test", "Marie", "Durand")); err != nil {
			w.t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(h.dir, "state"), 0o700); err != nil {
			w.t.Fatal(err)
		}
		if _, err := gateway.ImportDirectory(w.t.Context(), filepath.Join(h.dir, "state"), file, false, nil); err != nil {
			w.t.Fatal(err)
		}
	})
}

const (
	withCert  = `cert: "{w}/bal.pem", key: "{w}/bal.key"`
	withToken = `mailbox: bal@mss.clinic.test, token_command: [/bin/cat, "{w}/token"]`
	marie     = "marie.durand@peer.mssante.test"
)

// arrived waits for n messages beyond the operator.
func (w *clientWorld) arrived(n int) []gatewaytest.Message {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	ms, err := w.far.Wait(ctx, n)
	if err != nil {
		w.t.Fatal(err)
	}
	return ms
}

// row gives the last ledger row: hop, peer's DN, reason, outcome.
func (h *house) row() (hop, subject, reason, outcome string) {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.dir, "state", "passerelle.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`SELECT hop, peer_subject, reason, outcome FROM ledger_entries ORDER BY seq DESC LIMIT 1`).Scan(&hop, &subject, &reason, &outcome); err != nil {
		h.t.Fatal(err)
	}
	return hop, subject, reason, outcome
}
