package portal

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a page says went wrong is what went wrong: a patient who is told of wrong codes that he never tried, or to type again what is right, is lost.
func TestFaultsSayWhatHappened(t *testing.T) {
	s := newSite(t)
	says := func(what, page, word, not string) {
		t.Helper()
		if !strings.Contains(page, word) || strings.Contains(page, not) {
			t.Errorf("%s: want %q and not %q in %s", what, word, not, page)
		}
	}
	d, b := s.deposit(), &browser{s: s}
	b.post(d.Link+"/code", "")
	code := s.lastCode()
	s.wait(16 * time.Minute)
	r, page := b.post(d.Link, "code="+code)
	says("the SMS came late", page, "trop ancien", "Trop de codes faux :")
	if r.StatusCode != http.StatusForbidden || !strings.Contains(page, "/code") {
		t.Errorf("there is no way on: %s", r.Status)
	}
	for range 3 {
		b.post(d.Link+"/code", "")
		s.wait(time.Minute)
	}
	_, page = b.post(d.Link+"/code", "")
	says("too many of this message", page, "pour ce message est le bon", "un autre message")
	other := s.deposit()
	_, page = b.post(other.Link+"/code", "")
	says("too many of another message", page, "peut-être pour un autre message", "est le bon")
	for range 3 {
		s.wait(16 * time.Minute)
		for range 3 {
			b.post(other.Link+"/code", "")
		}
	}
	s.wait(16 * time.Minute)
	r, page = b.post(d.Link+"/code", "")
	says("too many of a day", page, "23\u00a0heures.", "minute")
	if r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("too many of a day: %s", r.Status)
	}

	if err := s.Revoke(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	r, page = b.post(s.srv.URL+"/retrait", "code="+d.Short)
	says("the access code of a message that was withdrawn", page, "le message n’est plus là", "Trop")
	if r.StatusCode != http.StatusNotFound {
		t.Errorf("the access code of a message that was withdrawn: %s", r.Status)
	}
}

// A notice that could not leave is never said to have left.
func TestResendThatFails(t *testing.T) {
	s := newSite(t)
	s.refuse = errors.New("the hop is away")
	d, link := s.track()
	for range 4 {
		if r, page := (&browser{s: s}).post(link+"/renvoyer", "depot="+d.ID+"&mot=renvoyer"); r.StatusCode != http.StatusConflict || strings.Contains(page, "C’est fait") || strings.Contains(page, "L’avis est renvoyé") {
			t.Errorf("%s: %s", r.Status, page)
		}
	}
}

// What a patient has typed for an hour is not lost where his proof is too old by then, his message is gone, or the house is on fire: the page that he
// gets in the place of "sent" has it, behind a large file too, and says that it is not sent.
func TestTypedAnswerComesBack(t *testing.T) {
	s := newSite(t)
	d, b := s.deposit(), &browser{s: s}
	b.login(d)
	s.wait(61 * time.Minute)
	send := func(code int, says string) {
		t.Helper()
		body, ct := form(t, "une <heure> de frappe", "photo.jpg", strings.Repeat("J", 3<<20))
		r, page := b.do("POST", d.Link+"/reponse", body, "Content-Type", ct, "Sec-Fetch-Site", "same-origin")
		if r.StatusCode != code || !strings.Contains(page, ">une &lt;heure&gt; de frappe</textarea>") || !strings.Contains(page, says) || strings.Contains(page, "Dupont") {
			t.Errorf("want %d: %s %s", code, r.Status, page)
		}
	}
	send(http.StatusForbidden, words["fr"]["ans.lapsed"])
	if err := s.Revoke(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	send(http.StatusGone, words["fr"]["ans.gone"])
	s.db.Close()
	send(http.StatusInternalServerError, words["fr"]["ans.copy"])
	if len(s.answers) != 0 {
		t.Errorf("sent: %q", s.answers)
	}
}
