package portal

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"passerelle/gateway/gatewaytest/chromium"
)

// From the link to the answer with the keyboard alone, without scripts: whatever is needed is reached by Tab, in the order of the page, and what
// is reached is seen.
func TestKeyboardAlone(t *testing.T) {
	if testing.Short() {
		return
	}
	s := newSite(t)
	d := s.deposit()
	ctx := chromium.Start(t, time.Minute)
	press := func(keys string) {
		t.Helper()
		chromium.Do(t, ctx, "press", chromedp.KeyEvent(keys))
	}
	// to presses Tab until the element that a selector names has the focus.
	to := func(sel string) {
		t.Helper()
		for range 40 {
			press(kb.Tab)
			at, err := chromedp.Run(ctx, chromedp.Evaluate[string](`(() => { const e = document.activeElement, r = e.getBoundingClientRect(), s = getComputedStyle(e);
				return (e.matches(`+"`"+sel+"`"+`) ? "here " : "") + (e === document.body || r.width > 0 && r.height > 0 && (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2) ? "" : "unseen ") + e.outerHTML.slice(0, 120) })()`))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(at, "unseen") && !strings.Contains(at, "iframe") {
				t.Errorf("the focus is not seen on %s", at)
			}
			if strings.HasPrefix(at, "here ") {
				return
			}
		}
		t.Fatalf("%s is not reached by Tab", sel)
	}
	wait := func(sel string) {
		t.Helper()
		chromium.Do(t, ctx, "wait for "+sel, chromedp.WaitVisible(sel))
	}
	chromium.Do(t, ctx, "link", chromedp.EmulateViewport(1280, 720), chromedp.Navigate(d.Link+"?lang=fr"))
	to("a.skip")
	press(kb.Enter)
	to("button.main")
	press(kb.Enter)
	wait("#code")
	to("#code")
	press(s.lastCode())
	press(kb.Enter)
	wait(".files")
	to(`a.see[href*="voir=3"]`)
	press(kb.Enter)
	wait("img.picture")
	to("#texte")
	press("Merci docteur")
	to("#fichiers")
	to(`form[action*="reponse"] button`)
	press(kb.Enter)
	wait(".good")
	if len(s.answers) != 1 || !strings.HasSuffix(s.answers[0], ": Merci docteur") {
		t.Errorf("%q", s.answers)
	}
	to(`form.leave button`)
	press(kb.Enter)
	wait(".more")
	to(`a[href*="bloquer"]`)
	press(kb.Enter)
	wait("#mot")
	to("#mot")
	press("bloquer")
	press(kb.Enter)
	wait(".good")
	if len(s.refused) != 1 {
		t.Errorf("%q", s.refused)
	}
}
