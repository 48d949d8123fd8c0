package gateway_test

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// lead is a clock that a test sets ahead or back.
func lead() (*atomic.Int64, gateway.Option) {
	var by atomic.Int64
	return &by, gateway.Clock(func() time.Time { return time.Now().Add(time.Duration(by.Load())) })
}

func wantReply(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: got %q, want %q", when, got, want)
	}
}

// TestFaultClockMail: a clock that jumps serves nobody twice and gives nobody up.
func TestFaultClockMail(t *testing.T) {
	by, opt := lead()
	var away atomic.Bool
	away.Store(true)
	h := newHouse(t, "5d", func(to string) gatewaytest.Reply {
		if away.Load() {
			return later(to)
		}
		return gatewaytest.Reply{}
	}, opt)
	for _, ahead := range []time.Duration{0, 6 * 24 * time.Hour, 7 * time.Hour, -24 * time.Hour, -400 * 24 * time.Hour, 0} {
		by.Store(int64(ahead))
		got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "later@dest.test")
		wantReply(t, fmt.Sprint("clock ahead by ", ahead), got, "451 4.2.0 Relais internet: try again")
	}
	away.Store(false)
	if got := h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "later@dest.test"); codes(got) != "250" {
		t.Errorf("at the end: %q", got)
	}
	for _, to := range []string{"ok@dest.test", "later@dest.test"} {
		if n := len(h.sink.To(to)); n != 1 {
			t.Errorf("%s has %d copies", to, n)
		}
	}
	if n := len(h.clinic.Messages()); n > 0 {
		t.Errorf("%d bounces", n)
	}
	for _, line := range []string{"the clock was set ahead", "the clock was set back"} {
		if !strings.Contains(h.log.String(), line) {
			t.Errorf("the log says nothing of %q", line)
		}
	}
}

// TestFaultTrustExpires: our revocation list or the peer's certificate runs out, by the clock, under a running gateway. Mail for the
// trust space waits, also over kept connections, and nothing leaves by another way.
func TestFaultTrustExpires(t *testing.T) {
	by, opt := lead()
	s := newSpace(t)
	peer, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: s.ca.ServerTLS(s.peer, true), RequireTLS: true, RequireClientCert: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	text := withRules("rules:\n  - {name: listed, trust_domain: true, route: trust}\n  - {name: rest, route: plain}\n") +
		strings.Replace(trustText, "127.0.0.1:1", peer.Addr(), 1)
	h := custom(t, text, nil, func(h *house) { h.opts = append(h.opts, opt) }, "{tls}", s.dir)
	const to, refused = "dr@peer.mssante.test", "451 4.7.5 Relais trust peer.mssante.test: liaison TLS refusee avec le relais suivant"
	for i, c := range []struct {
		ahead time.Duration
		want  string
	}{
		{0, "250 2.0.0 Ok"},
		{48 * time.Hour, refused}, // the list was to be renewed
		{0, "250 2.0.0 Ok"},
		{20 * 365 * 24 * time.Hour, refused}, // every certificate has run out
		{-20 * 365 * 24 * time.Hour, refused},
		{0, "250 2.0.0 Ok"},
	} {
		by.Store(int64(c.ahead))
		letter := strings.Replace(hello, "<1@", fmt.Sprintf("<%d@", i), 1)
		wantReply(t, fmt.Sprint("clock ahead by ", c.ahead), h.send(h.lmtp, "dr@mss.clinic.test", letter, to), c.want)
	}
	if a, b := len(peer.To(to)), len(h.sink.Messages()); a != 3 || b != 0 {
		t.Errorf("the peer has %d messages, want 3; %d left by the Internet", a, b)
	}
	if log := h.log.String(); !strings.Contains(log, "was to be renewed by") {
		t.Error("the log does not say that the revocation list is old")
	}
}

// TestFaultListenerCertificate: a new certificate is served from the next session on; a broken one never takes the place of a good one,
// and the log says so.
func TestFaultListenerCertificate(t *testing.T) {
	dir := t.TempDir()
	ca, err := gatewaytest.NewCA("door")
	if err != nil {
		t.Fatal(err)
	}
	put := func() string {
		leaf, err := ca.IssueLocal(pkix.Name{CommonName: "gw.clinic.test"})
		if err == nil {
			err = ca.WriteDir(dir, leaf)
		}
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Cert.SerialNumber.String()
	}
	first := put()
	text := strings.Replace(withRules("rules:\n  - {name: rest, route: plain}\n"), `smtp: {addr: "{smtp}"}`, `smtp: {addr: "{smtp}", cert: "{tls}/cert.pem", key: "{tls}/key.pem"}`, 1)
	h := custom(t, text, nil, nil, "{tls}", dir)
	shows := func() string {
		t.Helper()
		c, err := net.Dial("tcp", h.smtp)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		buf := make([]byte, 4096)
		for _, line := range []string{"", "EHLO x\r\n", "STARTTLS\r\n"} {
			fmt.Fprint(c, line)
			if _, err := c.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		tc := tls.Client(c, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		return tc.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	want := func(when, serial string) {
		t.Helper()
		if got := shows(); got != serial {
			t.Errorf("%s: shows %s, want %s", when, got, serial)
		}
	}
	want("at first", first)
	second := put()
	want("replaced", second)
	cert := filepath.Join(dir, "cert.pem")
	if err := os.WriteFile(cert, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("garbage", second)
	want("garbage", second)
	if n := strings.Count(h.log.String(), "new certificate cannot be used, the old one stays"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	want("removed", second)
	want("mended", put())
}

// TestFaultClinicHop: what the clinic's own server must take before our 250 (a bounce, a code) holds the message while it is away.
func TestFaultClinicHop(t *testing.T) {
	addr := freeAddr(t)
	text := strings.Replace(withRules("pickup: {url: \"http://{portal}\"}\nrules:\n  - {name: patients, recipient: [\"patient@*\"], route: pickup}\n  - {name: rest, route: plain}\n"), "{clinic}", addr, 1)
	h := custom(t, text, later, nil)
	for range 2 {
		wantReply(t, "a code for the sender is due", h.send(h.lmtp, "dr@clinic.test", hello, "patient@dest.test"), "451 4.4.1 Relais clinic: le relais suivant ne repond pas, nouvel essai plus tard")
	}
	wantReply(t, "a bounce is due", h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "bad@dest.test"),
		"451 4.3.0 Avis de non-remise impossible pour l'instant, nouvel essai plus tard")
	wantReply(t, "the clinic's own mail", h.send(h.lmtp, "dr@clinic.test", hello, "colleague@clinic.test"),
		"451 4.4.1 Relais clinic: le relais suivant ne repond pas, nouvel essai plus tard") // the breaker: at once
	if n := len(h.sink.To("patient@dest.test")); n > 0 {
		t.Errorf("%d notices whose code nobody can tell", n)
	}
	back, err := gatewaytest.StartNextHop(gatewaytest.Options{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { back.Close() })
	deadline := time.Now().Add(30 * time.Second)
	for codes(h.send(h.lmtp, "dr@clinic.test", hello, "colleague@clinic.test")) != "250" { // at most one pause of the breaker
		if time.Now().After(deadline) {
			t.Fatal("the clinic's hop is not used again")
		}
		time.Sleep(100 * time.Millisecond)
	}
	wantReply(t, "then", h.send(h.smtp, "dr@clinic.test", hello, "ok@dest.test", "bad@dest.test"), "250 2.0.0 Ok")
	wantReply(t, "then", h.send(h.lmtp, "dr@clinic.test", hello, "patient@dest.test"), "250 2.0.0 Ok")
	if a, b, c := len(h.sink.To("ok@dest.test")), len(h.sink.To("patient@dest.test")), len(back.To("dr@clinic.test")); a != 1 || b != 1 || c != 2 {
		t.Errorf("%d copies, %d notices, want one each; %d mails to the sender, want a bounce and a code", a, b, c)
	}
}

// TestFaultSMS: a passphrase that no provider takes keeps its message waiting; the archive may come again, and one passphrase opens all.
func TestFaultSMS(t *testing.T) {
	sms := gatewaytest.StartSMS()
	t.Cleanup(func() { sms.Close() })
	slow, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slow.Close() })
	odd, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(odd, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			fmt.Fprint(c, "\x00\xff nonsense\r\n")
			c.Close()
		}
	}))
	t.Cleanup(func() { odd.Close() })
	const refused = "451 4.3.0 Envoi du mot de passe par SMS impossible, nouvel essai plus tard"
	for name, url := range map[string]string{"away": "http://" + freeAddr(t), "slow": "http://" + slow.Addr().String(), "nonsense": "http://" + odd.Addr().String(), "refuses": sms.URL()} {
		t.Run(name, func(t *testing.T) {
			list := filepath.Join(t.TempDir(), "list.yaml")
			if err := os.WriteFile(list, []byte("- {address: lab@zip.test, person: professional, form: zip, prefer: encrypt, phone: \"06 12 34 56 78\"}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if name == "refuses" {
				sms.Answer(http.StatusServiceUnavailable)
			}
			text := withRules("sms: {url: \"" + url + "\", timeout: 1s}\ndirectory: {list: \"" + list + "\"}\npickup: {url: \"http://{portal}\"}\nrules:\n  - {name: rest, route: pickup, preferred: true}\n")
			h := custom(t, text, nil, nil)
			began := time.Now()
			wantReply(t, "no provider", h.send(h.lmtp, "dr@clinic.test", hello, "lab@zip.test"), refused)
			if d := time.Since(began); d > 8*time.Second { // the default is 10 s
				t.Errorf("the reply took %v, sms.timeout is 1 s", d)
			}
			if log := h.log.String(); !strings.Contains(log, "send sms") || strings.Contains(log, "612345678") {
				t.Errorf("the log must say it, without the number:\n%s", log)
			}
			if name == "refuses" {
				sms.Answer(http.StatusOK)
				wantReply(t, "it is back", h.send(h.lmtp, "dr@clinic.test", hello, "lab@zip.test"), "250 2.0.0 Ok")
				if a, b := len(h.sink.To("lab@zip.test")), len(sms.Messages()); a != 2 || b != 1 {
					t.Errorf("%d archives, %d SMS", a, b)
				}
			}
		})
	}
}
