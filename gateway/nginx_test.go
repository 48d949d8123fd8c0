package gateway_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509/pkix"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// startNginx runs the shipped configuration as it stands, but for its addresses, names and files.
func startNginx(t *testing.T, portal, front string) (log string, n *gatewaytest.Nginx, transport *http.Transport) {
	t.Helper()
	if err := gatewaytest.NginxTools(); err != nil {
		if testing.Short() {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	ca, err := gatewaytest.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	leaf, err := ca.IssueLocal(pkix.Name{CommonName: "127.0.0.1"}, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteDir(dir, leaf); err != nil {
		t.Fatal(err)
	}
	text := func(name string, change ...string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join("..", "deploy", "nginx", name))
		if err != nil {
			t.Fatal(err)
		}
		s := string(b)
		for i := 0; i < len(change); i += 2 {
			if !strings.Contains(s, change[i]) {
				t.Fatalf("%s lacks %q", name, change[i])
			}
			s = strings.ReplaceAll(s, change[i], change[i+1])
		}
		return s
	}
	snippet := filepath.Join(dir, "pages.conf")
	if err := os.WriteFile(snippet, []byte(text("passerelle-pages.conf", "127.0.0.1:8443", portal, "/var/log/nginx", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	site := text("passerelle.conf", "listen 443 ssl http2", "listen "+front+" ssl http2", "courrier.clinique.example;", "_;", "/etc/ssl/courrier.pem", filepath.Join(dir, "cert.pem"), "/etc/ssl/courrier.key", filepath.Join(dir, "key.pem"),
		"/etc/nginx/snippets/passerelle-pages.conf", snippet)
	if n, err = gatewaytest.StartNginx(site, front); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return filepath.Join(dir, "passerelle.log"), n, transport
}

// The shipped nginx carries the whole walk, and neither its logs nor its temporary files hold a link, a code or content: not in what goes well,
// not in what goes wrong.
func TestBehindNginx(t *testing.T) {
	front := freeAddr(t)
	l := newLifeAt(t, "https://"+front, "")
	logFile, n, transport := startNginx(t, l.portal, front)
	if got := l.send(l.lmtp, "dr@clinic.test", sealedLetter("a@patient.test", " [tel:0612345678]"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	mail := readNotice(t, arrived(t, l.sink, "a@patient.test", 1)[0])
	r := newReader(t, transport)
	code, _ := r.openBySMS(mail.link, l.sms, 1)
	status, whole := r.do("GET", mail.link+"/f/0", nil)
	if status != http.StatusOK || strings.Count(whole, secretFile) != 5000 {
		t.Fatalf("the download: %d, %d octets", status, len(whole))
	}
	if status, part := r.do("GET", mail.link+"/f/0", nil, "Range", "bytes=1000-"); status != http.StatusPartialContent || part != whole[1000:] {
		t.Errorf("the resumed download: %d, %d octets", status, len(part))
	}
	if status, page := r.answer(mail.link, 19<<20); status != http.StatusOK || !strings.Contains(page, "Votre réponse est envoyée") {
		t.Errorf("the answer: %d %s", status, page)
	}
	if m := arrived(t, l.clinic, "dr@clinic.test", 1)[0]; len(m.Data) < 19<<20 || !bytes.Contains(m.Data, []byte(secretAnswer)) {
		t.Errorf("the answer arrived with %d octets", len(m.Data))
	}
	if status, _ := r.answer(mail.link, 22<<20); status != http.StatusRequestEntityTooLarge {
		t.Errorf("an answer beyond the limit: %d", status)
	}
	if status, _ := newReader(t, transport).do("GET", mail.link[:len(mail.link)-1]+"/"+secretText, nil); status != http.StatusNotFound {
		t.Errorf("a truncated link: %d", status)
	}
	if status, _ := newReader(t, transport).do("GET", mail.link+"%23"+secretText, nil); status != http.StatusOK { // the portal leads back to the link
		t.Errorf("a bent link: %d", status)
	}
	for _, from := range []string{"198.51.100.7", "198.51.100.8"} { // what a client says of himself is not believed
		r.do("GET", mail.link, nil, "X-Forwarded-For", from)
	}
	l.stop() // the upstream is away: an error log would name the request
	if status, _ := r.do("GET", mail.link, nil); status != http.StatusBadGateway {
		t.Errorf("without the gateway: %d", status)
	}
	var log []byte
	until(t, "the log tells what was done", func() bool { // a line comes behind its answer
		var err error
		if log, err = os.ReadFile(logFile); err != nil {
			t.Fatal(err)
		}
		return bytes.Count(log, []byte("\n")) >= 9 && bytes.Contains(log, []byte(" POST 413 ")) && bytes.Contains(log, []byte(" GET 502 "))
	})
	logs, err := n.Logs()
	if err != nil {
		t.Fatal(err)
	}
	logs["passerelle.log"] = string(log)
	key := l.serverKey()
	var all []string
	for _, text := range logs {
		all = append(all, text)
	}
	if got := (thief{t: t, files: l.steal(), logs: all}).haul(code); got != "" {
		t.Errorf("the proxy's logs, database and blobs: %q", got)
	}
	if got := (thief{t: t, key: key, logs: all}).haul(code); got != "" {
		t.Errorf("the proxy's logs and the server key: %q", got)
	}
	for name, text := range logs {
		for what, s := range map[string]string{"link": mail.secret[:25], "access code": mail.access, "code": code, "text": secretText, "file": secretFile, "answer": secretAnswer, "a path": "/r/"} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(s)) {
				t.Errorf("%s of nginx has the %s", name, what)
			}
		}
	}
}
