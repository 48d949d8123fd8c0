package portal

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/vault"
)

func TestArchive(t *testing.T) {
	s := newSite(t)
	d := s.deposit(func(r *vault.DepositRequest) {
		r.Files = append(r.Files, file("ordonnance.PDF", "application/pdf", "autre"), file("Ordonnance.pdf", "application/pdf", "encore"))
	})
	b := &browser{s: s}
	if r, _ := b.do("GET", d.Link+"/tout.zip", nil); r.StatusCode != http.StatusForbidden {
		t.Errorf("without a code: %s", r.Status)
	}
	b.login(d)
	r, body := b.do("GET", d.Link+"/tout.zip", nil)
	if n, _ := strconv.Atoi(r.Header.Get("Content-Length")); n != len(body) || n == 0 {
		t.Errorf("announced %d octets, got %d", n, len(body))
	}
	if h, _ := b.do("HEAD", d.Link+"/tout.zip", nil); h.Header.Get("Content-Length") != r.Header.Get("Content-Length") {
		t.Errorf("HEAD: %v", h.Header)
	}
	z, err := zip.NewReader(strings.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range z.File {
		c, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(c)
		if err != nil || strings.ContainsAny(f.Name, "/\\\r\n") {
			t.Errorf("%q: %v", f.Name, err)
		}
		got[f.Name] = string(p)
	}
	for name, want := range map[string]string{"Compte-rendu d'écho – Mme Léa Dupont.pdf": report, "Ordonnance.pdf": "court", "ordonnance (2).PDF": "autre", "Ordonnance (3).pdf": "encore", "Écho.png": picture()} {
		if got[name] != want {
			t.Errorf("%s has %d octets", name, len(got[name]))
		}
	}
	if html := got["Le message.html"]; !strings.Contains(html, "<b>Madame</b>") || strings.Contains(html, "alert(") || strings.Contains(html, "traceur") {
		t.Errorf("the layout: %s", html)
	}
	if len(got) != 8 || !strings.Contains(got["Le message.txt"], "Bonjour Madame Dupont") {
		t.Errorf("%d files", len(got))
	}
}

// An archive of 64 MB takes no memory in proportion.
func TestArchiveIsStreamed(t *testing.T) {
	s := newSite(t)
	d := s.deposit(func(r *vault.DepositRequest) {
		r.Files = []vault.File{{Name: "IRM.dcm", Size: 64 << 20, Open: func() io.Reader { return io.LimitReader(zeros{}, 64<<20) }}}
	})
	b := &browser{s: s}
	b.login(d)
	req, err := http.NewRequest("GET", d.Link+"/tout.zip", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.cookies {
		req.AddCookie(c)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	runtime.ReadMemStats(&after)
	if err != nil || n < 64<<20 || after.HeapSys > before.HeapSys+(24<<20) {
		t.Errorf("%d octets, %v, heap from %d to %d MB", n, err, before.HeapSys>>20, after.HeapSys>>20)
	}
}

// A message that is HTML alone is not empty on paper, nor in the archive where there is a file beside it.
func TestLayoutAlone(t *testing.T) {
	s := newSite(t)
	d := s.deposit(func(r *vault.DepositRequest) { r.Text = "" })
	b := &browser{s: s}
	b.login(d)
	_, page := b.do("GET", d.Link+"?vue=imprimer", nil)
	if strings.Contains(page, words["fr"]["msg.none"]) || !strings.Contains(page, d.Link[len(s.srv.URL):]+"/texte\"") {
		t.Errorf("to print: %s", page)
	}
	if _, zipped := b.do("GET", d.Link+"/tout.zip", nil); !strings.Contains(zipped, "<b>Madame</b>") {
		t.Error("the archive lacks the message")
	}
}

// A download that broke off goes on where it was, with the ranges that browsers and download managers ask for.
func TestResumedDownload(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	b.login(d)
	req, err := http.NewRequest("GET", d.Link+"/f/0", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.cookies {
		req.AddCookie(c)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 100_000)
	if _, err := io.ReadFull(resp.Body, head); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close() // the train goes into a tunnel
	s.wait(30 * time.Minute)
	etag := resp.Header.Get("ETag")
	if resp.Header.Get("Accept-Ranges") != "bytes" || etag == "" || strings.HasPrefix(etag, "W/") {
		t.Errorf("%v", resp.Header)
	}
	r, rest := b.do("GET", d.Link+"/f/0", nil, "Range", "bytes=100000-", "If-Range", etag)
	if r.StatusCode != http.StatusPartialContent || string(head)+rest != report {
		t.Errorf("%s, %d octets more", r.Status, len(rest))
	}
	if r, whole := b.do("GET", d.Link+"/f/0", nil, "Range", "bytes=100000-", "If-Range", `"another"`); r.StatusCode != http.StatusOK || whole != report {
		t.Errorf("another file: %s", r.Status)
	}
	if r, end := b.do("GET", d.Link+"/f/0", nil, "Range", "bytes=-10"); r.StatusCode != http.StatusPartialContent || end != report[len(report)-10:] {
		t.Errorf("the end: %s %q", r.Status, end)
	}
	if r, _ := b.do("GET", d.Link+"/f/0", nil, "Range", "bytes=99999999-"); r.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("behind the end: %s", r.Status)
	}
}

func TestDispositionOfNames(t *testing.T) {
	for name, want := range map[string]string{
		"Compte rendu.pdf":    `attachment; filename="Compte rendu.pdf"; filename*=UTF-8''Compte%20rendu.pdf`,
		"Écho – Léa.pdf":      `attachment; filename="_cho _ L_a.pdf"; filename*=UTF-8''%C3%89cho%20%E2%80%93%20L%C3%A9a.pdf`,
		"100%25;\"a\".txt":    `attachment; filename="100_25__a_.txt"; filename*=UTF-8''100%2525%3B_a_.txt`,
		"日本.pdf":              `attachment; filename="__.pdf"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.pdf`,
		"a'b(c)*!.pdf":        `attachment; filename="a'b(c)_!.pdf"; filename*=UTF-8''a%27b%28c%29_%21.pdf`,
		"../../x\r\nA: b.pdf": `attachment; filename="_.._xA_ b.pdf"; filename*=UTF-8''_.._xA_%20b.pdf`,
	} {
		got := disposition(name)
		if got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", name, got, want)
		}
		if _, p, err := mime.ParseMediaType(got); err != nil || p["filename"] != fileName(name) {
			t.Errorf("%q: read as %q, %v", name, p["filename"], err)
		}
	}
}

func TestMend(t *testing.T) {
	s := newSite(t)
	d, sender := s.track()
	path, secret := d.Link[len(s.srv.URL):], d.Link[strings.LastIndex(d.Link, "/")+1:]
	b := &browser{s: s}
	for _, bent := range []string{path + "%23contenu", path + "%2523contenu", path + "%26utm=1", "/%2572%2F" + secret, path + secret, path + s.srv.URL + path, "/r" + path, path + path,
		"/http%3A%2F%2Fclinique.test" + strings.ReplaceAll(path, "/", "%2F"), path + "%20", path + "%C2%A0", "/R/" + strings.ToUpper(secret) + "%22", "/%23" + path, path + "/inconnu", path + ">", "//" + path[1:]} {
		u := s.srv.URL + bent
		var r *http.Response
		var page string
		for range 4 {
			if r, page = b.do("GET", u, nil); r.StatusCode < 300 || r.StatusCode > 399 {
				break
			}
			u = s.srv.URL + r.Header.Get("Location")
		}
		if r.StatusCode != http.StatusOK || !strings.Contains(page, words["fr"]["sms.button"]) {
			t.Errorf("%s: %s", strings.ReplaceAll(bent, secret, "SECRET"), r.Status)
		}
	}
	unknown := "/r/" + strings.Repeat("0", 26)
	for _, suffix := range []string{"%23x", "%2523x", "%26a", strings.Repeat("0", 26)} {
		known, _ := b.do("GET", s.srv.URL+path+suffix, nil)
		none, _ := b.do("GET", s.srv.URL+unknown+suffix, nil)
		if known.StatusCode != none.StatusCode || strings.ReplaceAll(known.Header.Get("Location"), path, "") != strings.ReplaceAll(none.Header.Get("Location"), unknown, "") {
			t.Errorf("%s: a mended link tells whether it exists: %s %s", suffix, known.Status, none.Status)
		}
	}
	if r, _ := b.do("GET", sender+"%23x", nil); r.Header.Get("Location") != sender[len(s.srv.URL):] {
		t.Errorf("the sender's link: %s %s", r.Status, r.Header.Get("Location"))
	}
	for _, cut := range []string{path[:len(path)-5], "/r/", "/r", "/r/%23", "/s/abc"} {
		if r, page := b.do("GET", s.srv.URL+cut, nil); r.StatusCode != http.StatusNotFound || !strings.Contains(page, words["fr"]["gone.c"]) {
			t.Errorf("%s: %s", cut, r.Status)
		}
	}
}

// What a recipient says against a message: nothing without the word, once to its sender, and "done" only once he was told.
func TestRefusalPages(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	for _, form := range []string{"", "mot=", "mot=oui", "mot=retirer", "code=123456"} {
		for _, to := range []string{"/pas-moi", "/bloquer", "/debloquer"} {
			if r, _ := b.post(d.Link+to, form); r.StatusCode != http.StatusBadRequest {
				t.Errorf("%s %s: %s", to, form, r.Status)
			}
		}
		s.wait(time.Minute)
	}
	if len(s.refused) != 0 {
		t.Fatalf("%q", s.refused)
	}
	s.refuse = errors.New("postfix away")
	if r, page := b.post(d.Link+"/pas-moi", "mot=pas+moi"); r.StatusCode != http.StatusBadGateway || strings.Contains(page, words["fr"]["done.notme"]) {
		t.Errorf("not told: %s", r.Status)
	}
	s.refuse = nil
	for range 3 {
		if r, page := b.post(d.Link+"/pas-moi", "mot=Pas-Moi"); r.StatusCode != http.StatusOK || !strings.Contains(page, words["fr"]["done.notme"]) {
			t.Errorf("%s", r.Status)
		}
	}
	b.post(d.Link+"/bloquer", "mot=BLOQUER")
	sender, patient := message.Address{Local: "dr.martin", Domain: "clinique.test"}, message.Address{Local: "patient", Domain: "mail.test"}
	if yes, err := s.Blocked(t.Context(), sender, patient); !yes || err != nil {
		t.Errorf("not blocked: %v", err)
	}
	b.post(d.Link+"/debloquer", "mot=debloquer")
	if yes, err := s.Blocked(t.Context(), sender, patient); yes || err != nil {
		t.Errorf("still blocked: %v", err)
	}
	if got := fmt.Sprint(s.refused); got != "[not me patient@mail.test blocked patient@mail.test]" {
		t.Errorf("%s", got)
	}
	b.login(d) // the content stays
	staff := s.deposit(func(r *vault.DepositRequest) { r.Staff = true })
	for _, to := range []string{"/pas-moi", "/bloquer"} {
		if r, _ := b.do("GET", staff.Link+to, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("staff %s: %s", to, r.Status)
		}
	}
}
