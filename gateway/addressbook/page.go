package addressbook

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

//go:embed pages/search.html
var pageFile embed.FS

//go:embed pages/style.css
var style string

var (
	pageTemplate = template.Must(template.ParseFS(pageFile, "pages/search.html"))
	styleSum     = sha256.Sum256([]byte(style))
	styleName    = hex.EncodeToString(styleSum[:6]) + ".css"
)

// page is what the template may show.
type page struct {
	Lang, Clinic, Style string
	Text                string // what was searched for, as it was typed
	State               string // key of the words that say how the search ended; "" before one
	Found               []row
	Total               int // of Found
	More                bool
	AsOf                time.Time
	Days                int // age of the directory
}

// row is a mailbox.
type row struct {
	Name, Address string
	Titles        []string
	Places        []place
}

// Local and Host are the two halves of the address, between which a narrow screen may break it.
func (r row) Local() string { local, _, _ := strings.Cut(r.Address, "@"); return local }
func (r row) Host() string  { return r.Address[len(r.Local()):] }

type place struct{ Structure, Service, Town string }

// T gives the words for a key in the page's language.
func (p page) T(key string) string {
	if s, ok := words[p.Lang][key]; ok {
		return s
	}
	return words["fr"][key]
}

// Date writes the directory's date for the reader.
func (p page) Date() string {
	t := p.AsOf
	if l, err := time.LoadLocation("Europe/Paris"); err == nil { // the zone files are embedded by the vault
		t = t.In(l)
	}
	if p.Lang == "en" {
		return t.Format("2 January 2006")
	}
	return t.Format("02/01/2006")
}

// csp forbids everything but our own style sheet and the form.
const csp = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP is the page: one form, one table. Only GET and HEAD exist, and nothing is kept.
func (b *Book) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", csp)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Robots-Tag", "noindex, nofollow, noarchive")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	client := b.client(r)
	switch {
	case !within(b.cfg.PageNetworks, client):
		searches.WithLabelValues("page", "refused").Inc()
		http.Error(w, "Accès réservé au réseau de l'établissement. / For the clinic's network only.", http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "405", http.StatusMethodNotAllowed)
	case r.URL.Path == "/a/"+styleName:
		h.Set("Content-Type", "text/css; charset=utf-8")
		h.Set("Cache-Control", "private, max-age=31536000, immutable")
		w.Write([]byte(style))
	case r.URL.Path == "/robots.txt":
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("User-agent: *\nDisallow: /\n"))
	case r.URL.Path != "/":
		http.Error(w, "404", http.StatusNotFound)
	default:
		b.page(w, r, client)
	}
}

// client is the address that a request comes from: behind a proxy of ours the last one in X-Forwarded-For.
func (b *Book) client(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	if forwarded := r.Header.Values("X-Forwarded-For"); len(forwarded) > 0 && within(b.cfg.Proxies, addr) {
		hops := strings.Split(forwarded[len(forwarded)-1], ",")
		a, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1]))
		if err != nil { // nobody knows who it is
			return netip.Addr{}
		}
		addr = a.Unmap().WithZone("")
	}
	return addr
}

func (b *Book) page(w http.ResponseWriter, r *http.Request, client netip.Addr) {
	q := r.URL.Query()
	p := page{Lang: language(r), Clinic: b.cfg.Clinic, Style: "/a/" + styleName, Text: clean(q.Get("q"))}
	code := http.StatusOK
	if p.Text != "" {
		code = b.fill(r, &p, client)
	}
	if p.AsOf = b.cfg.Finder.AsOf(); !p.AsOf.IsZero() {
		p.Days = max(0, int(b.cfg.Now().Sub(p.AsOf)/(24*time.Hour)))
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, p); err != nil {
		b.cfg.Log.Error("address book: page failed", "err", err)
		http.Error(w, "500", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", p.Lang)
	h.Set("Vary", "Accept-Language")
	if code == http.StatusTooManyRequests {
		h.Set("Retry-After", "10")
	}
	w.WriteHeader(code)
	w.Write(out.Bytes())
}

// fill searches.
func (b *Book) fill(r *http.Request, p *page, client netip.Addr) (code int) {
	found, more, err := b.search(r.Context(), "page", client, []string{p.Text}, MaxFound, nil)
	switch {
	case errors.Is(err, errShort):
		p.State = "short"
		return http.StatusOK
	case errors.Is(err, errBusy):
		p.State = "busy"
		return http.StatusTooManyRequests
	case err != nil:
		p.State = "away"
		return http.StatusServiceUnavailable
	case len(found) == 0:
		p.State = "none"
		return http.StatusOK
	}
	for _, mailbox := range found {
		p.Found = append(p.Found, newRow(mailbox))
	}
	p.State, p.Total, p.More = "found", len(found), more
	return http.StatusOK
}

func newRow(mailbox []Entry) row {
	out := row{Name: mailbox[0].Name(), Address: mailbox[0].Address}
	seen := map[place]bool{}
	for _, m := range mailbox {
		if t := title(m); t != "" {
			out.Titles = union(out.Titles, t)
		}
		at := place{m.Structure, m.Service, strings.TrimSpace(m.PostalCode + " " + m.City)}
		if at.Structure == out.Name { // an organisation's own name says nothing twice
			at.Structure = ""
		}
		if at != (place{}) && !seen[at] {
			seen[at] = true
			out.Places = append(out.Places, at)
		}
	}
	return out
}

// clean leaves what a person may have typed: one line, no control characters, no longer than the field takes.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) { // the soft hyphen of a word that was copied, marks of direction
			return -1
		}
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return strings.TrimSpace(s)
}

// language is the one asked for in the address, else the first of ours that the browser names, else French.
func language(r *http.Request) string {
	if l := r.URL.Query().Get("lang"); l == "fr" || l == "en" {
		return l
	}
	for _, part := range strings.Split(r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		tag, _, _ = strings.Cut(strings.ToLower(tag), "-")
		if tag == "fr" || tag == "en" {
			return tag
		}
	}
	return "fr"
}
