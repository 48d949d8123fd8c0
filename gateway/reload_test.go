package gateway_test

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway/gatewaytest"
	"passerelle/policy"
)

// TestReloadUnderLoad: while two configs take turns, each message is taken, arrives once, and goes wholly by one of them: the rule of each leads to
// a hop that the other does not have.
func TestReloadUnderLoad(t *testing.T) {
	other, err := gatewaytest.StartNextHop(gatewaytest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	h := newHouse(t, "5d", nil)
	text := [2]string{}
	for i, hop := range []string{h.sink.Addr(), other.Addr()} {
		text[i] = strings.NewReplacer("{dir}", h.dir, "{lmtp}", h.lmtp, "{smtp}", h.smtp, "{clinic}", h.clinic.Addr(), "{sink}", h.sink.Addr(), "{lifetime}", "5d",
			"{name: rest, route: plain}", fmt.Sprintf("{name: rest, route: plain, hop: only%d}", i),
			"hops:\n", fmt.Sprintf("hops:\n  only%d: {addr: %q, tls: none}\n", i, hop)).Replace(houseConfig)
	}
	path := filepath.Join(h.dir, "passerelle.yaml")
	reload := func(i int) {
		if err := os.WriteFile(path, []byte(text[i%2]), 0o600); err != nil {
			t.Error(err)
		}
		if err := h.g.Reload(t.Context(), func() (*config.Config, error) { return config.Load(path, os.LookupEnv) }); err != nil {
			t.Error(err)
		}
	}
	reload(0)
	var ended atomic.Bool
	var sent atomic.Int64
	var wg sync.WaitGroup
	for c := range 6 {
		wg.Go(func() {
			addr := h.lmtp
			if c%2 == 0 {
				addr = h.smtp
			}
			for n := 0; !ended.Load(); n++ {
				who := fmt.Sprintf("c%dn%d", c, n)
				for _, r := range h.once(addr, "dr@clinic.test", hello+who+"\n", who+"a@dest.test", who+"b@dest.test", who+"c@dest.test") {
					if !strings.HasPrefix(r, "250") {
						t.Errorf("%s: %s", who, r)
					}
				}
				sent.Add(1)
			}
		})
	}
	for i := 1; i <= 20; i++ {
		before := sent.Load()
		reload(i)
		for deadline := time.Now().Add(30 * time.Second); sent.Load() < before+5 && time.Now().Before(deadline) && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	ended.Store(true)
	wg.Wait()
	ways, count := map[string]int{}, map[string]int{}
	for bit, sink := range map[int]*gatewaytest.NextHop{1: h.sink, 2: other} {
		for _, m := range sink.Messages() {
			for _, to := range m.Recipients {
				count[to]++
				ways[to[:strings.IndexByte(to, '@')-1]] |= bit
			}
		}
	}
	if want := int(sent.Load()) * 3; len(count) != want {
		t.Errorf("%d recipients have mail, want %d", len(count), want)
	}
	took := map[int]int{}
	for who, bits := range ways {
		took[bits]++
		if bits == 3 {
			t.Errorf("%s went partly under one config, partly under the other", who)
		}
	}
	for to, n := range count {
		if n != 1 {
			t.Errorf("%s came %d times", to, n)
		}
	}
	if took[1] == 0 || took[2] == 0 {
		t.Errorf("messages by the first and by the second config: %v: the test shows nothing", took)
	}
	t.Logf("%d messages of three recipients, %v by config, over 20 reloads", sent.Load(), took)
}

// TestReloadKeepsOutOfSight: what is only found when rooms are built leaves the former state, and its words reach the log.
func TestReloadKeepsOutOfSight(t *testing.T) {
	h := newHouse(t, "5d", nil)
	for fault, change := range map[string]func(*config.Config){
		"pickup.url":     func(c *config.Config) { c.Pickup.URL = "https://retrait.clinic.test" },
		"trust.domains":  func(c *config.Config) { c.Trust.Domains = map[string][]string{"dest.test": {"CN=x"}} },
		"cabinet.asc":    func(c *config.Config) { c.Encrypt.Keys = map[string]string{"a@dest.test": "/missing/cabinet.asc"} },
		"not to be read": nil,
		"hops.clinic.ca": func(c *config.Config) { hop := c.Hops["clinic"]; hop.CA = "/missing/ca.pem"; c.Hops["clinic"] = hop },
	} {
		err := h.g.Reload(t.Context(), func() (*config.Config, error) {
			if change == nil {
				return nil, errors.New(fault)
			}
			c, err := config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
			change(c)
			return c, err
		})
		if err == nil || !strings.Contains(err.Error(), fault) || !strings.Contains(h.log.String(), fault) {
			t.Errorf("got %v, want a fault of %s, in the log too", err, fault)
		}
		if got := codes(h.send(h.lmtp, "dr@clinic.test", hello+fault, "a@dest.test", "never@dest.test")); got != "250 550" {
			t.Errorf("%s: %s behind it", fault, got)
		}
	}
}

// TestReloadThatFailsLeavesTheDirectory: a config that is refused for whatever fault brings no extraction of its own into the mirror.
func TestReloadThatFailsLeavesTheDirectory(t *testing.T) {
	h := newInSpace(t, "rules:\n  - {name: rest, route: refuse}\n", nil, nil)
	verdict := func() policy.Verdict {
		x, err := h.g.Explain(t.Context(), "dr@mss.clinic.test", "neuve@peer.mssante.test", []byte(strings.ReplaceAll(hello, "\n", "\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		return x.Facts.Verdict
	}
	boxes := []gatewaytest.Mailbox{gatewaytest.Doctor("neuve@peer.mssante.test", "Eve", "Neuve")}
	for i := range 500 {
		boxes = append(boxes, gatewaytest.Doctor(fmt.Sprintf("d%d@peer.mssante.test", i), "Paul", "Petit"))
	}
	file, broken := filepath.Join(h.dir, "other.txt"), filepath.Join(h.dir, "broken.pem")
	if err := errors.Join(gatewaytest.WriteDirectory(file, boxes...), os.WriteFile(broken, []byte("no certificate"), 0o600)); err != nil {
		t.Fatal(err)
	}
	reload := func(box ...config.Collect) error {
		return h.g.Reload(t.Context(), func() (*config.Config, error) {
			c, err := config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
			c.Directory.Extraction, c.Collect = file, box
			return c, err
		})
	}
	if err := reload(config.Collect{Name: "one", Addr: "127.0.0.1:1", DeliverTo: "a@clinic.test", Cert: broken, Key: broken}); err == nil {
		t.Error("a mailbox's broken certificate is taken")
	}
	if v := verdict(); v != policy.NotListed {
		t.Errorf("behind a reload that failed she is %s", v)
	}
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	if v := verdict(); v != policy.Verified {
		t.Errorf("behind a reload that did not she is %s: the test shows nothing", v)
	}
}

// TestReloadNamesWhatItLeaves: what a running process does not change is named, and what is in force says so.
func TestReloadNamesWhatItLeaves(t *testing.T) {
	h := newHouse(t, "5d", nil)
	if err := h.g.Reload(t.Context(), func() (*config.Config, error) {
		c, err := config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
		c.Limits.Spill /= 2
		c.Listen.LMTP.ImplicitTLS, c.Listen.SMTP.ImplicitTLS = true, true
		return c, err
	}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"limits.spill", "listen.lmtp.implicit_tls", "listen.smtp.implicit_tls"} {
		if !strings.Contains(h.log.String(), key) {
			t.Errorf("%s: silence", key)
		}
	}
}

// TestReloadTrustSpace: a session of a peer stays open while the white list changes; its next message meets the new list, and a new session our new
// certificate. A revocation list that cannot be read leaves the former state.
func TestReloadTrustSpace(t *testing.T) {
	s := newSpace(t)
	h := s.house(t, nil)
	path := filepath.Join(h.dir, "passerelle.yaml")
	reload := func(from, to string) error {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return h.g.Reload(t.Context(), func() (*config.Config, error) { return config.Load(path, os.LookupEnv) })
	}
	begin := func(w *wire) {
		t.Helper()
		w.want("250", "MAIL FROM:<dr@peer.mssante.test>")
		w.want("250", "RCPT TO:<dr@clinic.test>")
	}
	w := s.dial(t, h)
	begin(w)
	renewed, err := s.ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"CLINIC"}, CommonName: "renewed.clinic.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ca.WriteDir(s.dir, renewed); err != nil {
		t.Fatal(err)
	}
	if err := reload("CN=mss.peer.test", "CN=other.peer.test"); err != nil {
		t.Fatal(err)
	}
	if got := w.data(hello); !strings.HasPrefix(got, "250") {
		t.Errorf("begun under the former list: %s", got)
	}
	w.want("550", "MAIL FROM:<dr@peer.mssante.test>")
	w = s.dial(t, h)
	w.want("550", "MAIL FROM:<dr@peer.mssante.test>")
	if state := w.tls.ConnectionState(); !state.PeerCertificates[0].Equal(renewed.Cert) {
		t.Errorf("the certificate of %s is shown, want the renewed one", state.PeerCertificates[0].Subject)
	}
	if err := reload("CN=other.peer.test", "CN=mss.peer.test"); err != nil {
		t.Fatal(err)
	}
	crl := filepath.Join(h.dir, "broken.crl")
	if err := os.WriteFile(crl, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reload("  own_domains:", "  crl: "+crl+"\n  own_domains:"); err == nil {
		t.Error("a broken revocation list was taken")
	}
	w = s.dial(t, h)
	begin(w)
	if got := w.data(hello + "again"); !strings.HasPrefix(got, "250") {
		t.Errorf("behind a failed reload: %s", got)
	}
}

// TestReloadPortal: the patient's page is under the clinic's new name; the door and its deposits stay.
func TestReloadPortal(t *testing.T) {
	h := custom(t, withRules("pickup: {url: \"http://{portal}\"}\nrules:\n  - {name: rest, route: pickup}\n"), nil, nil)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "patient@dest.test"); codes(got) != "250" {
		t.Fatalf("got %q", got)
	}
	notice := string(h.sink.To("patient@dest.test")[0].Data)
	link := regexp.MustCompile(`http://[^/\s]+/r/[A-Za-z0-9]+`).FindString(strings.ReplaceAll(notice, "=\r\n", ""))
	page := func() string {
		t.Helper()
		r, err := http.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", link, r.Status, err)
		}
		return string(b)
	}
	if !strings.Contains(page(), "Clinique Test") {
		t.Fatal("the page does not bear the clinic's name")
	}
	if err := h.g.Reload(t.Context(), func() (*config.Config, error) {
		c, err := config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
		c.Clinic.Name = "Clinique Neuve"
		return c, err
	}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page(), "Clinique Neuve") {
		t.Error("the page bears the former name")
	}
}

// TestReloadEndsKeptConnections: a connection that was made in clear carries nothing more once the config wants verified TLS.
func TestReloadEndsKeptConnections(t *testing.T) {
	h := newHouse(t, "5d", nil)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "a@dest.test"); codes(got) != "250" { // and its connection is kept
		t.Fatalf("got %q", got)
	}
	if err := h.g.Reload(t.Context(), func() (*config.Config, error) {
		c, err := config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
		hop := c.Hops["internet"]
		hop.TLS = "verify"
		c.Hops["internet"] = hop
		return c, err
	}); err != nil {
		t.Fatal(err)
	}
	if got := h.send(h.lmtp, "dr@clinic.test", hello+"again", "a@dest.test"); codes(got) != "451" {
		t.Errorf("the hop speaks no TLS: got %q, want 451", got)
	}
	if n := len(h.sink.To("a@dest.test")); n != 1 {
		t.Errorf("%d messages left, want the first alone", n)
	}
}

// TestReloadNetworks: who may connect changes with a reload, for new sessions.
func TestReloadNetworks(t *testing.T) {
	h := newHouse(t, "5d", nil)
	greeting := func() string {
		t.Helper()
		c, err := net.Dial("tcp", h.lmtp)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 3)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, step := range [][2]string{{"192.0.2.0/24", "554"}, {"127.0.0.1", "220"}} {
		if err := h.g.Reload(t.Context(), func() (*config.Config, error) {
			c, err := config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
			c.Clinic.Networks = step[:1]
			return c, err
		}); err != nil {
			t.Fatal(err)
		}
		if got := greeting(); got != step[1] {
			t.Errorf("networks %s: %s, want %s", step[0], got, step[1])
		}
	}
}
