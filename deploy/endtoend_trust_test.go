package deploy_test

import (
	"bytes"
	"crypto/tls"
	"net/smtp"
	"strings"
	"testing"
	"time"
)

// inbound: a listed peer delivers to the clinic's mailbox, marked; nobody else does, and Postfix is asked who exists.
func (w *world) inbound(t *testing.T) {
	w.reset()
	peer := []tls.Certificate{w.peerCert.TLS()}
	const forged = "X-Passerelle-Origine: v1; trust; verified=forged\r\n"
	content := append([]byte(forged), report("Reponse", person)...)

	c := w.knock(t)
	if err := c.StartTLS(w.client(peer)); err != nil {
		t.Fatal(err)
	}
	if err := c.Mail(doctor); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"nobody@clinic.test", shop} {
		if err := c.Rcpt(to); err == nil || !strings.HasPrefix(err.Error(), "550") {
			t.Errorf("RCPT of %s was answered %v, want 550", to, err)
		}
	}
	if err := c.Rcpt(person); err != nil {
		t.Fatal(err)
	}
	d, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatalf("the dot: %v", err)
	}
	arrived(t, w.mailbox, person)
	w.settled(t)
	counts(t, "mailbox", w.mailbox, each(1, person))
	m := w.mailbox.To(person)[0]
	if m.Sender != doctor {
		t.Errorf("sender is %q", m.Sender)
	}
	if n := bytes.Count(m.Data, []byte("X-Passerelle-Origine:")); n != 1 || !bytes.Contains(m.Data, []byte("CN=mss.peer.test")) || bytes.Contains(m.Data, []byte("forged")) {
		t.Errorf("want our own mark alone, naming the peer:\n%s", m.Data)
	}
	if want := body(report("Reponse")); !bytes.Equal(body(m.Data), want) {
		t.Errorf("changed on the way:\n%q\nwant\n%q", body(m.Data), want)
	}

	if err := w.knock(t).Mail(doctor); err == nil {
		t.Error("MAIL was taken in clear")
	}
	c = w.knock(t) // TLS 1.3 tells a client only after its handshake that its certificate is missing
	if err := c.StartTLS(w.client(nil)); err == nil {
		if err := c.Mail(doctor); err == nil {
			t.Error("MAIL was taken without a certificate")
		}
	}
	c = w.knock(t)
	if err := c.StartTLS(w.client(peer)); err != nil {
		t.Fatal(err)
	}
	if err := c.Mail("somebody@elsewhere.test"); err == nil || !strings.HasPrefix(err.Error(), "550") {
		t.Errorf("a sender of another domain was answered %v, want 550", err)
	}
}

func (w *world) knock(t *testing.T) *smtp.Client {
	t.Helper()
	c, err := smtp.Dial(w.trust)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (w *world) client(certs []tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: w.ca.Pool(), ServerName: "mss.clinic.test", Certificates: certs, MinVersion: tls.VersionTLS12}
}

// What comes from the trust space for a mailbox that Postfix forwards to the Internet does not go there; its author is told within the space.
// Forwarded to a colleague it arrives under its one mark.
func TestForwardedTrustMailStaysInside(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Postfix")
	}
	for _, snippet := range []string{"lmtp", "smtp-relayhost"} {
		t.Run(snippet, func(t *testing.T) {
			w := newWorld(t, worldOptions{snippet: snippet, main: []string{"virtual_alias_maps = inline:{{away@clinic.test = someone@plain.test}, {desk@clinic.test = " + staff + "}}"}})
			w.importDirectory(t, time.Now())
			for _, to := range []string{"away@clinic.test", "desk@clinic.test"} {
				c := w.knock(t)
				if err := c.StartTLS(w.client([]tls.Certificate{w.peerCert.TLS()})); err != nil {
					t.Fatal(err)
				}
				for _, err := range []error{c.Mail(doctor), c.Rcpt(to)} {
					if err != nil {
						t.Fatal(to, err)
					}
				}
				d := must(c.Data())(t)
				if _, err := d.Write(report("Avis "+to, to)); err != nil {
					t.Fatal(err)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			}
			arrived(t, w.mailbox, staff)
			arrived(t, w.peer, doctor)
			w.settled(t)
			if n := len(w.internet.Messages()); n != 0 {
				t.Errorf("%d messages of the trust space went to the Internet", n)
			}
			if m := w.mailbox.To(staff)[0]; bytes.Count(m.Data, []byte("X-Passerelle-Origine: v2; trust;")) != 1 {
				t.Errorf("the colleague's copy:\n%s", m.Data)
			}
			if m := w.peer.To(doctor)[0]; m.Sender != "" || !bytes.Contains(m.Data, []byte("a transferer seulement a une adresse MSSante")) {
				t.Errorf("what its author was told, from %q:\n%s", m.Sender, m.Data)
			}
		})
	}
}
