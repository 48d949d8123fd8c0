package gatewaytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/http"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

func TestCA(t *testing.T) {
	ca, err := NewCA("Test CA")
	if err != nil {
		t.Fatal(err)
	}
	dn := pkix.Name{Country: []string{"FR"}, Organization: []string{"HOPITAL"}, CommonName: "hop.trust.test"}
	one, err := ca.IssueLocal(dn, "hop.trust.test")
	if err != nil {
		t.Fatal(err)
	}
	expired, err := ca.Issue(Leaf{Subject: dn, DNS: []string{"localhost"}, Days: -2})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(c *x509.Certificate, name string) error {
		_, err := c.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err
	}
	for _, name := range []string{"127.0.0.1", "localhost", "hop.trust.test"} {
		if err := verify(one.Cert, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if verify(expired.Cert, "localhost") == nil {
		t.Error("the expired certificate verifies")
	}
	ca.Revoke(one)
	dir := filepath.Join(t.TempDir(), "tls")
	if err := ca.WriteDir(dir, one); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "crl.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(ca.Cert); err != nil {
		t.Error(err)
	}
	if n := len(list.RevokedCertificateEntries); n != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(one.Cert.SerialNumber) != 0 {
		t.Errorf("the list has %d entries, want the one revoked", n)
	}
	stale, err := ca.CRL(-time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(stale)
	if list, err = x509.ParseRevocationList(block.Bytes); err != nil || !list.NextUpdate.Before(time.Now()) {
		t.Errorf("the stale list is good until %v, %v", list.NextUpdate, err)
	}
}

func start(t *testing.T, o Options) *NextHop {
	t.Helper()
	h, err := StartNextHop(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

const body = "Subject: x\r\n\r\n.dot\r\n"

func TestNextHopOverMutualTLS(t *testing.T) {
	ca, err := NewCA("CA")
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.IssueLocal(pkix.Name{CommonName: "hop.test"})
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, Options{TLS: ca.ServerTLS(id, false), RequireTLS: true, RequireClientCert: true})
	for name, x := range map[string]struct {
		tls  *tls.Config
		want string
	}{
		"clear":   {nil, "530"},
		"no cert": {&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}, "550"},
		"good":    {&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{id.TLS()}}, ""},
	} {
		c, err := smtp.Dial(h.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if x.tls != nil {
			if err := c.StartTLS(x.tls); err != nil {
				t.Fatal(err)
			}
		}
		err = c.Mail("a@clinic.test")
		if x.want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), x.want) {
				t.Errorf("%s: got %v, want %s", name, err, x.want)
			}
			c.Close()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Rcpt("b@hop.test"); err != nil {
			t.Fatal(err)
		}
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	got := h.Messages()
	if len(got) != 1 || got[0].Sender != "a@clinic.test" || got[0].Recipients[0] != "b@hop.test" || string(got[0].Data) != body ||
		got[0].TLS == nil || len(got[0].TLS.PeerCertificates) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestNextHopReplies(t *testing.T) {
	data := func(n int, _, to string) Reply {
		if strings.HasPrefix(to, "later") && n == 0 {
			return Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "later"}
		}
		return Reply{}
	}
	rcpt := func(_, to string) Reply {
		if strings.HasPrefix(to, "never") {
			return Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "never"}
		}
		return Reply{}
	}
	t.Run("SMTP: one answer for all", func(t *testing.T) {
		h := start(t, Options{Data: data, Rcpt: rcpt})
		err := smtp.SendMail(h.Addr(), nil, "a@b.test", []string{"ok@h.test", "later@h.test"}, []byte(body))
		if err == nil || !strings.HasPrefix(err.Error(), "451") || len(h.Messages()) != 0 || h.Attempts() != 1 {
			t.Errorf("got %v, %d messages, %d attempts", err, len(h.Messages()), h.Attempts())
		}
		if err := smtp.SendMail(h.Addr(), nil, "a@b.test", []string{"ok@h.test", "later@h.test"}, []byte(body)); err != nil {
			t.Error(err)
		}
		if len(h.To("later@h.test")) != 1 {
			t.Error("the second attempt was not kept")
		}
		if err := smtp.SendMail(h.Addr(), nil, "a@b.test", []string{"never@h.test"}, []byte(body)); err == nil || !strings.HasPrefix(err.Error(), "550") {
			t.Errorf("got %v, want 550", err)
		}
	})
	t.Run("LMTP: each its own", func(t *testing.T) {
		h := start(t, Options{LMTP: true, Data: data})
		conn := dialLMTP(t, h.Addr())
		defer conn.Close()
		if err := conn.Mail("a@b.test", nil); err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"ok@h.test", "later@h.test"} {
			if err := conn.Rcpt(to, nil); err != nil {
				t.Fatal(err)
			}
		}
		w, err := conn.Data()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err == nil || !strings.Contains(err.Error(), "later") {
			t.Errorf("got %v, want the one refusal", err)
		}
		got, err := h.Wait(t.Context(), 1)
		if err != nil || len(got) != 1 || strings.Join(got[0].Recipients, " ") != "ok@h.test" || strings.Join(got[0].Refused, " ") != "later@h.test" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestNextHopStallsAndWaits(t *testing.T) {
	release := make(chan struct{})
	h := start(t, Options{Stall: &Stall{At: "dot", Go: release}})
	sent := make(chan error, 1)
	go func() { sent <- smtp.SendMail(h.Addr(), nil, "a@b.test", []string{"c@d.test"}, []byte(body)) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := h.Wait(ctx, 1); err == nil || len(got) != 0 {
		t.Errorf("stalled, yet got %d messages, %v", len(got), err)
	}
	close(release)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, err := h.Wait(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

func TestSMS(t *testing.T) {
	s := StartSMS()
	defer s.Close()
	post := func(contentType, body string) int {
		resp, err := http.Post(s.URL(), contentType, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := post("application/json", `{"to":"+33600000001","text":"Code 123 456"}`); got != 200 {
		t.Errorf("JSON: got %d", got)
	}
	if got := post("application/x-www-form-urlencoded", "to=%2B33600000002&message=x"); got != 200 {
		t.Errorf("form: got %d", got)
	}
	if got := post("application/json", `{"to":"+33"}`); got != 400 {
		t.Errorf("without text: got %d, want 400", got)
	}
	s.Answer(503)
	if got := post("application/json", `{"to":"+33600000003","text":"x"}`); got != 503 {
		t.Errorf("told to fail: got %d", got)
	}
	got, err := s.Wait(t.Context(), 2)
	if err != nil || len(got) != 2 || got[0].Text != "Code 123 456" || got[1].To != "+33600000002" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestExtraction(t *testing.T) {
	var b bytes.Buffer
	if err := WriteExtraction(&b, Doctor("jean.dupont@trust.test", "Jean", "Dupont"), Hospital("secretariat@hopital.test", "HOPITAL")); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 3 {
		t.Fatalf("got %d lines, want 3", len(lines))
	}
	for i, l := range lines {
		if n := strings.Count(l, "|") + 1; n != 31 {
			t.Errorf("line %d has %d columns, want 31", i+1, n)
		}
	}
	if want := "PER|jean.dupont@trust.test|8|10001234567|810001234567|"; !strings.HasPrefix(lines[1], want) {
		t.Errorf("got %q, want it to begin with %q", lines[1], want)
	}
}

func dialLMTP(t *testing.T, addr string) *gosmtp.Client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return gosmtp.NewClientLMTP(conn)
}

// A hop that is closed at once ends: a test that fails early must not hang.
func TestNextHopClosedAtOnce(t *testing.T) {
	for range 200 {
		h, err := StartNextHop(Options{})
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
	}
}
