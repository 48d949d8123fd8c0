package portal

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"passerelle/gateway/gatewaytest/chromium"
	"passerelle/gateway/gatewaytest/idp"
)

// No page has anything that axe-core finds against WCAG 2.2 AA, in either language, on a telephone and on a desk; none is wider than its
// screen.
func TestAccessible(t *testing.T) {
	if testing.Short() {
		return
	}
	source := chromium.AxeSource(t)
	ctx := chromium.Start(t, 8*time.Minute)
	chromium.Scripts(t, ctx, true)
	bad := newSite(t)
	bad.replay = &recorded{status: 200, header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, body: `<html><body><img src="x"><input><p style="color:#aaa;background:#fff">gris clair sur blanc</p></body></html>`}
	chromium.Do(t, ctx, "a bad page", chromedp.Navigate(bad.srv.URL+"/_again"))
	found := chromium.Axe(t, ctx, source)
	for _, rule := range []string{"image-alt", "label", "color-contrast", "html-has-lang"} {
		if !strings.Contains(found, rule+":") {
			t.Errorf("axe-core does not find %s on a bad page: %s", rule, found)
		}
	}
	for _, lang := range []string{"fr", "en"} {
		s := newSite(t, withProviders(loopbackProviders(t, new(*idp.Provider))))
		for _, c := range s.surface(lang) {
			if !strings.HasPrefix(c.header.Get("Content-Type"), "text/html") || c.name == "frame" {
				continue
			}
			s.replay = c
			chromium.Do(t, ctx, c.name, chromedp.Navigate(s.srv.URL+"/_again"))
			for _, width := range []int64{320, 1280} {
				name := fmt.Sprintf("%s, %s, %d px", c.name, lang, width)
				chromium.Do(t, ctx, name, chromedp.EmulateViewport(width, 720))
				if found := chromium.Axe(t, ctx, source); found != "" {
					t.Errorf("%s: %s", name, found)
				}
				if over, err := chromedp.Run(ctx, chromedp.Evaluate[int64]("document.documentElement.scrollWidth")); err != nil || over > width {
					t.Errorf("%s is %d px wide, %v", name, over, err)
				}
			}
		}
	}
}
