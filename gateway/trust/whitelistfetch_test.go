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
	if _, _, err := s.Waiting(); err != ErrNoneWaiting {
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
	added, lost, err := s.Waiting()
	if err != nil || fmt.Sprint(added) != "[neu.test]" || len(lost) != 17 {
		t.Errorf("%v %v %v", added, lost, err)
	}
	// The process that serves sees what the operator's command does.
	serving := w.space()
	if err := s.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	serving.lister.adopt()
	for _, s := range []*Space{s, serving, w.space()} {
		if s.Listed("d79.mssante.test") || !s.Listed("neu.test") || s.WhiteList().Waiting != nil {
			t.Errorf("after accept: %+v", s.WhiteList())
		}
	}
	if err := s.Accept(t.Context()); err != ErrNoneWaiting {
		t.Error(err)
	}
	// A better list takes the waiting one's place; that one is then gone.
	h.serves(at(-2*time.Hour, entries(5)...))
	look(t, s, "waiting", "")
	h.serves(at(-time.Hour, entries(90, entry{Domain: "neu.test", DN: "CN=neu"})...))
	look(t, s, "taken", "")
	if _, _, err := s.Waiting(); err != ErrNoneWaiting || s.WhiteList().Waiting != nil {
		t.Error(err)
	}
	// A waiting file that was changed, or is older by now, is not taken.
	raw := at(-30*time.Minute, entries(5)...)
	write(t, filepath.Join(w.cfg.WhiteList.StateDir, waitingName), bytes.Replace(raw, []byte("d3."), []byte("dx."), 1))
	if err := s.Accept(t.Context()); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Error(err)
	}
	write(t, filepath.Join(w.cfg.WhiteList.StateDir, waitingName), at(-2*time.Hour, entries(5)...))
	if err := s.Accept(t.Context()); err == nil || !strings.Contains(err.Error(), "older") {
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

func TestFetchFaults(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	w.cfg.WhiteList.Silence, w.cfg.WhiteList.Total = 300*time.Millisecond, 2*time.Second
	other := w.host()
	w.cfg.WhiteList.URL = h.URL + "/liste.xml"
	write(t, w.file("host.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}))
	signer := w.inter.signer(nil, nil)
	old, raw := sign(t, signer, list(clock.Add(-time.Hour), entries(10)...)), sign(t, signer, list(clock, entries(11)...))
	other.serves(raw)
	s := w.space()
	h.serves(old)
	look(t, s, "taken", "")
	whole := func(rw http.ResponseWriter) { rw.Write(raw) }
	to := func(url string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/neu.xml" {
				whole(rw)
				return
			}
			http.Redirect(rw, r, url, http.StatusFound)
		}
	}
	for name, c := range map[string]struct {
		page          http.HandlerFunc
		result, fault string
	}{
		"500":               {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }, "status", "500"},
		"404 with the list": {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(404); whole(rw) }, "status", "404"},
		"206":               {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(206); whole(rw) }, "status", "206"},
		"to another host":   {to(other.URL + "/neu.xml"), "redirect", "forged"},
		"out of https":      {to("http://" + h.Listener.Addr().String() + "/neu.xml"), "redirect", "forged"},
		"with a user":       {to("https://x@" + h.Listener.Addr().String() + "/neu.xml"), "redirect", "forged"},
		"in a circle":       {func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, r.URL.Path+"x", 302) }, "redirect", "forged"},
		"too large, said": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", fmt.Sprint(maxSigned+1))
			whole(rw)
		}, "size", "larger"},
		"too large": {func(rw http.ResponseWriter, _ *http.Request) {
			p := make([]byte, 1<<20)
			for range 66 {
				rw.Write(p)
			}
		}, "size", "larger"},
		"compressed": {func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("Content-Encoding", "gzip"); whole(rw) }, "refused", "compresses"},
		"cut": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", fmt.Sprint(len(raw)))
			rw.Write(raw[:500])
		}, "down", "EOF"},
		"silent": {func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }, "timeout", "nothing came"},
		"silent in between": {func(rw http.ResponseWriter, r *http.Request) {
			rw.Write(raw[:500])
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "timeout", "nothing came"},
		"a drop at a time": {func(rw http.ResponseWriter, r *http.Request) {
			for i := range raw {
				if r.Context().Err() != nil {
					return
				}
				rw.Write(raw[i : i+1])
				rw.(http.Flusher).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		}, "timeout", "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			before := counted(t, c.result)
			h.answers(c.page)
			look(t, s, c.result, c.fault)
			if counted(t, c.result) != before+1 || s.Listed("d10.mssante.test") || !s.Listed("d9.mssante.test") {
				t.Error("not counted, or the list in force did not stay")
			}
			if _, err := os.Stat(filepath.Join(w.cfg.WhiteList.StateDir, listPart)); err == nil {
				t.Error("a part is left")
			}
		})
	}
	t.Run("another authority", func(t *testing.T) {
		writePEM(t, w.file("host.pem"), "CERTIFICATE", w.root.cert.Raw)
		look(t, s, "tls", "certificate")
	})
	t.Run("no authority", func(t *testing.T) {
		os.Remove(w.file("host.pem"))
		look(t, s, "local", "host.pem")
	})
	write(t, w.file("host.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}))
	t.Run("locked", func(t *testing.T) {
		unlock, err := s.lister.lock()
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		look(t, s, "local", "another process")
	})
	t.Run("same host", func(t *testing.T) {
		h.answers(to("/neu.xml"))
		look(t, s, "taken", "")
	})
	h.Close()
	look(t, s, "down", "refused")
}

// counted is passerelle_trust_list_fetched_total of a result.
func counted(t *testing.T, result string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "passerelle_trust_list_fetched_total" && m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// After failures the waits grow to every, a Retry-After is kept to, and what was kept through them is the list.
func TestBackOff(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
	now := clock
	w.cfg.Now = func() time.Time { return now }
	s := w.space()
	after := ""
	h.answers(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Retry-After", after)
		rw.WriteHeader(503)
	})
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if !s.lister.due() {
			t.Errorf("look %d is not due", i)
		}
		look(t, s, "status", "503")
		wait := s.WhiteList().Next.Sub(now)
		if wait < want*time.Minute || wait > want*time.Minute*11/10 {
			t.Errorf("wait %d: %s, want %dm", i, wait, want)
		}
		if now = now.Add(want*time.Minute - time.Second); s.lister.due() {
			t.Errorf("look %d is due too early", i+1)
		}
		now = now.Add(want*time.Minute/10 + 2*time.Second)
	}
	after = "7200"
	look(t, s, "status", "503")
	if wait := s.WhiteList().Next.Sub(now); wait < 2*time.Hour {
		t.Errorf("Retry-After is not kept to: %s", wait)
	}
	h.serves(sign(t, w.inter.signer(nil, nil), list(now, entries(3)...)))
	look(t, s, "taken", "")
	if wait := s.WhiteList().Next.Sub(now); wait < time.Hour || wait > 66*time.Minute || s.WhiteList().Fault != "" {
		t.Errorf("after success: %s %+v", wait, s.WhiteList())
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
