package portal

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"passerelle/gateway/gatewaytest/chromium"
	"passerelle/gateway/vault"
)

// watched collects what the pages ran: dialogs and what scripts write to the console.
func watched(t *testing.T, ctx context.Context) func() []string {
	t.Helper()
	var mu sync.Mutex
	var ran []string
	err := chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *cdppage.EventJavascriptDialogOpening:
			ran = append(ran, "dialog "+e.Message)
			go chromedp.Call(ctx, cdppage.HandleJavaScriptDialog, cdppage.HandleJavaScriptDialogParams{Accept: true})
		case *runtime.EventConsoleAPICalled:
			ran = append(ran, fmt.Sprintf("console %v", e.Args))
		case *runtime.EventExceptionThrown:
			ran = append(ran, "script error")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []string { mu.Lock(); defer mu.Unlock(); return append([]string(nil), ran...) }
}

// hostile are file names and contents that were made to run, to leave their folder, or to add a header.
var hostile = []vault.File{
	file("../../../etc/passwd", "text/html", "<script>alert('html')</script>"),
	file("..\\..\\windows\\win.ini", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg" onload="alert('svg')"><script>alert('svg')</script></svg>`),
	file(`"><img src=x onerror=alert('name')>.pdf`, "application/pdf", "%PDF-1.4\n<script>alert('pdf')</script>"),
	file("a\r\nSet-Cookie: x=1\r\n\r\n<script>alert(1)</script>", "text/html\r\nX-Evil: 1", "\xff\xd8\xff<script>alert('jpeg')</script>"),
	file("utf7.html", "text/html; charset=utf-7", "+ADw-script+AD4-alert('utf7')+ADw-/script+AD4-"),
	file("x.png", "image/png", "<html><script>alert('png')</script></html>"),
	file("x.xml", "application/xhtml+xml", `<html xmlns="http://www.w3.org/1999/xhtml"><script>alert('xhtml')</script></html>`),
	file("x.js", "text/javascript", "alert('js')"),
	file("gif.html", "text/html", "GIF89a/*<script>alert('gif')</script>*/=alert('gif')"),
	file("x\u202efdp.exe", "application/pdf; x=\"<script>\"", "MZ"),
	file(strings.Repeat("long", 500)+".pdf", "", ""),
	file("CON.pdf", "multipart/mixed", "x"),
	file("alert.pdf", "application/pdf", strings.Replace(report, "/Type/Catalog", "/Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert\\('pdf'\\);)>>", 1)),
	file("", "message/rfc822", "Subject: x"),
}

const hostileHTML = `<p>Bonjour</p><script>alert('html')</script><img src=x onerror=alert('img')><svg onload=alert('svg')><style>@import url(//evil.test)</style>
<a href="javascript:alert('a')">a</a><iframe srcdoc="<script>alert('srcdoc')</script>"></iframe><object data="data:text/html,<script>alert('obj')</script>"></object>
<math><mtext></form><form><mglyph><style></math><img src onerror=alert('mxss')></style></mglyph></form></mtext></math><meta http-equiv="refresh" content="0;url=javascript:alert('meta')">
<base href="https://evil.test/"><noscript><p title="</noscript><img src=x onerror=alert('noscript')>"></noscript><p style="background:url(javascript:alert('css'))" onmouseover="alert('mouse')">fin</p>`

// Nothing that strangers wrote runs, scripts switched on: names, HTML, SVG, charsets; no header is added and nothing leaves its folder.
func TestInjection(t *testing.T) {
	s := newSite(t)
	d := s.deposit(func(r *vault.DepositRequest) {
		r.Subject, r.FromLabel = `</title><script>alert('subject')</script>`, `"><script>alert('from')</script>`
		r.Text, r.HTML, r.Files = `<script>alert('text')</script>`, hostileHTML, hostile
		r.Face = vault.Face{Name: `<script>alert('name')</script>`, Word: `"><svg onload=alert('word')>`}
	})
	b := &browser{s: s}
	b.login(d)
	addresses := []string{d.Link, d.Link + "?vue=html", d.Link + "?vue=imprimer", d.Link + "/texte", d.Link + "?lang=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", d.Link + "?fait=%3Cscript%3Ealert(1)%3C/script%3E",
		s.srv.URL + "/r/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E", s.srv.URL + "/%0d%0aSet-Cookie:%20x=1"}
	for i := range hostile {
		addresses = append(addresses, fmt.Sprintf("%s?voir=%d", d.Link, i), fmt.Sprintf("%s/v/%d", d.Link, i))
		r, _ := b.do("GET", fmt.Sprintf("%s/f/%d", d.Link, i), nil)
		h := r.Header
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment;") || strings.ContainsAny(h.Get("Content-Disposition"), "\r\n/\\") || h.Get("X-Evil") != "" || len(r.Cookies()) != 0 {
			t.Errorf("file %d: %s %v", i, r.Status, h)
		}
		if typ := h.Get("Content-Type"); strings.Contains(typ, "html") || strings.Contains(typ, "svg") || strings.Contains(typ, "xml") || strings.Contains(typ, "script") {
			t.Errorf("file %d is called %s", i, typ)
		}
	}
	for _, u := range []string{"/v/0", "/v/1", "/v/4", "/v/5", "/v/6", "/v/7", "/v/-1", "/v/99", "/f/..%2f..%2fetc%2fpasswd", "/v/..%2f0", "/../../etc/passwd"} {
		if r, page := b.do("GET", d.Link+u, nil); r.StatusCode == http.StatusOK {
			t.Errorf("%s is shown: %.80s", u, page)
		}
	}
	if testing.Short() {
		return
	}
	ctx := chromium.Start(t, 4*time.Minute)
	chromium.Scripts(t, ctx, true)
	for _, c := range b.cookies {
		setCookie(t, ctx, s.srv.URL, c)
	}
	ran := watched(t, ctx)
	s.replay = &recorded{status: 200, header: http.Header{"Content-Type": {"text/html"}}, body: `<script>alert('works')</script>`}
	chromium.Do(t, ctx, "a page that runs", chromedp.Navigate(s.srv.URL+"/_again"))
	for i := 0; len(ran()) == 0; i++ {
		if i == 2000 {
			t.Fatal("a dialog of a page that runs is not seen: this test could not fail")
		}
		time.Sleep(10 * time.Millisecond)
	}
	before := len(ran())
	for _, u := range addresses {
		if err := chromedp.Do(ctx, chromedp.Navigate(u)); err != nil && !strings.Contains(err.Error(), "ERR_ABORTED") && !strings.Contains(err.Error(), "ERR_HTTP_RESPONSE_CODE_FAILURE") {
			t.Errorf("%s: %v", u[len(s.srv.URL):], err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	if got := ran(); len(got) != before {
		t.Errorf("ran: %q", got[before:])
	}
}
