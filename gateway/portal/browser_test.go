package portal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	"passerelle/gateway/gatewaytest/chromium"
)

// TestPatientInChromium walks the whole way as a patient does, on a telephone of 320 px and on a desk of 1280 px, with scripts
// switched off. SCREENSHOTS names a folder that keeps the pictures.
func TestPatientInChromium(t *testing.T) {
	if testing.Short() {
		return
	}
	ctx := chromium.Start(t, 2*time.Minute)
	for _, width := range []int64{320, 1280} {
		for _, lang := range []string{"fr", "en"} {
			t.Run(fmt.Sprintf("%d-%s", width, lang), func(t *testing.T) { walk(t, ctx, width, lang) })
		}
	}
}

func walk(t *testing.T, ctx context.Context, width int64, lang string) {
	s := newSite(t)
	d := s.deposit()
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		chromium.Do(t, ctx, what, steps...)
	}
	shot := func(name string) {
		t.Helper()
		chromium.Shot(t, ctx, fmt.Sprintf("%s-%d-%s", name, width, lang), width)
	}
	downloads := t.TempDir()
	yes := true
	if _, err := chromedp.Call(ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
		Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, DownloadPath: downloads, EventsEnabled: &yes}); err != nil {
		t.Fatal(err)
	}
	do("set up", chromedp.EmulateViewport(width, 720))
	query := "?lang=" + lang
	do("link", chromedp.Navigate(d.Link+query), chromedp.WaitVisible("button.main"))
	shot("1-link")
	do("ask for the code", chromedp.Click("button.main"), chromedp.WaitVisible("#code"))
	shot("2-code")
	wrong := "000000"
	if s.lastCode() == wrong {
		wrong = "000001"
	}
	do("wrong code", chromedp.SendKeys("#code", wrong), chromedp.Click("button.main"), chromedp.WaitVisible(".bad"))
	shot("3-wrong")
	do("right code", chromedp.SendKeys("#code", s.lastCode()), chromedp.Click("button.main"), chromedp.WaitVisible(".files"))
	shot("4-message")
	progress := chromedp.Events(ctx, cdpbrowser.DownloadProgress)
	do("download", chromedp.Click(".files li:first-child a"))
	for e, err := range progress {
		if err != nil || e.State == cdpbrowser.DownloadProgressStateCanceled {
			t.Fatalf("download %s, %v", e.State, err)
		}
		if e.State == cdpbrowser.DownloadProgressStateCompleted {
			break
		}
	}
	p, err := os.ReadFile(filepath.Join(downloads, "Compte-rendu d'écho – Mme Léa Dupont.pdf"))
	if err != nil || string(p) != report {
		es, _ := os.ReadDir(downloads)
		t.Errorf("%d octets, %v, %v", len(p), err, es)
	}
	do("frame", chromedp.Navigate(d.Link+"?vue=html&lang="+lang), chromedp.WaitVisible("iframe.mail"))
	shot("5-html")
	do("answer", chromedp.Navigate(d.Link+query), chromedp.SendKeys("#texte", "Merci docteur"), chromedp.Click(`form[action*="reponse"] button`), chromedp.WaitVisible(".good"))
	shot("6-answered")
	if len(s.answers) != 1 || !strings.HasSuffix(s.answers[0], ": Merci docteur") {
		t.Errorf("%q", s.answers)
	}
	s.wait(31 * 24 * time.Hour)
	do("expired", chromedp.Navigate(d.Link+query), chromedp.WaitVisible("h1"))
	shot("7-gone")
}
