package portal

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"passerelle/crypto/token"
)

// Who will not click types the access code: it leads to the link's page and proves nothing by itself.
func TestTypedCode(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	typed := func(code string) (int, string) {
		t.Helper()
		r, err := client.PostForm(s.srv.URL+"/retrait", url.Values{"code": {code}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		return r.StatusCode, r.Header.Get("Location")
	}
	for _, as := range []string{d.Short, token.SpacedShort(d.Short), strings.ReplaceAll(token.SpacedShort(d.Short), " ", "-"), " " + strings.ReplaceAll(d.Short, "0", "O")} {
		if code, to := typed(as); code != http.StatusSeeOther || s.srv.URL+to != d.Link {
			t.Errorf("%q: %d to another page", as, code)
		}
		s.wait(time.Minute)
	}
	for _, wrong := range []string{"", "0000 0000 0000 0000", d.Short[:15], d.Link} {
		if code, _ := typed(wrong); code != http.StatusNotFound {
			t.Errorf("%q: %d", wrong, code)
		}
		s.wait(time.Minute)
	}
	slowed := false
	for range 200 {
		code, _ := typed("0000 0000 0000 0000")
		slowed = slowed || code == http.StatusTooManyRequests
	}
	if !slowed {
		t.Error("guessing is not slowed down")
	}
	s.wait(31 * 24 * time.Hour)
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, _ := typed(d.Short); code != http.StatusNotFound {
		t.Errorf("after the end: %d", code)
	}
	r, err := client.Get(s.srv.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.Header.Get("Location") != "/retrait" {
		t.Errorf("/ leads to %q", r.Header.Get("Location"))
	}
}
