package portal

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestScannersChangeNothing(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	before := s.dump()
	b := &browser{s: s}
	for range 20 {
		for _, m := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE"} {
			for _, u := range []string{"", "/code", "/f/0", "/texte", "/reponse", "/fermer"} {
				b.do(m, d.Link+u, nil, "Sec-Purpose", "prefetch", "User-Agent", "BarracudaCentral")
			}
		}
		s.wait(10 * time.Second)
	}
	for range 30 { // it submits every form, empty and filled with words
		b.post(d.Link, "")
		b.post(d.Link, "code=test")
		b.do("POST", d.Link+"/reponse", strings.NewReader("texte=x"), "Content-Type", "application/x-www-form-urlencoded")
		s.wait(10 * time.Second)
	}
	if after := s.dump(); after != before {
		t.Fatalf("changed:\n%s\n%s", before, after)
	}
	(&browser{s: s}).login(d)
}

func TestWalkAndFiles(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	r, page := b.do("GET", d.Link, nil)
	for _, w := range []string{"Clinique des Lilas", "01 23 45 67 89", "06 .. .. 12 34", "Recevoir le code par SMS", "23 décembre 2026 à 12\u00a0h\u00a000"} {
		if !strings.Contains(page, w) {
			t.Errorf("%q is missing", w)
		}
	}
	for _, w := range []string{"Dupont", "Martin", "examen", "612341234", "<script"} {
		if strings.Contains(page, w) {
			t.Errorf("%q before the code", w)
		}
	}
	for k, w := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": csp, "Content-Language": "fr"} {
		if r.Header.Get(k) != w {
			t.Errorf("%s: %q", k, r.Header.Get(k))
		}
	}
	if r, _ := b.do("GET", d.Link+"/f/0", nil); r.StatusCode != http.StatusForbidden {
		t.Errorf("a file without a code: %s", r.Status)
	}
	b.login(d)
	if _, page = b.do("GET", strings.Replace(d.Link, "/r/", "/R/", 1), nil); !strings.Contains(page, "Dr Claire Martin") || !strings.Contains(page, "352\u00a0Ko") || strings.Contains(page, "\u202e") {
		t.Errorf("%s", page)
	}
	want := report
	r, got := b.do("GET", d.Link+"/f/0", nil)
	if got != want || r.Header.Get("Content-Type") != "application/pdf" {
		t.Errorf("file: %s, %d octets", r.Status, len(got))
	}
	if _, p, err := mime.ParseMediaType(r.Header.Get("Content-Disposition")); err != nil || p["filename"] != "Compte-rendu d'écho – Mme Léa Dupont.pdf" {
		t.Errorf("%v %v", p, err)
	}
	r, got = b.do("GET", d.Link+"/f/0", nil, "Range", "bytes=100000-100099", "If-Range", r.Header.Get("ETag"))
	if r.StatusCode != http.StatusPartialContent || got != want[100000:100100] {
		t.Errorf("range: %s %q", r.Status, got)
	}
	r, _ = b.do("GET", d.Link+"/f/1", nil)
	if h := r.Header.Get("Content-Disposition"); r.Header.Get("Content-Type") != "application/octet-stream" || r.Header.Get("X") != "" || !strings.HasPrefix(h, "attachment;") || strings.Contains(h, "/") || strings.Contains(h, "%E2%80%AE") {
		t.Errorf("%v", r.Header)
	}
	for _, u := range []string{"/f/4", "/f/-1", "/f/x", "/f/99999999999999999999"} {
		if r, _ := b.do("GET", d.Link+u, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", u, r.Status)
		}
	}
	r, page = b.do("GET", d.Link+"/texte", nil)
	if strings.Contains(page, "script") || strings.Contains(page, "traceur") || strings.Contains(page, "<form") || !strings.Contains(page, "<b>Madame</b>") || !strings.Contains(page, "https://ok.test/") {
		t.Errorf("%s", page)
	}
	if !strings.HasPrefix(r.Header.Get("Content-Security-Policy"), "sandbox ") {
		t.Errorf("%v", r.Header)
	}
	b.post(d.Link+"/fermer", "")
	b.cookies = nil
	if r, _ := b.do("GET", d.Link+"/f/0", nil); r.StatusCode != http.StatusForbidden {
		t.Errorf("after closing: %s", r.Status)
	}
}

func TestUnknownAndWrongLinksLookTheSame(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	var pages []string
	for _, u := range []string{"/r/" + strings.Repeat("0", 26), "/r/trop-court", d.Link[len(s.srv.URL) : len(d.Link)-1], "/r/a/b/c", "/nulle-part"} {
		r, page := b.do("GET", s.srv.URL+u, nil)
		if r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", u, r.Status)
		}
		pages = append(pages, page)
	}
	s.wait(31 * 24 * time.Hour)
	r, page := b.do("GET", d.Link, nil)
	if r.StatusCode != http.StatusGone {
		t.Errorf("expired: %s", r.Status)
	}
	for i, p := range append(pages, page) {
		if p != pages[0] {
			t.Errorf("page %d differs", i)
		}
	}
}

func TestWrongCodes(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	b.post(d.Link+"/code", "")
	wrong := "0"
	if s.lastCode()[0] == '0' {
		wrong = "1"
	}
	for i := 1; i <= 10; i++ { // the first five are those of who asked for the code
		r, page := b.post(d.Link, "code="+wrong+s.lastCode()[1:])
		if i < 10 && (r.StatusCode != http.StatusForbidden || !strings.Contains(page, "Ce code n’est pas le bon")) || i == 10 && (r.StatusCode != http.StatusTooManyRequests || !strings.Contains(page, "dans 5\u00a0minutes.")) {
			t.Errorf("%d: %s %s", i, r.Status, page)
		}
		s.wait(20 * time.Second)
	}
	if r, _ := b.post(d.Link, "code="+s.lastCode()); r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("locked: %s", r.Status)
	}
	s.wait(5 * time.Minute)
	if r, _ := b.post(d.Link, "code="+s.lastCode()); r.StatusCode != http.StatusSeeOther {
		t.Errorf("after the lock: %s", r.Status)
	}
}

func TestOtherSitesCannotPost(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
		if r, _ := b.do("POST", d.Link+"/code", nil, h...); r.StatusCode != http.StatusForbidden {
			t.Errorf("%v: %s", h, r.Status)
		}
	}
	if len(s.sms) != 0 {
		t.Error("a code was sent")
	}
	if r, _ := b.do("POST", d.Link+"/code", nil, "Origin", "null"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("an old browser under no-referrer: %s", r.Status)
	}
}

func form(t *testing.T, text string, files ...string) (io.Reader, string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	w.WriteField("texte", text)
	for i := 0; i < len(files); i += 2 {
		fw, err := w.CreateFormFile("fichiers", files[i])
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(fw, files[i+1])
	}
	w.Close()
	return &b, w.FormDataContentType()
}

func TestAnswer(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	send := func(text string, files ...string) (*http.Response, string) {
		t.Helper()
		body, ct := form(t, text, files...)
		return b.do("POST", d.Link+"/reponse", body, "Content-Type", ct, "Sec-Fetch-Site", "same-origin")
	}
	if r, _ := send("sans code"); r.StatusCode != http.StatusForbidden || len(s.answers) != 0 {
		t.Fatalf("without a code: %s", r.Status)
	}
	b.login(d)
	s.refuse = errors.New("postfix away")
	if r, page := send("Merci <docteur>"); r.StatusCode != http.StatusBadGateway || !strings.Contains(page, "Merci &lt;docteur&gt;</textarea>") || !strings.Contains(page, "PAS envoyée") {
		t.Errorf("refused: %s %s", r.Status, page)
	}
	s.refuse = nil
	if r, page := send("long", "a.bin", strings.Repeat("x", 1<<20+1)); r.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(page, ">long</textarea>") {
		t.Errorf("too large: %s", r.Status)
	}
	var many []string
	for range 11 {
		many = append(many, "a", "b")
	}
	if r, _ := send("trop", many...); r.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("too many: %s", r.Status)
	}
	if r, _ := send("  "); r.StatusCode != http.StatusBadRequest {
		t.Errorf("empty: %s", r.Status)
	}
	if r, _ := b.post(d.Link+"/reponse", "texte=x"); r.StatusCode != http.StatusBadRequest {
		t.Errorf("no multipart: %s", r.Status)
	}
	if len(s.answers) != 0 {
		t.Fatalf("%q", s.answers)
	}
	r, _ := send("Merci", "../photo.jpg", "JPEG")
	if r.StatusCode != http.StatusSeeOther || len(s.answers) != 1 || s.answers[0] != "patient@mail.test -> dr.martin@clinique.test <1@clinique.test>: Merci [photo.jpg application/octet-stream JPEG]" {
		t.Fatalf("%s %q", r.Status, s.answers)
	}
	if _, page := b.do("GET", s.srv.URL+r.Header.Get("Location"), nil); !strings.Contains(page, "Votre réponse est envoyée") {
		t.Error("not told")
	}
}

func TestLanguages(t *testing.T) {
	for k := range words["fr"] {
		if words["en"][k] == "" {
			t.Errorf("%s is missing in English", k)
		}
	}
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	for h, w := range map[string]string{"": "fr", "de, en;q=0.5, fr;q=0.3": "en", "fr-CA,en": "fr", "de": "fr", "en-GB": "en"} {
		if r, _ := b.do("GET", d.Link, nil, "Accept-Language", h); r.Header.Get("Content-Language") != w {
			t.Errorf("%q: %s", h, r.Header.Get("Content-Language"))
		}
	}
	if r, page := b.do("GET", d.Link+"?lang=en", nil, "Accept-Language", "fr"); r.Header.Get("Content-Language") != "en" || !strings.Contains(page, "/code?lang=en") {
		t.Error("a chosen language is not kept")
	}
}

func TestCookieAndClient(t *testing.T) {
	p := &Portal{secure: true, cfg: Config{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	w := httptest.NewRecorder()
	p.setSession(w, strings.Repeat("a", 32), "x")
	if c := w.Header().Get("Set-Cookie"); c != "__Host-passerelle-aaaaaaaaaaaa=x; Path=/; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("%s", c)
	}
	for in, want := range map[[2]string]string{
		{"10.0.0.1:1", "203.0.113.9, 10.0.0.2"}: "203.0.113.9", {"198.51.100.1:1", "203.0.113.9"}: "198.51.100.1",
		{"10.0.0.1:1", ""}: "10.0.0.1", {"10.0.0.1:1", "1.1.1.1, 203.0.113.9"}: "203.0.113.9", {"[::ffff:10.0.0.1]:1", "2001:db8::1"}: "2001:db8::1",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = in[0]
		r.Header.Set("X-Forwarded-For", in[1])
		if got := p.client(r).String(); got != want {
			t.Errorf("%v: %s", in, got)
		}
	}
}

// FuzzFileName: a stranger's name is one harmless name on one line.
func FuzzFileName(f *testing.F) {
	for _, s := range []string{"a.pdf", "../..", "é\u202e.exe", strings.Repeat("é", 200) + ".pdf", "\x00", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := fileName(s)
		if n == "" || len(n) > 150 || strings.ContainsAny(n, "/\\\r\n\x00\"") || strings.HasPrefix(n, ".") {
			t.Fatalf("%q -> %q", s, n)
		}
		_, p, err := mime.ParseMediaType(disposition(s))
		if err != nil || p["filename"] != n {
			t.Fatalf("%q -> %q, %v", n, p["filename"], err)
		}
	})
}
