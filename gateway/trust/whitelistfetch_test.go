package trust

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
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

	"github.com/prometheus/client_golang/prometheus"
)

// host serves a list over HTTPS with a certificate of its own authority.
type host struct {
	*httptest.Server
	page atomic.Pointer[http.HandlerFunc]
	sent atomic.Int32 // whole lists
}

func (w *world) host() *host {
	h := &host{}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { (*h.page.Load())(rw, r) }))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	w.t.Cleanup(h.Close)
	write(w.t, w.file("host.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}))
	w.cfg.WhiteList.URL, w.cfg.WhiteList.CA = h.URL+"/liste.xml", w.file("host.pem")
	return h
}

func (h *host) answers(f http.HandlerFunc) { h.page.Store(&f) }

func (h *host) serves(raw []byte) {
	h.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, len(raw)*31+int(raw[len(raw)/2])))
		c := &counter{ResponseWriter: w}
		http.ServeContent(c, r, "", time.Time{}, bytes.NewReader(raw))
		if c.code == http.StatusOK {
			h.sent.Add(1)
		}
	})
}

type counter struct {
	http.ResponseWriter
	code int
}

func (c *counter) WriteHeader(code int) { c.code = code; c.ResponseWriter.WriteHeader(code) }

// look refreshes and wants a result; fault is what the error must hold.
func look(t *testing.T, s *Space, want, fault string) {
	t.Helper()
	got, err := s.RefreshList(t.Context())
	if got != want || (fault == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), fault) {
		t.Errorf("got %s %v, want %s %q", got, err, want, fault)
	}
}

func TestRefresh(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	var out bytes.Buffer
	w.cfg.Log = slog.New(slog.NewTextHandler(&out, nil))
	signer := w.inter.signer(nil, nil)
	at := func(d time.Duration, e ...entry) []byte { return sign(t, signer, list(clock.Add(d), e...)) }
	s := w.space()
	h.serves(at(-3*time.Hour, entries(10)...))
	look(t, s, "taken", "")
	look(t, s, "unchanged", "")
	if h.sent.Load() != 1 || !s.Listed("d9.mssante.test") || s.Doubt("gmail.com") != nil {
		t.Errorf("%d lists were sent", h.sent.Load())
	}
	again := w.space() // a restart: in force at once, and no second download
	if !again.Listed("d9.mssante.test") {
		t.Error("the list is gone after a restart")
	}
	look(t, again, "unchanged", "")
	if h.sent.Load() != 1 {
		t.Errorf("%d lists were sent", h.sent.Load())
	}
	h.serves(at(-2*time.Hour, entries(9, entry{Domain: "neu.test", DN: "CN=neu"})...))
	look(t, again, "taken", "")
	if again.Listed("d9.mssante.test") || !again.Listed("neu.test") || !strings.Contains(out.String(), "domain removed\" domain=d9.mssante.test") || !strings.Contains(out.String(), "domain added\" domain=neu.test") {
		t.Errorf("changes are not told:\n%s", out.String())
	}
	// What goes back, stands still with another content or is broken leaves the list in force.
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"older":           {at(-150*time.Minute, entries(10)...), "older than that"},
		"same date":       {at(-2*time.Hour, entries(11)...), "another list of the same date"},
		"of the future":   {at(5*time.Hour, entries(10)...), "future"},
		"tampered":        {bytes.Replace(at(-time.Hour, entries(10)...), []byte("d3."), []byte("d4."), 1), "digest"},
		"no XML":          {[]byte("<html>maintenance</html>"), "namespace"},
		"empty":           {nil, "too early"},
		"another's":       {sign(t, newCA(t, "AC ORGANISATIONS", nil).signer(nil, nil), list(clock, entries(10)...)), "unknown authority"},
		"without domains": {at(0), "no domain"},
	} {
		h.answers(func(rw http.ResponseWriter, _ *http.Request) { rw.Write(c.raw) })
		t.Run(name, func(t *testing.T) { look(t, again, "refused", c.want) })
		if !again.Listed("neu.test") || again.WhiteList().Fault == "" {
			t.Errorf("%s: the list in force did not stay", name)
		}
	}
	// Also where what is kept was lost: the newest date is known.
	os.Remove(filepath.Join(w.cfg.WhiteList.StateDir, listName))
	lost := w.space()
	h.serves(at(-150*time.Minute, entries(10)...))
	look(t, lost, "refused", "older than that")
	h.serves(at(-2*time.Hour, entries(11)...))
	look(t, lost, "refused", "same date")
	h.serves(at(-2*time.Hour, entries(9, entry{Domain: "neu.test", DN: "CN=neu"})...))
	look(t, lost, "taken", "")
	// A kept file that somebody put back is not believed.
	write(t, filepath.Join(w.cfg.WhiteList.StateDir, listName), at(-3*time.Hour, entries(10)...))
	if err := w.space().Doubt("neu.test"); err == nil || !strings.Contains(err.Error(), "older than one") {
		t.Errorf("an old file came back: %v", err)
	}
	if st, err := os.Stat(filepath.Join(w.cfg.WhiteList.StateDir, listName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the kept list: %v %v", st.Mode(), err)
	}
}

// A list that lost more than the share waits, through a restart, until the operator or a better list.
func TestShrink(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	signer := w.inter.signer(nil, nil)
	at := func(d time.Duration, e ...entry) []byte { return sign(t, signer, list(clock.Add(d), e...)) }
	s := w.space()
	if _, _, _, err := s.Waiting(); err != ErrNoneWaiting {
		t.Error(err)
	}
	h.serves(at(-5*time.Hour, entries(100)...))
	look(t, s, "taken", "")
	h.serves(at(-4*time.Hour, entries(80)...)) // a fifth: taken
	look(t, s, "taken", "")
	h.serves(at(-3*time.Hour, entries(63, entry{Domain: "neu.test", DN: "CN=neu"})...))
	look(t, s, "waiting", "")
	look(t, s, "unchanged", "") // not fetched again
	s = w.space()
	if !s.Listed("d79.mssante.test") || s.Listed("neu.test") {
		t.Error("a waiting list is in force")
	}
	if n := s.WhiteList().Waiting; n == nil || n.Lost != 17 || n.Added != 1 || n.Domains != 64 {
		t.Errorf("waiting %+v", n)
	}
	date, added, lost, err := s.Waiting()
	if err != nil || fmt.Sprint(added) != "[neu.test]" || len(lost) != 17 {
		t.Errorf("%v %v %v", added, lost, err)
	}
	// The process that serves sees what the operator's command does.
	serving := w.space()
	if err := s.Accept(t.Context(), date); err != nil {
		t.Fatal(err)
	}
	serving.lister.adopt()
	for _, s := range []*Space{s, serving, w.space()} {
		if s.Listed("d79.mssante.test") || !s.Listed("neu.test") || s.WhiteList().Waiting != nil {
			t.Errorf("after accept: %+v", s.WhiteList())
		}
	}
	if err := s.Accept(t.Context(), date); err != ErrNoneWaiting {
		t.Error(err)
	}
	// A better list takes the waiting one's place; that one is then gone.
	h.serves(at(-2*time.Hour, entries(5)...))
	look(t, s, "waiting", "")
	h.serves(at(-time.Hour, entries(90, entry{Domain: "neu.test", DN: "CN=neu"})...))
	look(t, s, "taken", "")
	if _, _, _, err := s.Waiting(); err != ErrNoneWaiting || s.WhiteList().Waiting != nil {
		t.Error(err)
	}
	// A waiting file that was changed, or is older by now, is not taken.
	raw := at(-30*time.Minute, entries(5)...)
	write(t, filepath.Join(w.cfg.WhiteList.StateDir, waitingName), bytes.Replace(raw, []byte("d3."), []byte("dx."), 1))
	if err := s.Accept(t.Context(), date); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Error(err)
	}
	write(t, filepath.Join(w.cfg.WhiteList.StateDir, waitingName), at(-2*time.Hour, entries(5)...))
	if err := s.Accept(t.Context(), date); err == nil || !strings.Contains(err.Error(), "older") {
		t.Error(err)
	}
	// What is kept cannot be verified any more, and its successor is much smaller: its size is still known.
	write(t, filepath.Join(w.cfg.WhiteList.StateDir, listName), []byte("broken"))
	s = w.space()
	h.serves(at(0, entries(5)...))
	look(t, s, "waiting", "")
	if s.Doubt("x.test") == nil {
		t.Error("nothing is in force, and nothing in doubt")
	}
}

// The list of another address is never in force, also where the new address hands out none for now; it begins anew there.
func TestAnotherAddress(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	signer := w.inter.signer(nil, nil)
	h.serves(sign(t, signer, list(clock.Add(-time.Hour), entries(10)...)))
	s := w.space()
	look(t, s, "taken", "")
	good := w.cfg.WhiteList.URL
	w.cfg.WhiteList.URL = h.URL + "/formation.xml"
	h.answers(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(503) })
	s = w.space()
	look(t, s, "status", "503")
	for _, s := range []*Space{s, w.space()} {
		if s.Listed("d1.mssante.test") || s.Doubt("d1.mssante.test") == nil {
			t.Error("another address's list is in force")
		}
	}
	w.cfg.WhiteList.URL = good // it was a slip
	if s := w.space(); !s.Listed("d1.mssante.test") || s.Doubt("d1.mssante.test") != nil {
		t.Error("the list is lost")
	}
	w.cfg.WhiteList.URL = h.URL + "/formation.xml"
	h.serves(sign(t, signer, list(clock.Add(-2*time.Hour), entries(1)...)))
	s = w.space()
	look(t, s, "taken", "")
	if !s.Listed("d0.mssante.test") || s.Listed("d1.mssante.test") {
		t.Error("the new address's list is not in force")
	}
}

// KeepListFresh fetches at once, takes what another process took, tries a list again that could not be verified, and ends when told.
func TestKeepListFresh(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	signer := w.inter.signer(nil, nil)
	h.serves(sign(t, signer, list(clock.Add(-2*time.Hour), entries(3)...)))
	var later atomic.Int64
	w.cfg.Now = func() time.Time { return clock.Add(time.Duration(later.Load())) }
	s := w.space()
	ctx, stop := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { KeepListFresh(ctx, func() *Space { return s }) })
	until := func(what string, ok func() bool) {
		t.Helper()
		for range 1000 {
			if ok() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("%s: %+v", what, s.WhiteList())
	}
	until("the first fetch", func() bool { return s.Listed("d2.mssante.test") && s.Doubt("x.test") == nil })
	h.serves(sign(t, signer, list(clock.Add(-time.Hour), entries(4)...)))
	another := w.space() // another process, at times while the first looks
	until("another's look", func() bool { _, err := another.RefreshList(t.Context()); return err == nil })
	until("another's list", func() bool { return s.Listed("d3.mssante.test") })
	h.serves(sign(t, signer, list(clock, entries(5)...)))
	later.Store(int64(67 * time.Minute))
	until("the next look", func() bool { return s.Listed("d4.mssante.test") })
	stop()
	loop.Wait()
	if age := gaugeOf(t, "passerelle_trust_list_age_seconds"); age != 67*60 {
		t.Errorf("age %v", age)
	}
	if n := gaugeOf(t, "passerelle_trust_list_domains"); n != 5 {
		t.Errorf("domains %v", n)
	}
}

func gaugeOf(t *testing.T, name string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A kept list whose signer's revocation is not known at a start waits for that, and comes into force with it.
func TestKeptListWaitsForRevocation(t *testing.T) {
	w := listedWorld(t)
	w.host().answers(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(503) })
	w.keep(sign(t, w.inter.signer(nil, nil), list(clock, entries(3)...)))
	w.inter.crl(w.file("inter.crl"), clock.Add(-time.Hour))
	now := clock
	w.cfg.Now = func() time.Time { return now }
	s := w.space()
	if err := s.Doubt("d1.mssante.test"); err == nil || !strings.Contains(err.Error(), "renewed by") {
		t.Fatalf("got %v", err)
	}
	w.inter.crl(w.file("inter.crl"), clock.Add(time.Hour))
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	s.lister.adopt()
	if s.Listed("d1.mssante.test") {
		t.Error("tried again at once")
	}
	now = now.Add(retryKept)
	if s.lister.adopt(); !s.Listed("d1.mssante.test") {
		t.Errorf("got %+v", s.WhiteList())
	}
}
