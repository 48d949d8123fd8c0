package gateway_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// TestClientMode: through a real Dovecot, and a real Postfix with SASL by Dovecot, each way to say who we are; under mutual TLS where a
// certificate says it. Postfix tells Dovecot nothing of the client's certificate, so EXTERNAL is shown at Dovecot's own submission alone.
func TestClientMode(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers are left to the full run")
	}
	w := newClientWorld(t)
	o := w.operator(gatewaytest.OperatorOptions{Size: 200000})
	for n, c := range []struct {
		port      int
		with      string
		submitted string // what the operator's log says of the session
	}{
		{o.Submission, "auth: external, " + withCert, "method=EXTERNAL"},
		{o.Submissions, "tls: implicit, auth: external, " + withCert, "method=EXTERNAL"},
		{o.Submission, "auth: xoauth2, " + withToken, "method=XOAUTH2"},
		{o.Submissions, "tls: implicit, auth: oauthbearer, " + withToken, "method=OAUTHBEARER"},
		{o.PostfixSubmission, "auth: xoauth2, " + withToken, "sasl_method=XOAUTH2, sasl_username=bal@mss.clinic.test"},
		{o.PostfixSubmission, "auth: oauthbearer, " + withToken, "sasl_method=OAUTHBEARER, sasl_username=bal@mss.clinic.test"},
	} {
		t.Run(c.with+fmt.Sprint(n), func(t *testing.T) {
			w.far.Reset()
			w.write("token", []byte(o.Token("bal@mss.clinic.test", 5*time.Minute)))
			h := w.house(fmt.Sprintf("addr: \"127.0.0.1:%d\", %s", c.port, c.with))
			for _, door := range []string{h.lmtp, h.smtp} {
				if got := h.send(door, "bal@mss.clinic.test", hello, marie); codes(got) != "250" {
					t.Fatalf("got %q\n%s", got, h.log.String())
				}
			}
			for _, m := range w.arrived(2) {
				if m.Sender != "bal@mss.clinic.test" || m.Recipients[0] != marie || !bytes.Contains(m.Data, []byte("bonjour")) {
					t.Errorf("arrived from %s to %s:\n%s", m.Sender, m.Recipients, m.Data)
				}
			}
			until(t, "the operator's log has "+c.submitted, func() bool { return strings.Contains(o.LogText(), c.submitted) }) // a process of its own writes it
			hop, subject, reason, outcome := h.row()
			if hop != "mssante-operator" || subject != "CN=smtp.operateur.test,O=OPERATEUR,C=FR" || !strings.Contains(reason, "handed to the clinic's MSSante operator") || outcome != "delivered" {
				t.Errorf("ledger: %q %q %q %q", hop, subject, reason, outcome)
			}
			x, err := h.g.Explain(t.Context(), "bal@mss.clinic.test", marie, []byte("Subject: x\r\n\r\nx\r\n"))
			if err != nil || !strings.Contains(x.Hop, "(trust.submission)") || !strings.Contains(x.Sees, "from the clinic's operator in a session of ") {
				t.Errorf("explain: %+v, %v", x, err)
			}
			large := h.send(h.lmtp, "bal@mss.clinic.test", hello+strings.Repeat("mot pour mot\n", 20000), marie)
			if codes(large) != "552" || !strings.Contains(large[0], "5.3.4") || !strings.Contains(large[0], "accepte 200000") && !strings.Contains(large[0], "accepte 198976") { // Dovecot keeps 1 KiB for its own fields
				t.Errorf("too large: %q", large)
			}
			if n := len(h.sink.Messages()); n != 0 {
				t.Errorf("%d messages took the Internet", n)
			}
			if log := h.log.String(); strings.Contains(log, "eyJ") || strings.Contains(log, "bal@mss") {
				t.Errorf("the log tells a token or a local part:\n%s", log)
			}
			h.stop()
		})
	}
}

// TestClientModeMailboxes: each mailbox in its own sessions; whose has none is told so, by the operator where he is asked for another's.
func TestClientModeMailboxes(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers are left to the full run")
	}
	w := newClientWorld(t)
	o := w.operator(gatewaytest.OperatorOptions{})
	h := w.house(fmt.Sprintf(`addr: "127.0.0.1:%d", mailboxes: {bal@mss.clinic.test: {cert: "{w}/bal.pem", key: "{w}/bal.key"}, dr@mss.clinic.test: {cert: "{w}/dr.pem", key: "{w}/dr.key"}}`, o.Submission))
	for range 3 {
		for _, who := range []string{"bal", "dr"} {
			if got := h.send(h.lmtp, who+"@mss.clinic.test", hello, marie); codes(got) != "250" {
				t.Fatalf("got %q", got)
			}
		}
	}
	w.arrived(6)
	for _, who := range []string{"bal", "dr"} {
		login := "Login: user=<" + who + "@mss.clinic.test>, method=EXTERNAL"
		until(t, who+" is logged in", func() bool { return strings.Contains(o.LogText(), login) })
		if n := strings.Count(o.LogText(), login); n != 1 {
			t.Errorf("%s: %d sessions, want one that is kept", who, n)
		}
	}
	if got := h.send(h.lmtp, "nobody@mss.clinic.test", hello, marie); codes(got) != "550" || !strings.Contains(got[0], "pas de boite declaree") {
		t.Errorf("without a mailbox: %q", got)
	}
	if got := h.send(h.lmtp, "dr@mss.clinic.test", hello, "x@unlisted.test"); codes(got) != "250" || len(h.sink.Messages()) != 1 {
		t.Errorf("a domain that is not listed: %q", got)
	}
	h.stop()
	w.write("token", []byte(o.Token("bal@mss.clinic.test", time.Minute)))
	h = w.house(fmt.Sprintf(`addr: "127.0.0.1:%d", auth: xoauth2, %s`, o.PostfixSubmission, withToken))
	if got := h.send(h.lmtp, "dr@mss.clinic.test", hello, marie); codes(got) != "553" || !strings.Contains(got[0], "not owned by user") {
		t.Errorf("in another's session: %q", got)
	}
	if _, _, reason, outcome := h.row(); outcome != "failed" || strings.Contains(reason, "handed to") || !strings.Contains(reason, "refused by the clinic's MSSante operator") {
		t.Errorf("the ledger says of it: %s, %s", outcome, reason)
	}
	h.stop()
	// The first token is refused by the real servers, the fresh one taken: the sender sees nothing of it.
	for n, port := range []int{o.Submission, o.PostfixSubmission} {
		w.write("first", []byte(o.Token("bal@mss.clinic.test", time.Minute)+"x"))
		h = w.house(fmt.Sprintf(`addr: "127.0.0.1:%d", auth: xoauth2, mailbox: bal@mss.clinic.test, token_command: [/bin/sh, -c, "cat {w}/first || cat {w}/token; rm -f {w}/first"]`, port))
		if got := h.send(h.lmtp, "bal@mss.clinic.test", hello, marie); codes(got) != "250" {
			t.Errorf("with a fresh token: %q\n%s", got, h.log.String())
		}
		w.arrived(7 + n)
		h.stop()
	}
}

// TestClientModeIdentities: who writes with the clinic's own address goes in the session of his mailbox.
func TestClientModeIdentities(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers are left to the full run")
	}
	w := newClientWorld(t)
	o := w.operator(gatewaytest.OperatorOptions{})
	h := w.house(fmt.Sprintf(`addr: "127.0.0.1:%d", mailboxes: {dr@mss.clinic.test: {cert: "{w}/dr.pem", key: "{w}/dr.key"}}}
  identities: {mailboxes: {dr@clinic.test: dr@mss.clinic.test, sec@clinic.test: sec@mss.clinic.test}`, o.Submission))
	if got := h.send(h.lmtp, "dr@clinic.test", hello, marie); codes(got) != "250" {
		t.Fatalf("got %q\n%s", got, h.log.String())
	}
	if m := w.arrived(1)[0]; m.Sender != "dr@mss.clinic.test" {
		t.Errorf("arrived from %s", m.Sender)
	}
	until(t, "dr is logged in", func() bool { return strings.Contains(o.LogText(), "Login: user=<dr@mss.clinic.test>, method=EXTERNAL") })
	x, err := h.g.Explain(t.Context(), "dr@clinic.test", marie, []byte(strings.ReplaceAll(hello, "\n", "\r\n")))
	if err != nil || !strings.Contains(x.Sees, "in a session of dr@mss.clinic.test") {
		t.Errorf("explain: %q, %v", x.Sees, err)
	}
	if got := h.send(h.lmtp, "sec@clinic.test", strings.Replace(hello, "dr@clinic.test", "sec@clinic.test", 1), marie); codes(got) != "550" || !strings.Contains(got[0], "pas de boite declaree") {
		t.Errorf("a mailbox without a session: %q", got)
	}
}
