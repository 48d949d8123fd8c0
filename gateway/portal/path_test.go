package portal

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"passerelle/gateway/store"
	"passerelle/gateway/vault"
)

// What programs do to a link on its way leads to the same page, and its forms still lead somewhere.
func TestBentLinks(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	secret := d.Link[strings.LastIndex(d.Link, "/")+1:]
	for _, path := range []string{"/r/" + secret + "/", "/R/" + strings.ToUpper(secret), "/r/" + secret + "%3F", "/r/" + secret + "%3E"} {
		r, page := b.do("GET", s.srv.URL+path, nil)
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, r.Status)
			continue
		}
		_, action, _ := strings.Cut(page, `action="`)
		action, _, _ = strings.Cut(action, `"`)
		sent := len(s.sms)
		r, _ = b.post(s.srv.URL+action, "")
		if r.StatusCode != http.StatusSeeOther || len(s.sms) != sent+1 {
			t.Errorf("%s: its form %s: %s", path, action, r.Status)
			continue
		}
		if _, page = b.do("GET", s.srv.URL+r.Header.Get("Location"), nil); !strings.Contains(page, words["fr"]["done.code"][:20]) {
			t.Errorf("%s: %s does not tell that the code was sent", path, r.Header.Get("Location"))
		}
		s.reset(d)
	}
}

// A browser that comes back to where a form led asks with GET: it gets the message's page, not "not available", and nothing is sent.
func TestFormsLoadedAgain(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	for _, form := range []string{"code", "reponse", "fermer"} {
		r, _ := b.do("GET", d.Link+"/"+form+"?lang=en", nil)
		if to := r.Header.Get("Location"); r.StatusCode != http.StatusSeeOther || s.srv.URL+to != d.Link+"?lang=en" {
			t.Errorf("%s: %s %s", form, r.Status, to)
		}
	}
	if len(s.sms) != 0 {
		t.Error("a code was sent")
	}
}

// The path of the public URL is known in capitals, and where programs put a slash too many.
func TestBentBase(t *testing.T) {
	s := newSite(t)
	p, err := New(Config{Vault: s.Vault})
	if err != nil {
		t.Fatal(err)
	}
	p.base = "/portail"
	d := s.deposit()
	for _, base := range []string{"/portail", "/PORTAIL", "/portail/", "/portail/.", "/portail/x/.."} {
		if got := ask(p, base+d.Link[len(s.srv.URL):]); got != http.StatusOK {
			t.Errorf("%s: %d", base, got)
		}
	}
	if got := ask(p, "/portailx/retrait"); got != http.StatusNotFound {
		t.Errorf("another path: %d", got)
	}
}

func ask(p *Portal, path string) int {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code
}

// reset forgets the codes of a deposit.
func (s *site) reset(d *vault.Deposit) {
	s.t.Helper()
	for _, q := range []string{`UPDATE vault_deposits SET code1 = NULL, code2 = NULL WHERE id = ?`, `DELETE FROM vault_codes WHERE deposit = ?`} {
		if err := s.db.Write(s.t.Context(), func(tx store.Tx) error { _, err := tx.Exec(q, d.ID); return err }); err != nil {
			s.t.Fatal(err)
		}
	}
}
