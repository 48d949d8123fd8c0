package portal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	"passerelle/gateway/gatewaytest/chromium"
	"passerelle/gateway/gatewaytest/idp"
	"passerelle/gateway/vault"
)

// TestPatientInChromium walks the whole way as a patient does, on a telephone of 320 px and on a desk of 1280 px, with scripts and without.
// SCREENSHOTS names a folder that keeps the pictures (make screens).
func TestPatientInChromium(t *testing.T) {
	if testing.Short() {
		return
	}
	ctx := chromium.Start(t, 8*time.Minute)
	large := filepath.Join(t.TempDir(), "radio.bin")
	if err := os.WriteFile(large, bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, width := range []int64{320, 1280} {
		for _, lang := range []string{"fr", "en"} {
			for _, scripts := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d-%s-scripts-%v", width, lang, scripts), func(t *testing.T) {
					chromium.Scripts(t, ctx, scripts)
					walk(t, ctx, width, lang, large)
				})
			}
		}
	}
}

func walk(t *testing.T, ctx context.Context, width int64, lang, large string) {
	s, op, _ := withProvider(t)
	d, sender := s.track(func(r *vault.DepositRequest) { r.Face.Word = "Mimosa" })
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
	download := func(sel string) {
		t.Helper()
		progress := chromedp.Events(ctx, cdpbrowser.DownloadProgress)
		do("download", chromedp.Click(sel))
		for e, err := range progress {
			if err != nil || e.State == cdpbrowser.DownloadProgressStateCanceled {
				t.Fatalf("download %s, %v", e.State, err)
			}
			if e.State == cdpbrowser.DownloadProgressStateCompleted {
				break
			}
		}
	}
	do("set up", chromedp.EmulateViewport(width, 720))
	query := "?lang=" + lang
	do("typed", chromedp.Navigate(s.srv.URL+"/retrait"+query), chromedp.WaitVisible("#code"))
	shot("01-retrait")
	do("typed code", chromedp.SendKeys("#code", d.Short), chromedp.Click("button.main"), chromedp.WaitVisible(".more"))
	shot("02-link")
	do("help", chromedp.Click(`.more a[href*="aide"]`), chromedp.WaitVisible("main ul"))
	shot("03-help")
	do("ask for the code", chromedp.Navigate(d.Link+query), chromedp.Click("button.main"), chromedp.WaitVisible("#code"))
	shot("04-code")
	do("wrong code", chromedp.SendKeys("#code", other(s.lastCode())), chromedp.Click("button.main"), chromedp.WaitVisible(".bad"))
	shot("05-wrong")
	do("right code", chromedp.SendKeys("#code", s.lastCode()), chromedp.Click("button.main"), chromedp.WaitVisible(".files"))
	shot("06-message")
	download(".files li:first-child a.get")
	saved := filepath.Join(downloads, "Compte-rendu d'écho – Mme Léa Dupont.pdf")
	if p, err := os.ReadFile(saved); err != nil || sha256.Sum256(p) != sha256.Sum256([]byte(report)) || os.Remove(saved) != nil {
		es, _ := os.ReadDir(downloads)
		t.Errorf("%d octets, %v, %v", len(p), err, es)
	}
	s.tunnel(100_000)
	download(".files li:first-child a.get") // the train goes into a tunnel; the browser comes back by itself
	if asked := s.ranges(); len(asked) != 1 || asked[0] != "bytes=100000-" {
		t.Errorf("the browser resumed with %q", asked)
	}
	if p, err := os.ReadFile(saved); err != nil || sha256.Sum256(p) != sha256.Sum256([]byte(report)) {
		t.Errorf("resumed: %d octets, %v", len(p), err)
	}
	download(`a[href*="tout.zip"]`)
	if zips, _ := filepath.Glob(filepath.Join(downloads, "Message 2026-11-23.zip")); len(zips) != 1 {
		t.Errorf("the archive is not there")
	}
	do("picture", chromedp.Click(`a.see[href*="voir=3"]`), chromedp.WaitVisible("img.picture"))
	if w, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.querySelector("img.picture").naturalWidth`)); err != nil || w != 240 {
		t.Errorf("the picture is %d px wide, %v", w, err)
	}
	shot("07-picture")
	do("PDF", chromedp.Click(`a.see[href*="voir=0"]`), chromedp.WaitVisible("iframe.pdf"))
	if os.Getenv("SCREENSHOTS") != "" {
		time.Sleep(2 * time.Second) // the browser's reader tells nobody when it has painted
	}
	shot("08-pdf")
	do("print", chromedp.Click(`a[href*="vue=imprimer"]`), chromedp.WaitVisible("article.print"))
	shot("09-print")
	do("frame", chromedp.Navigate(d.Link+"?vue=html&lang="+lang), chromedp.WaitVisible("iframe.mail"))
	shot("10-html")
	do("answer", chromedp.Navigate(d.Link+query), chromedp.SendKeys("#texte", "Merci docteur"), chromedp.SetUploadFiles("#fichiers", []string{large}),
		chromedp.Click(`form[action*="reponse"] button`), chromedp.WaitVisible(".good"))
	shot("11-answered")
	if len(s.answers) != 1 || !strings.Contains(s.answers[0], ": Merci docteur [radio.bin") || !strings.Contains(s.answers[0], fmt.Sprintf("%x", sha256.Sum256(bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)))) {
		t.Errorf("%d answers: %.200q", len(s.answers), s.answers)
	}
	do("block", chromedp.Navigate(d.Link+"/bloquer"+query), chromedp.WaitVisible("#mot"))
	shot("12-block")
	do("confirm", chromedp.SendKeys("#mot", map[string]string{"fr": "bloquer", "en": "block"}[lang]), chromedp.Click("button.main"), chromedp.WaitVisible(".good"))
	shot("13-blocked")
	do("not me", chromedp.Navigate(d.Link+"/pas-moi"+query), chromedp.WaitVisible("#mot"))
	shot("14-not-me")
	if fmt.Sprint(s.refused) != "[blocked patient@mail.test]" {
		t.Errorf("%q", s.refused)
	}
	do("accessibility", chromedp.Navigate(s.srv.URL+"/accessibilite"+query), chromedp.WaitVisible("h1"))
	shot("15-accessibility")
	do("sender", chromedp.Navigate(sender+query), chromedp.WaitVisible("details"))
	shot("16-sender")
	do("withdraw", chromedp.Click(`details:has(form[action*="retirer"]) summary`), chromedp.SendKeys(`form[action*="retirer"] input[name=mot]`, map[string]string{"fr": "RETIRER", "en": "withdraw"}[lang]),
		chromedp.Click(`form[action*="retirer"] button`), chromedp.WaitVisible(".good"))
	shot("17-withdrawn")
	do("gone", chromedp.Navigate(d.Link+query), chromedp.WaitVisible("#code"))
	shot("18-gone")
	late := s.deposit()
	s.wait(31 * 24 * time.Hour)
	if resp, err := chromedp.RunResponse(ctx, chromedp.Navigate(late.Link+query)); err != nil || resp.Status != 410 {
		t.Errorf("expired: %v", err)
	}
	again := s.deposit()
	do("lock", chromedp.Navigate(again.Link+query), chromedp.Click("button.main"), chromedp.WaitVisible("#code"))
	for range 5 {
		(&browser{s: s}).post(again.Link, "code="+other(s.lastCode()))
		s.wait(20 * time.Second)
	}
	do("locked", chromedp.Navigate(again.Link+query), chromedp.WaitVisible(".bad"))
	shot("19-locked")
	_, sender = s.held()
	do("held", chromedp.Navigate(sender+query), chromedp.WaitVisible("input[type=tel]"))
	shot("20-sender-held")
	ways(t, ctx, s, op, query, do, shot)
}

// ways are the proofs beside a code by SMS, and the page of a passphrase. The provider is a real one: it sends the browser back.
func ways(t *testing.T, ctx context.Context, s *site, op *idp.Provider, query string, do func(string, ...chromedp.Action[chromedp.Void]), shot func(string)) {
	t.Helper()
	anne := s.deposit(func(r *vault.DepositRequest) {
		r.Mode, r.Identity = vault.ByOIDC, vault.Identity{BirthName: "Durand", FirstNames: "Anne", BirthDate: "1962-08-24"}
	})
	do("identity", chromedp.Navigate(anne.Link+query), chromedp.WaitVisible("a.with"))
	shot("21-identity")
	op.Set(func(c *idp.Change) {
		c.Claims(map[string]any{"family_name": "DURAND", "given_name": "Anne", "birthdate": "1999-01-01"})
	})
	do("another one", chromedp.Click("a.with"), chromedp.WaitVisible(".bad"))
	shot("22-identity-other")
	op.Set(func(c *idp.Change) {
		c.Claims(map[string]any{"family_name": "DURAND", "given_name": "Anne", "birthdate": "1962-08-24"})
	})
	do("herself", chromedp.Click("a.with"), chromedp.WaitVisible(".files"))
	if lang, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.documentElement.lang")); err != nil || "?lang="+lang != query {
		t.Errorf("the provider sends back to %q, %v", lang, err)
	}
	agreed := s.deposit(func(r *vault.DepositRequest) { r.Mode, r.Secret = vault.BySecret, "sans souci" })
	do("agreed phrase", chromedp.Navigate(agreed.Link+query), chromedp.WaitVisible("#code"))
	shot("23-agreed-phrase")
	do("its words", chromedp.SendKeys("#code", "sans souci"), chromedp.Click("button.main"), chromedp.WaitVisible(".files"))
	mailed := s.deposit(func(r *vault.DepositRequest) { r.Mode = vault.ByEmail })
	do("by e-mail", chromedp.Navigate(mailed.Link+query), chromedp.WaitVisible("button.main"))
	shot("24-by-email")
	told := s.deposit(func(r *vault.DepositRequest) { r.Mode = vault.BySender })
	do("told", chromedp.Navigate(told.Link+query), chromedp.WaitVisible("#code"))
	shot("25-told")
	do("passphrase", chromedp.Navigate(s.keptPhrase()+query), chromedp.WaitVisible("button"))
	shot("26-passphrase")
}
