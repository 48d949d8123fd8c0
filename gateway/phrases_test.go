package gateway_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// phraseHouse is a gateway whose zip.test gets ZIP and pdf.test gets PDF.
func phraseHouse(t *testing.T, withSMS bool) (*house, *gatewaytest.SMS) {
	sms, url := gatewaytest.StartSMS(), ""
	t.Cleanup(func() { sms.Close() })
	if withSMS {
		url = "sms: {url: \"" + sms.URL() + "\"}\n"
	}
	list := filepath.Join(t.TempDir(), "list.yaml")
	text := "- {address: told@zip.test, phone: \"+33612345678\"}\n- {address: told@pdf.test, phone: \"+33612345679\", lang: en}\n- {address: agreed@zip.test, secret: corail-menthe-sillon-7421}\n"
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return custom(t, withRules("directory: {list: \""+list+"\"}\n"+url+"pickup: {url: \"http://{portal}\"}\n"+
		"rules:\n  - {name: zip, recipient: [\"*@zip.test\"], route: encrypt, form: zip}\n  - {name: pdf, recipient: [\"*@pdf.test\"], route: encrypt, form: pdf}\n  - {name: rest, route: plain}\n"), nil, nil), sms
}

var phrasePath = regexp.MustCompile(`http://[0-9.:]+/m/[0-9a-z]{26}`)

// phraseLink sends a mail and gives the link in what arrives.
func (h *house) phraseLink(t *testing.T, to string) string {
	t.Helper()
	if got := h.send(h.lmtp, "dr@clinic.test", fmt.Sprintf(strings.Replace(hello, "<1@", "<%s@", 1), to), to); codes(got) != "250" {
		t.Fatalf("%s: %q", to, got)
	}
	text := plainText(t, h.sink.To(to)[len(h.sink.To(to))-1])
	links := phrasePath.FindAllString(text, -1)
	if len(links) != 2 || links[0] != links[1] { // in both languages
		t.Fatalf("%s: links %q in %s", to, links, text)
	}
	return links[0]
}

// wordsOf is the passphrase in a text that was told.
func wordsOf(t *testing.T, text string) string {
	t.Helper()
	w := regexp.MustCompile(`[a-z]{4,8}(-[a-z]{4,8}){7}`).FindString(text)
	if w == "" {
		t.Fatalf("no passphrase in %q", text)
	}
	return w
}

// TestPhraseAskedAgain: the page brings the passphrase again by SMS or by the sender, as often as codes; looking at it does nothing, and it never
// shows it.
func TestPhraseAskedAgain(t *testing.T) {
	h, sms := phraseHouse(t, true)
	for _, to := range []string{"told@zip.test", "told@pdf.test"} {
		link := h.phraseLink(t, to)
		before := len(sms.Messages())
		words := wordsOf(t, sms.Messages()[before-1].Text)
		b := newBrowser(t)
		for range 5 { // scanners
			for _, u := range []string{link, strings.ToUpper(link[len(link)-26:]), link + "?fait=sms", link + "/"} {
				if !strings.HasPrefix(u, "http") {
					u = link[:len(link)-26] + u
				}
				code, page := b.get(u)
				if code != 200 || !strings.Contains(page, "06 .. .. 56 7") || strings.Contains(page, words) {
					t.Fatalf("%s: %d %s", u, code, page)
				}
			}
			r, err := http.Head(link)
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
		}
		if code, _ := b.post(link, nil); code != 400 {
			t.Errorf("an empty form: %d", code)
		}
		if n := len(sms.Messages()); n != before {
			t.Fatalf("looking sent %d SMS", n-before)
		}
		sms.Answer(http.StatusForbidden) // it cannot be handed over: that does not count
		if code, page := b.post(link, url.Values{"par": {"sms"}}); code < 500 || !strings.Contains(page, "pas pu") {
			t.Errorf("without the provider: %d %s", code, page)
		}
		sms.Answer(http.StatusOK)
		for n := range 4 {
			code, page := b.post(link, url.Values{"par": {"sms"}})
			if n < 3 && (code != 200 || !strings.Contains(page, "Le SMS est parti")) || n == 3 && code != 429 || strings.Contains(page, words) {
				t.Fatalf("%d: %d %s", n, code, page)
			}
		}
		all := sms.Messages()
		if len(all) != before+3 || wordsOf(t, all[len(all)-1].Text) != words || all[len(all)-1].To != all[before-1].To {
			t.Errorf("%d SMS, the last %+v", len(all), all[len(all)-1])
		}
		for _, m := range h.sink.Messages() {
			if bytes.Contains(m.Data, []byte(words)) {
				t.Error("the passphrase is in a mail for outside")
			}
		}
		if log := h.log.String(); strings.Contains(log, words) || strings.Contains(log, link[len(link)-26:]) || strings.Contains(log, "61234567") {
			t.Errorf("in the log: %s", log)
		}
	}
	if _, page := newBrowser(t).get("http://" + h.portal + "/m/00000000000000000000000000?lang=en"); !strings.Contains(page, "leads nowhere") {
		t.Errorf("an unknown link: %s", page)
	}
}

// TestPhraseAskedOfTheSender: without a provider the sender is asked, and gets the same words again; where the telephone is another one, too.
func TestPhraseAskedOfTheSender(t *testing.T) {
	h, _ := phraseHouse(t, false)
	link := h.phraseLink(t, "told@zip.test")
	words := wordsOf(t, plainText(t, arrived(t, h.clinic, "dr@clinic.test", 1)[0]))
	b := newBrowser(t)
	if code, page := b.get(link); code != 200 || strings.Contains(page, `value="sms"`) || !strings.Contains(page, `value="sender"`) {
		t.Errorf("%d %s", code, page)
	}
	if code, _ := b.post(link, url.Values{"par": {"sms"}}); code != 502 {
		t.Errorf("an SMS without a provider: %d", code)
	}
	if code, page := b.post(link, url.Values{"par": {"sender"}}); code != 200 || !strings.Contains(page, "vous appellera") {
		t.Errorf("%d %s", code, page)
	}
	again := plainText(t, arrived(t, h.clinic, "dr@clinic.test", 2)[1])
	if wordsOf(t, again) != words || !strings.Contains(again, "told@zip.test") {
		t.Errorf("the sender reads %s", again)
	}
	h.clinicRefuses = func() bool { return true }
	if code, page := b.post(link, url.Values{"par": {"sender"}}); code != 502 || !strings.Contains(page, "pas pu être envoyé") {
		t.Errorf("the clinic's server refuses: %d %s", code, page)
	}
}

// TestPhraseOfAnotherTelephone: whose number is another one asks the sender too; an agreed phrase is told by nobody.
func TestPhraseOfAnotherTelephone(t *testing.T) {
	h, sms := phraseHouse(t, true)
	b := newBrowser(t)
	told := h.phraseLink(t, "told@zip.test")
	if code, _ := b.post(told, url.Values{"par": {"sender"}}); code != 200 {
		t.Errorf("%d", code)
	}
	if first := plainText(t, arrived(t, h.clinic, "dr@clinic.test", 1)[0]); wordsOf(t, first) != wordsOf(t, sms.Messages()[0].Text) {
		t.Errorf("the sender reads %s", first)
	}

	agreed := h.phraseLink(t, "agreed@zip.test")
	if code, page := b.get(agreed); code != 200 || strings.Contains(page, "<form") || !strings.Contains(page, "la phrase dont vous êtes convenu") || strings.Contains(page, "corail") {
		t.Errorf("agreed: %d %s", code, page)
	}
	if code, _ := b.post(agreed, url.Values{"par": {"sender"}}); code != 502 {
		t.Errorf("an agreed phrase was told: %d", code)
	}
	if n := len(sms.Messages()); n != 1 {
		t.Errorf("%d SMS", n)
	}
}

// TestPhraseLinkOfARepeat: where the telling fails behind the sealed mail, the next attempt's mail has the same link and the same words.
func TestPhraseLinkOfARepeat(t *testing.T) {
	h, sms := phraseHouse(t, true)
	sms.Answer(http.StatusForbidden)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "told@zip.test"); codes(got) != "451" {
		t.Fatal(got)
	}
	sms.Answer(http.StatusOK)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "told@zip.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	sent := h.sink.To("told@zip.test")
	if len(sent) != 2 {
		t.Fatalf("%d mails", len(sent))
	}
	one, two := phrasePath.FindString(plainText(t, sent[0])), phrasePath.FindString(plainText(t, sent[1]))
	if one == "" || one != two {
		t.Errorf("%q and %q", one, two)
	}
	b := newBrowser(t)
	if code, _ := b.post(one, url.Values{"par": {"sms"}}); code != 200 {
		t.Errorf("%d", code)
	}
	if all := sms.Messages(); len(all) != 2 || wordsOf(t, all[0].Text) != wordsOf(t, all[1].Text) {
		t.Errorf("%+v", all)
	}
}

// TestNoPhrasePageWithoutPickup: without a vault the cover text names no page, and the sender tells the words.
func TestNoPhrasePageWithoutPickup(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list.yaml")
	if err := os.WriteFile(list, []byte("- {address: told@zip.test, phone: \"+33612345678\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := custom(t, withRules("directory: {list: \""+list+"\"}\nrules:\n  - {name: zip, recipient: [\"*@zip.test\"], route: encrypt, form: zip, fallback: refuse}\n  - {name: rest, route: plain}\n"), nil, nil)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "told@zip.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	if text := plainText(t, h.sink.To("told@zip.test")[0]); strings.Contains(text, "/m/") || !strings.Contains(text, "message.zip") {
		t.Error(text)
	}
	wordsOf(t, plainText(t, arrived(t, h.clinic, "dr@clinic.test", 1)[0]))
}
