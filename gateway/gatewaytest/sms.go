package gatewaytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Text is one SMS that was asked for.
type Text struct {
	To, Text string
	Method   string
	Header   http.Header
	Body     []byte
}

// SMS is a provider's HTTP API that catches what it is told to send. It reads to and text from a JSON object or from form fields.
type SMS struct {
	server *httptest.Server

	mu     sync.Mutex
	texts  []Text
	status int
	news   chan struct{}
}

// StartSMS listens on a free port of 127.0.0.1.
func StartSMS() *SMS {
	s := &SMS{status: http.StatusOK, news: make(chan struct{})}
	s.server = httptest.NewServer(http.HandlerFunc(s.take))
	return s
}

// URL is where to POST.
func (s *SMS) URL() string { return s.server.URL + "/send" }

// Close stops the provider.
func (s *SMS) Close() error {
	s.server.Close()
	return nil
}

// Answer sets the HTTP status of the answers from now on; nothing is caught unless it is 2xx.
func (s *SMS) Answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// Messages is a snapshot of what was caught.
func (s *SMS) Messages() []Text {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.texts)
}

// Wait returns when n texts were caught, or with ctx's error and what there is.
func (s *SMS) Wait(ctx context.Context, n int) ([]Text, error) {
	for {
		s.mu.Lock()
		got, news := slices.Clone(s.texts), s.news
		s.mu.Unlock()
		if len(got) >= n {
			return got, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return got, fmt.Errorf("wait for %d SMS, %d came: %w", n, len(got), ctx.Err())
		}
	}
}

func (s *SMS) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	t := Text{Method: r.Method, Header: r.Header.Clone(), Body: body}
	t.To, t.Text = readText(r.Header.Get("Content-Type"), body)
	if t.To == "" || t.Text == "" {
		http.Error(w, "to and text are required", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status/100 == 2 {
		s.texts = append(s.texts, t)
		close(s.news)
		s.news = make(chan struct{})
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(s.status)
	fmt.Fprintln(w, `{"id":"1"}`)
}

func readText(contentType string, body []byte) (to, text string) {
	get := func(string) string { return "" }
	if strings.HasPrefix(contentType, "application/x-www-form-urlencoded") {
		if v, err := url.ParseQuery(string(body)); err == nil {
			get = v.Get
		}
	} else {
		var m map[string]any
		if json.Unmarshal(body, &m) == nil {
			get = func(k string) string { v, _ := m[k].(string); return v }
		}
	}
	first := func(names ...string) string {
		for _, n := range names {
			if v := get(n); v != "" {
				return v
			}
		}
		return ""
	}
	return first("to", "To", "recipient", "number"), first("text", "Text", "message", "content")
}
