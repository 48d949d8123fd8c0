package trust

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// shelf serves one thing at a time, and counts.
type shelf struct {
	*httptest.Server
	hits  atomic.Int64
	serve atomic.Pointer[http.HandlerFunc]
}

func newShelf(t *testing.T, first http.HandlerFunc) *shelf {
	s := &shelf{}
	s.serve.Store(&first)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.hits.Add(1); (*s.serve.Load())(w, r) }))
	t.Cleanup(s.Close)
	return s
}

func (s *shelf) set(h http.HandlerFunc) { s.serve.Store(&h) }

func give(p []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(p) }
}

// netSpace is a space that fetches; its peer names url. The last value sets its clock ahead.
func netSpace(t *testing.T, url string, change func(*Config)) (*world, *Space, tls.ConnectionState, *atomic.Int64) {
	t.Helper()
	w := newWorld(t)
	var ahead atomic.Int64
	w.cfg.CRL, w.cfg.Now = nil, func() time.Time { return clock.Add(time.Duration(ahead.Load())) }
	w.cfg.Revocation = Revocation{Fetch: true, OCSP: OCSPOff, Every: time.Hour, Timeout: 5 * time.Second, Grace: 4 * time.Hour, MaxAge: 7 * 24 * time.Hour}
	w.cfg.Evidence = OpenEvidence(EvidenceConfig{Dir: filepath.Join(w.dir, "kept"), Now: w.cfg.Now})
	t.Cleanup(func() { w.cfg.Evidence.Close() })
	if change != nil {
		change(&w.cfg)
	}
	peer := w.inter.issue(peerName, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{url} }, nil)
	return w, w.space(), tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{peer.Leaf, w.inter.cert}}, &ahead
}

func check(t *testing.T, s *Space, cs tls.ConnectionState) string {
	t.Helper()
	_, check, err := s.ClientTLS("valide.test")
	if err != nil {
		t.Fatal(err)
	}
	return reason(check(cs))
}

func (a *authority) crlDER(from, until time.Time) []byte {
	a.t.Helper()
	file := filepath.Join(a.t.TempDir(), "crl")
	a.crlFrom(file, from, until)
	p, err := os.ReadFile(file)
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

const unproven = Unproven + " later"

// TestOneQuestion: a hundred sessions at once ask for a list once, and a source that failed is asked again only after a pause.
func TestOneQuestion(t *testing.T) {
	src := newShelf(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(50 * time.Millisecond)
		http.Error(w, "away", http.StatusBadGateway)
	})
	w, s, cs, ahead := netSpace(t, src.URL, nil)
	all := func() (got [100]string) {
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i] = check(t, s, cs) })
		}
		wg.Wait()
		return got
	}
	for _, got := range all() {
		if got != unproven {
			t.Fatalf("got %q", got)
		}
	}
	all()
	if n := src.hits.Load(); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
	src.set(give(w.inter.crlDER(clock.Add(-time.Hour), clock.Add(2*time.Hour))))
	ahead.Add(int64(firstPause))
	for _, got := range all() {
		if got != "" {
			t.Fatalf("after the pause: got %q", got)
		}
	}
	if n := src.hits.Load(); n != 2 {
		t.Errorf("%d questions, want 2", n)
	}
}

// TestListsThatAreNotTaken: each leaves the peer unproved, and a good list in force where one is.
func TestListsThatAreNotTaken(t *testing.T) {
	var big atomic.Int64
	elsewhere := newShelf(t, give(nil))
	for title, serve := range map[string]func(w *world) http.HandlerFunc{
		"over 64 MB by its length": func(*world) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(maxCRL+1))
				w.Write([]byte{0x30})
			}
		},
		"over 64 MB without a length": func(*world) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				chunk := make([]byte, 1<<20)
				for range 300 {
					if _, err := w.Write(chunk); err != nil {
						return
					}
					big.Add(1)
				}
			}
		},
		"led elsewhere": func(*world) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1), http.StatusFound)
			}
		},
		"another CA of the name": func(w *world) http.HandlerFunc {
			return give(newCA(w.t, "AC ORGANISATIONS", nil).crlDER(clock.Add(-time.Minute), clock.Add(time.Hour)))
		},
		"out of date": func(w *world) http.HandlerFunc {
			return give(w.inter.crlDER(clock.Add(-2*time.Hour), clock.Add(-time.Minute)))
		},
		"of the future": func(w *world) http.HandlerFunc {
			return give(w.inter.crlDER(clock.Add(time.Hour), clock.Add(2*time.Hour)))
		},
		"older than the former": func(w *world) http.HandlerFunc {
			return give(w.inter.crlDER(clock.Add(-20*time.Hour), clock.Add(20*time.Hour)))
		},
		"cut short": func(w *world) http.HandlerFunc {
			p := w.inter.crlDER(clock.Add(-time.Minute), clock.Add(time.Hour))
			return give(p[:len(p)-9])
		},
		"a page of a proxy": func(*world) http.HandlerFunc { return give([]byte("<html>")) },
	} {
		t.Run(title, func(t *testing.T) {
			src := newShelf(t, nil)
			w, s, cs, ahead := netSpace(t, src.URL, nil)
			bad := serve(w)
			if !strings.HasPrefix(title, "older") {
				src.set(bad)
				if got := check(t, s, cs); got != unproven {
					t.Errorf("at first: got %q", got)
				}
				s.cfg.Evidence.settle() // a session that waits no longer leaves its question under way
				ahead.Add(int64(firstPause))
			}
			src.set(give(w.inter.crlDER(clock.Add(-time.Hour), clock.Add(10*time.Hour))))
			if got := check(t, s, cs); got != "" {
				t.Fatalf("good list: got %q", got)
			}
			held := *s.cfg.Evidence.lists.Load()
			src.set(bad)
			ahead.Add(int64(2 * time.Hour))
			hits := src.hits.Load()
			s.refresh()
			for src.hits.Load() == hits {
				time.Sleep(time.Millisecond)
			}
			s.cfg.Evidence.settle()
			if got := check(t, s, cs); got != "" {
				t.Errorf("after it: got %q", got)
			}
			if now := *s.cfg.Evidence.lists.Load(); len(held) != 1 || len(now) != 1 || now[0] != held[0] {
				t.Error("the list in force was given up")
			}
			files, _ := filepath.Glob(filepath.Join(w.dir, "kept", "*"))
			if len(files) != 2 {
				t.Errorf("kept: %q", files)
			}
		})
	}
	if n := elsewhere.hits.Load(); n != 0 {
		t.Errorf("%d requests to where a source led", n)
	}
	if n := big.Load(); n > 2*100 { // 64 and what lay in buffers on the way
		t.Errorf("read %d MB of a list without end", n)
	}
}

// settle waits for what is under way.
func (e *Evidence) settle() {
	for busy := true; busy; time.Sleep(time.Millisecond) {
		e.mu.Lock()
		busy = len(e.flights) > 0
		e.mu.Unlock()
	}
}

// TestRefreshAhead: KeepFresh has the successor before the list ends, no session waits for it; unchanged lists are not sent again.
func TestRefreshAhead(t *testing.T) {
	src := newShelf(t, nil)
	w, s, cs, ahead := netSpace(t, src.URL, nil)
	var same atomic.Int64
	first := w.inter.crlDER(clock.Add(-10*time.Hour), clock.Add(10*time.Hour))
	src.set(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"a"` {
			same.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"a"`)
		w.Write(first)
	})
	if got := check(t, s, cs); got != "" {
		t.Fatal(got)
	}
	at := func(d time.Duration) int64 {
		ahead.Store(int64(d))
		before := src.hits.Load()
		s.refresh()
		s.cfg.Evidence.settle()
		return src.hits.Load() - before
	}
	if n := at(30 * time.Minute); n != 0 {
		t.Errorf("%d looks before the hour is over", n)
	}
	if n := at(61 * time.Minute); n != 1 || same.Load() != 1 {
		t.Errorf("%d looks after it, %d unchanged", n, same.Load())
	}
	at(8 * time.Hour)
	if n := at(8*time.Hour + 6*time.Minute); n != 1 {
		t.Errorf("%d looks near the end, every five minutes are wanted", n)
	}
	src.set(give(w.inter.crlDER(clock.Add(8*time.Hour), clock.Add(30*time.Hour))))
	at(8*time.Hour + 12*time.Minute)
	ahead.Store(int64(11 * time.Hour)) // the first is over
	src.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if got := check(t, s, cs); got != "" {
		t.Errorf("got %q", got)
	}
	if ends := (*s.cfg.Evidence.lists.Load())[0].until; !ends.Equal(clock.Add(30 * time.Hour)) {
		t.Errorf("the list ends at %s", ends)
	}
}

// TestOnlyHTTPIsNamed: a certificate's other addresses are not asked for.
func TestOnlyHTTPIsNamed(t *testing.T) {
	got := offered([]string{"ldap://annuaire-igc.esante.gouv.fr/cn=x", "file:///etc/passwd", "https://a.test/x", "http://u:p@a.test/x", "http://a.test/1", "http:///x", "http://" + strings.Repeat("a", 1100) + ".test/",
		"http://a.test/2", "http://a.test/3", "http://a.test/4", "http://a.test/5"})
	if strings.Join(got, " ") != "http://a.test/1 http://a.test/2 http://a.test/3 http://a.test/4" {
		t.Errorf("got %q", got)
	}
}

// TestNewEvidenceEndsProofs: a proof made under a list ends with the next one, though its minute is not over.
func TestNewEvidenceEndsProofs(t *testing.T) {
	ca, err := gatewaytest.NewCA("x")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := ca.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	i, err := ca.Issue(gatewaytest.Leaf{Subject: peerName, Status: srv})
	if err != nil {
		t.Fatal(err)
	}
	_, s, _, _ := netSpace(t, srv.CRLURL(), func(c *Config) { c.Revocation.Every = 0 })
	writePEM(t, s.cfg.CA[0], "CERTIFICATE", ca.Cert.Raw)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	cs := tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{i.Cert}}
	if got := check(t, s, cs); got != "" {
		t.Fatal(got)
	}
	ca.Revoke(i)
	s.refresh()
	s.cfg.Evidence.settle()
	if got := check(t, s, cs); got != Revoked {
		t.Errorf("got %q", got)
	}
}

// TestEvidenceCloses: Close ends what hangs, at once.
func TestEvidenceCloses(t *testing.T) {
	src := newShelf(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	var log bytes.Buffer
	_, s, cs, _ := netSpace(t, src.URL, func(c *Config) {
		c.Revocation.Timeout = 50 * time.Millisecond
		c.Evidence.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	began := time.Now()
	if got := check(t, s, cs); got != unproven {
		t.Errorf("got %q", got)
	}
	s.cfg.Evidence.Close()
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("took %s", d)
	}
	if got := check(t, s, cs); got != unproven || log.Len() > 0 {
		t.Errorf("after the end: %q, log %q", got, log.String())
	}
}
