package gateway_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/vault"
)

var messageID = regexp.MustCompile(`(?mi)^Message-ID: (<[^>]+>)`)

// A patient answers the notice by mail: he gets the link again, his correspondent hears of it, once; what he wrote goes nowhere. Machines get
// nothing, strangers an error.
func TestNoticeAnsweredByMail(t *testing.T) {
	l := newLife(t, ", reply_to: retrait@clinic.test")
	if got := l.send(l.lmtp, "dr@clinic.test", toPatient("Résultats [tel:06 12 34 56 78]", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	if got := l.send(l.lmtp, "other@clinic.test", toPatient("Autre [tel:06 12 34 56 78]", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	notices := arrived(t, l.sink, "a@patient.test", 2)
	first := string(notices[0].Data)
	if !strings.Contains(first, "Reply-To: <retrait@clinic.test>\r\n") {
		t.Fatalf("%s", first)
	}
	name := messageID.FindStringSubmatch(first)[1]
	reply := func(from, more string) []string {
		t.Helper()
		return l.send(l.lmtp, from, more+"From: <"+strings.Split(from+"x@y.test", " ")[0]+">\nTo: <retrait@clinic.test>\nSubject: Re: x\nMessage-ID: <p"+fmt.Sprint(time.Now().UnixNano())+"@patient.test>\n\nJ'ai MAL-AU-DOS\n", "retrait@clinic.test")
	}
	quiet := func(what string, patient, sender, other int) {
		t.Helper()
		if p, s, o := len(l.sink.To("a@patient.test")), len(l.clinic.To("dr@clinic.test")), len(l.clinic.To("other@clinic.test")); p != patient || s != sender || o != other || len(l.clinic.To("retrait@clinic.test")) != 0 {
			t.Errorf("%s: %d to the patient, %d and %d to the senders, %d to ourselves", what, p, s, o, len(l.clinic.To("retrait@clinic.test")))
		}
	}
	for what, m := range map[string][2]string{"null": {"", "In-Reply-To: " + name + "\n"}, "auto": {"a@patient.test", "Auto-Submitted: auto-replied\nIn-Reply-To: " + name + "\n"}, "list": {"a@patient.test", "List-Id: <x.y>\n"},
		"old robot": {"a@patient.test", "Precedence: auto_reply\n"}, "daemon": {"MAILER-DAEMON@patient.test", "In-Reply-To: " + name + "\n"}} {
		if got := reply(m[0], m[1]); codes(got) != "250" {
			t.Errorf("%s: %q", what, got)
		}
		quiet(what, 2, 0, 0)
	}
	if got := reply("stranger@elsewhere.test", "In-Reply-To: <"+strings.Repeat("a", 32)+"."+strings.Repeat("b", 16)+".c@clinic.test>\n"); codes(got) != "550" {
		t.Errorf("a stranger: %q", got)
	}
	quiet("stranger", 2, 0, 0)
	// from another address of his: the notice's name leads there, and the link goes where the notice went
	if got := reply("a.autre@elsewhere.test", "In-Reply-To: "+name+"\n"); codes(got) != "250" {
		t.Fatalf("%q", got)
	}
	again := arrived(t, l.sink, "a@patient.test", 3)[2]
	text := plainText(t, again)
	if again.Sender != "" || !strings.Contains(string(again.Data), "Auto-Submitted: auto-replied\r\n") || !strings.Contains(text, linkIn(t, notices[0].Data)) || strings.Contains(text, "MAL-AU-DOS") {
		t.Errorf("the answer from %q: %s", again.Sender, again.Data)
	}
	told := plainText(t, arrived(t, l.clinic, "dr@clinic.test", 1)[0])
	if !strings.Contains(told, "a@patient.test a répondu par courriel") || strings.Contains(told, "MAL-AU-DOS") {
		t.Errorf("the sender: %s", told)
	}
	quiet("once", 3, 1, 0)
	if got := reply("a@patient.test", "References: <x@y> "+name+"\n"); codes(got) != "250" {
		t.Errorf("%q", got)
	}
	quiet("again", 3, 1, 0)
	if got := reply("a@patient.test", ""); codes(got) != "250" { // no name: his newest
		t.Errorf("%q", got)
	}
	quiet("without a name", 4, 1, 1)
	l.turned.Store(int64(7 * time.Hour))
	if got := reply("a@patient.test", "In-Reply-To: "+name+"\n"); codes(got) != "250" {
		t.Errorf("%q", got)
	}
	if n := len(l.sink.To("a@patient.test")); n != 5 {
		t.Errorf("after hours: %d", n)
	}
	if strings.Contains(l.log.String(), "MAL-AU-DOS") || strings.Contains(l.log.String(), "patient.test") && strings.Contains(l.log.String(), "a@patient.test") {
		t.Error("the log says too much")
	}
}

// Codes, receipts, answers, held mails and bounces of what an application or a scanner sends go to whom its rule notifies; from an address
// that nobody reads and no rule covers nothing starts.
func TestApplicationsNotify(t *testing.T) {
	sms := gatewaytest.StartSMS()
	t.Cleanup(func() { sms.Close() })
	text := withRules("rules:\n  - {name: scanner, sender: [\"no-reply@clinic.test\"], route: pickup, notify: secretariat@clinic.test}\n  - {name: rest, route: pickup}\n") +
		"pickup: {url: \"http://{portal}\"}\nsms: {url: \"" + sms.URL() + "\"}\n"
	text = strings.Replace(text, `portal: {addr: ""}`, `portal: {addr: "{portal}"}`, 1)
	l := &lifeHouse{sms: sms}
	l.house = custom(t, text, nil, func(h *house) { h.opts = append(h.opts, gateway.Clock(l.now)) })
	if got := l.send(l.lmtp, "noreply@clinic.test", toPatient("Scan", "a@patient.test"), "a@patient.test"); !strings.HasPrefix(got[0], "550 5.7.1 ") || !strings.Contains(got[0], "notify") {
		t.Errorf("nobody to notify: %q", got)
	}
	deposits := func() []gateway.Deposit {
		t.Helper()
		d, err := gateway.OpenDeposits(t.Context(), l.cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		all, err := d.List(t.Context(), gateway.DepositFilter{})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	// a null sender: what leaves is that a machine answered, as its headers and nothing else
	if got := l.send(l.lmtp, "", toPatient("Scan [tel:0612345678]", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Errorf("a null sender: %q", got)
	}
	left := arrived(t, l.sink, "a@patient.test", 1)
	if text := plainText(t, left[0]); len(left) != 1 || left[0].Sender != "" || !strings.Contains(text, "Son contenu n'est pas\r\ntransmis") || strings.Contains(text, "MARQUEUR-SANTE") || strings.Contains(text, "/r/") {
		t.Errorf("a null sender's %d mails, the first from %q: %s", len(left), left[0].Sender, left[0].Data)
	}
	if all := deposits(); len(all) != 0 || len(sms.Messages()) != 0 || len(l.clinic.Messages()) != 0 {
		t.Errorf("a null sender made deposits %+v, %d SMS and %d mails to the clinic", all, len(sms.Messages()), len(l.clinic.Messages()))
	}
	const n = 1
	if got := l.send(l.lmtp, "no-reply@clinic.test", toPatient("Scan", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	if all := deposits(); len(all) != 1 || all[0].State != vault.Held {
		t.Fatalf("a scanner's deposits: %+v", all)
	}
	l.later(2 * time.Minute)
	ask := plainText(t, arrived(t, l.clinic, "secretariat@clinic.test", 1)[0]) // held: no number is known
	page := regexp.MustCompile(`http://\S+/s/\w+`).FindString(ask)
	b := newBrowser(t)
	_, s := b.get(page)
	id := regexp.MustCompile(`name="depot" value="([0-9a-f]{32})"`).FindStringSubmatch(s)
	if id == nil {
		t.Fatalf("%s\n%s", ask, s)
	}
	if code, s := b.post(page+"/numero", url.Values{"depot": {id[1]}, "numero": {"TÉLÉPHONE"}}); code != 200 { // he tells the code himself
		t.Fatalf("%d %s", code, s)
	}
	notice := arrived(t, l.sink, "a@patient.test", n+1)[n]
	if notice.Sender != "secretariat@clinic.test" {
		t.Errorf("a bounce of the notice goes to %q", notice.Sender)
	}
	mails := arrived(t, l.clinic, "secretariat@clinic.test", 2)
	code := regexp.MustCompile(`\b\d{3}.?\d{3}\b`).FindString(strings.ReplaceAll(string(mails[1].Data), "=C2=A0", " "))
	link := linkIn(t, notice.Data)
	if got, p := b.post(link, url.Values{"code": {code}}); got != 200 || !strings.Contains(p, "MARQUEUR-SANTE") {
		t.Fatalf("code %q: %d", code, got)
	}
	if got, _ := b.answer(link, b.token(link), "Bien reçu"); got != 200 {
		t.Errorf("answer: %d", got)
	}
	if m := arrived(t, l.clinic, "secretariat@clinic.test", 3)[2]; !strings.Contains(string(m.Data), "; patient; verified=sender") {
		t.Errorf("the answer: %s", m.Data)
	}
	if n := len(l.clinic.To("no-reply@clinic.test")); n != 0 {
		t.Errorf("%d mails to whom nobody reads", n)
	}
	// with a number at once: the notice's sender is a person too
	if got := l.send(l.lmtp, "no-reply@clinic.test", toPatient("Scan [tel:0612345678]", "b@patient.test"), "b@patient.test"); codes(got) != "250" || l.sink.To("b@patient.test")[0].Sender != "secretariat@clinic.test" {
		t.Errorf("%q", got)
	}
}

// The far server takes the notice and cannot deliver it: its bounce is with the sender in seconds, with no content and no link in it.
func TestBouncedNotice(t *testing.T) {
	if err := gatewaytest.PostfixTools(); err != nil {
		if testing.Short() {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	l := newLife(t, "")
	_, port, _ := strings.Cut(l.clinic.Addr(), ":")
	// The Internet's Postfix: what it took for patient.test is refused behind it, and what it writes to the clinic arrives there.
	deaf := startHop(t, gatewaytest.Options{Rcpt: func(_, _ string) gatewaytest.Reply {
		return gatewaytest.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}
	}})
	_, deafPort, _ := strings.Cut(deaf.Addr(), ":")
	far, err := gatewaytest.StartPostfix(t.Context(), gatewaytest.PostfixOptions{Name: "far", Main: []string{"relayhost = [127.0.0.1]:" + port, "transport_maps = inline:{patient.test=smtp:[127.0.0.1]:" + deafPort + "}"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	l.reload(t, l.sink.Addr(), fmt.Sprint("127.0.0.1:", far.Port))
	start := time.Now()
	if got := l.send(l.lmtp, "dr@clinic.test", toPatient("Résultats [tel:06 12 34 56 78]", "nobody@patient.test"), "nobody@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := l.clinic.Wait(ctx, 1); err != nil {
		t.Fatalf("no bounce: %v\n%s", err, far.LogText())
	}
	bounce := l.clinic.To("dr@clinic.test")
	if len(bounce) != 1 || bounce[0].Sender != "" || !strings.Contains(string(bounce[0].Data), "multipart/report") || !strings.Contains(string(bounce[0].Data), "nobody@patient.test") {
		t.Fatalf("%d mails: %+v", len(bounce), l.clinic.Messages())
	}
	if data := string(bounce[0].Data); strings.Contains(data, "/r/") || strings.Contains(data, "MARQUEUR") {
		t.Errorf("the bounce has the link: %s", data)
	}
	t.Logf("the bounce was there after %v", time.Since(start))
}
