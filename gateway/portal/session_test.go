package portal

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// No way to the content gives any of it without a proof of this very deposit, or after its end.
func TestContentWantsItsOwnProof(t *testing.T) {
	s := newSite(t)
	d, other := s.deposit(), s.deposit()
	none, wrong, right := &browser{s: s}, &browser{s: s}, &browser{s: s}
	wrong.login(other)
	for _, c := range wrong.cookies { // the same proof under the name of the other deposit
		if strings.HasSuffix(c.Name, other.ID[:12]) {
			mine := *c
			mine.Name = strings.ReplaceAll(c.Name, other.ID[:12], d.ID[:12])
			wrong.cookies = append(wrong.cookies, &mine)
		}
	}
	right.login(d)
	ways := []string{"", "?voir=0", "?vue=imprimer", "?vue=html", "/texte", "/f/0", "/v/0", "/v/3", "/tout.zip"}
	ask := func(b *browser, who string, code int) {
		t.Helper()
		for _, way := range ways {
			for _, method := range []string{"GET", "HEAD"} {
				r, page := b.do(method, d.Link+way, nil, "Range", "bytes=0-9")
				got := strings.Contains(page, "Dupont") || strings.Contains(page, "Claire") || strings.HasPrefix(page, "%PDF") || strings.HasPrefix(page, "PK") || strings.HasPrefix(page, "\x89PNG")
				want := code
				if page := way == "" || way[0] == '?'; page && want == http.StatusForbidden {
					want = http.StatusOK // the page that asks for a code
				}
				if got || r.Header.Get("ETag") != "" || r.StatusCode != want {
					t.Errorf("%s: %s %s: %s, content %v", who, method, way, r.Status, got)
				}
				if r.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %s is kept: %q", who, way, r.Header.Get("Cache-Control"))
				}
			}
		}
		s.wait(time.Minute)
	}
	ask(none, "nobody", http.StatusForbidden)
	ask(wrong, "another deposit's", http.StatusForbidden)
	if r, page := right.do("GET", d.Link+"/v/0", nil); r.StatusCode != http.StatusOK || page != report {
		t.Fatalf("who proved it: %s", r.Status)
	}
	s.wait(2 * time.Hour)
	ask(right, "too long ago", http.StatusForbidden)
	right.login(d)
	if err := s.Revoke(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	ask(right, "revoked", http.StatusGone)
}
