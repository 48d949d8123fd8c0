// Package web is what rooms with pages have in common: the headers that shut everything else out, one style sheet, the reader's language,
// and a page that is whole before its first octet is sent. It takes requests and templates, and knows nothing of what a page is about.
package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Shut sets the headers of every answer: nothing is kept, indexed, framed or told to other sites, and nothing runs but what policy allows.
func Shut(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Robots-Tag", "noindex, nofollow, noarchive")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), interest-cohort=()")
}

// Sheet is a style sheet that browsers keep for ever: its path tells its content.
type Sheet struct{ Path, css string }

// NewSheet gives the sheet a path below /a/.
func NewSheet(css string) Sheet {
	sum := sha256.Sum256([]byte(css))
	return Sheet{"/a/" + hex.EncodeToString(sum[:6]) + ".css", css}
}

func (s Sheet) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write([]byte(s.css))
}

// Language is the one asked for in the address, which tells chosen, else the first of ours that the browser names, else French.
func Language(r *http.Request) (lang string, chosen bool) {
	if l := r.URL.Query().Get("lang"); l == "fr" || l == "en" {
		return l, true
	}
	for _, part := range strings.Split(r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		tag, _, _ = strings.Cut(strings.ToLower(tag), "-")
		if tag == "fr" || tag == "en" {
			return tag, false
		}
	}
	return "fr", false
}

// Paris is the zone in which readers read times.
func Paris() *time.Location { return paris() }

// paris reads the zone once: it lies in a file.
var paris = sync.OnceValue(func() *time.Location {
	l, err := time.LoadLocation("Europe/Paris")
	if err != nil { // the program has the zone files in it
		return time.UTC
	}
	return l
})

// Render writes a page; vary names what its content depends on. After an error the reader has been told of it.
func Render(w http.ResponseWriter, code int, t *template.Template, name, lang, vary string, data any) error {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "500", http.StatusInternalServerError)
		return fmt.Errorf("page %s: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", lang)
	h.Set("Vary", vary)
	w.WriteHeader(code)
	w.Write(b.Bytes())
	return nil
}
