package gateway_test

import (
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// A number without an address is nobody's where one copy is sent for each of many in Bcc, or behind an alias of the clinic: the envelope
// shows one, the header does not name him. Two numbers are nobody's either.
func TestNumberOfOneInBcc(t *testing.T) {
	l := newLife(t, ", no_phone: tell")
	send := func(text string, to ...string) {
		t.Helper()
		for _, one := range to {
			if got := l.send(l.lmtp, "dr@clinic.test", text, one); codes(got) != "250" {
				t.Fatal(got)
			}
		}
	}
	send(toPatient("x [tel:0612345678]", "undisclosed-recipients:;"), "a@patient.test", "b@patient.test")
	send(toPatient("x [tel:0612345678]", "patients@clinic.test"), "a@patient.test", "b@patient.test")
	send(toPatient("x [tel:0612345678] [tel:0687654321]", "a@patient.test"), "a@patient.test")
	n := 0
	for _, m := range l.sink.Messages() {
		if n++; strings.Contains(string(m.Data), "par SMS") {
			t.Errorf("a code would go to somebody's telephone: %s", m.Recipients)
		}
	}
	if n != 5 {
		t.Errorf("%d notices, want 5", n)
	}
	send(toPatient("x [tel:0612345678] [tel:+33 6 12 34 56 78]", "A <a@patient.test>"), "a@patient.test")
	if m := l.sink.Messages(); !strings.Contains(string(m[len(m)-1].Data), "par SMS") {
		t.Errorf("the number of the only one was not taken: %s", m[len(m)-1].Data)
	}
}

// The number leaves nowhere, as French typing has it, and in the copy of the subject that Outlook makes.
func TestNumberLeavesNowhere(t *testing.T) {
	h := custom(t, withRules("rules:\n  - {name: rest, route: plain}\n")+"pickup: {url: \"http://127.0.0.1:9\"}\n", nil, nil)
	for _, tag := range []string{"[tel:0612345678]", "[Tél : 06 12 34 56 78]", "[TEL. : 06/12/34/56/78]", "[te\u0301l\u00a0: +33 (0)6.12.34.56.78]"} {
		text := strings.Replace(toPatient("Résultats "+tag+" du jour", "a@patient.test"), "Message-ID:", "Thread-Topic: Résultats "+tag+" du jour\nMessage-ID:", 1)
		if got := h.send(h.lmtp, "dr@clinic.test", text, "a@patient.test"); codes(got) != "250" {
			t.Fatal(got)
		}
		m := h.sink.Messages()
		data := string(m[len(m)-1].Data)
		if strings.Contains(data, "12") && (strings.Contains(data, "[t") || strings.Contains(data, "[T")) || !strings.Contains(data, "Thread-Topic") {
			t.Errorf("%s: %s", tag, data)
		}
	}
}

// A button pressed many times sends one notice and one code, and every answer says that it is done.
func TestCompletedAtOnce(t *testing.T) {
	l := newLife(t, "")
	if got := l.send(l.lmtp, "dr@clinic.test", toPatient("x", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	l.later(2 * time.Minute)
	link := regexp.MustCompile(`http://\S+/s/\S+`).FindString(plainText(t, arrived(t, l.clinic, "dr@clinic.test", 1)[0]))
	d, err := gateway.OpenDeposits(t.Context(), l.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.List(t.Context(), gateway.DepositFilter{})
	if err != nil || len(all) != 1 || all[0].State != "held" {
		t.Fatalf("%+v %v", all, err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			resp, err := http.PostForm(link+"/numero", url.Values{"depot": {all[0].ID}, "numero": {"01 23 45 67 89"}})
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	wg.Wait()
	if n, m := len(l.sink.To("a@patient.test")), len(l.clinic.To("dr@clinic.test")); n != 1 || m != 2 {
		t.Errorf("%d notices, %d mails to the sender: want 1 and 2", n, m)
	}
}

// A secretary who wants no receipts gets none, but hears of what was destroyed because nobody gave its number: the client had its 250.
func TestSilenceButForWhatIsLost(t *testing.T) {
	l := newLife(t, ", receipts: []")
	text := strings.Replace(toPatient("x", "a@patient.test", "b@patient.test"), "From:", "X-Passerelle-Phone: b@patient.test=07 11 22 33 44\nFrom:", 1)
	if got := l.send(l.lmtp, "dr@clinic.test", text, "a@patient.test", "b@patient.test"); codes(got) != "250 250" {
		t.Fatal(got)
	}
	l.later(2 * time.Minute)
	arrived(t, l.clinic, "dr@clinic.test", 1)
	l.later(48*time.Hour + time.Minute)
	l.swept(1)
	l.later(48*time.Hour + 4*time.Minute)
	lost := plainText(t, arrived(t, l.clinic, "dr@clinic.test", 2)[1])
	if !strings.Contains(lost, "a@patient.test\r\n      NON REMIS") && !strings.Contains(lost, "a@patient.test\n      NON REMIS") {
		t.Errorf("%s", lost)
	}
	l.later(31 * 24 * time.Hour)
	l.later(31*24*time.Hour + 4*time.Minute)
	arrived(t, l.sink, "b@patient.test", 2)
	time.Sleep(300 * time.Millisecond)
	if n := len(l.clinic.To("dr@clinic.test")); n != 2 {
		t.Errorf("%d mails to the sender, want the question and the loss", n)
	}
}

// Three patients of one message, two without a number, and the third's server says later: the sender is asked for both numbers in one mail, which
// the client's repeats neither repeat nor lose. What nobody completed is told as lost in one mail too.
func TestOneQuestionForAll(t *testing.T) {
	l := newLife(t, ", receipts: []")
	to := []string{"a@patient.test", "b@patient.test", "later@patient.test"}
	text := strings.Replace(toPatient("x", to...), "From:", "X-Passerelle-Phone: later@patient.test=07 11 22 33 44\nFrom:", 1)
	repeat := func() { // by SMTP one reply is for all: the client repeats all
		t.Helper()
		if got := l.send(l.smtp, "dr@clinic.test", text, to...); !strings.HasPrefix(codes(got), "451") {
			t.Fatal(got)
		}
	}
	repeat()
	repeat()
	both := func(n int, word string) {
		t.Helper()
		mail := plainText(t, arrived(t, l.clinic, "dr@clinic.test", n)[n-1])
		if strings.Count(mail, "a@patient.test") != 2 || strings.Count(mail, "b@patient.test") != 2 || strings.Count(mail, word) != 2 || !strings.Contains(mail, "/s/") {
			t.Errorf("mail %d: %s", n, mail)
		}
	}
	l.later(2 * time.Minute)
	both(1, "RETENU")
	repeat()
	l.later(10 * time.Minute)
	l.later(48*time.Hour + time.Minute)
	l.swept(0)
	l.later(48*time.Hour + 4*time.Minute)
	both(2, "NON REMIS")
	l.later(72 * time.Hour)
	time.Sleep(300 * time.Millisecond)
	if n := len(l.clinic.To("dr@clinic.test")); n != 2 {
		t.Errorf("%d mails to the sender, want the question and the loss", n)
	}
}

// A sender whose server refuses him cannot be asked: nothing is held. Where it refuses him only later, for good or not, he is asked until it takes the
// question: the client had its 250.
func TestQuestionIsNotLost(t *testing.T) {
	var refuses atomic.Bool
	l := newLifeAs(t, "http://{portal}", ", receipts: []", func(h *house) {
		h.clinicReply = func(string) gatewaytest.Reply {
			if refuses.Load() {
				return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}
			}
			return gatewaytest.Reply{}
		}
	})
	letter := toPatient("x", "a@patient.test")
	refuses.Store(true)
	if got := l.send(l.lmtp, "dr@clinic.test", letter, "a@patient.test"); strings.HasPrefix(codes(got), "2") {
		t.Fatal(got)
	}
	l.swept(0)
	refuses.Store(false)
	if got := l.send(l.lmtp, "dr@clinic.test", letter, "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	refuses.Store(true)
	l.later(2 * time.Minute)
	for range 1000 {
		if strings.Contains(l.log.String(), "hand over receipt") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	refuses.Store(false)
	if ask := plainText(t, arrived(t, l.clinic, "dr@clinic.test", 1)[0]); !strings.Contains(ask, "RETENU") {
		t.Errorf("the question: %s", ask)
	}
	if !strings.Contains(l.log.String(), "hand over receipt") {
		t.Error("the question was never refused")
	}
}
