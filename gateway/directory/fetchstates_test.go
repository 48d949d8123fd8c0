package directory

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"
)

// Every state of the source: the old mirror answers on, the metric and Status say why; where the mirror is then too old, the answer is
// "could not ask" and names the same reason, never "not listed".
func TestFetchStates(t *testing.T) {
	good := extractionOf(t, 500)
	redirect := func(to string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, to, http.StatusFound)
			return true
		}
	}
	answer := func(code int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(code)
			w.Write([]byte(body))
			return true
		}
	}
	zip := zipped(t, "a.txt")
	for name, c := range map[string]struct {
		content     []byte
		spoil       func(t *testing.T, n *national, cfg *Config)
		result, why string
	}{
		"down":        {spoil: func(_ *testing.T, n *national, _ *Config) { n.Close() }, result: resultDown, why: "connection refused"},
		"slow header": {spoil: func(_ *testing.T, n *national, cfg *Config) { n.fault = stall(0); cfg.Fetch.Silence = time.Second }, result: resultTimeout, why: "timeout awaiting response headers"},
		"slow body":   {spoil: func(_ *testing.T, n *national, cfg *Config) { n.fault = stall(1000); cfg.Fetch.Silence = time.Second }, result: resultTimeout, why: "nothing came for too long"},
		"drips for ever": {spoil: func(_ *testing.T, n *national, cfg *Config) {
			cfg.Fetch.Total = 2 * time.Second
			n.fault = func(w http.ResponseWriter, r *http.Request) bool {
				for r.Method == http.MethodGet && r.Context().Err() == nil {
					w.Write([]byte("x"))
					w.(*counting).ResponseWriter.(http.Flusher).Flush()
					time.Sleep(20 * time.Millisecond)
				}
				return r.Method == http.MethodGet
			}
		}, result: resultTimeout, why: "it takes too long"},
		"empty":              {content: []byte{}, result: resultRefused, why: "the file is empty"},
		"header alone":       {content: good[:bytes.IndexByte(good, '\n')+1], result: resultRefused, why: "no lines"},
		"cut by the network": {spoil: func(_ *testing.T, n *national, _ *Config) { n.fault = n.cutAt(len(good) / 2) }, result: resultCut, why: "unexpected EOF"},
		"cut, the length told by HEAD alone": {spoil: func(_ *testing.T, n *national, _ *Config) {
			n.fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodGet {
					return false
				}
				w.Header().Set("Content-Disposition", "attachment; filename="+daily)
				w.Header().Set("ETag", n.etag)
				w.Header().Set("Transfer-Encoding", "identity") // ends with the connection
				w.Write(good[:bytes.LastIndexByte(good[:len(good)*9/10], '\n')+1])
				return true
			}
		}, result: resultCut, why: "unexpected EOF"},
		"cut at the source": {content: good[:len(good)-50], result: resultRefused, why: "the file was cut"},
		"cut ZIP":           {content: zip[:len(zip)/2], result: resultRefused, why: "the ZIP is damaged"},
		"garbage":           {content: bytes.Repeat([]byte("\x00\xff|\n"), 5000), result: resultRefused, why: "refused"},
		"HTML with 200":     {content: []byte("<!DOCTYPE html>\n<h1>Service indisponible</h1>\n"), result: resultRefused, why: "no extraction file"},
		"a column lost":     {content: bytes.Replace(good, []byte("Adresse BAL"), []byte("Adresse"), 1), result: resultRefused, why: "mandatory columns"},
		"502":               {spoil: func(_ *testing.T, n *national, _ *Config) { n.fault = answer(502, "<html>") }, result: resultStatus, why: "502 Bad Gateway"},
		"404":               {spoil: func(_ *testing.T, n *national, _ *Config) { n.fault = answer(404, "") }, result: resultStatus, why: "404 Not Found"},
		"half of the lines": {content: extractionOf(t, 250), result: resultRefused, why: "it holds 250 addresses where the mirror in use holds 500: more than 20 % fewer; where that is right: passerelle directory import --force"},
		"lines gone, mailboxes there": {content: extractionOf(t, 420), spoil: func(t *testing.T, n *national, cfg *Config) {
			importInto(t, cfg.StateDir, extraction.Options{Lines: 1000, Duplicates: 500})
		}, result: resultRefused, why: "it holds 420 good lines where the mirror in use holds 1000"},
		"older than the mirror": {spoil: func(_ *testing.T, n *national, _ *Config) { n.name = "E_202611010000.txt" }, result: resultRefused, why: "older than the mirror in use"},
		"no date":               {spoil: func(_ *testing.T, n *national, _ *Config) { n.name, n.changed = "", time.Time{} }, result: resultRefused, why: "bears no date"},
		"a date to come":        {spoil: func(_ *testing.T, n *national, _ *Config) { n.name = "E_209911010000.txt" }, result: resultRefused, why: "future"},
		"redirect elsewhere":    {spoil: func(_ *testing.T, n *national, _ *Config) { n.fault = redirect("https://annuaire.evil.test/x") }, result: resultRedirect, why: "forged redirect refused"},
		"redirect, other port": {spoil: func(t *testing.T, n *national, _ *Config) {
			n.fault = redirect(startNational(t, extractionOf(t, 900)).URL)
		}, result: resultRedirect, why: "forged redirect refused"},
		"redirect out of https": {spoil: func(_ *testing.T, n *national, _ *Config) {
			n.fault = redirect(strings.Replace(n.URL, "https", "http", 1))
		}, result: resultRedirect, why: "forged redirect refused"},
		"redirects in a circle": {spoil: func(_ *testing.T, n *national, _ *Config) { n.fault = redirect("/again") }, result: resultRedirect, why: "more than 5"},
		"TLS by an unknown CA":  {spoil: func(_ *testing.T, n *national, cfg *Config) { cfg.Fetch.CA = "" }, result: resultTLS, why: "unknown authority"},
		"TLS for another name": {spoil: func(_ *testing.T, n *national, cfg *Config) {
			cfg.Fetch.URL = strings.Replace(n.URL, "127.0.0.1", "localhost", 1)
		}, result: resultTLS, why: "localhost"},
		"no CA file":            {spoil: func(_ *testing.T, n *national, cfg *Config) { cfg.Fetch.CA += ".gone" }, result: resultLocal, why: "no such file"},
		"http":                  {spoil: func(_ *testing.T, n *national, cfg *Config) { cfg.Fetch.URL = "http://127.0.0.1:1/" }, result: resultLocal, why: "must be https"},
		"too large by its word": {spoil: func(_ *testing.T, n *national, cfg *Config) { cfg.Fetch.MaxSize = 1000 }, result: resultSize, why: "larger than the limit"},
		"too large without a word": {spoil: func(_ *testing.T, n *national, cfg *Config) {
			cfg.Fetch.MaxSize = 100_000
			n.fault = func(w http.ResponseWriter, r *http.Request) bool {
				for r.Method == http.MethodGet && r.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 10_000)); err != nil {
						break
					}
				}
				return r.Method == http.MethodGet
			}
		}, result: resultSize, why: "larger than the limit"},
	} {
		t.Run(name, func(t *testing.T) {
			n, clk, dir := startNational(t, good), &clock{t: day.Add(4 * time.Hour)}, t.TempDir()
			cfg := n.config(dir, clk)
			importInto(t, dir, extraction.Options{Lines: 500})
			if c.content != nil {
				n.content = c.content
			}
			if c.spoil != nil {
				c.spoil(t, n, &cfg)
			}
			d := open(t, cfg)
			before, err := os.ReadFile(filepath.Join(dir, MirrorName))
			if err != nil {
				t.Fatal(err)
			}
			refresh(t, d, c.result, c.why)
			want(t, d, someone, Verified, "")
			want(t, d, "nobody@medecin.mssante.test", NotListed, "")
			if after, err := os.ReadFile(filepath.Join(dir, MirrorName)); err != nil || !bytes.Equal(before, after) {
				t.Fatalf("the mirror was changed: %v", err)
			}
			clk.add(22 * 24 * time.Hour)
			want(t, d, someone, CouldNotAsk, "older than 21 days; refresh the directory from ")
			want(t, d, "nobody@medecin.mssante.test", CouldNotAsk, c.why)
			d.Close()
			want(t, open(t, cfg), someone, CouldNotAsk, c.why) // explain is a process of its own
			if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); left != nil {
				t.Fatalf("left: %v", left)
			}
		})
	}
}

func importInto(t testing.TB, dir string, o extraction.Options) {
	t.Helper()
	if _, err := importText(t, dir, "E.txt", text(t, o), Options{Force: true, AsOf: day.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
}

// stall sends n bytes of what it promised and then nothing.
func stall(n int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if n > 0 && r.Method == http.MethodHead {
			return false
		}
		if n > 0 {
			w.Header().Set("Content-Length", "100000")
			w.Write(make([]byte, n))
			w.(*counting).ResponseWriter.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		return true
	}
}
