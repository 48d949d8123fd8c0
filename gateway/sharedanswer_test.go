package gateway_test

import (
	"bytes"
	"database/sql"
	"log/slog"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
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

// A number that a sender gives at two gateways at once sends one notice and one code, and every answer says that it is done.
func TestSharedCompleteOnce(t *testing.T) {
	s := newSharing(t)
	if got := s.a.send(s.a.lmtp, "dr@clinic.test", sealedLetter("a@patient.test", ""), "a@patient.test")[0]; got[:3] != "250" {
		t.Fatal(got)
	}
	d, err := gateway.OpenDeposits(t.Context(), s.a.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	all, err := d.List(t.Context(), gateway.DepositFilter{})
	if err != nil || len(all) != 1 || all[0].State != "held" {
		t.Fatalf("%+v %v", all, err)
	}
	var both sync.WaitGroup
	for _, h := range []*house{s.a, s.b, s.a, s.b} {
		both.Go(func() {
			if err := h.g.Complete(t.Context(), all[0].ID, "01 23 45 67 89"); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if n, m := len(s.mails(sinkOf)), len(s.mails(clinicOf)); n != 1 || m != 1 {
		t.Errorf("%d notices, %d codes for the sender: want 1 of each", n, m)
	}
}

// The database goes away between the seal and the hop's 250 for the notice, and comes back: the link that the patient has by then opens, and no second
// one follows it.
func TestSharedAwayBehindNotice(t *testing.T) {
	s := newSharing(t)
	back := make(chan error, 1)
	away := func() {
		if err := s.pg.Stop(); err != nil {
			t.Error(err)
		}
		go func() {
			time.Sleep(2 * time.Second)
			back <- s.pg.Start(t.Context())
		}()
	}
	s.atRcpt.Store(&away)
	if got := s.a.send(s.a.lmtp, "dr@clinic.test", sealedLetter("a@patient.test", " [tel:06 12 34 56 78]"), "a@patient.test")[0]; got[:3] != "250" {
		t.Error(got)
	}
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	n := readNotice(t, arrived(t, s.a.sink, "a@patient.test", 1)[0])
	newReader(t, nil).openBySMS("http://"+s.b.portal+"/r/"+n.secret, s.sms, 1)
}

// An answer that the clinic's server has taken, but that its gateway could not note, is not handed on again by another one.
func TestSharedAnswerUnnoted(t *testing.T) {
	s := newSharing(t)
	held := make(chan *sql.Tx, 1)
	s.a.clinicReply = func(string) gatewaytest.Reply {
		db, err := sql.Open("sqlite", "file:"+s.a.dir+"/state/passerelle.db?_txlock=immediate")
		if err != nil {
			t.Error(err)
		}
		t.Cleanup(func() { db.Close() })
		tx, err := db.Begin() // nobody else writes, as an operator's shell does it
		if err != nil {
			t.Error(err)
		}
		held <- tx
		return gatewaytest.Reply{}
	}
	if got := s.b.send(s.b.lmtp, "dr@clinic.test", sealedLetter("a@patient.test", " [tel:06 12 34 56 78]"), "a@patient.test")[0]; got[:3] != "250" {
		t.Fatal(got)
	}
	path := "/r/" + readNotice(t, arrived(t, s.b.sink, "a@patient.test", 1)[0]).secret
	r := newReader(t, nil)
	r.openBySMS("http://"+s.b.portal+path, s.sms, 1)
	answer := func(h *house, says string) {
		t.Helper()
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		w.WriteField("jeton", "one")
		w.WriteField("texte", secretAnswer)
		w.Close()
		if _, page := r.do("POST", "http://"+h.portal+path+"/reponse", &b, "Content-Type", w.FormDataContentType()); !strings.Contains(page, says) {
			t.Errorf("want %q: %s", says, page)
		}
	}
	answer(s.a, "Votre réponse n’est PAS envoyée")
	if err := (<-held).Rollback(); err != nil {
		t.Fatal(err)
	}
	answer(s.b, "Votre réponse est envoyée")
	if n := len(s.mails(clinicOf)); n != 1 {
		t.Errorf("%d mails at the clinic, want the answer once", n)
	}
}
