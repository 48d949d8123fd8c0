package portal

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// The language that a reader chose stays with him over every link, form and redirect of every page, whatever his browser prefers.
func TestChosenLanguageStays(t *testing.T) {
	s := newSite(t)
	d, sender := s.track()
	out, in := &browser{s: s}, &browser{s: s}
	in.login(d)
	ways := regexp.MustCompile(`(?:href|action)="([^"#]+)[^"]*"`)
	kept := regexp.MustCompile(`\.css$|^tel:|\?lang=fr$|/f/\d+$`) // what has no words, and the way to the other language
	for name, b := range map[string]*browser{"link": out, "message": in} {
		seen := map[string]bool{}
		next := []string{d.Link + "?lang=en", sender + "?lang=en", s.srv.URL + "/?lang=en", s.srv.URL + "/r/inconnu?lang=en", d.Link + "%23x?lang=en"}
		for len(next) > 0 {
			u := next[0]
			if next = next[1:]; seen[u] {
				continue
			}
			seen[u] = true
			r, page := b.do("GET", u, nil, "Accept-Language", "fr")
			if to := r.Header.Get("Location"); to != "" {
				next = append(next, s.srv.URL+to)
			}
			where := name + ": " + strings.TrimPrefix(u, s.srv.URL)
			if l := r.Header.Get("Content-Language"); !strings.Contains(u, "lang=en") || l != "" && l != "en" {
				t.Errorf("%s: language %q", where, l)
			}
			if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") || r.StatusCode == http.StatusSeeOther {
				continue
			}
			for _, m := range ways.FindAllStringSubmatch(page, -1) {
				to := strings.ReplaceAll(m[1], "&amp;", "&")
				if kept.MatchString(to) || strings.HasPrefix(to, "http") {
					continue
				}
				if strings.Contains(to, "/texte") || strings.Contains(to, "/v/") {
					continue
				}
				next = append(next, s.srv.URL+to)
			}
		}
		t.Log(name, len(seen))
	}
}
