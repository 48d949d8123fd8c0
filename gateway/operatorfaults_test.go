package gateway_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway/gatewaytest"
)

// TestClientModeRefusals: whatever is wrong between us and the operator, the message waits and nothing leaves by another way or in clear.
func TestClientModeRefusals(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers are left to the full run")
	}
	w := newClientWorld(t)
	o := w.operator(gatewaytest.OperatorOptions{})
	other, err := w.ca.Issue(gatewaytest.Leaf{Subject: pkix.Name{CommonName: "other.operateur.test"}, DNS: []string{"other.operateur.test"}})
	if err != nil {
		t.Fatal(err)
	}
	wrong := w.operator(gatewaytest.OperatorOptions{Cert: other})
	strangers, err := gatewaytest.NewCA("strangers")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := strangers.IssueLocal(pkix.Name{CommonName: "smtp.operateur.test"})
	if err != nil {
		t.Fatal(err)
	}
	foreign := w.operator(gatewaytest.OperatorOptions{Cert: stranger})
	badKey, err := stranger.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	w.write("stranger.pem", stranger.CertPEM())
	w.write("stranger.key", badKey)
	w.write("expired", []byte(o.Token("bal@mss.clinic.test", -time.Minute)))
	w.write("refused", []byte(o.Token("bal@mss.clinic.test", time.Minute)+"x")) // whose signature does not hold
	w.write("another", []byte(o.Token("dr@mss.clinic.test", time.Minute)))
	token := func(file string) string { return strings.Replace(withToken, "{w}/token", "{w}/"+file, 1) }
	for _, c := range []struct {
		name   string
		port   int
		with   string
		want   string
		reason string // in our log
	}{
		{"wrong host name", wrong.Submission, withCert, "451 4.7.5 Relais mssante-operator: liaison TLS refusee", "trust peer: dn-mismatch"},
		{"wrong host name, implicit", wrong.Submissions, "tls: implicit, " + withCert, "451 4.7.5 Relais mssante-operator: liaison TLS refusee", "trust peer: dn-mismatch"},
		{"another CA", foreign.Submission, withCert, "451 4.7.5 Relais mssante-operator: liaison TLS refusee", "unknown authority"},
		{"an expired token", o.Submission, "auth: xoauth2, " + token("expired"), "451 4.7.0 Relais mssante-operator: jeton d'acces a la boite MSSante non obtenu, nouvel essai plus tard", "the token expired at"},
		{"a token that is refused", o.Submission, "auth: xoauth2, " + token("refused"), "451 4.7.0 Relais mssante-operator: jeton d'acces refuse par le relais suivant, nouvel essai plus tard", "challenge 401"},
		{"a token that is refused, OAUTHBEARER", o.Submissions, "tls: implicit, auth: oauthbearer, " + token("refused"), "451 4.7.0 Relais mssante-operator: jeton d'acces refuse par le relais suivant, nouvel essai plus tard", "challenge invalid_token"},
		{"a token that is refused, Postfix", o.PostfixSubmission, "auth: xoauth2, " + token("refused"), "451 4.7.0 Relais mssante-operator: jeton d'acces refuse par le relais suivant, nouvel essai plus tard", "challenge"},
		{"another's token", o.Submission, "auth: xoauth2, " + token("another"), "451 4.7.0 Relais mssante-operator: jeton d'acces refuse par le relais suivant, nouvel essai plus tard", "challenge"},
		{"a certificate for another's mailbox", o.Submission, "mailbox: dr@mss.clinic.test, " + withCert, "451 4.7.0 Relais mssante-operator: certificat ou boite refuse par le relais suivant, a revoir par l'administrateur", "reply 535"},
		{"a certificate of another CA", o.Submission, strings.ReplaceAll(withCert, "{w}/bal", "{w}/stranger"), "451 4.7.0 Relais mssante-operator: certificat ou boite refuse", "reply 535"},
		{"EXTERNAL is not offered", o.PostfixSubmission, withCert, "451 4.7.0 Relais mssante-operator: le relais suivant n'offre pas l'authentification configuree", "none of EXTERNAL offered"},
		{"no SASL where it is wanted", o.Submission, "auth: certificate, " + withCert, "451 4.7.0 Relais mssante-operator: ", "mail: 451 4.7.0"},
		{"nobody there", 1, withCert, "451 4.4.1 Relais mssante-operator: le relais suivant ne repond pas", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := w.house(fmt.Sprintf("addr: \"127.0.0.1:%d\", %s", c.port, c.with))
			got := h.send(h.lmtp, "bal@mss.clinic.test", hello, marie)
			if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if log := h.log.String(); !strings.Contains(log, c.reason) || strings.Contains(log, "eyJ") {
				t.Errorf("the log lacks %q or tells a token:\n%s", c.reason, log)
			}
			if n := len(h.sink.Messages()) + len(w.far.Messages()); n != 0 {
				t.Errorf("%d messages left", n)
			}
			h.stop()
		})
	}
}

// TestClientModeRevokedOperator: a revocation ends the kept session, and mail goes again once the operator has a good certificate.
func TestClientModeRevokedOperator(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers are left to the full run")
	}
	w := newClientWorld(t)
	o := w.operator(gatewaytest.OperatorOptions{})
	h := w.house(fmt.Sprintf("addr: \"127.0.0.1:%d\", %s", o.Submission, withCert))
	reload := func() {
		t.Helper()
		if err := h.g.Reload(t.Context(), func() (*config.Config, error) {
			return config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.send(h.lmtp, "bal@mss.clinic.test", hello, marie); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	w.ca.Revoke(w.cert)
	w.list()
	reload()
	if got := h.send(h.lmtp, "bal@mss.clinic.test", strings.Replace(hello, "essai", "revoque", 1), marie); !strings.HasPrefix(got[0], "451 4.7.5 ") {
		t.Errorf("revoked: %q", got)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	var err error
	if w.cert, err = w.ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"OPERATEUR"}, CommonName: "smtp2.operateur.test"}); err != nil {
		t.Fatal(err)
	}
	o = w.operator(gatewaytest.OperatorOptions{})
	path := filepath.Join(h.dir, "passerelle.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(h.cfg.Trust.Submission.Addr), fmt.Appendf(nil, "127.0.0.1:%d", o.Submission), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	reload()
	if got := h.send(h.lmtp, "bal@mss.clinic.test", strings.Replace(hello, "essai", "revoque", 1), marie); codes(got) != "250" {
		t.Errorf("a good certificate again: %q\n%s", got, h.log.String())
	}
	if _, subject, _, _ := h.row(); !strings.HasPrefix(subject, "CN=smtp2.operateur.test,") {
		t.Errorf("ledger: peer %q", subject)
	}
	w.arrived(2)
}

// TestClientCertificateIsReadAgain: a renewed certificate is shown at the next letter, without a reload.
func TestClientCertificateIsReadAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers are left to the full run")
	}
	w := newClientWorld(t)
	o := w.operator(gatewaytest.OperatorOptions{})
	h := w.house(fmt.Sprintf("addr: \"127.0.0.1:%d\", %s", o.Submission, withCert))
	for _, who := range []string{"bal", "nouvelle"} {
		if who != "bal" {
			w.issue("bal", who+"@mss.clinic.test", 30)
			later := time.Now().Add(2 * time.Second)
			os.Chtimes(filepath.Join(w.dir, "bal.pem"), later, later)
		}
		if got := h.send(h.lmtp, "bal@mss.clinic.test", strings.Replace(hello, "essai", who, 1), marie); codes(got) != "250" {
			t.Fatalf("got %q\n%s", got, h.log.String())
		}
		until(t, "a session as "+who, func() bool {
			return strings.Contains(o.LogText(), "Login: user=<"+who+"@mss.clinic.test>, method=EXTERNAL")
		})
	}
}

// TestClientModeStripped: an operator, or who sits before him, that offers no TLS hears neither who we are nor a word of a message.
func TestClientModeStripped(t *testing.T) {
	w := newClientWorld(t)
	w.write("token", []byte("opaque-token-of-a-test"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "220 smtp.operateur.test ESMTP\r\n")
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				if err != nil {
					break
				}
				heard <- string(buf[:n])
				fmt.Fprint(c, "250-smtp.operateur.test\r\n250 AUTH EXTERNAL XOAUTH2\r\n")
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	for _, c := range []struct{ with, want string }{
		{withCert, "451 4.7.4 Relais mssante-operator: le relais suivant ne propose pas STARTTLS"},
		{"auth: xoauth2, " + withToken, "451 4.7.4 Relais mssante-operator: le relais suivant ne propose pas STARTTLS"},
		{"tls: implicit, auth: xoauth2, " + withToken, "451 4.7.5 Relais mssante-operator: liaison TLS refusee"},
	} {
		h := w.house(fmt.Sprintf("addr: %q, %s", l.Addr(), c.with))
		if got := h.send(h.lmtp, "bal@mss.clinic.test", hello, marie); !strings.HasPrefix(got[0], c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
		h.stop()
		for len(heard) > 0 {
			if s := <-heard; s != "EHLO gw.clinic.test\r\n" && s[0] != 0x16 { // else a TLS hello
				t.Errorf("in clear: %q", s)
			}
		}
	}
}

// TestClientModeDroppedToken: the operator answers a token that he does not like with a JSON object and cuts the line; the fresh one is good.
func TestClientModeDroppedToken(t *testing.T) {
	w := newClientWorld(t)
	w.write("next", []byte("#!/bin/sh\necho x >>"+w.dir+"/runs\nn=$(wc -l <"+w.dir+"/runs | tr -d ' ')\necho \"{\\\"access_token\\\":\\\"secret-token-number-$n-of-this-test\\\",\\\"expires_in\\\":300}\"\necho \"secret-token-number-$n-of-this-test\" >&2\n"))
	if err := os.Chmod(filepath.Join(w.dir, "next"), 0o700); err != nil {
		t.Fatal(err)
	}
	var refusals, accepted int
	s := &scriptHop{ext: []string{"STARTTLS", "AUTH XOAUTH2"}, tls: &tls.Config{Certificates: []tls.Certificate{w.cert.TLS()}}}
	s.say = func(verb string) (string, bool) {
		switch {
		case verb == "AUTH":
			return "334 ", false
		case strings.HasPrefix(verb, "DXNLCJ1IYWXA"): // user=bal@..., in capitals
			if refusals < 1 {
				refusals++
				return "334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=", false
			}
			accepted++
			return "235 2.7.0 ok", false
		case verb == "": // our answer to the refusal
			return "", true
		}
		return "", false
	}
	h := w.house(fmt.Sprintf("addr: %q, auth: xoauth2, mailbox: bal@mss.clinic.test, token_command: [%q]", s.serve(t), w.dir+"/next"))
	if got := h.send(h.lmtp, "bal@mss.clinic.test", hello, marie); codes(got) != "250" {
		t.Fatalf("got %q\n%s", got, h.log.String())
	}
	runs, _ := os.ReadFile(filepath.Join(w.dir, "runs"))
	if refusals != 1 || accepted != 1 || len(runs) != 4 {
		t.Errorf("%d refused, %d accepted, runs %q", refusals, accepted, runs)
	}
	log := h.log.String()
	if strings.Contains(log, "secret-token") || strings.Contains(log, "dXNlcj1i") || !strings.Contains(log, "token command speaks") {
		t.Errorf("log:\n%s", log)
	}
	var found []string
	filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("secret-token-number")) {
				found = append(found, path)
			}
		}
		return nil
	})
	if found != nil {
		t.Errorf("the token lies in %q", found)
	}
}

// TestClientModeSize: the configured limit counts before the operator is even called.
func TestClientModeSize(t *testing.T) {
	w := newClientWorld(t)
	h := w.house(`addr: "127.0.0.1:1", size: 2kB, ` + withCert)
	got := h.send(h.lmtp, "bal@mss.clinic.test", hello+strings.Repeat("mot\n", 1000), marie)
	if codes(got) != "552" || !strings.Contains(got[0], "5.3.4") || !strings.Contains(got[0], "accepte 2000") {
		t.Errorf("got %q", got)
	}
}

// operatorReplies are the replies of client mode that need a misbehaving operator.
func operatorReplies(t *testing.T, tab *replyTable) {
	w := newClientWorld(t)
	w.write("token", []byte("opaque-token-of-a-test"))
	tokens := "auth: xoauth2, " + withToken
	auth := func(answers ...string) *scriptHop {
		n := 0
		s := &scriptHop{ext: []string{"STARTTLS", "AUTH EXTERNAL XOAUTH2"}}
		s.say = func(verb string) (string, bool) {
			if verb != "AUTH" && n == 0 || n == len(answers) {
				return "", false
			}
			n++
			return answers[n-1], false
		}
		return s
	}
	for _, c := range []struct {
		s           *scriptHop
		with, words string
	}{
		{&scriptHop{ext: []string{"STARTTLS"}}, withCert, "n'offre pas l'authentification configuree"},
		{auth("504 5.5.4 no"), withCert, "authentification refusee"},
		{auth("535 5.7.8 no"), withCert, "certificat ou boite refuse"},
		{auth("454 4.7.0 later"), withCert, "authentification momentanement impossible"},
		{auth("334 ", "535 5.7.8 no"), tokens, "jeton d'acces refuse"},
		{auth(), strings.Replace(tokens, "/bin/cat", "/bin/false", 1), "jeton d'acces a la boite MSSante non obtenu"},
		{auth(), `mailboxes: {dr@mss.clinic.test: {cert: "{w}/dr.pem", key: "{w}/dr.key"}}`, "pas de boite declaree"},
	} {
		c.s.tls = &tls.Config{Certificates: []tls.Certificate{w.cert.TLS()}}
		h := w.house(fmt.Sprintf("addr: %q, %s", c.s.serve(t), c.with))
		tab.hears(t, h.send(h.lmtp, "bal@mss.clinic.test", hello, marie), c.words)
		c.s.mu.Lock()
		if len(c.s.got) != 0 {
			t.Errorf("%s: the operator got a message", c.words)
		}
		c.s.mu.Unlock()
		h.stop()
	}
}

// TestCheckOperator: what `passerelle check` shows, before mail waits for it.
func TestCheckOperator(t *testing.T) {
	w := newClientWorld(t)
	w.issue("dr", "dr@mss.clinic.test", 12)
	h := w.house(`addr: "127.0.0.1:1", mailboxes: {dr@mss.clinic.test: {cert: "{w}/dr.pem", key: "{w}/dr.key"}}, cert: "{w}/bal.pem", key: "{w}/bal.key", mailbox: bal@mss.clinic.test`)
	shown, warnings := h.g.CheckOperator(t.Context(), h.cfg, true)
	all := strings.Join(shown, "\n") + "\n--\n" + strings.Join(warnings, "\n")
	for _, want := range []string{"client of the operator at 127.0.0.1:1 (TLS by STARTTLS, auth: external)", "as bal@mss.clinic.test: certificate " + w.dir + "/bal.pem, 30 days left",
		"as dr@mss.clinic.test: certificate " + w.dir + "/dr.pem, 12 days left", "certificate of dr@mss.clinic.test ends in 12 days", "MSSante mail of bal@mss.clinic.test waits: hand on to mssante-operator: connect"} {
		if !strings.Contains(all, want) {
			t.Errorf("lacks %q:\n%s", want, all)
		}
	}
}
