package portal

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"passerelle/gateway/gatewaytest/chromium"
)

// With scripts an answer that the clinic does not take leaves text and files where they are, one that is taken leaves nothing in the browser, and
// what was typed outlives a page that is loaded again. Nothing else may run: the policy names our script alone.
func TestAnswerWithScript(t *testing.T) {
	if testing.Short() {
		return
	}
	ctx := chromium.Start(t, 4*time.Minute)
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: false}); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	d := s.deposit()
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		chromium.Do(t, ctx, what, steps...)
	}
	value := func() string {
		t.Helper()
		v, err := chromedp.Run(ctx, chromedp.Value("#texte"))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	photo := filepath.Join(t.TempDir(), "photo.jpg")
	if err := os.WriteFile(photo, []byte(strings.Repeat("J", 500<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	do("open", chromedp.EmulateViewport(320, 720), chromedp.Navigate(d.Link+"?lang=fr"), chromedp.Click("button.main"), chromedp.WaitVisible("#code"))
	do("prove", chromedp.SendKeys("#code", s.lastCode()), chromedp.Click("button.main"), chromedp.WaitVisible("#texte"))
	do("type", chromedp.SendKeys("#texte", "Merci docteur"))
	do("load again", chromedp.Navigate(d.Link+"?lang=fr"), chromedp.WaitVisible("#texte"))
	if v := value(); v != "Merci docteur" {
		t.Errorf("a page loaded again has %q", v)
	}
	s.mu.Lock()
	s.refuse = errors.New("postfix away")
	s.mu.Unlock()
	send := chromedp.Click(`form[action*="reponse"] button`)
	watch := chromedp.Evaluate[chromedp.Void](`window.shown = []; new MutationObserver(() => shown.push(avance.hidden ? "hidden" : avance.value)).observe(document.getElementById("avance"), {attributes: true}); undefined`)
	do("refused", watch, chromedp.SetUploadFiles("#fichiers", []string{photo}), send, chromedp.WaitVisible("#suivi.bad"))
	if shown, err := chromedp.Run(ctx, chromedp.Evaluate[string](`shown.join(" ")`)); err != nil || !strings.HasPrefix(shown, "0 ") || !strings.HasSuffix(shown, " 100 hidden") {
		t.Errorf("the bar showed %q, %v", shown, err)
	}
	said, err := chromedp.Run(ctx, chromedp.Text("#suivi"))
	files, ferr := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.getElementById('fichiers').files.length`))
	if err != nil || ferr != nil || said != words["fr"]["ans.again"] || files != 1 || value() != "Merci docteur" {
		t.Errorf("refused: %q, %d files, %q (%v %v)", said, files, value(), err, ferr)
	}
	chromium.Shot(t, ctx, "answer-refused-320", 320)
	s.tunnel(200 << 10)
	do("cut", chromedp.Evaluate[chromedp.Void](`suivi.className = ""; undefined`), send, chromedp.WaitVisible("#suivi.bad"))
	s.tunnel(0)
	said, err = chromedp.Run(ctx, chromedp.Text("#suivi"))
	files, ferr = chromedp.Run(ctx, chromedp.Evaluate[int64](`document.getElementById('fichiers').files.length`))
	if err != nil || ferr != nil || said != words["fr"]["ans.cut"] || files != 1 || value() != "Merci docteur" {
		t.Errorf("cut: %q, %d files, %q (%v %v)", said, files, value(), err, ferr)
	}
	s.mu.Lock()
	s.refuse = nil
	s.mu.Unlock()
	do("taken", send, chromedp.WaitVisible(".good"))
	if len(s.answers) != 1 || !strings.Contains(s.answers[0], "Merci docteur [photo.jpg") {
		t.Errorf("%d answers: %.200q", len(s.answers), s.answers)
	}
	kept, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`sessionStorage.length`))
	if err != nil || kept != 0 || value() != "" {
		t.Errorf("%d texts kept after the answer, %q, %v", kept, value(), err)
	}
	ran, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`(function () { var e = document.createElement('script'); e.textContent = 'window.ran = true'; document.body.appendChild(e); return window.ran === true; })()`))
	if err != nil || ran {
		t.Errorf("another script ran: %v %v", ran, err)
	}
}

// A page without a form for an answer allows no script at all.
func TestScriptOnlyWithTheForm(t *testing.T) {
	s := newSite(t)
	d := s.deposit()
	b := &browser{s: s}
	csp := func() string {
		r, _ := b.do("GET", d.Link, nil)
		return r.Header.Get("Content-Security-Policy")
	}
	if p := csp(); strings.Contains(p, "script") {
		t.Errorf("before the proof: %s", p)
	}
	b.login(d)
	if p := csp(); !strings.Contains(p, "script-src 'sha256-") || strings.Contains(p, "unsafe") || strings.Contains(p, "script-src 'self'") {
		t.Errorf("with the form: %s", p)
	}
	if err := s.CloseExchange(t.Context(), d.Sender, d.Recipient, true); err != nil {
		t.Fatal(err)
	}
	if p := csp(); strings.Contains(p, "script") {
		t.Errorf("closed: %s", p)
	}
	body, ct := form(t, "trop tard")
	if r, page := b.do("POST", d.Link+"/reponse", body, "Content-Type", ct, "Sec-Fetch-Site", "same-origin"); r.StatusCode != http.StatusForbidden || !strings.Contains(page, "trop tard</textarea>") {
		t.Errorf("%s %s", r.Status, page)
	}
}
