package keyring

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

// wkdWorld is a web server with directories, a name server that leads to it, and who asks them.
type wkdWorld struct {
	*gatewaytest.KeyDirectory
	names *gatewaytest.NameServer
	gpg   *gatewaytest.GnuPG
	cfg   WKDConfig
	now   time.Time
}

func newWKDWorld(t testing.TB, hosts ...string) *wkdWorld {
	t.Helper()
	ca, err := gatewaytest.NewCA("web")
	must(t, err)
	w := &wkdWorld{now: time.Now().Add(time.Minute)} // keys are made later on
	w.KeyDirectory, err = gatewaytest.ServeKeys(ca, hosts...)
	must(t, err)
	t.Cleanup(func() { w.KeyDirectory.Close() })
	w.names, err = gatewaytest.StartNameServer()
	must(t, err)
	t.Cleanup(func() { w.names.Close() })
	for _, h := range hosts {
		w.names.A(h, "127.0.0.1")
	}
	w.gpg, err = gatewaytest.NewGnuPG()
	must(t, err)
	t.Cleanup(func() { w.gpg.Close() })
	pem := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(pem, ca.CertPEM(), 0o600))
	w.cfg = WKDConfig{CA: pem, Networks: []string{"127.0.0.0/8"}, Port: w.Port, Resolver: w.names.Resolver(), Timeout: 2 * time.Second, Now: func() time.Time { return w.now }}
	return w
}

func (w *wkdWorld) open(t testing.TB) *WebDirectory {
	t.Helper()
	k, err := NewWKD(w.cfg)
	must(t, err)
	return k
}

// key makes a key with GnuPG and publishes it at a host.
func (w *wkdWorld) key(t testing.TB, host, userID, address string, more ...string) []byte {
	t.Helper()
	w.run(t, append([]string{"--quick-generate-key", userID, "future-default", "default", "never"}, more...)...)
	hash, err := w.gpg.Hash(address)
	must(t, err)
	raw := w.run(t, "--export", address)
	w.Publish(host, hash, address[strings.IndexByte(address, '@')+1:], raw)
	return raw
}

func (w *wkdWorld) run(t testing.TB, args ...string) []byte {
	t.Helper()
	out, err := w.gpg.Run(nil, args...)
	must(t, err)
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func at(t testing.TB, s string) message.Address {
	t.Helper()
	a, err := message.ParseAddress(s, true)
	must(t, err)
	return a
}

func TestWKD(t *testing.T) {
	w := newWKDWorld(t, "openpgpkey.adv.test", "adv.test", "direct.test", "openpgpkey.nothing.test", "nothing.test")
	w.key(t, "openpgpkey.adv.test", "Dr A <dr.a@adv.test>", "dr.a@adv.test")
	w.key(t, "direct.test", "Dr.B+x@direct.test", "Dr.B+x@direct.test")
	w.key(t, "nothing.test", "Dr C <c@nothing.test>", "c@nothing.test") // by the direct method, where the other must be used
	k := w.open(t)
	for _, c := range []struct{ address, asked, why string }{
		{"Dr.A@adv.test", "openpgpkey.adv.test/.well-known/openpgpkey/adv.test/hu/", ""},
		{"dr.b+X@direct.test", "direct.test/.well-known/openpgpkey/hu/", ""},
		{"nobody@adv.test", "openpgpkey.adv.test/.well-known/openpgpkey/adv.test/hu/", "status 404"},
		{"c@nothing.test", "openpgpkey.nothing.test/.well-known/openpgpkey/nothing.test/hu/", "status 404"},
		{"x@unknown.test", "", "no web server"},
		{"x@localhost", "", "no directory"},
		{"x@[127.0.0.1]", "", "no directory"},
	} {
		a := at(t, c.address)
		got, err := k.Find(t.Context(), a)
		if err != nil || got.Refused || (got.Key != nil) != (c.why == "") || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s: got %d octets, %q, %v", c.address, len(got.Key), got.Why, err)
		}
		asked := w.Asked()
		if c.asked == "" && len(asked) == 0 {
			continue
		}
		local, _, _ := strings.Cut(c.address, "@")
		if len(asked) != 1 || !strings.HasPrefix(asked[0], c.asked) || !strings.HasSuffix(asked[0], "?l="+strings.ReplaceAll(local, "+", "%2B")) {
			t.Errorf("%s: asked %q, want %s", c.address, asked, c.asked)
		}
	}
}

// TestWKDRefused: what a server gives is believed of nobody else, and of no use is no key.
func TestWKDRefused(t *testing.T) {
	w := newWKDWorld(t, "d.test")
	key := w.key(t, "d.test", "Dr A <a@d.test>", "a@d.test")
	for _, c := range []struct {
		name, who, why string
		answer         http.HandlerFunc
	}{
		{"another's key", "b@d.test", "no user ID", func(rw http.ResponseWriter, _ *http.Request) { rw.Write(key) }},
		{"a page", "a@d.test", "cannot be read", func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("<html>404</html>")) }},
		{"nothing", "a@d.test", "empty", func(http.ResponseWriter, *http.Request) {}},
		{"too much", "a@d.test", "64 KiB", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Write(append(slices.Clone(key), make([]byte, 64<<10)...))
		}},
		{"half", "a@d.test", "", func(rw http.ResponseWriter, _ *http.Request) { rw.Write(key[:len(key)/2]) }},
		{"another host", "a@d.test", "another one", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "https://elsewhere.test/", 302) }},
		{"without TLS", "a@d.test", "another one", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "http://d.test"+r.URL.Path, 302) }},
		{"in circles", "a@d.test", "another one", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, r.URL.Path, 302) }},
	} {
		w.Answer(c.answer)
		got, err := w.open(t).Find(t.Context(), at(t, c.who))
		if err != nil || !got.Refused || got.Key != nil || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s: got %d octets, %q, %v", c.name, len(got.Key), got.Why, err)
		}
	}
	w.Answer(func(rw http.ResponseWriter, r *http.Request) { // within the server
		if !strings.HasPrefix(r.URL.Path, "/moved") {
			http.Redirect(rw, r, "/moved"+r.URL.Path, 301)
			return
		}
		rw.Write(key)
	})
	if got, err := w.open(t).Find(t.Context(), at(t, "a@d.test")); err != nil || got.Key == nil {
		t.Errorf("redirected within the server: %+v, %v", got, err)
	}
}

// TestWKDUnasked: what passes is no answer.
func TestWKDUnasked(t *testing.T) {
	w := newWKDWorld(t, "d.test", "openpgpkey.wild.test", "wild.test")
	key := w.key(t, "d.test", "Dr A <a@d.test>", "a@d.test")
	w.key(t, "wild.test", "Dr W <w@wild.test>", "w@wild.test")
	unasked := func(name string, k *WebDirectory, who string) {
		t.Helper()
		got, err := k.Find(t.Context(), at(t, who))
		if u := (*Unasked)(nil); !errors.As(err, &u) || got.Key != nil {
			t.Errorf("%s: got %+v, %v", name, got, err)
		} else if strings.Contains(err.Error(), "hu/") || strings.Contains(err.Error(), who) {
			t.Errorf("%s: the error names the address: %v", name, err)
		}
	}
	busy := 0
	w.Answer(func(rw http.ResponseWriter, _ *http.Request) {
		if busy++; busy == 1 {
			rw.WriteHeader(503)
			return
		}
		rw.Write(key)
	})
	if got, err := w.open(t).Find(t.Context(), at(t, "a@d.test")); err != nil || got.Key == nil || busy != 2 {
		t.Errorf("once 503: got %+v, %v, after %d questions", got, err, busy)
	}
	busy = 0
	w.Answer(func(rw http.ResponseWriter, _ *http.Request) { busy++; rw.WriteHeader(503) })
	unasked("503", w.open(t), "a@d.test")
	if busy != 2 {
		t.Errorf("503: asked %d times, want 2", busy)
	}
	w.Answer(nil)
	w.names.Away(true)
	unasked("name server away", w.open(t), "a@d.test")
	w.names.Away(false)
	other := w.cfg
	other.CA = "" // the system's roots do not know the server
	k, err := NewWKD(other)
	must(t, err)
	unasked("certificate", k, "a@d.test")
	w.names.A("openpgpkey.wild.test", "127.0.0.9") // nobody listens there; the direct method would have the key
	unasked("advanced host down", w.open(t), "w@wild.test")
	if asked := w.Asked(); slices.ContainsFunc(asked, func(s string) bool { return strings.HasPrefix(s, "wild.test") }) {
		t.Errorf("fell back to the direct method: %q", asked)
	}
	stop := make(chan struct{})
	w.Answer(func(http.ResponseWriter, *http.Request) { <-stop })
	defer close(stop)
	w.cfg.Timeout = 200 * time.Millisecond
	slow, begin := w.open(t), time.Now()
	unasked("silent", slow, "a@d.test")
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a silent server held the mail for %s", took)
	}
}

// TestWKDInside: a stranger's DNS leads nowhere inside.
func TestWKDInside(t *testing.T) {
	w := newWKDWorld(t, "d.test")
	w.key(t, "d.test", "Dr A <a@d.test>", "a@d.test")
	w.cfg.Networks = nil
	got, err := w.open(t).Find(t.Context(), at(t, "a@d.test"))
	if err != nil || !got.Refused || !strings.Contains(got.Why, "encrypt.wkd.networks") || len(w.Asked()) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	for addr, want := range map[string]bool{"8.8.8.8": true, "2a00:1450::1": true, "127.0.0.1": false, "127.9.9.9": false, "10.1.1.1": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "255.255.255.255": false, "224.0.0.1": false, "::1": false, "::": false, "fe80::1": false, "fc00::1": false,
		"::ffff:10.0.0.1": false, "::ffff:8.8.8.8": true, "64:ff9b::a00:1": false, "2002:a00:1::": false, "::10.0.0.1": false, "fec0::1": false} {
		if got := reachable(netip.MustParseAddr(addr), nil); got != want {
			t.Errorf("%s: reachable %t, want %t", addr, got, want)
		}
	}
	if !reachable(netip.MustParseAddr("10.2.3.4"), []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}) {
		t.Error("a network of the config is not reached")
	}
}

// TestHostGuard: a dead domain costs one question a minute, and its neighbours nothing.
func TestHostGuard(t *testing.T) {
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	g := newHostGuard(func() time.Time { return now })
	down := errors.New("down")
	ask := func(domain string, came error) bool {
		leave, err := g.enter(t.Context(), domain)
		if err == nil {
			leave(came)
		}
		return err == nil
	}
	if !ask("dead.test", down) || ask("dead.test", nil) || !ask("well.test", nil) || !ask("well.test", nil) {
		t.Error("the first failure must rest the one domain alone")
	}
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 30 * time.Minute, 30 * time.Minute} {
		now = now.Add(want - time.Second)
		if ask("dead.test", down) {
			t.Fatalf("failure %d: asked again before %s", i+1, want)
		}
		now = now.Add(time.Second)
		if !ask("dead.test", down) {
			t.Fatalf("failure %d: not asked again after %s", i+1, want)
		}
	}
	now = now.Add(time.Hour)
	if !ask("dead.test", nil) || !ask("dead.test", nil) {
		t.Error("who answers again is not asked again")
	}
	ask("set-back.test", down)
	now = now.Add(-48 * time.Hour)
	if !ask("set-back.test", nil) {
		t.Error("a clock that was set back holds a domain up")
	}

	first, err := g.enter(t.Context(), "slow.test")
	must(t, err)
	second, err := g.enter(t.Context(), "slow.test")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := g.enter(ctx, "slow.test"); err == nil {
		t.Error("three questions at a time")
	}
	first(context.Canceled)
	second(nil)
	if !ask("slow.test", nil) {
		t.Error("a client that went away is held against the server")
	}
	for i := range maxDomains + 10 {
		ask(strings.Repeat("a", i%50)+netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}).String(), down)
	}
	if len(g.domains) > maxDomains {
		t.Errorf("%d domains are remembered", len(g.domains))
	}
}

// TestWKDTogether: mail to many at once asks a host two at a time, and all get their answer.
func TestWKDTogether(t *testing.T) {
	w := newWKDWorld(t, "d.test")
	key := w.key(t, "d.test", "Dr A <a@d.test>", "a@d.test")
	var mu sync.Mutex
	var in, most int
	full := make(chan struct{}) // as many as may be are in at once
	w.Answer(func(rw http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		in++
		if most = max(most, in); in == perHost {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		mu.Unlock()
		select {
		case <-full:
		case <-time.After(time.Second):
		}
		time.Sleep(10 * time.Millisecond)
		mu.Lock()
		in--
		mu.Unlock()
		rw.Write(key)
	})
	k := w.open(t)
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if got, err := k.Find(t.Context(), at(t, "a@d.test")); err != nil || got.Key == nil {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	all.Wait()
	if most != perHost {
		t.Errorf("%d questions at a time, want %d", most, perHost)
	}
}

func TestNewWKD(t *testing.T) {
	for _, c := range []WKDConfig{{CA: filepath.Join(t.TempDir(), "none.pem")}, {Networks: []string{"10.0.0.1"}}} {
		if _, err := NewWKD(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if _, err := NewWKD(WKDConfig{Resolver: &net.Resolver{}}); err != nil {
		t.Error(err)
	}
}

// FuzzReadWKD: whatever a stranger's server gives is no panic, and a key is taken only with the address on it.
func FuzzReadWKD(f *testing.F) {
	gpg, err := gatewaytest.NewGnuPG()
	must(f, err)
	defer gpg.Close()
	for _, id := range []string{"A <a@d.test>", "b@d.test"} {
		_, err := gpg.Run(nil, "--quick-generate-key", id, "future-default", "default", "never")
		must(f, err)
	}
	for _, args := range [][]string{{"--export", "a@d.test"}, {"--armor", "--export", "a@d.test"}, {"--export"}, {"--export", "b@d.test"}} {
		raw, err := gpg.Run(nil, args...)
		must(f, err)
		f.Add(raw)
	}
	f.Add([]byte("<html></html>"))
	a := message.Address{Local: "a", Domain: "d.test"}
	now := time.Now()
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := readWKD(raw, a, now)
		if (got.Key == nil) == (got.Why == "") || (got.Key == nil) != got.Refused {
			t.Fatalf("neither a key nor a reason: %+v", got)
		}
		if got.Key != nil {
			if again := readWKD(got.Key, a, now); again.Fingerprint != got.Fingerprint || !bytes.Contains(bytes.ToLower(got.Key), []byte("a@d.test")) {
				t.Fatalf("a key that does not bear the address was taken: %q then %q", got.Fingerprint, again.Why)
			}
		}
	})
}
