// Package console shows the operator how the gateway is. It takes checks and numbers as functions, gives /metrics, /healthz, /readyz
// and one plain page, and knows nothing of mail, the config or the rooms that it asks.
package console

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

//go:embed page.html style.css
var files embed.FS

var page = template.Must(template.ParseFS(files, "page.html"))

// Check is one thing that must hold before the gateway can do its work. Func gives nil, or the reason in words for the operator:
// no local part, no secret.
type Check struct {
	Name string
	Func func(context.Context) error
}

// Config is what New takes.
type Config struct {
	Version string
	Ready   []Check
	// Gatherer is asked for /metrics and for the page's numbers; nil is the default registry.
	Gatherer prometheus.Gatherer
	// Patience is how long one check may take before it counts as failed; 0 is 3 s.
	Patience time.Duration
	Now      func() time.Time // nil is time.Now
	Log      *slog.Logger     // nil drops
}

// Console is an http.Handler for a listener on loopback: it asks nobody who he is.
type Console struct {
	conf    Config
	started time.Time
	mux     *http.ServeMux
}

// Result is what one check said.
type Result struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready  bool     `json:"ready"`
	Checks []Result `json:"checks"`
}

// New starts the clock of the uptime.
func New(conf Config) *Console {
	if conf.Gatherer == nil {
		conf.Gatherer = prometheus.DefaultGatherer
	}
	if conf.Patience == 0 {
		conf.Patience = 3 * time.Second
	}
	if conf.Now == nil {
		conf.Now = time.Now
	}
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	c := &Console{conf: conf, started: conf.Now(), mux: http.NewServeMux()}
	c.mux.Handle("GET /metrics", promhttp.HandlerFor(conf.Gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	c.mux.HandleFunc("GET /healthz", c.health)
	c.mux.HandleFunc("GET /readyz", c.ready)
	c.mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "style.css") })
	c.mux.HandleFunc("GET /{$}", c.page)
	return c
}

// ServeHTTP answers GET and HEAD alone; nothing here changes anything.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	c.mux.ServeHTTP(w, r)
}

// health says that the process answers; it asks nothing, so that a slow directory never has the process killed.
func (c *Console) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

func (c *Console) ready(w http.ResponseWriter, r *http.Request) {
	answer := c.Readiness(r.Context())
	w.Header().Set("Content-Type", "application/json")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		c.conf.Log.Debug("readiness not written", "err", err)
	}
}

// Readiness asks every check at once, each for at most Patience.
func (c *Console) Readiness(ctx context.Context) Readiness {
	ctx, cancel := context.WithTimeout(ctx, c.conf.Patience)
	defer cancel()
	out := Readiness{Ready: true, Checks: make([]Result, len(c.conf.Ready))}
	var all sync.WaitGroup
	for i, check := range c.conf.Ready {
		all.Go(func() { out.Checks[i] = ask(ctx, check) })
	}
	all.Wait()
	for _, r := range out.Checks {
		out.Ready = out.Ready && r.OK
	}
	return out
}

// ask runs one check. A check must honour its context; one that panics counts as failed and takes nobody with it.
func ask(ctx context.Context, check Check) (r Result) {
	r.Name = check.Name
	defer func() {
		if p := recover(); p != nil {
			r.OK, r.Reason = false, "the check itself broke"
		}
	}()
	switch err := check.Func(ctx); {
	case err == nil:
		r.OK = true
	case errors.Is(err, context.DeadlineExceeded):
		r.Reason = "no answer in time: " + err.Error()
	default:
		r.Reason = err.Error()
	}
	return r
}

func (c *Console) page(w http.ResponseWriter, r *http.Request) {
	numbers, err := Numbers(c.conf.Gatherer)
	if err != nil {
		c.conf.Log.Warn("numbers are incomplete", "err", err)
	}
	now := c.conf.Now()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	err = page.Execute(w, map[string]any{
		"Version": c.conf.Version, "Started": c.started.UTC().Format(time.RFC3339), "Uptime": now.Sub(c.started).Round(time.Second).String(),
		"Now": now.UTC().Format(time.RFC3339), "Readiness": c.Readiness(r.Context()), "Numbers": numbers,
	})
	if err != nil {
		c.conf.Log.Debug("page not written", "err", err)
	}
}
