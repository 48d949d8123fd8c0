package gateway_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/quotedprintable"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// lifeHouse is a gateway with an SMS provider and a clock that can be turned.
type lifeHouse struct {
	*house
	sms    *gatewaytest.SMS
	turned atomic.Int64
}

func newLife(t *testing.T, pickup string, rules ...string) *lifeHouse {
	t.Helper()
	return newLifeAt(t, "http://{portal}", pickup, rules...)
}

// newLifeAt is newLife where patients reach the portal under another address than its own.
func newLifeAt(t *testing.T, url, pickup string, rules ...string) *lifeHouse {
	return newLifeAs(t, url, pickup, nil, rules...)
}

// newLifeAs is newLifeAt whose house is prepared first.
func newLifeAs(t *testing.T, url, pickup string, prepare func(*house), rules ...string) *lifeHouse {
	l := &lifeHouse{sms: gatewaytest.StartSMS()}
	t.Cleanup(func() { l.sms.Close() })
	text := withRules("rules:\n"+strings.Join(rules, "")+"  - {name: supplier, domain: [plain.test], route: plain}\n  - {name: rest, route: pickup}\n") + "pickup: {url: \"" + url + "\"" + pickup + "}\nsms: {url: \"" + l.sms.URL() + "\"}\n"
	text = strings.Replace(text, `portal: {addr: ""}`, `portal: {addr: "{portal}"}`, 1)
	l.house = custom(t, text, later, func(h *house) {
		if h.opts = append(h.opts, gateway.Clock(l.now)); prepare != nil {
			prepare(h)
		}
	})
	return l
}

func (l *lifeHouse) now() time.Time { return time.Now().Add(time.Duration(l.turned.Load())) }

// later starts the gateway again at another time: its duties run at once.
func (l *lifeHouse) later(d time.Duration) {
	l.stop()
	l.turned.Store(int64(d))
	l.start()
}

// swept waits until so many deposits have their content.
func (l *lifeHouse) swept(left int) {
	l.t.Helper()
	for range 2000 {
		b, err := filepath.Glob(filepath.Join(l.dir, "state", "deposits", "*"))
		if err != nil {
			l.t.Fatal(err)
		}
		if len(b) == left {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.t.Fatalf("not swept down to %d payloads", left)
}

// plainText is a mail as its reader sees it.
func plainText(t *testing.T, m gatewaytest.Message) string {
	t.Helper()
	_, body, _ := strings.Cut(string(m.Data), "\r\n\r\n")
	b, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// arrived waits until an address has n mails at a hop, and gives them.
func arrived(t *testing.T, hop *gatewaytest.NextHop, to string, n int) []gatewaytest.Message {
	t.Helper()
	for range 2000 {
		if got := hop.To(to); len(got) >= n {
			return got
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s has %d mails, want %d", to, len(hop.To(to)), n)
	return nil
}

func toPatient(subject string, to ...string) string {
	return "From: Dr <dr@clinic.test>\nTo: " + strings.Join(to, ", ") + "\nSubject: " + subject + "\nMessage-ID: <m" + fmt.Sprint(time.Now().UnixNano()) + "@clinic.test>\nDate: Mon, 23 Nov 2026 10:00:00 +0000\n\nMARQUEUR-SANTE\n"
}

// The number in the subject takes the code and leaves nowhere; reminders at two days and five; the sender is told once that it waits, once that
// it is not opened, once how it ended; the ledger knows the end.
func TestLifeOfADeposit(t *testing.T) {
	l := newLife(t, "")
	if got := l.send(l.lmtp, "dr@clinic.test", toPatient("Vos résultats [tel:06 12 34 56 78] du jour", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	notice := arrived(t, l.sink, "a@patient.test", 1)[0]
	if strings.Contains(string(notice.Data), "12 34 56") || strings.Contains(string(notice.Data), "tel:") {
		t.Error("the number is in the notice")
	}
	l.later(2 * time.Minute)
	mail := arrived(t, l.clinic, "dr@clinic.test", 1)[0]
	first := plainText(t, mail)
	if !strings.Contains(first, "06 .. .. 56 78") || !strings.Contains(first, "a@patient.test") || !strings.Contains(string(mail.Data), "In-Reply-To: <m") {
		t.Errorf("the receipt: %s", first)
	}
	l.later(49 * time.Hour)
	if m := arrived(t, l.sink, "a@patient.test", 2)[1]; !strings.Contains(string(m.Data), "Rappel") {
		t.Errorf("the reminder: %s", m.Data)
	}
	l.later(50 * time.Hour) // the queue and the rows know that it left
	l.later(5*24*time.Hour + time.Hour)
	arrived(t, l.sink, "a@patient.test", 3)
	l.later(7*24*time.Hour + time.Hour)
	if text := plainText(t, arrived(t, l.clinic, "dr@clinic.test", 2)[1]); !strings.Contains(text, "n'est pas encore lu") {
		t.Errorf("the report: %s", text)
	}
	l.later(30*24*time.Hour + time.Hour)
	l.swept(0)
	l.later(30*24*time.Hour + 2*time.Hour)
	if text := plainText(t, arrived(t, l.clinic, "dr@clinic.test", 3)[2]); !strings.Contains(text, "expiré sans être ouvert") {
		t.Errorf("the end: %s", text)
	}
	time.Sleep(300 * time.Millisecond)
	if n, m := len(l.sink.To("a@patient.test")), len(l.clinic.To("dr@clinic.test")); n != 3 || m != 3 {
		t.Errorf("%d mails to the patient, %d to the sender: want 3 and 3", n, m)
	}
	l.stop()
	rows := ledgerReasons(t, l.house)
	if n := strings.Count(rows, "deposit expired, never opened"); n != 1 {
		t.Errorf("the ledger says %d times that it expired: %s", n, rows)
	}
	l.swept(0)
	for _, name := range []string{"duties.db", "passerelle.db"} {
		b, err := os.ReadFile(filepath.Join(l.dir, "state", name))
		if err != nil || strings.Contains(string(b), "MARQUEUR-SANTE") || strings.Contains(string(b), "12345678") {
			t.Errorf("%s holds content or a number: %v", name, err)
		}
	}
}

// A message to two, one without a number: his copy alone is held. The sender gives the number on his page, withdraws the other's, and all that
// with the words that cannot be undone typed by hand.
func TestHeldUntilTheNumberIsGiven(t *testing.T) {
	l := newLife(t, "")
	text := strings.Replace(toPatient("Résultats", "a@patient.test", "b@patient.test"), "From:", "X-Passerelle-Phone: b@patient.test=07 11 22 33 44\nFrom:", 1)
	if got := l.send(l.lmtp, "dr@clinic.test", text, "a@patient.test", "b@patient.test"); codes(got) != "250 250" {
		t.Fatal(got)
	}
	arrived(t, l.sink, "b@patient.test", 1)
	l.later(2 * time.Minute)
	ask := plainText(t, arrived(t, l.clinic, "dr@clinic.test", 1)[0])
	link := regexp.MustCompile(`http://\S+/s/\S+`).FindString(ask)
	if link == "" || !strings.Contains(ask, "RETENU") || len(l.sink.To("a@patient.test")) != 0 {
		t.Fatalf("the question: %s", ask)
	}
	page := func() string {
		t.Helper()
		resp, err := http.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || strings.Contains(string(b), "MARQUEUR") || strings.Contains(string(b), "Résultats") {
			t.Fatalf("%d %v %s", resp.StatusCode, err, b)
		}
		return string(b)
	}
	ids := regexp.MustCompile(`id="d([0-9a-f]{32})"[^>]*>([^<]+)<`).FindAllStringSubmatch(page(), -1)
	id := map[string]string{}
	for _, m := range ids {
		id[m[2]] = m[1]
	}
	post := func(deed string, want int, form url.Values) {
		t.Helper()
		resp, err := http.PostForm(link+"/"+deed, form)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Fatalf("%s: %d, want %d", deed, resp.StatusCode, want)
		}
	}
	post("numero", http.StatusConflict, url.Values{"depot": {id["a@patient.test"]}, "numero": {"12"}})
	if len(l.sink.To("a@patient.test")) != 0 {
		t.Fatal("a wrong number let the notice out")
	}
	post("numero", http.StatusOK, url.Values{"depot": {id["a@patient.test"]}, "numero": {"06 99 88 77 66"}})
	arrived(t, l.sink, "a@patient.test", 1)
	if !strings.Contains(page(), "06 .. .. 77 66") {
		t.Error("the page does not show the number")
	}
	post("retirer", http.StatusConflict, url.Values{"depot": {"tous"}})
	post("retirer", http.StatusOK, url.Values{"depot": {id["b@patient.test"]}, "mot": {"retirer"}})
	if p := page(); strings.Count(p, "retiré sans") != 1 {
		t.Errorf("after the withdrawal: %s", p)
	}
	post("renvoyer", http.StatusConflict, url.Values{"depot": {id["a@patient.test"]}}) // a robot's click
	post("renvoyer", http.StatusOK, url.Values{"depot": {id["a@patient.test"]}, "mot": {"renvoyer"}})
	arrived(t, l.sink, "a@patient.test", 2)
	post("renvoyer", http.StatusConflict, url.Values{"depot": {id["b@patient.test"]}, "mot": {"renvoyer"}})
	resp, err := http.Get(link[:len(link)-1] + "0")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound && !strings.HasSuffix(link, "0") {
		t.Errorf("a wrong link: %d", resp.StatusCode)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if texts, _ := l.sms.Wait(ctx, 1); len(texts) != 0 {
		t.Error("a code left that nobody asked for")
	}
}

// A number without an address counts for nobody where two are written to, in the envelope or in the header alone; local mail keeps its subject.
func TestNumberForOneOfTwo(t *testing.T) {
	l := newLife(t, ", no_phone: tell")
	for _, to := range [][]string{{"a@patient.test", "b@patient.test"}, {"a@patient.test"}} {
		if got := l.send(l.lmtp, "dr@clinic.test", toPatient("x [tel:0612345678]", "a@patient.test", "b@patient.test"), append(to, "moi@clinic.test")...); strings.Contains(codes(got), "5") && !strings.HasPrefix(codes(got), "250") {
			t.Fatal(got)
		}
	}
	// Nor where he is in Bcc: the client may send each of those an envelope of his own.
	if got := l.send(l.lmtp, "dr@clinic.test", toPatient("x [tel:0612345678]", "undisclosed-recipients:;"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	for _, m := range l.sink.Messages() {
		if strings.Contains(string(m.Data), "par SMS") {
			t.Errorf("a code would go to somebody's telephone: %s", m.Recipients)
		}
	}
	local := arrived(t, l.clinic, "moi@clinic.test", 2)
	if !strings.Contains(string(local[0].Data), "[tel:0612345678]") {
		t.Error("local mail was touched")
	}
}

// The number leaves in none of the fields that repeat the subject.
func TestNumberLeavesNoCopy(t *testing.T) {
	l := newLife(t, "")
	text := strings.Replace(toPatient("x [tel:0612345678] y", "b@plain.test"), "Message-ID:", "Thread-Topic: x [tel:0612345678] y\nX-Original-Subject: =?utf-8?q?r=C3=A9sultat_=5Btel:0612345678=5D?=\nX-Other: [z]\nMessage-ID:", 1)
	if got := l.send(l.lmtp, "dr@clinic.test", text, "b@plain.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	data := string(arrived(t, l.sink, "b@plain.test", 1)[0].Data)
	if strings.Contains(data, "0612345678") || !strings.Contains(data, "Thread-Topic: x y\r\n") || !strings.Contains(data, "X-Other: [z]\r\n") {
		t.Errorf("it left:\n%s", data)
	}
}

// ledgerReasons gives the reasons of all rows.
func ledgerReasons(t *testing.T, h *house) string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.dir, "state", "passerelle.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all string
	if err := db.QueryRow("SELECT group_concat(reason, char(10)) FROM ledger_entries").Scan(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// The operator's commands work beside the gateway, over its socket, and without it; [FIN] closes an exchange and the next message opens it.
func TestDepositsOfTheOperator(t *testing.T) {
	l := newLife(t, "")
	send := func(subject string) {
		t.Helper()
		if got := l.send(l.lmtp, "dr@clinic.test", toPatient(subject+" [tel:0612345678]", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
			t.Fatal(got)
		}
	}
	send("un")
	send("[FIN] deux")
	open := func() *gateway.Deposits {
		t.Helper()
		d, err := gateway.OpenDeposits(t.Context(), l.cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	list := func(d *gateway.Deposits) []gateway.Deposit {
		t.Helper()
		all, err := d.List(t.Context(), gateway.DepositFilter{Recipient: "a@patient.test"})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	d := open()
	all := list(d)
	if len(all) != 2 || !all[0].Closed || !all[1].Closed || all[0].State != "waiting" {
		t.Fatalf("%+v", all)
	}
	send("trois")
	if all = list(d); len(all) != 3 || all[0].Closed || all[2].Closed {
		t.Fatalf("after the next message: %+v", all)
	}
	n := len(l.sink.To("a@patient.test"))
	if err := d.Resend(t.Context(), all[0].ID); err != nil || len(arrived(t, l.sink, "a@patient.test", n+1)) != n+1 {
		t.Fatal(err)
	}
	if err := d.Revoke(t.Context(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := d.Resend(t.Context(), all[0].ID); err == nil {
		t.Error("the notice of what is gone was sent")
	}
	if _, err := d.Show(t.Context(), "no"); !errors.Is(err, gateway.ErrNoDeposit) {
		t.Errorf("an unknown id: %v", err)
	}
	if fi, err := os.Stat(filepath.Join(l.dir, "state", "control.sock")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", fi, err)
	}
	l.stop()
	d = open()
	defer d.Close()
	end := time.Now().Add(90 * 24 * time.Hour)
	if err := d.Extend(t.Context(), all[1].ID, end); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Show(t.Context(), all[1].ID); err != nil || s.Expires.Sub(end).Abs() > time.Second {
		t.Errorf("%+v %v", s, err)
	}
	if s, err := d.Show(t.Context(), all[0].ID); err != nil || s.State != "revoked" {
		t.Errorf("%+v %v", s, err)
	}
}
