package portal

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/vault"
)

// A form of an agreed phrase that a program filled in is neither compared nor counted, and the page says so. Whose browser fills in what it likes
// opens his message by a word more. Who leaves the hidden field alone, or writes the word, is counted in full.
func TestPhraseFilledInByProgram(t *testing.T) {
	s := newSite(t)
	d := s.deposit(func(r *vault.DepositRequest) { r.Mode, r.Secret = vault.BySecret, "sans souci" })
	b := &browser{s: s}
	before := s.lives()
	for lang, says := range map[string]string{"fr": "Rien n’a été essayé", "en": "Nothing was tried"} {
		for range 10 {
			for _, phrase := range []string{"sans souci", "avec souci", ""} {
				r, page := b.post(d.Link+"?lang="+lang, "email=a%40b.test&code="+phrase)
				if r.StatusCode != http.StatusConflict || !strings.Contains(page, says) || !strings.Contains(page, `name="mot"`) || strings.Contains(page, `name="email"`) {
					t.Fatalf("%s %q: %s %s", lang, phrase, r.Status, page)
				}
				if r, page := b.post(d.Link+"?lang="+lang, "mot=scanner&code="+phrase); r.StatusCode != http.StatusConflict || !strings.Contains(page, `role="alert"`) || !strings.Contains(page, `name="mot"`) {
					t.Fatalf("without the word, %s %q: %s %s", lang, phrase, r.Status, page)
				}
				s.wait(time.Minute)
			}
		}
	}
	if after := s.lives(); after != before {
		t.Fatalf("a program's guesses were counted: %s, before %s", after, before)
	}
	for i, guess := range []string{"code=avec+souci", "code=avec+souci&email=", "code=avec+souci&mot=LIRE", "code=avec+souci&mot=read"} {
		r, page := b.post(d.Link, guess)
		if r.StatusCode != http.StatusForbidden || strings.Contains(page, `name="mot"`) != strings.Contains(guess, "mot") {
			t.Fatalf("%s: %s %s", guess, r.Status, page)
		}
		var wrong int
		if err := s.db.Read().QueryRow(`SELECT wrong FROM vault_deposits`).Scan(&wrong); err != nil || wrong != i+1 {
			t.Fatalf("%s: %d counted, %v", guess, wrong, err)
		}
		s.wait(time.Minute)
	}
	if r, page := b.post(d.Link, "code=sans+souci&mot=Lire"); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s %s", r.Status, page)
	}
}

// A code of six digits has no such field: who asks for one has tries of his own.
func TestCodeHasNoTrap(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	b.post(d.Link+"/code", "")
	if r, page := b.post(d.Link, "email=x&mot=x&code="+s.lastCode()); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s %s", r.Status, page)
	}
}
