package portal

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/store"
	"passerelle/gateway/vault"
)

// A notice whose link is with its recipient alone (strict, or the last reminder has left) is not offered to be sent again: the page says why, and
// still ends a lock.
func TestNoLinkToSendAgain(t *testing.T) {
	s := newSite(t)
	d, page := s.track()
	get := func(lang string) string {
		t.Helper()
		resp, err := http.Get(page + "?lang=" + lang)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp.StatusCode, err)
		}
		return string(b)
	}
	post := func(deed, word string) (int, string) {
		t.Helper()
		resp, err := http.PostForm(page+"/"+deed, url.Values{"depot": {d.ID}, "mot": {word}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if p := get("fr"); !strings.Contains(p, "/renvoyer") || strings.Contains(p, "/debloquer") {
		t.Fatalf("with the link: %s", p)
	}
	if err := s.db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE vault_deposits SET resend = NULL WHERE id = ?`, d.ID) // as strict and the last reminder do
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for lang, why := range map[string]string{"fr": "ne peut plus être renvoyé", "en": "cannot be sent again"} {
		if p := get(lang); strings.Contains(p, "/renvoyer") || !strings.Contains(p, why) || !strings.Contains(p, "/debloquer") {
			t.Errorf("%s, without the link: %s", lang, p)
		}
	}
	if code, p := post("renvoyer", "renvoyer"); code != http.StatusConflict || !strings.Contains(p, "ne peut plus être renvoyé") {
		t.Errorf("sent again: %d %s", code, p)
	}
	link := d.Link[strings.LastIndex(d.Link, "/")+1:]
	if _, err := s.Ask(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	wrong := other(s.lastCode())
	var err error
	for range 5 {
		_, err = s.Prove(t.Context(), link, wrong, "", netip.MustParseAddr("198.51.100.7"))
		s.wait(time.Minute)
	}
	if vault.Why(err) != vault.Locked {
		t.Fatal(err)
	}
	if code, _ := post("debloquer", ""); code != http.StatusConflict {
		t.Errorf("a robot's click: %d", code)
	}
	if code, p := post("debloquer", "Débloquer"); code != http.StatusOK || !strings.Contains(p, "Le blocage est levé") {
		t.Errorf("unlock: %d %s", code, p)
	}
	if _, err := s.Prove(t.Context(), link, s.lastCode(), "", netip.MustParseAddr("198.51.100.7")); err != nil {
		t.Errorf("after the unlocking: %v", err)
	}
}

// What a sender's number sets going ends before another gateway would take it for a dead one's, and send the notice a second time.
func TestCompleteEnds(t *testing.T) {
	s := newSite(t)
	id, page := s.held()
	left := time.Duration(0)
	p, err := New(Config{Vault: s.Vault, Complete: func(ctx context.Context, of string, _ string) error {
		if end, ok := ctx.Deadline(); ok && of == id {
			left = time.Until(end)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", page[len(s.srv.URL):]+"/numero", strings.NewReader(url.Values{"depot": {id}, "numero": {"0612345678"}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	if p.ServeHTTP(w, r); w.Code != http.StatusSeeOther || left <= 0 || left > handOnTime {
		t.Errorf("%d, ends in %v", w.Code, left)
	}
}
