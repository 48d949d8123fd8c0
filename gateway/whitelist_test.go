package gateway_test

import (
	"encoding/pem"
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

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

const waitsForList = "451 4.4.3 Liste blanche MSSante absente ou trop ancienne, nouvel essai automatique, prevenez l'informatique si cela dure"

// listHost serves a white list as the national host does, nil: 503.
type listHost struct {
	*httptest.Server
	list   atomic.Pointer[[]byte]
	ca     string
	signer *gatewaytest.ListSigner
}

func startListHost(t *testing.T, s *space) *listHost {
	t.Helper()
	h := &listHost{}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if l := h.list.Load(); l != nil {
			w.Write(*l)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	h.ca = filepath.Join(t.TempDir(), "host.pem")
	if err := os.WriteFile(h.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.signer, err = s.ca.ListSigner(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *listHost) serves(t *testing.T, date time.Time, e ...gatewaytest.ListEntry) {
	t.Helper()
	b, err := h.signer.Sign(gatewaytest.WhiteList(date, e...))
	if err != nil {
		t.Fatal(err)
	}
	h.list.Store(&b)
}

// text is trustText with this list; the peer's domain stands in the list alone, static.test in the config.
func (h *listHost) text(peer string) string {
	return strings.NewReplacer("peer.mssante.test: [", "static.test: [", `hosts: {peer.mssante.test: "127.0.0.1:1"}`, `hosts: {peer.mssante.test: "`+peer+`", static.test: "`+peer+`"}`).Replace(trustText) +
		"  white_list: {url: \"" + h.URL + "/liste.xml\", ca: \"" + h.ca + "\", every: 10m, max_age: 1h, signer: {issuer: AC test}}\n"
}

// A white list that was never loaded, that is there, that grows too old, that is renewed, that shrank: mail for its domains goes by trust or
// waits, whatever the rules say; static domains go on; without any list no other domain can be said to be unlisted.
func TestWhiteListStates(t *testing.T) {
	sp := newSpace(t)
	peer, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: sp.ca.ServerTLS(sp.peer, true), RequireTLS: true, RequireClientCert: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	lists := startListHost(t, sp)
	var turned atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(turned.Load())) }
	text := strings.Replace(withRules("rules:\n  - {name: rest, route: plain}\n"), "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1) + lists.text(peer.Addr())
	h := custom(t, text, nil, func(h *house) { h.opts = append(h.opts, gateway.Clock(now)) }, "{tls}", sp.dir)
	n := 0
	goes := func(state string, want map[string]string) {
		t.Helper()
		for to, reply := range want {
			n++
			if got := h.send(h.lmtp, "dr@mss.clinic.test", strings.Replace(hello, "<1@", "<"+string(rune('a'+n%26))+time.Now().Format("150405.000000")+"@", 1), to); !strings.HasPrefix(got[0], reply) {
				t.Errorf("%s, %s: got %q, want %q", state, to, got[0], reply)
			}
		}
		if len(h.sink.To("x@peer.mssante.test")) != 0 {
			t.Fatalf("%s: mail for the trust space left over the Internet", state)
		}
	}
	until := func(state string, ok func(*gateway.WhiteListStatus) bool) {
		t.Helper()
		for range 1000 {
			if ok(h.g.WhiteList()) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("%s: %+v", state, h.g.WhiteList())
	}
	admitted := func(state, sender, want string) {
		t.Helper()
		if got := sp.dial(t, h).say("MAIL FROM:<%s>", sender); !strings.HasPrefix(got, want) {
			t.Errorf("%s, from %s: %s, want %s", state, sender, got, want)
		}
	}
	until("no list", func(s *gateway.WhiteListStatus) bool { return s.Fault != "" })
	goes("no list", map[string]string{"x@peer.mssante.test": waitsForList, "x@dest.test": waitsForList, "x@static.test": "250", "x@clinic.test": "250"})
	admitted("no list", "dr@peer.mssante.test", "451 4.7.1 Liste blanche")
	admitted("no list", "dr@static.test", "250")
	if len(h.sink.Messages()) != 0 {
		t.Error("something left over the Internet while nobody knew who is listed")
	}

	listed := []gatewaytest.ListEntry{{Domain: "peer.mssante.test", DN: "CN=mss.peer.test,O=PEER,C=FR"}, {Domain: "other.mssante.test", DN: "CN=other"}, {Domain: "third.mssante.test", DN: "CN=third"}}
	lists.serves(t, now(), listed...)
	turned.Store(int64(2 * time.Minute))
	until("loaded", func(s *gateway.WhiteListStatus) bool { return s.Doubt == "" && s.Domains == 3 })
	goes("loaded", map[string]string{"x@peer.mssante.test": "250", "x@dest.test": "250", "x@static.test": "250"})
	admitted("loaded", "dr@peer.mssante.test", "250")
	admitted("loaded", "dr@other.mssante.test", "550")
	if len(peer.To("x@peer.mssante.test")) != 1 || len(h.sink.To("x@dest.test")) != 1 {
		t.Error("mail did not go its way")
	}

	lists.list.Store(nil)
	turned.Store(int64(63 * time.Minute))
	until("too old", func(s *gateway.WhiteListStatus) bool { return s.Doubt != "" })
	goes("too old", map[string]string{"x@peer.mssante.test": waitsForList, "x@dest.test": "250", "x@static.test": "250"})
	admitted("too old", "dr@peer.mssante.test", "451 4.7.1 Liste blanche")
	x, err := h.g.Explain(t.Context(), "dr@mss.clinic.test", "x@peer.mssante.test", []byte(strings.ReplaceAll(hello, "\n", "\r\n")))
	if err != nil || !strings.Contains(x.Decision.Reason, "older than 1h") || x.WhiteList.Domains != 3 || x.Facts.TrustDoubt == "" {
		t.Errorf("explain: %v %+v", err, x)
	}

	// A reload of the config keeps the list.
	reload := func() error {
		return h.g.Reload(t.Context(), func() (*config.Config, error) {
			return config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
		})
	}
	if err := reload(); err != nil {
		t.Error(err)
	}
	if s := h.g.WhiteList(); s.Domains != 3 {
		t.Errorf("after a reload: %+v", s)
	}

	lists.serves(t, now(), listed...)
	turned.Store(int64(100 * time.Minute))
	until("renewed", func(s *gateway.WhiteListStatus) bool { return s.Doubt == "" })
	goes("renewed", map[string]string{"x@peer.mssante.test": "250"})

	lists.serves(t, now(), listed[1:]...)
	turned.Store(int64(115 * time.Minute))
	until("shrank", func(s *gateway.WhiteListStatus) bool { return s.Waiting != nil })
	goes("shrank", map[string]string{"x@peer.mssante.test": "250"})
	h.stop()
	h.start()
	goes("shrank, started again", map[string]string{"x@peer.mssante.test": "250"})
	if s := h.g.WhiteList(); s.Waiting == nil || s.Waiting.Lost != 1 {
		t.Errorf("the waiting list was forgotten: %+v", s)
	}
}

// listReplies: nobody has the list.
func listReplies(t *testing.T, tab *replyTable) {
	sp := newSpace(t)
	lists := startListHost(t, sp)
	h := custom(t, strings.Replace(withRules("rules:\n  - {name: rest, route: plain}\n"), "  portal:", "  trust: {addr: \"{trust}\"}\n  portal:", 1)+lists.text("127.0.0.1:1"), nil, nil, "{tls}", sp.dir)
	tab.hears(t, h.send(h.lmtp, "dr@mss.clinic.test", hello, "x@dest.test"), "Liste blanche MSSante absente")
	tab.hear(t, sp.dial(t, h).say("MAIL FROM:<dr@peer.mssante.test>"), "Liste blanche MSSante indisponible")
}
