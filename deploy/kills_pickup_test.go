package deploy_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

// holding is a hop that has taken a mail for one address and holds its reply back.
type holding struct {
	mu   sync.Mutex
	to   string
	held chan struct{}
	goOn chan struct{}
}

// next holds the next mail for an address; the first channel tells that it is there, free lets it go on.
func (h *holding) next(to string) (held <-chan struct{}, free func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.to, h.held, h.goOn = to, make(chan struct{}), make(chan struct{})
	goOn := h.goOn
	return h.held, sync.OnceFunc(func() { close(goOn) })
}

func (h *holding) reply(_ int, _, to string) gatewaytest.Reply {
	h.mu.Lock()
	if to != h.to {
		h.mu.Unlock()
		return gatewaytest.Reply{}
	}
	h.to = ""
	close(h.held)
	goOn := h.goOn
	h.mu.Unlock()
	<-goOn
	return gatewaytest.Reply{}
}

// killed is a gateway on the pickup route that is ended in the midst of each of its deeds.
type killed struct {
	*benchGateway
	t    *testing.T
	ctx  context.Context
	sink *gatewaytest.NextHop
	hop  *holding
}

// during ends the process while a mail to an address is in flight: the hop has it, the gateway does not know. begin starts the deed.
func (k *killed) during(what, to string, begin func()) {
	k.t.Helper()
	held, free := k.hop.next(to)
	defer free()
	begin()
	select {
	case <-held:
	case <-k.ctx.Done():
		k.t.Fatalf("%s: nothing is in flight", what)
	}
	k.kill(k.t)
	n := len(k.sink.To(to))
	free()
	benchUntil(k.t, k.ctx, what+": what was in flight is there", func() bool { return len(k.sink.To(to)) == n+1 })
}

// mails are those to an address that say something, decoded.
func (k *killed) mails(to, says string) (out []string) {
	k.t.Helper()
	for _, m := range k.sink.To(to) {
		b, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(m.Data)))
		if err != nil { // a header is no quoted-printable: what is behind the fault is not looked for
			b = append(b, m.Data...)
		}
		if strings.Contains(string(b), says) {
			out = append(out, string(b))
		}
	}
	return out
}

// want waits until there are n such mails, and sees that another start brings no more.
func (k *killed) want(what, to, says string, n int) {
	k.t.Helper()
	benchUntil(k.t, k.ctx, what, func() bool { return len(k.mails(to, says)) >= n })
	k.stop(k.t)
	k.start(k.t)
	time.Sleep(1500 * time.Millisecond)
	if got := len(k.mails(to, says)); got != n {
		k.t.Errorf("%s: %d mails, want %d", what, got, n)
	}
}

// older moves what a stopped gateway keeps into the past.
func (k *killed) older(d time.Duration) {
	k.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(k.state(), "passerelle.db"))
	benchCheck(k.t, err)
	defer db.Close()
	ms := d.Milliseconds()
	_, err = db.Exec(`UPDATE vault_deposits SET created = created - ?, expires = expires - ?, next_due = next_due - ?, code1_until = code1_until - ? WHERE state = 'waiting'`, ms, ms, ms, ms)
	benchCheck(k.t, err)
	_, err = db.Exec(`UPDATE vault_sendings SET created = created - ?, next_due = CASE WHEN next_due > 0 THEN next_due - ? ELSE 0 END`, ms, ms)
	benchCheck(k.t, err)
}

// TestPickupKilledAtEachStep ends the built binary while the notice, the receipt, the reminder, the answer are in flight: nothing is lost, and
// nothing is sent twice but what was in flight.
func TestPickupKilledAtEachStep(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	hop := &holding{}
	sink, env := benchSink(t, "pickup", gatewaytest.Options{Data: hop.reply})
	k := &killed{t: t, ctx: ctx, sink: sink, hop: hop, benchGateway: benchStart(t, binary(t), "pickup", sink.Addr(), env)}
	const patient, doctor = "p@dest.test", "staff@clinic.test"

	letter := benchLetter("m0", "nothing", 2<<10)
	gone := make(chan error, 1)
	k.during("notice", patient, func() { go func() { gone <- k.send(true, letter, patient) }() })
	if err := <-gone; err == nil {
		t.Error("250 though the notice was not accepted")
	}
	k.start(t)
	benchCheck(t, k.repeat(ctx, true, letter, patient))
	if n, codes := len(k.mails(patient, "/r/")), len(k.mails(doctor, "Code")); n != 2 || codes != 1 {
		t.Fatalf("%d notices, %d codes: want 2 and 1", n, codes)
	}

	k.stop(t)
	k.older(2 * time.Minute)
	k.during("receipt", doctor, func() { k.start(t) })
	k.start(t)
	k.want("receipt", doctor, "Suivi_de_votre_message", 2)

	k.stop(t)
	k.older(49 * time.Hour)
	k.during("reminder", patient, func() { k.start(t) })
	k.start(t)
	k.want("reminder", patient, "Rappel", 2)

	link := regexp.MustCompile(`http://\S+/r/[a-z0-9]+`).FindString(k.mails(patient, "Rappel")[1])
	code := regexp.MustCompile(`\b\d{3}\W{1,2}\d{3}\b`).FindString(k.mails(doctor, "Code")[0])
	jar, err := cookiejar.New(nil)
	benchCheck(t, err)
	browser := &http.Client{Jar: jar}
	page := func(r *http.Response, err error) (int, string) {
		t.Helper()
		benchCheck(t, err)
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		benchCheck(t, err)
		return r.StatusCode, string(b)
	}
	if status, p := page(browser.PostForm(link, url.Values{"code": {code}})); status != 200 || !strings.Contains(p, `name="jeton"`) {
		t.Fatalf("code %q opens nothing: %d %s", code, status, p)
	}
	answer := func(ctx context.Context, text string) (*http.Response, error) {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		benchCheck(t, w.WriteField("jeton", "of-one-page"))
		benchCheck(t, w.WriteField("texte", text))
		benchCheck(t, w.Close())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, link+"/reponse", &body)
		benchCheck(t, err)
		req.Header.Set("Content-Type", w.FormDataContentType())
		return browser.Do(req)
	}
	sent := func(text string) {
		t.Helper()
		if status, p := page(answer(ctx, text)); status != 200 || !strings.Contains(p, "Votre réponse est envoyée") {
			t.Fatalf("%s: %d %s", text, status, p)
		}
	}
	k.during("answer", doctor, func() {
		go func() {
			r, err := answer(ctx, "premiere reponse")
			if err == nil {
				r.Body.Close()
			}
			gone <- err
		}()
	})
	if err := <-gone; err == nil {
		t.Error("a page though the answer was not accepted")
	}
	k.start(t)
	for range 2 { // by a patient who presses again, and again
		sent("premiere reponse")
	}
	if got := k.mails(doctor, "premiere reponse"); len(got) != 2 || answerName(got[0]) == "" || answerName(got[0]) != answerName(got[1]) {
		t.Errorf("%d answers, want 2 of one name", len(got))
	}

	// The clinic has it and the ledger knows; the patient's telephone was gone before his page came, and then the gateway.
	k.stop(t)
	k.start(t)
	held, free := hop.next(doctor)
	defer free()
	away, leave := context.WithCancel(ctx)
	go func() {
		r, err := answer(away, "seconde reponse")
		if err == nil {
			r.Body.Close()
		}
		gone <- err
	}()
	<-held
	leave()
	if err := <-gone; err == nil {
		t.Error("a page for one who left")
	}
	free()
	benchUntil(t, ctx, "the answer is noted", func() bool {
		return strings.Contains(k.metrics(t), `passerelle_portal_pages_total{code="303",page="answer"} 1`)
	})
	k.kill(t)
	k.start(t)
	sent("seconde reponse")
	if n := len(k.mails(doctor, "seconde reponse")); n != 1 {
		t.Errorf("%d mails of an answer that was noted, want 1", n)
	}

	k.during("code", doctor, func() { go func() { gone <- k.send(false, benchLetter("m1", "nothing", 2<<10), "q@dest.test") }() })
	if err := <-gone; err == nil {
		t.Error("250 though the code was not accepted")
	}
	k.start(t)
	benchCheck(t, k.repeat(ctx, false, benchLetter("m1", "nothing", 2<<10), "q@dest.test"))
	if n, codes := len(k.mails("q@dest.test", "/r/")), len(k.mails(doctor, "q@dest.test")); n != 2 || codes != 2 {
		t.Errorf("%d notices, %d codes of a message that was killed behind its notice: want 2 and 2", n, codes)
	}
	k.stop(t)
	db, err := sql.Open("sqlite", filepath.Join(k.state(), "passerelle.db"))
	benchCheck(t, err)
	defer db.Close()
	var states string
	benchCheck(t, db.QueryRow(`SELECT GROUP_CONCAT(state || ':' || n) FROM (SELECT state, COUNT(*) n FROM vault_deposits GROUP BY state ORDER BY state)`).Scan(&states))
	if want := "opened:1,pending:2,waiting:1"; states != want {
		t.Errorf("deposits %s, want %s", states, want)
	}
	var answers, reminders int
	benchCheck(t, db.QueryRow(`SELECT SUM(answers), SUM(reminders) FROM vault_deposits`).Scan(&answers, &reminders))
	if answers != 2 || reminders != 1 {
		t.Errorf("%d answers, %d reminders in the rows, want 2 and 1", answers, reminders)
	}
}

var answerID = regexp.MustCompile(`Message-ID: (<answer\.[0-9a-f]+@\S+>)`)

func answerName(mail string) string {
	if m := answerID.FindStringSubmatch(mail); m != nil {
		return m[1]
	}
	return ""
}
