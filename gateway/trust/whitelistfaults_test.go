package trust

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Whatever a host does that is not to hand out a newer good list leaves the list in force, is counted and told.
func TestFetchFaults(t *testing.T) {
	w := listedWorld(t)
	h := w.host()
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
			s.lister.cfg.Silence, s.lister.cfg.Total = 30*time.Second, 30*time.Second
			switch c.fault {
			case "nothing came":
				s.lister.cfg.Silence = 300 * time.Millisecond
			case "too long":
				s.lister.cfg.Total = time.Second
			}
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
