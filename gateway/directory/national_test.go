package directory

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"
)

// national is the national service on loopback: HTTPS, HEAD, ranges and conditional answers by the standard library's own server of files.
type national struct {
	*httptest.Server
	ca string // its certificate, a file

	mu      sync.Mutex
	content []byte
	name    string
	etag    string
	changed time.Time
	fault   func(w http.ResponseWriter, r *http.Request) (answered bool)
	heads   int
	sent    []string // "GET range status bytes"
}

const daily = "Extraction_Correspondance_MSSante_202611201013.txt"

func startNational(t *testing.T, content []byte) *national {
	t.Helper()
	n := &national{content: content, name: daily, etag: `"1"`, changed: day}
	n.Server = httptest.NewUnstartedServer(http.HandlerFunc(n.serve))
	n.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what we try
	n.StartTLS()
	t.Cleanup(n.Close)
	n.ca = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, n.ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.Certificate().Raw})))
	return n
}

func (n *national) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

type counting struct {
	http.ResponseWriter
	status, n int
}

func (c *counting) WriteHeader(s int) { c.status = s; c.ResponseWriter.WriteHeader(s) }
func (c *counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += n
	return n, err
}

func (n *national) serve(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	content, name, etag, changed, fault := n.content, n.name, n.etag, n.changed, n.fault
	n.mu.Unlock()
	c := &counting{ResponseWriter: w, status: 200}
	defer n.set(func() {
		if r.Method == http.MethodHead {
			n.heads++
			return
		}
		n.sent = append(n.sent, fmt.Sprintf("%s %s %d %d", r.Method, r.Header.Get("Range"), c.status, c.n))
	})
	if fault != nil && fault(c, r) {
		return
	}
	if name != "" {
		w.Header().Set("Content-Disposition", "attachment; filename="+name)
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	http.ServeContent(c, r, "", changed, bytes.NewReader(content))
}

// cutAt sends the header of the whole file and closes the connection after n bytes.
func (n *national) cutAt(at int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			return false
		}
		w.Header().Set("Content-Disposition", "attachment; filename="+daily)
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(n.content)))
		w.Write(n.content[:at])
		panic(http.ErrAbortHandler)
	}
}

func (n *national) config(dir string, c *clock) Config {
	return Config{StateDir: dir, Now: c.now, Fetch: FetchConfig{URL: n.URL + "/extraction?key=secret", CA: n.ca, Total: time.Minute}}
}

func (n *national) requests() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := strings.Join(n.sent, ", ")
	n.sent = nil
	return s
}

// refresh wants an error with why, or none for "".
func refresh(t *testing.T, d *Directory, result, why string) {
	t.Helper()
	before := gauge(t, "passerelle_directory_fetched_total", result)
	err := d.Refresh(t.Context())
	if (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
		t.Fatalf("refresh: got %v, want %q", err, why)
	}
	if got := gauge(t, "passerelle_directory_fetched_total", result); got != before+1 {
		t.Fatalf("passerelle_directory_fetched_total{result=%q}: %v, want %v (err %v)", result, got, before+1, err)
	}
	if s := d.Status(); (s.FetchFault == "") != (why == "") || !strings.Contains(s.FetchFault, why) || strings.Contains(s.FetchFault, "secret") {
		t.Fatalf("status says %q, want %q", s.FetchFault, why)
	}
}

func extractionOf(t testing.TB, lines int) []byte {
	return []byte(text(t, extraction.Options{Lines: lines}))
}
