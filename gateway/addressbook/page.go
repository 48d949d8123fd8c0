package addressbook

import (
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"passerelle/gateway/web"
)

//go:embed pages/search.html
var pageFile embed.FS

//go:embed pages/style.css
var style string

var (
	pageTemplate = template.Must(template.ParseFS(pageFile, "pages/search.html"))
	sheet        = web.NewSheet(style)
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
	t := p.AsOf.In(web.Paris())
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
	web.Shut(h, csp)
	client := b.client(r)
	switch {
	case !within(b.cfg.PageNetworks, client):
		searches.WithLabelValues("page", "refused").Inc()
		http.Error(w, "Accès réservé au réseau de l'établissement. / For the clinic's network only.", http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "405", http.StatusMethodNotAllowed)
	case r.URL.Path == sheet.Path:
		sheet.ServeHTTP(w, r)
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
	lang, _ := web.Language(r)
	p := page{Lang: lang, Clinic: b.cfg.Clinic, Style: sheet.Path, Text: clean(r.URL.Query().Get("q"))}
	code := http.StatusOK
	if p.Text != "" {
		code = b.fill(r, &p, client)
	}
	if p.AsOf = b.cfg.Finder.AsOf(); !p.AsOf.IsZero() {
		p.Days = max(0, int(b.cfg.Now().Sub(p.AsOf)/(24*time.Hour)))
	}
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "10")
	}
	if err := web.Render(w, code, pageTemplate, "search.html", lang, "Accept-Language", p); err != nil {
		b.cfg.Log.Error("address book: page failed", "err", err)
	}
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
