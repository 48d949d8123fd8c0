package addressbook

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestSecretaryInChromium searches as a secretary does, on a telephone of 320 px and on a desk of 1280 px, with scripts switched off.
// SCREENSHOTS names a folder that keeps the pictures.
func TestSecretaryInChromium(t *testing.T) {
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
	limit, end := context.WithTimeout(ctx, time.Minute)
	defer end()
	shelf := newShelf()
	shelf.entries = append(shelf.entries, Entry{Address: "secretariat-de-chirurgie-orthopedique-et-traumatologique@centre-hospitalier-universitaire.mssante.fr",
		Structure: "CENTRE HOSPITALIER UNIVERSITAIRE DE SAINT-PIERRE-ET-MIQUELON", Service: "Chirurgieorthopédiqueettraumatologiquepédiatrique", City: "SAINT PIERRE", PostalCode: "97500"})
	s := site(t, newBook(t, shelf))
	for _, width := range []int64{320, 1280} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			if _, err := chromedp.Call(limit, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
				t.Fatal(err)
			}
			do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
				t.Helper()
				if err := chromedp.Do(limit, steps...); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				p, err := chromedp.Run(limit, chromedp.FullScreenshot(100))
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if err := os.WriteFile(filepath.Join(shots, fmt.Sprintf("%s-%d.png", what, width)), p, 0o600); err != nil {
					t.Fatal(err)
				}
				over, err := chromedp.Run(limit, chromedp.Evaluate[int64]("document.documentElement.scrollWidth"))
				if err != nil || over > width {
					t.Errorf("%s is %d px wide on %d, %v", what, over, width, err)
				}
			}
			do("empty", chromedp.EmulateViewport(width, 720), chromedp.Navigate(s.URL+"/?lang=fr"), chromedp.WaitVisible("#q"))
			do("short", chromedp.SendKeys("#q", "du"), chromedp.Click("button"), chromedp.WaitVisible(".bad"))
			do("found", chromedp.Navigate(s.URL+"/?lang=fr"), chromedp.SendKeys("#q", "Dupont lyon"), chromedp.Click("button"), chromedp.WaitVisible(`a[href="mailto:jean.dupont@medecin.mssante.fr"]`))
			do("list", chromedp.Navigate(s.URL+"/?lang=fr&q=mssante"), chromedp.WaitVisible("table"))
			do("wide", chromedp.Navigate(s.URL+"/?lang=fr&q=centre+hospitalier+saint"), chromedp.WaitVisible("table"))
			do("none", chromedp.Navigate(s.URL+"/?lang=fr&q=xyzzy"), chromedp.WaitVisible(".note"))
			shelf.away.Store(true)
			do("away", chromedp.Navigate(s.URL+"/?lang=fr&q=dupont"), chromedp.WaitVisible(".bad"))
			shelf.away.Store(false)
		})
	}
}
