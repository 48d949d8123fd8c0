package addressbook

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func site(t *testing.T, b *Book) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, at string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestPage(t *testing.T) {
	s := site(t, newBook(t, newShelf()))
	for _, c := range []struct {
		query string
		code  int
		has   []string
		not   []string
	}{
		{"", 200, []string{`<html lang="fr">`, "Qui cherchez-vous", "Annuaire national du 21/11/2026 (il y a&nbsp;2&nbsp;jours)", "Clinique des Tilleuls", `<label for="q">`, "autofocus"}, []string{"<table", "mailto:", "<script"}},
		{"dupont", 200, []string{`<strong>1</strong> adresse trouvée`, `<th role="rowheader" scope="row">Jean Dupont</th>`, "Médecin, Cardiologie", "Cabinet des Lilas<br>69003 Lyon", "Clinique du Parc<br>69100 Villeurbanne",
			`<a class="address" href="mailto:jean.dupont@medecin.mssante.fr">jean.dupont<wbr>@medecin.mssante.fr</a>`}, []string{"autofocus"}},
		{"lyon DUPONT cardio", 200, []string{"Jean Dupont"}, nil},
		{"helene lefevre", 200, []string{"Hélène Lefèvre-Noël", "Centre hospitalier de l’Œuvre, Maternité"}, nil},
		{"oeuvre", 200, []string{"Hélène Lefèvre-Noël"}, nil},
		{"chu de nantes", 200, []string{`scope="row">CHU de Nantes</th>`, `<span class="item">Urgences<br>44000 Nantes`}, nil},
		{"jean.dupont@medecin.mssante.fr", 200, []string{"Jean Dupont"}, nil},
		{"martin", 200, []string{"<strong>20</strong> adresses trouvées. Il y en a d’autres"}, []string{"martin20@"}},
		{"xyzzy", 200, []string{"Personne n’a été trouvé"}, []string{"<table"}},
		{"du", 200, []string{"au moins trois lettres", `aria-invalid="true"`, `role="alert"`}, []string{"<table"}},
		{" * % _ \" ", 200, []string{"au moins trois lettres"}, []string{"<table"}},
		{"brien", 200, []string{"Sean (Dr) O&#39;Brien, &lt;script&gt;alert(1)&lt;/script&gt;", `href="mailto:o%27brien&#43;x@medecin.mssante.fr"`}, []string{"<script"}},
		{`"><script>alert(1)</script>`, 200, []string{`value="&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"`}, []string{"<script"}},
		{"du\u00adpont", 200, []string{"Jean Dupont"}, []string{"\u00ad"}},
		{"dup\x00ont\u202e\xff", 200, []string{`value="dup ont"`}, []string{"\x00", "\u202e"}},
		{strings.Repeat("é", 5000), 200, []string{"Personne n’a été trouvé"}, nil},
		{"' OR 1=1; DROP TABLE record --", 200, []string{"Personne n’a été trouvé"}, nil},
		{`NEAR(" AND "dup* ^title:`, 200, []string{"Personne n’a été trouvé"}, nil},
	} {
		resp, body := get(t, s.URL+"/?q="+url.QueryEscape(c.query))
		if resp.StatusCode != c.code {
			t.Errorf("%.40q: %s", c.query, resp.Status)
		}
		for _, h := range c.has {
			if !strings.Contains(body, h) {
				t.Errorf("%.40q: %q is missing in\n%s", c.query, h, body)
			}
		}
		for _, n := range c.not {
			if strings.Contains(body, n) {
				t.Errorf("%.40q: has %q", c.query, n)
			}
		}
		if !utf8.ValidString(body) {
			t.Errorf("%.40q: not UTF-8", c.query)
		}
	}
	if _, body := get(t, s.URL+"/?q=martin&lang=en"); !strings.Contains(body, `<html lang="en">`) || !strings.Contains(body, "20</strong> addresses found. There are more") ||
		!strings.Contains(body, "National directory of 21 November 2026 (2&nbsp;days ago)") || !strings.Contains(body, `href="/?lang=fr&amp;q=martin"`) {
		t.Error(body)
	}
	if _, body := get(t, s.URL+"/", "Accept-Language", "de, en-GB;q=0.8, fr;q=0.5"); !strings.Contains(body, `<html lang="en">`) {
		t.Error("not in English")
	}
	for fr := range words["fr"] {
		if words["en"][fr] == "" {
			t.Errorf("no English for %s", fr)
		}
	}
}

// TestNothingToWalk: no other parameter, method or path gives more.
func TestNothingToWalk(t *testing.T) {
	s := site(t, newBook(t, newShelf()))
	_, once := get(t, s.URL+"/?q=martin")
	for _, more := range []string{"&page=2", "&limit=1000", "&offset=20", "&q=martin"} {
		if _, again := get(t, s.URL+"/?q=martin"+more); again != once {
			t.Errorf("%s gives another page", more)
		}
	}
	for path, want := range map[string]int{"/x": 404, "/favicon.ico": 404, sheet.Path: 200, "/robots.txt": 200, "/metrics": 404, "//": 404} {
		if resp, _ := get(t, s.URL+path); resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	resp, err := http.Post(s.URL+"/?q=martin", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if http.DefaultClient.CloseIdleConnections(); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", resp.Status)
	}
	resp, body := get(t, s.URL+"/?q=dupont")
	for name, want := range map[string]string{"Content-Security-Policy": csp, "Cache-Control": "no-store", "X-Robots-Tag": "noindex, nofollow, noarchive", "Referrer-Policy": "no-referrer",
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Set-Cookie": ""} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, foreign := range []string{"http://", "https://", "<script", "<img", "style=", " onclick"} {
		if strings.Contains(body, foreign) {
			t.Errorf("the page has %q", foreign)
		}
	}
}

func TestPageTurnsAway(t *testing.T) {
	shelf := newShelf()
	shelf.away.Store(true)
	left := map[netip.Addr]int{}
	s := site(t, newBook(t, shelf, func(c *Config) {
		c.Allow = func(a netip.Addr, _ time.Time) bool { left[a]++; return left[a] <= 2 }
	}))
	if resp, body := get(t, s.URL+"/?q=dupont"); resp.StatusCode != 503 || !strings.Contains(body, "ne peut pas être consulté") || !strings.Contains(body, `value="dupont"`) || strings.Contains(body, "mirror") {
		t.Errorf("%s %s", resp.Status, body)
	}
	shelf.away.Store(false)
	get(t, s.URL+"/?q=dupont")
	if resp, body := get(t, s.URL+"/?q=dupont"); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "Trop de recherches") {
		t.Errorf("%s %s", resp.Status, body)
	}
	if resp, _ := get(t, s.URL+"/"); resp.StatusCode != 200 {
		t.Errorf("the empty page is limited: %s", resp.Status)
	}
	// Behind the proxy of this machine another client has a share of its own, and what the client claims before it counts for nothing.
	if resp, _ := get(t, s.URL+"/?q=dupont", "X-Forwarded-For", "127.0.0.1, 192.0.2.8"); resp.StatusCode != 200 {
		t.Errorf("behind the proxy: %s", resp.Status)
	}
	for _, from := range []string{"198.51.100.7", "192.0.2.8, 198.51.100.7", "unknown", ""} {
		if resp, body := get(t, s.URL+"/?q=dupont", "X-Forwarded-For", from); resp.StatusCode != 403 || strings.Contains(body, "mssante.fr") {
			t.Errorf("from %q: %s", from, resp.Status)
		}
	}
	if n := clientKey(netip.MustParseAddr("2001:db8::1:2:3:4")); n != clientKey(netip.MustParseAddr("2001:db8::9:9:9:9")) || n == clientKey(netip.MustParseAddr("2001:db8:0:1::1")) {
		t.Error("an IPv6 host has as many shares as addresses")
	}
}

func TestNoDirectoryYet(t *testing.T) {
	s := site(t, newBook(t, &shelf{}))
	if _, body := get(t, s.URL+"/"); !strings.Contains(body, "Aucun annuaire n’est chargé") {
		t.Error(body)
	}
}

func FuzzText(f *testing.F) {
	f.Add("dupont lyon")
	f.Add("a@b@c.example")
	f.Add("œ\u0301\xff\x00")
	b, err := New(Config{Finder: newShelf(), Allow: func(netip.Addr, time.Time) bool { return true }, PageNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/?q="+url.QueryEscape(text), nil) // from 192.0.2.1
		if b.ServeHTTP(w, r); w.Code != 200 || !utf8.Valid(w.Body.Bytes()) {
			t.Errorf("%d", w.Code)
		}
		if fold(fold(text)) != fold(text) {
			t.Errorf("fold(%q) is not stable: %q, %q", text, fold(text), fold(fold(text)))
		}
	})
}
