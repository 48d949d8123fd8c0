package addressbook

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"passerelle/gateway/gatewaytest/chromium"
)

// TestSecretaryInChromium searches as a secretary does, on a telephone of 320 px and on a desk of 1280 px, with scripts switched off.
// SCREENSHOTS names a folder that keeps the pictures.
func TestSecretaryInChromium(t *testing.T) {
	if testing.Short() {
		return
	}
	ctx := chromium.Start(t, 4*time.Minute)
	shelf := newShelf()
	shelf.entries = append(shelf.entries, Entry{Address: "secretariat-de-chirurgie-orthopedique-et-traumatologique@centre-hospitalier-universitaire.mssante.fr",
		Structure: "CENTRE HOSPITALIER UNIVERSITAIRE DE SAINT-PIERRE-ET-MIQUELON", Service: "Chirurgieorthopédiqueettraumatologiquepédiatrique", City: "SAINT PIERRE", PostalCode: "97500"})
	s := site(t, newBook(t, shelf))
	for _, width := range []int64{320, 1280} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
				t.Helper()
				chromium.Do(t, ctx, what, steps...)
				chromium.Shot(t, ctx, fmt.Sprintf("%s-%d", what, width), width)
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
