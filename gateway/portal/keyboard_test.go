package portal

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"passerelle/gateway/gatewaytest/chromium"
	"passerelle/gateway/vault"
)

// From the link to the answer, the sender's page and what a recipient says against a message, with the keyboard alone, without scripts, in both
// languages, on a telephone's width and a desk's: whatever is needed is reached by Tab, in the order of the page, and what is reached is seen.
func TestKeyboardAlone(t *testing.T) {
	if testing.Short() {
		return
	}
	ctx := chromium.Start(t, 8*time.Minute)
	for _, width := range []int64{320, 1280} {
		for lang, say := range typedWords {
			t.Run(fmt.Sprintf("%d-%s", width, lang), func(t *testing.T) {
				chromium.Do(t, ctx, "set up", chromedp.EmulateViewport(width, 720))
				k := &keyboard{t: t, ctx: ctx, s: newSite(t), lang: lang, say: say}
				k.patient()
				k.phrase()
				k.sender()
			})
		}
	}
}

// typedWords are what the pages ask to be typed.
var typedWords = map[string]map[string]string{
	"fr": {"block": "bloquer", "unblock": "débloquer", "not me": "pas moi", "by hand": "lire", "told": "téléphone", "resend": "renvoyer", "close": "clore", "reopen": "rouvrir", "withdraw": "retirer"},
	"en": {"block": "block", "unblock": "unblock", "not me": "not me", "by hand": "read", "told": "telephone", "resend": "resend", "close": "close", "reopen": "reopen", "withdraw": "withdraw"},
}

// keyboard is somebody who has nothing else.
type keyboard struct {
	t    *testing.T
	ctx  context.Context
	s    *site
	link string // path of the patient's page
	lang string
	say  map[string]string
}

func (k *keyboard) open(link string) {
	k.t.Helper()
	chromium.Do(k.t, k.ctx, "open", chromedp.Navigate(link+"?lang="+k.lang), chromedp.WaitReady("footer"))
}

func (k *keyboard) press(keys string) {
	k.t.Helper()
	chromium.Do(k.t, k.ctx, "press", chromedp.KeyEvent(keys))
}

// to presses Tab until the element that a selector names has the focus.
func (k *keyboard) to(sel string) {
	k.t.Helper()
	for range 60 {
		k.press(kb.Tab)
		at, err := chromedp.Run(k.ctx, chromedp.Evaluate[string](`(() => { const e = document.activeElement, r = e.getBoundingClientRect(), s = getComputedStyle(e);
			return (e.matches(`+"`"+sel+"`"+`) ? "here " : "") + (e === document.body || r.width > 0 && r.height > 0 && r.left >= 0 && r.right <= innerWidth + 1 && (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2) ? "" : "unseen ") + e.outerHTML.slice(0, 120) })()`))
		if err != nil {
			k.t.Fatal(err)
		}
		if strings.Contains(at, "unseen") && !strings.Contains(at, "iframe") {
			k.t.Errorf("the focus is not seen on %s", at)
		}
		if strings.HasPrefix(at, "here ") {
			return
		}
	}
	k.t.Fatalf("%s is not reached by Tab", sel)
}

func (k *keyboard) follow(sel string) { k.t.Helper(); k.to(sel); k.press(kb.Enter) }

// fill types into a field and sends its form with Enter.
func (k *keyboard) fill(sel, text string) {
	k.t.Helper()
	k.to(sel)
	k.press(text)
	k.press(kb.Enter)
}

// unfold opens the part of the sender's page that has a deed's form, and types its word.
func (k *keyboard) unfold(deed, word string) {
	k.t.Helper()
	form := `form[action*="/` + deed + `"]`
	k.follow(`details:has(` + form + `) > summary`)
	k.fill(form+` input[name="mot"]`, word)
}

// at waits for a page that has what a selector names, with the words of a key in it ("" for any).
func (k *keyboard) at(sel, key string) {
	k.t.Helper()
	want, last := words[k.lang][key], ""
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var err error
		if last, err = chromedp.Run(k.ctx, chromedp.Evaluate[string](`(() => { const e = document.querySelector(`+"`"+sel+"`"+`); return document.readyState === "complete" && e ? "seen " + e.textContent : "" })()`)); err != nil {
			continue // between two pages
		}
		if strings.HasPrefix(last, "seen ") && strings.Contains(last, want) {
			return
		}
	}
	k.t.Fatalf("%s with %q does not come; last %q", sel, want, last)
}

func (k *keyboard) patient() {
	k.t.Helper()
	d := k.s.deposit()
	k.link = d.Link[len(k.s.srv.URL):] + "?"
	k.open(k.s.srv.URL + "/r/trop-court")
	k.fill("#code", d.Short)
	k.at("nav.more", "")
	k.follow("a.skip")
	k.follow(`a[href*="aide"]`)
	k.at("main ul", "")
	k.follow(`main a[href*="` + k.link + `"]`)
	k.at("nav.more", "")
	k.follow("button.main")
	k.at("#code", "")
	k.fill("#code", other(k.s.lastCode()))
	k.at(".bad", "fault.wrong")
	k.s.wait(time.Minute)
	k.fill("#code", k.s.lastCode())
	k.at(".files", "")
	k.follow(`a.see[href*="voir=3"]`)
	k.at("img.picture", "")
	k.to("#texte")
	k.press("Merci docteur")
	k.to("#fichiers")
	k.follow(`form[action*="reponse"] button`)
	k.at(".good", "done.answer")
	if len(k.s.answers) != 1 || !strings.HasSuffix(k.s.answers[0], ": Merci docteur") {
		k.t.Errorf("%q", k.s.answers)
	}
	k.follow(`form.leave button`)
	k.at(".more", "")
	k.follow(`a[href*="bloquer"]`)
	k.at(`form[action*="/bloquer"]`, "")
	k.fill("#mot", "non")
	k.at(".bad", "fault.word")
	k.fill("#mot", k.say["block"])
	k.at(".good", "done.block")
	k.fill("#mot", k.say["unblock"])
	k.at(".good", "done.unblock")
	k.follow(`main a[href*="` + k.link + `"]`)
	k.at(".more", "")
	k.follow(`a[href*="pas-moi"]`)
	k.at(`form[action*="/pas-moi"]`, "")
	k.fill("#mot", k.say["not me"])
	k.at(".good", "done.notme")
	if got := fmt.Sprint(k.s.refused); got != "[blocked patient@mail.test not me patient@mail.test]" {
		k.t.Errorf("%s", got)
	}
}

// phrase: who has only keys never meets the field that is for programs.
func (k *keyboard) phrase() {
	k.t.Helper()
	d := k.s.deposit(func(r *vault.DepositRequest) { r.Mode, r.Secret = vault.BySecret, "sans souci" })
	k.open(d.Link)
	for range 25 {
		k.press(kb.Tab)
		if in, err := chromedp.Run(k.ctx, chromedp.Evaluate[bool](`document.activeElement.name === "email" || document.querySelector("[name=email]").checkVisibility()`)); err != nil || in {
			k.t.Fatalf("the field for programs is seen, or has the focus: %v", err)
		}
	}
	chromium.Do(k.t, k.ctx, "a program", chromedp.Evaluate[chromedp.Void](`document.querySelector("[name=email]").value = "a@b.test"; undefined`))
	k.fill("#code", "sans souci")
	k.at(".bad", "fault.trap")
	k.to("#code")
	k.press("sans souci")
	k.fill("#mot", k.say["by hand"])
	k.at(".files", "")
}

func (k *keyboard) sender() {
	k.t.Helper()
	id, page := k.s.held()
	state := func() (s vault.Status) {
		k.t.Helper()
		s, err := k.s.Status(k.t.Context(), id)
		if err != nil {
			k.t.Fatal(err)
		}
		return s
	}
	k.open(page)
	k.fill(`input[name="numero"]`, "12")
	k.at(".bad", "fault.phone")
	k.fill(`input[name="numero"]`, k.say["told"])
	k.at(".good", "done.completed")
	if s := state(); s.State != vault.Waiting || s.Mode != vault.BySender {
		k.t.Errorf("completed: %+v", s)
	}
	k.unfold("renvoyer", "non")
	k.at(".bad", "fault.confirm")
	k.unfold("renvoyer", k.say["resend"])
	k.at(".good", "done.resent")
	k.unfold("clore", k.say["close"])
	k.at(".good", "done.closed")
	if !state().Closed {
		k.t.Error("the exchange is open")
	}
	k.unfold("rouvrir", k.say["reopen"])
	k.at(".good", "done.reopened")
	k.unfold("retirer", k.say["withdraw"])
	k.at(".good", "done.revoked")
	if s := state(); s.State != vault.Revoked {
		k.t.Errorf("withdrawn: %+v", s)
	}
}
