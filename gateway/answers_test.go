package gateway_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// opened sends a message to a patient with a mobile, and gives his browser with the message open.
func (l *lifeHouse) opened(t *testing.T, subject string) (*browser, string) {
	t.Helper()
	n := len(l.sink.To("a@patient.test"))
	if got := l.send(l.lmtp, "dr@clinic.test", toPatient(subject+" [tel:06 12 34 56 78]", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	link := linkIn(t, arrived(t, l.sink, "a@patient.test", n+1)[n].Data)
	b := newBrowser(t)
	sent := len(l.sms.Messages())
	if code, page := b.post(link+"/code", nil); code != 200 || len(l.sms.Messages()) != sent+1 {
		t.Fatalf("no code: %d %s", code, page)
	}
	proof := regexp.MustCompile(`\d{6}`).FindString(l.sms.Messages()[sent].Text)
	if code, page := b.post(link, url.Values{"code": {proof}}); code != 200 || !strings.Contains(page, "MARQUEUR-SANTE") {
		t.Fatalf("not open: %d %s", code, page)
	}
	return b, link
}

var tokenField = regexp.MustCompile(`name="jeton" value="([^"]+)"`)

// token is that of the page's form.
func (b *browser) token(link string) string {
	b.t.Helper()
	_, page := b.get(link)
	m := tokenField.FindStringSubmatch(page)
	if m == nil {
		b.t.Fatalf("no form for an answer: %s", page)
	}
	return m[1]
}

// answer posts the form; files are names and contents in turn.
func (b *browser) answer(link, token, text string, files ...string) (int, string) {
	b.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	w.WriteField("jeton", token)
	w.WriteField("texte", text)
	for i := 0; i < len(files); i += 2 {
		f, err := w.CreateFormFile("fichiers", files[i])
		if err != nil {
			b.t.Fatal(err)
		}
		f.Write([]byte(files[i+1]))
	}
	w.Close()
	r, err := b.c.Post(link+"/reponse", w.FormDataContentType(), &body)
	return b.read(r, err)
}

// answers are the mails of patients among those that the sender got.
func (l *lifeHouse) answers() (out []gatewaytest.Message) {
	for _, m := range l.clinic.To("dr@clinic.test") {
		if strings.Contains(string(m.Data), "X-Passerelle-Origine: v2; patient;") {
			out = append(out, m)
		}
	}
	return out
}

// Two fingers, one mail; another text from the same page is another mail. It is in the thread and says how its writer was proved.
func TestAnswerOnce(t *testing.T) {
	l := newLife(t, "")
	b, link := l.opened(t, "Vos résultats")
	token := b.token(link)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if code, page := b.answer(link, token, "Merci docteur", "photo.jpg", "JPEG"); code != 200 || !strings.Contains(page, "Votre réponse est envoyée") {
				t.Errorf("%d %s", code, page)
			}
		})
	}
	wg.Wait()
	l.later(0) // the memory of it outlives the process
	if code, page := b.answer(link, token, "Merci docteur", "photo.jpg", "JPEG"); code != 200 || !strings.Contains(page, "Votre réponse est envoyée") {
		t.Errorf("again: %d %s", code, page)
	}
	got := l.answers()
	if len(got) != 1 {
		t.Fatalf("%d mails of one answer", len(got))
	}
	data := string(got[0].Data)
	if got[0].Sender != "" || !strings.Contains(data, "verified=sms, deposit\r\n ") || !strings.Contains(data, "In-Reply-To: <m") || !strings.Contains(data, "Subject: =?utf-8?q?Re:_Vos") || !strings.Contains(data, "preuve : co=\r\nde par SMS") {
		t.Errorf("%s", data)
	}
	if code, _ := b.answer(link, token, "Merci encore"); code != 200 || len(l.answers()) != 2 {
		t.Errorf("another text: %d, %d mails", code, len(l.answers()))
	}
	if code, _ := b.answer(link, b.token(link), "Merci docteur", "photo.jpg", "JPEG"); code != 200 || len(l.answers()) != 3 {
		t.Errorf("the same from another page: %d, %d mails", code, len(l.answers()))
	}
}

// What stands against an answer is said on the page, which keeps its text; then it goes.
func TestAnswerRefused(t *testing.T) {
	var reply atomic.Pointer[gatewaytest.Reply]
	l := newLife(t, ", answer: {size: 100KiB, files: 2, daily: 2}")
	l.clinicReply = func(string) gatewaytest.Reply { return *reply.Load() }
	reply.Store(&gatewaytest.Reply{})
	b, link := l.opened(t, "Vos résultats")
	token := b.token(link)
	for _, c := range []struct {
		reply gatewaytest.Reply
		code  int
		says  string
	}{
		{gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "away"}, 502, "essayez encore dans quelques minutes"},
		{gatewaytest.Reply{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: "too big"}, 413, "sont trop grands"},
		{gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "unknown"}, 502, "ne peut plus la recevoir"},
	} {
		reply.Store(&c.reply)
		if code, page := b.answer(link, token, "Merci <docteur>", "a.txt", "x"); code != c.code || !strings.Contains(page, c.says) || !strings.Contains(page, "Merci &lt;docteur&gt;</textarea>") || !strings.Contains(page, token) {
			t.Errorf("%d: %d %s", c.reply.Code, code, page)
		}
	}
	reply.Store(&gatewaytest.Reply{})
	for name, files := range map[string][]string{"size": {"a", strings.Repeat("x", 101<<10)}, "number": {"a", "1", "b", "2", "c", "3"}} {
		if code, page := b.answer(link, token, "Merci", files...); code != 413 || !strings.Contains(page, "Merci</textarea>") {
			t.Errorf("%s: %d %s", name, code, page)
		}
	}
	if n := len(l.answers()); n != 0 {
		t.Fatalf("%d answers left", n)
	}
	for i, want := range []int{200, 200, 429} {
		if code, page := b.answer(link, b.token(link), "Merci"); code != want || want == 429 && !strings.Contains(page, "trop de fois") {
			t.Errorf("answer %d of the day: %d", i, code)
		}
	}
	l.later(25 * time.Hour)
	b2, link2 := l.opened(t, "La suite")
	if code, _ := b2.answer(link2, b2.token(link2), "demain"); code != 200 {
		t.Errorf("tomorrow: %d", code)
	}
	l.stop()
	if n := strings.Count(ledgerReasons(t, l.house), "proved by sms"); n < 3 {
		t.Errorf("%d rows of answers", n)
	}
}

// The sender closes by [FIN], by X-MSS-MES, by his page; each time his next message opens again. The page says so, with the telephone.
func TestExchangeIsClosedAndOpened(t *testing.T) {
	l := newLife(t, "")
	b, link := l.opened(t, "Question")
	token := b.token(link)
	write := func(subject, more string) {
		t.Helper()
		if got := l.send(l.lmtp, "dr@clinic.test", more+toPatient(subject+" [tel:06 12 34 56 78]", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
			t.Fatal(got)
		}
	}
	closed := func(how string) {
		t.Helper()
		_, page := b.get(link)
		if strings.Contains(page, `name="jeton"`) || !strings.Contains(page, "Échange clos") || strings.Count(page, "33 1 00 00 00 00") < 2 {
			t.Errorf("%s: the page does not say that it is closed: %s", how, page)
		}
		n := len(l.answers())
		if code, page := b.answer(link, token, "trop tard "+how); code != http.StatusForbidden || len(l.answers()) != n || !strings.Contains(page, "trop tard "+how+"</textarea>") {
			t.Errorf("%s: answered all the same: %d %s", how, code, page)
		}
	}
	open := func(how string) {
		t.Helper()
		n := len(l.answers())
		if code, _ := b.answer(link, b.token(link), "oui "+how); code != 200 || len(l.answers()) != n+1 {
			t.Errorf("%s: not open: %d", how, code)
		}
	}
	open("first")
	write("[FIN] Merci", "")
	closed("subject")
	write("Encore", "")
	open("subject")
	write("Merci", "X-MSS-MES: FIN\n")
	closed("header")
	write("Encore", "")
	open("header")
	l.later(2 * time.Minute)
	var page string
	for _, m := range arrived(t, l.clinic, "dr@clinic.test", len(l.answers())+5) { // each message has its receipt
		if u := regexp.MustCompile(`http://\S+/s/\w+`).FindString(plainText(t, m)); u != "" {
			page = u
		}
	}
	sender := newBrowser(t)
	_, s := sender.get(page)
	id := regexp.MustCompile(`name="depot" value="([0-9a-f]{32})"`).FindStringSubmatch(s)
	if id == nil {
		t.Fatalf("the sender's page: %s", s)
	}
	sender.post(page+"/clore", url.Values{"depot": {id[1]}, "mot": {"clore"}})
	closed("page")
	sender.post(page+"/rouvrir", url.Values{"depot": {id[1]}, "mot": {"rouvrir"}})
	open("page")
}
