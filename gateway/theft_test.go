package gateway_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"passerelle/gateway"
)

// deposited is a house with one letter that waits, its notice, and the code that its reader asked for.
func deposited(t *testing.T, pickup string) (l *lifeHouse, mail notice, code string) {
	t.Helper()
	l = newLife(t, pickup)
	if got := l.send(l.lmtp, "dr@clinic.test", sealedLetter("a@patient.test", " [tel:0612345678]"), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	mail = readNotice(t, arrived(t, l.sink, "a@patient.test", 1)[0])
	r := newReader(t, nil)
	if status, page := r.post(mail.link+"/code", nil); status != http.StatusOK {
		t.Fatalf("%d %s", status, page)
	}
	texts, err := l.sms.Wait(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return l, mail, regexp.MustCompile(`\d{6}`).FindString(strings.ReplaceAll(texts[0].Text, " ", ""))
}

// Who steals what, and what he has of it then. Addresses and times are in the database in clear and are not named; the content is what counts.
// Each line says exactly what opens: one that opens less is as wrong as one that opens more, for then the thief was no good.
func TestThefts(t *testing.T) {
	plain, plainMail, plainCode := deposited(t, "")
	strict, strictMail, strictCode := deposited(t, ", strict: true")
	pf, pk, sf, sk := plain.steal(), plain.serverKey(), strict.steal(), strict.serverKey()
	for _, c := range []struct {
		stolen string
		thief  thief
		code   string
		want   string
	}{
		{"database and blobs", thief{files: pf}, plainCode, ""},
		{"database and blobs, strict", thief{files: sf}, strictCode, ""},
		// The resend record is what reminders and resends need; the operator chooses (docs/security.md).
		{"database, blobs and server key", thief{files: pf, key: pk}, plainCode, "code content link phone"},
		{"database, blobs and server key, strict", thief{files: sf, key: sk}, strictCode, "code phone"},
		{"database and blobs, and another clinic's key", thief{files: pf, key: sk}, plainCode, ""},
		{"the patient's mailbox", thief{mails: []string{plainMail.raw}}, plainCode, "link"},
		{"database, blobs and the patient's mailbox", thief{files: pf, mails: []string{plainMail.raw}}, plainCode, "link"},
		{"database, blobs and the access code alone", thief{files: sf, mails: []string{spaced(strictMail.access)}}, strictCode, ""},
		{"server key and the patient's mailbox", thief{key: pk, mails: []string{plainMail.raw}}, plainCode, "link"},
		{"database, blobs, server key and the patient's mailbox, strict", thief{files: sf, key: sk, mails: []string{strictMail.raw}}, strictCode, "code content link phone"},
		{"database, blobs, server key and what would be an access code, strict: there is none", thief{files: sf, key: sk, mails: []string{spaced(strictMail.access)}}, strictCode, "code phone"},
	} {
		c.thief.t = t
		if got := c.thief.haul(c.code); got != c.want {
			t.Errorf("%s: he has %q, want %q", c.stolen, got, c.want)
		}
	}
}

func spaced(access string) string {
	return strings.ToUpper(access[:4] + " " + access[4:8] + " " + access[8:12] + " " + access[12:])
}

// After the last reminder the link is gone from the disk, and with a held deposit it is there until its number is given, under strict too.
func TestTheftWithTheKeyOverTime(t *testing.T) {
	l, _, _ := deposited(t, "")
	key := l.serverKey()
	l.later(49 * time.Hour)
	arrived(t, l.sink, "a@patient.test", 2)
	l.later(5*24*time.Hour + time.Hour)
	arrived(t, l.sink, "a@patient.test", 3)
	l.later(5*24*time.Hour + 2*time.Hour)
	var got string
	for range 400 { // while it runs; the log of the database is emptied every minute, and at the start
		if got = (thief{t: t, files: l.steal(), key: key}).haul(""); got == "phone" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got != "phone" {
		t.Errorf("after the last reminder, with database, blobs and server key: %q, want the phone", got)
	}

	h := newLife(t, ", strict: true, no_phone: hold")
	if got := h.send(h.lmtp, "dr@clinic.test", sealedLetter("a@patient.test", ""), "a@patient.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	h.later(2 * time.Minute)
	ask := plainText(t, arrived(t, h.clinic, "dr@clinic.test", 1)[0])
	key = h.serverKey()
	if got := (thief{t: t, files: h.steal(), key: key}).haul(""); got != "content link" {
		t.Errorf("held, strict, with database, blobs and server key: %q", got)
	}
	if got := (thief{t: t, files: h.steal(), mails: []string{ask}}).haul(""); got != "" {
		t.Errorf("held, without the key: %q", got)
	}
	page := regexp.MustCompile(`http://\S+/s/\S+`).FindString(ask)
	r := newReader(t, nil)
	_, html := r.do("GET", page, nil)
	id := regexp.MustCompile(`id="d([0-9a-f]{32})"`).FindStringSubmatch(html)[1]
	if status, html := r.post(page+"/numero", url.Values{"depot": {id}, "numero": {"0612345678"}}); status != http.StatusOK {
		t.Fatalf("%d %s", status, html)
	}
	h.stop()
	if got := (thief{t: t, files: h.steal(), key: key}).haul(""); got != "phone" {
		t.Errorf("its number given, strict, with database, blobs and server key: %q, want the phone", got)
	}
}

// The thief of mailboxes stands before the running portal with every link and access code, of the patient's notices and of the sender's receipts.
func TestTheftOfTheMailboxes(t *testing.T) {
	l, mail, code := deposited(t, "")
	l.later(2 * time.Minute)
	receipt := plainText(t, arrived(t, l.clinic, "dr@clinic.test", 1)[0])
	track := regexp.MustCompile(`http://\S+/s/\S+`).FindString(receipt)
	x := newReader(t, nil)
	var seen strings.Builder
	see := func(status int, body string) { fmt.Fprintln(&seen, status, body) }
	for _, path := range []string{"", "/texte", "/f/0", "/f/1", "/code", "/reponse", "/fermer", "?vue=html", "?fait=code", "/../../" + mail.secret} {
		see(x.do("GET", mail.link+path, nil))
	}
	see(x.post("http://"+l.portal+"/retrait", url.Values{"code": {mail.access}}))
	see(x.post(mail.link+"/code", nil)) // it goes to the patient's telephone
	for i := range 40 {
		guess := fmt.Sprintf("%06d", i*25_000+1)
		if guess != code {
			see(x.post(mail.link, url.Values{"code": {guess}}))
		}
	}
	see(x.answer(mail.link, 1000))
	see(x.do("GET", mail.link, nil, "Cookie", "passerelle-"+mail.secret[:12]+"=ffffffff.00"))
	see(x.do("GET", track, nil))
	see(x.post(track+"/numero", url.Values{"depot": {"tous"}, "numero": {"0699999999"}}))
	for _, m := range l.clinic.To("dr@clinic.test") {
		if strings.Contains(string(m.Data), secretAnswer) {
			t.Error("he answered in the patient's name")
		}
	}
	for _, s := range []string{secretText, secretFile, secretName, secretTitle, "0612345678", "06 12 34 56 78", "+33612345678"} {
		if strings.Contains(seen.String(), s) {
			t.Errorf("he saw %s", s)
		}
	}
	if !strings.Contains(seen.String(), "a@patient.test") || !strings.Contains(seen.String(), "06 .. .. 56 78") {
		t.Error("the receipt's page says who it waits for, and the last four digits: that much he has")
	}
	// What he can: withdraw the letter. Its sender has it still, and is told.
	if status, _ := x.post(track+"/retirer", url.Values{"depot": {"tous"}, "mot": {"retirer"}}); status != http.StatusOK {
		t.Errorf("the withdrawal: %d", status)
	}
	if status, _ := newReader(t, nil).do("GET", mail.link, nil); status != http.StatusGone {
		t.Errorf("after the withdrawal: %d", status)
	}
}

// A whole life, and what of it lies in clear in any file below the state folder, or in the log, at any step, while it runs and after it stopped.
func TestNothingInClearAfterAWholeLife(t *testing.T) {
	const phrase, byPhrase = "Le Chat Botté 1697", "b@patient.test"
	list := listFile(t, "adresse;phone;secret\na@patient.test;06 12 34 56 78;\n"+byPhrase+";;"+phrase+"\nc@patient.test;07 11 22 33 44;\n")
	l := newLifeAt(t, "http://{portal}", "}\ndirectory: {list: \""+list+"\"")
	secrets := map[string]string{"text": secretText, "file": secretFile, "file name": secretName, "subject": secretTitle, "answer": secretAnswer,
		"phone": "612345678", "phone, spaced": "06 12 34 56", "other phone": "711223344", "agreed secret": phrase, "agreed secret, a part": "Chat Bott"}
	learn := func(who string, n notice) {
		secrets["link of "+who], secrets["access code of "+who], secrets["access code of "+who+", spaced"] = n.secret, n.access, spaced(n.access)
	}
	clean := func(step string) {
		t.Helper()
		files := map[string]string{"log": l.log.String()}
		err := filepath.WalkDir(filepath.Join(l.dir, "state"), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			files[filepath.Base(path)] = string(b)
			if os.IsNotExist(err) { // it went while we looked
				return nil
			}
			return err
		})
		if err != nil || len(files) < 4 {
			t.Fatalf("%s: %d files, %v", step, len(files), err)
		}
		for name, text := range files {
			lower := strings.ToLower(text)
			for what, s := range secrets {
				if strings.Contains(lower, strings.ToLower(s)) {
					t.Errorf("%s: %s has the %s", step, name, what)
				}
			}
		}
	}
	send := func(to string) notice {
		t.Helper()
		n := len(l.sink.To(to))
		if got := l.send(l.lmtp, "dr@clinic.test", sealedLetter(to, ""), to); codes(got) != "250" {
			t.Fatal(got)
		}
		m := readNotice(t, arrived(t, l.sink, to, n+1)[n])
		learn(fmt.Sprint(to, n), m)
		return m
	}
	a, b := send("a@patient.test"), send(byPhrase)
	send("c@patient.test") // nobody opens it
	clean("deposits")
	r := newReader(t, nil)
	code, _ := r.openBySMS(a.link, l.sms, 1)
	secrets["code"], secrets["code, spaced"] = code, code[:3]+" "+code[3:]
	if status, _ := r.post(b.link, url.Values{"code": {"le chat"}}); status != http.StatusForbidden {
		t.Errorf("a wrong phrase: %d", status)
	}
	if status, page := r.post("http://"+l.portal+"/retrait", url.Values{"code": {a.access}}); status != http.StatusOK || !strings.Contains(page, secretText) {
		t.Errorf("the access code: %d", status)
	}
	r.post(a.link, url.Values{"code": {"000000"}})
	clean("code and opening")
	if status, file := r.do("GET", a.link+"/f/0", nil, "Range", "bytes=100-"); status != http.StatusPartialContent || !strings.Contains(file, secretFile) {
		t.Errorf("the download: %d", status)
	}
	if status, _ := r.answer(a.link, 2<<20); status != http.StatusOK {
		t.Errorf("the answer: %d", status)
	}
	clean("answer")
	l.later(2 * time.Minute)
	arrived(t, l.clinic, "dr@clinic.test", 4) // the answer and three receipts
	clean("receipts")
	l.later(49 * time.Hour)
	arrived(t, l.sink, "c@patient.test", 2)
	clean("reminder")
	if err := l.revokeOf(byPhrase); err != nil {
		t.Fatal(err)
	}
	clean("revocation")
	l.later(30*24*time.Hour + time.Hour)
	l.later(30*24*time.Hour + 2*time.Hour)
	clean("expiry")
	l.stop()
	clean("stop")
	if left, err := filepath.Glob(filepath.Join(l.dir, "state", "deposits", "*")); err != nil || len(left) != 0 {
		t.Errorf("payloads left: %v %v", left, err)
	}
	if got := (thief{t: t, files: l.steal(), key: l.serverKey(), mails: []string{a.raw, b.raw}}).haul(code); got != "link" {
		t.Errorf("who steals everything afterwards, and has the mailboxes, has %q, want what the mailboxes have", got)
	}
}

// A payload that was copied while its deposit lived, as a backup has it, opens no more once the deposit ended, with the server key, the link
// and the database as it lies on the disk then: the key is destroyed, in old pages too.
func TestTheftOfABackup(t *testing.T) {
	for _, c := range []struct {
		how string
		end func(*lifeHouse) error
	}{
		{"revoked", func(l *lifeHouse) error { return l.revokeOf("a@patient.test") }},
		{"expired", func(l *lifeHouse) error { l.later(31 * 24 * time.Hour); l.swept(0); return nil }},
	} {
		l, mail, _ := deposited(t, "")
		then, key := l.steal(), l.serverKey()
		x := thief{t: t, files: then, key: key, mails: []string{mail.raw}}
		header := x.rows()[0].header
		if got := x.haul(""); !strings.Contains(got, "content") || len(header) < 100 {
			t.Fatalf("before the end he has %q: the thief is no good", got)
		}
		if err := c.end(l); err != nil {
			t.Fatal(err)
		}
		l.stop()
		now := l.steal()
		if err := os.Remove(filepath.Join(now, "deposits")); err != nil { // fails where a payload is left
			t.Fatalf("%s: %v", c.how, err)
		}
		if err := os.Rename(filepath.Join(then, "deposits"), filepath.Join(now, "deposits")); err != nil {
			t.Fatal(err)
		}
		if got := (thief{t: t, files: now, key: key, mails: []string{mail.raw}}).haul(""); got != "link" {
			t.Errorf("%s: the payload of a backup, database, server key and mailbox: %q, want the mailbox's link alone", c.how, got)
		}
		for _, name := range []string{"passerelle.db.raw", "passerelle.db-wal.raw"} {
			if b, _ := os.ReadFile(filepath.Join(now, name)); strings.Contains(string(b), string(header[30:90])) {
				t.Errorf("%s: %s has the key's header still", c.how, name)
			}
		}
	}
}

// revokeOf withdraws what waits for one recipient, as the operator does.
func (l *lifeHouse) revokeOf(to string) error {
	d, err := gateway.OpenDeposits(l.t.Context(), l.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer d.Close()
	all, err := d.List(l.t.Context(), gateway.DepositFilter{Recipient: to, Limit: 100})
	if err != nil || len(all) != 1 {
		return fmt.Errorf("%d wait for %s: %w", len(all), to, err)
	}
	return d.Revoke(l.t.Context(), all[0].ID)
}
