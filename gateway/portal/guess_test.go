package portal

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/vault"

	"github.com/prometheus/client_golang/prometheus"
)

// Ten thousand guesses from fifty networks within a day: they lock the link, open nothing and destroy nothing. The patient who asks for his
// code meanwhile gets in at once, from a browser of his own; and who waits for the end of the lock does with the code alone.
func TestTenThousandGuesses(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand requests")
	}
	s := newSite(t)
	d := s.deposit(func(r *vault.DepositRequest) { r.Mode = vault.BySender }) // a code that holds for 30 days
	link := d.Link[strings.LastIndexByte(d.Link, '/')+1:]
	patient := &browser{s: s}
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}
	seen, compared := map[int]int{}, 0
	code, alarms := d.Code, guessesSeen(t)
	guess := func(i int) {
		g := fmt.Sprintf("%06d", i*97%1_000_000)
		if g == code {
			g = "999999"
		}
		r, page := (&browser{s: s}).do("POST", d.Link, strings.NewReader("code="+g), append(form, "X-Forwarded-For", fmt.Sprintf("198.18.%d.%d", i%50, 1+i%200))...)
		if seen[r.StatusCode]++; strings.Contains(page, "Ce code n’est pas le bon") {
			compared++
		}
	}
	for i := range 10_000 {
		guess(i)
		s.wait(8640 * time.Millisecond)
		if i%2500 == 2499 { // six hours: what the second half of the alert PasserelleCodesGuessed looks at
			seen := guessesSeen(t)
			if seen-alarms <= 300 {
				t.Errorf("%d: the operator is not alarmed: %v locked or void in six hours", i, seen-alarms)
			}
			alarms = seen
		}
		if v, err := s.Look(t.Context(), link); i == 20 && (err != nil || !v.LockedUntil.After(s.Now())) {
			t.Fatalf("not locked: %+v %v", v, err)
		}
		if i != 20 && i != 5000 {
			continue
		}
		if r, _ := patient.post(d.Link, "code="+code); r.StatusCode == http.StatusSeeOther {
			t.Fatalf("%d: the right code opens a locked link: %s", i, r.Status)
		}
		if i == 20 {
			continue
		}
		if r, page := patient.post(d.Link+"/code", ""); r.StatusCode != http.StatusSeeOther {
			t.Fatalf("no new code amid the guesses: %s %s", r.Status, page)
		}
		code = told(s)
		guess(i)
		if r, page := patient.post(d.Link, "code="+code); r.StatusCode != http.StatusSeeOther {
			t.Fatalf("the patient is kept out amid the guesses: %s %s", r.Status, page)
		}
	}
	t.Logf("compared %d, answers by status %v", compared, seen)
	if seen[http.StatusSeeOther] != 0 || compared == 0 || compared > 2*20 {
		t.Errorf("compared %d, answers by status %v", compared, seen)
	}
	st, err := s.Status(t.Context(), d.ID)
	if err != nil || st.State != vault.Opened || st.Openings != 1 || st.Level != "sender" {
		t.Fatalf("%+v %v", st, err)
	}
	v, err := s.Look(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	s.wait(max(0, v.LockedUntil.Sub(s.Now())) + time.Minute)
	if !v.CodeSent {
		patient.post(d.Link+"/code", "")
		code = told(s)
	}
	if r, page := (&browser{s: s}).post(d.Link, "code="+code); r.StatusCode != http.StatusSeeOther { // another browser than the one that asked
		t.Errorf("after the lock: %s %s", r.Status, page)
	}
}

// guessesSeen is how many codes the metrics have as tried at what was locked or void.
func guessesSeen(t *testing.T) (n float64) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "passerelle_vault_codes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if r := m.GetLabel()[0].GetValue(); r == "locked" || r == "void" {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// told is the code that the sender was mailed last.
func told(s *site) string {
	m := regexp.MustCompile(`\r\n    (\d{3} \d{3})`).FindStringSubmatch(s.told)
	if m == nil {
		s.t.Fatalf("the sender was told no code: %s", s.told)
	}
	return strings.ReplaceAll(m[1], " ", "")
}
