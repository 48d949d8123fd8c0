package gateway_test

import (
	"archive/zip"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/directory"
	"passerelle/gateway/gatewaytest"
)

// source is the national service on loopback; page answers in its place.
type source struct {
	*httptest.Server
	page atomic.Pointer[http.HandlerFunc]
}

func startSource(t *testing.T) (s *source, ca string) {
	t.Helper()
	s = &source{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.page.Load())(w, r) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // a handshake that is refused is part of the test
	s.StartTLS()
	t.Cleanup(s.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, ca
}

func (s *source) answers(h http.HandlerFunc) { s.page.Store(&h) }

func (s *source) serves(content []byte, changed time.Time) {
	s.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, changed.Unix()))
		http.ServeContent(w, r, "", changed, bytes.NewReader(content))
	})
}

// The mirror grows too old while its source is in one bad state after the other: mail for the trust space waits, its last rule says plain and
// yet nothing of it leaves in clear, and explain names the state. When the source is well again it goes its way.
func TestNoDirectoryStateOpens(t *testing.T) {
	sp := newSpace(t)
	peer, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: sp.ca.ServerTLS(sp.peer, true), RequireTLS: true, RequireClientCert: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	var boxes []gatewaytest.Mailbox
	for i := range 100 {
		boxes = append(boxes, gatewaytest.Doctor(fmt.Sprintf("d%d@peer.mssante.test", i), "Paul", "Petit"))
	}
	extraction := func(n int) []byte {
		var b bytes.Buffer
		if err := gatewaytest.WriteExtraction(&b, boxes[:n]...); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var zipped bytes.Buffer
	z := zip.NewWriter(&zipped)
	w, _ := z.Create("e.txt")
	w.Write(extraction(100))
	z.Close()

	src, ca := startSource(t)
	start := time.Now()
	src.serves(extraction(100), start)
	var turned atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(turned.Load())) }
	text := withRules("rules:\n  - {name: known, domain: [peer.mssante.test], verdict: [verified], route: trust}\n  - {name: rest, route: plain}\n") +
		strings.Replace(trustText, "127.0.0.1:1", "{peer}", 1) + "directory:\n  fetch: {url: \"" + src.URL + "/e.zip\", ca: \"" + ca + "\"}\n"
	h := custom(t, text, nil, func(h *house) { h.opts = append(h.opts, gateway.Clock(now)) }, "{tls}", sp.dir, "{peer}", peer.Addr())
	explain := func() directory.Answer {
		t.Helper()
		x, err := h.g.Explain(t.Context(), "dr@mss.clinic.test", "d1@peer.mssante.test", []byte(strings.ReplaceAll(hello, "\n", "\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		return x.Answer
	}
	until := func(what string, ok func(directory.Answer) bool) {
		t.Helper()
		for range 1000 {
			if ok(explain()) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("%s: explain says %s: %s", what, explain().Verdict, explain().Why)
	}
	n := 0
	send := func(want string) {
		t.Helper()
		n++
		letter := strings.Replace(hello, "<1@clinic.test>", fmt.Sprintf("<%d@clinic.test>", n), 1)
		for _, to := range []string{"d1@peer.mssante.test", "unknown@peer.mssante.test"} {
			if got := h.send(h.lmtp, "dr@mss.clinic.test", letter, to); !strings.HasPrefix(got[0], want) {
				t.Errorf("%s: got %q, want %s", to, got, want)
			}
		}
		if out := len(h.sink.Messages()); out != 0 {
			t.Fatalf("%d messages left by the Internet hop", out)
		}
	}
	until("the first file", func(a directory.Answer) bool { return a.Verdict == directory.Verified })
	send("250")

	turned.Store(int64(22 * 24 * time.Hour))
	page := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code); w.Write([]byte(body)) }
	}
	for _, c := range []struct {
		why  string
		page http.HandlerFunc
	}{
		{"503 Service Unavailable", page(503, "<html>maintenance</html>")},
		{"no extraction file", page(200, "<html>maintenance</html>")},
		{"the file is empty", page(200, "")},
		{"forged redirect refused", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "https://evil.test/e.zip", 302) }},
		{"unexpected EOF", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100000")
			w.Write(extraction(10))
		}},
	} {
		src.answers(c.page)
		turned.Add(int64(13 * time.Hour)) // beyond the back-off
		until(c.why, func(a directory.Answer) bool {
			return a.Verdict == directory.CouldNotAsk && strings.Contains(a.Why, "older than 21 days") && strings.Contains(a.Why, c.why)
		})
		send("451 4.4.3")
	}
	for why, content := range map[string][]byte{"more than 20 % fewer": extraction(50), "the ZIP is damaged": zipped.Bytes()[:zipped.Len()/2]} {
		src.serves(content, start.Add(time.Hour))
		turned.Add(int64(13 * time.Hour))
		until(why, func(a directory.Answer) bool {
			return a.Verdict == directory.CouldNotAsk && strings.Contains(a.Why, why)
		})
		send("451 4.4.3")
	}
	h.reload(t, ca, filepath.Join(sp.dir, "ca.pem")) // another authority
	until("unknown CA", func(a directory.Answer) bool {
		return a.Verdict == directory.CouldNotAsk && (strings.Contains(a.Why, "unknown authority") || strings.Contains(a.Why, "certificate"))
	})
	send("451 4.4.3")

	// The clock goes back too: the peer's revocation list is not good for weeks.
	turned.Store(0)
	src.serves(extraction(90), now())
	h.reload(t, "ca: \""+filepath.Join(sp.dir, "ca.pem"), "ca: \""+ca)
	until("well again", func(a directory.Answer) bool { return a.Verdict == directory.Verified && a.AsOf.After(start) })
	send("250")
	if got := len(peer.Messages()); got != 4 {
		t.Errorf("the peer got %d messages, want the two before and the two behind", got)
	}
}
