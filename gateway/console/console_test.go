package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func serve(t *testing.T, c *Console) func(method, path string) (int, string) {
	t.Helper()
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
}

func good(context.Context) error { return nil }

func TestReadiness(t *testing.T) {
	for name, c := range map[string]struct {
		checks []Check
		code   int
		want   []Result
	}{
		"no checks": {nil, 200, []Result{}},
		"all good":  {[]Check{{"ledger", good}, {"directory", good}}, 200, []Result{{"ledger", true, ""}, {"directory", true, ""}}},
		"one fails, order kept": {[]Check{{"ledger", func(context.Context) error { return errors.New("disk full") }}, {"listeners", good}}, 503,
			[]Result{{"ledger", false, "disk full"}, {"listeners", true, ""}}},
		"one hangs": {[]Check{{"directory", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, {"ledger", good}}, 503,
			[]Result{{"directory", false, "no answer in time: context deadline exceeded"}, {"ledger", true, ""}}},
		"one panics": {[]Check{{"directory", func(context.Context) error { panic("x") }}}, 503, []Result{{"directory", false, "the check itself broke"}}},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := serve(t, New(Config{Ready: c.checks, Patience: time.Second, Gatherer: prometheus.NewRegistry()}))("GET", "/readyz")
			var got Readiness
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			if code != c.code || got.Ready != (c.code == 200) || len(got.Checks) != len(c.want) {
				t.Fatalf("got %d %+v, want %d %+v", code, got, c.code, c.want)
			}
			for i := range c.want {
				if got.Checks[i] != c.want[i] {
					t.Errorf("check %d: got %+v, want %+v", i, got.Checks[i], c.want[i])
				}
			}
		})
	}
}

func TestPagesAndMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	remove, err := Gauges{
		OldestWaiting:   func() map[string]float64 { return map[string]float64{"directory": 61, `odd"<b>`: 1} },
		CertificateDays: func() map[string]float64 { return map[string]float64{"trust": 12.5} },
		Observe:         func() float64 { return math.NaN() },
		Ready:           func() float64 { return 0 },
	}.Register(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Gauges{CertificateDays: func() map[string]float64 { return nil }, Observe: func() float64 { return 1 }}).Register(r); err == nil {
		t.Error("a second set of gauges was registered without a word")
	}
	defer func() { // a second gateway in the same process
		remove()
		if _, err := (Gauges{Observe: func() float64 { return 1 }, Ready: func() float64 { return 1 }}).Register(r); err != nil {
			t.Error(err)
		}
	}()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "passerelle_store_commit_seconds", Help: "x"})
	h.Observe(0.5)
	h.Observe(1)
	r.MustRegister(h)
	now := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	c := New(Config{Version: "v1<b>", Gatherer: r, Now: func() time.Time { now = now.Add(90 * time.Second); return now },
		Ready: []Check{{"ledger", func(context.Context) error { return errors.New("disk <full>") }}}})
	get := serve(t, c)
	for path, want := range map[string][]string{
		"/": {"Not ready", "v1&lt;b&gt;", "disk &lt;full&gt;", "Up 1m30s, since 2026-11-02T09:01:30Z", "passerelle_gateway_certificate_days", "12.5", "2, mean 0.75",
			"unknown", "reason=odd&#34;&lt;b&gt;"},
		"/metrics": {`passerelle_gateway_oldest_waiting_seconds{reason="directory"} 61`, `passerelle_gateway_certificate_days{certificate="trust"} 12.5`,
			"passerelle_gateway_observe NaN", "passerelle_gateway_ready 0"},
		"/healthz":   {"ok"},
		"/style.css": {"body {"},
	} {
		code, body := get("GET", path)
		if code != 200 {
			t.Errorf("%s: got %d", path, code)
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s lacks %q:\n%s", path, w, body)
			}
		}
	}
	for _, x := range []struct {
		method, path string
		code         int
	}{{"GET", "/elsewhere", 404}, {"POST", "/readyz", 405}, {"POST", "/", 405}, {"HEAD", "/healthz", 200}} {
		if code, _ := get(x.method, x.path); code != x.code {
			t.Errorf("%s %s: got %d, want %d", x.method, x.path, code, x.code)
		}
	}
}
