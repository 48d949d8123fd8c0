package web

import (
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRender: a template that fails half way shows nothing of the half, and what it failed with is for the log.
func TestRender(t *testing.T) {
	pages := template.Must(template.New("x").Parse(`half {{index . 5}}`))
	w := httptest.NewRecorder()
	Shut(w.Header(), "default-src 'none'")
	if err := Render(w, http.StatusOK, pages, "x", "fr", "Accept-Language", []string{"a"}); err == nil || w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "half") {
		t.Errorf("%v, %d %q", err, w.Code, w.Body)
	}
	if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Security-Policy") == "" {
		t.Errorf("%v", w.Header())
	}
	w = httptest.NewRecorder()
	if err := Render(w, http.StatusTeapot, pages, "x", "en", "Cookie", []string{"", "", "", "", "", "<b>"}); err != nil || w.Code != http.StatusTeapot || w.Body.String() != "half &lt;b&gt;" || w.Header().Get("Content-Language") != "en" {
		t.Errorf("%v, %d %q %v", err, w.Code, w.Body, w.Header())
	}
}

func TestLanguage(t *testing.T) {
	for _, c := range []struct {
		path, accept, lang string
		chosen             bool
	}{{"/", "", "fr", false}, {"/?lang=en", "fr", "en", true}, {"/?lang=de", "de, en-GB;q=0.8, fr;q=0.5", "en", false}, {"/", "de", "fr", false}, {"/?lang=%0d%0ax", "\"><b>", "fr", false}} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header.Set("Accept-Language", c.accept)
		if lang, chosen := Language(r); lang != c.lang || chosen != c.chosen {
			t.Errorf("%s %q: %s %v", c.path, c.accept, lang, chosen)
		}
	}
}
