package gateway_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// One answer reaches the clinic once, whichever gateways a browser comes to with it: again, because the first reply was lost, or at the same time.
func TestSharedAnswerOnce(t *testing.T) {
	s := newSharing(t)
	if got := s.a.send(s.a.lmtp, "dr@clinic.test", sealedLetter("a@patient.test", " [tel:06 12 34 56 78]"), "a@patient.test")[0]; got[:3] != "250" {
		t.Fatal(got)
	}
	n := readNotice(t, arrived(t, s.a.sink, "a@patient.test", 1)[0])
	path := "/r/" + n.secret
	r := newReader(t, nil)
	r.openBySMS("http://"+s.b.portal+path, s.sms, 1)
	answer := func(h *house, token string) {
		t.Helper()
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		w.WriteField("jeton", token)
		w.WriteField("texte", secretAnswer)
		w.Close()
		if status, page := r.do("POST", "http://"+h.portal+path+"/reponse", &b, "Content-Type", w.FormDataContentType()); status != http.StatusOK || !strings.Contains(page, "Votre réponse est envoyée") {
			t.Errorf("%d %s", status, page)
		}
	}
	answers := func(want int) {
		t.Helper()
		got := 0
		for _, m := range s.mails(clinicOf) {
			if strings.Contains(string(m.Data), "Message-ID: <answer.") {
				got++
			}
		}
		if got != want {
			t.Errorf("%d answers at the clinic, want %d", got, want)
		}
	}
	answer(s.a, "one")
	answer(s.b, "one")
	answers(1)
	var both sync.WaitGroup
	for _, h := range []*house{s.a, s.b, s.a, s.b} {
		both.Go(func() { answer(h, "two") })
	}
	both.Wait()
	answers(2)
}
