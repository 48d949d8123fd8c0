package portal

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestPatientInChromium walks the whole way as a patient does, on a telephone of 320 px and on a desk of 1280 px, with scripts
// switched off. SCREENSHOTS names a folder that keeps the pictures.
func TestPatientInChromium(t *testing.T) {
	if testing.Short() {
		return
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs Debian's package chromium")
	}
	shots := os.Getenv("SCREENSHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("headless", true), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("lang", "fr-FR"), chromedp.Flag("hide-scrollbars", true)}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	defer stop()
	ctx, cancel := chromedp.NewContext(alloc)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	limit, end := context.WithTimeout(ctx, 2*time.Minute)
	defer end()
	for _, width := range []int64{320, 1280} {
		for _, lang := range []string{"fr", "en"} {
			t.Run(fmt.Sprintf("%d-%s", width, lang), func(t *testing.T) { walk(t, limit, shots, width, lang) })
		}
	}
}

func walk(t *testing.T, ctx context.Context, shots string, width int64, lang string) {
	s := newSite(t)
	d := s.deposit()
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	shot := func(name string) {
		t.Helper()
		p, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatalf("screenshot %s: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(shots, fmt.Sprintf("%s-%d-%s.png", name, width, lang)), p, 0o600); err != nil {
			t.Fatal(err)
		}
		over, err := chromedp.Run(ctx, chromedp.Evaluate[int64]("document.documentElement.scrollWidth"))
		if err != nil || over > width {
			t.Errorf("%s is %d px wide on %d, %v", name, over, width, err)
		}
	}
	downloads := t.TempDir()
	yes := true
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
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
	if err != nil || string(p) != strings.Repeat("%PDF compte rendu\n", 20_000) {
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
