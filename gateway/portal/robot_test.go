package portal

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"passerelle/gateway/gatewaytest/chromium"
	"passerelle/gateway/gatewaytest/idp"
	"passerelle/gateway/vault"
)

// robot walks inside of a browser, as the worst of scanners does: every link and every form of every page below a link, by GET, HEAD and POST, empty and
// filled with junk, all boxes ticked, under every button.
const robot = `(async (start) => {
	const junk = ["", "test", "1", "12345", "a@b.test", "on", "true", "javascript:1", "0612", "oui", "OK", "confirm"];
	const seen = globalThis.seen ||= new Set(), todo = [start];
	let asked = 0;
	const take = async (url, init) => {
		asked++;
		const r = await fetch(url, init).catch(() => null); // the way to a provider leads to another site
		if (!r) return;
		if (!(r.headers.get("content-type") || "").startsWith("text/html")) return;
		const d = new DOMParser().parseFromString(await r.text(), "text/html");
		for (const a of d.querySelectorAll("a[href]:not(.lang),iframe[src],img[src]")) {
			const u = new URL(a.getAttribute("href") || a.getAttribute("src"), r.url);
			if (u.origin === location.origin) todo.push(u.href.split("#")[0]);
		}
		for (const f of d.querySelectorAll("form")) todo.push({url: new URL(f.getAttribute("action"), r.url).href, html: f.outerHTML, multi: f.enctype === "multipart/form-data"});
	};
	while (todo.length) {
		const next = todo.shift(), key = typeof next === "string" ? next : next.url + next.html;
		if (seen.has(key)) continue;
		seen.add(key);
		if (typeof next === "string") {
			await take(next);
			if (seen.size % 2) await take(next, {method: "HEAD"});
			await take(next, {method: "POST"});
			continue;
		}
		for (const word of [junk[seen.size % junk.length], "", "Passw0rd 2026"]) {
			const d = new DOMParser().parseFromString(next.html, "text/html"), f = d.querySelector("form");
			for (const i of f.querySelectorAll("input[type=checkbox],input[type=radio]")) i.checked = true;
			for (const i of f.querySelectorAll("input:not([type=hidden]):not([type=file]),textarea")) i.value = word;
			const data = new FormData(f);
			await take(next.url, {method: "POST", body: next.multi ? data : new URLSearchParams([...data].filter(e => typeof e[1] === "string"))});
		}
	}
	return asked;
})`

// lives is what a robot must not change: which are open, which locked, which gone, which exchanges closed, who refused what.
func (s *site) lives() string {
	s.t.Helper()
	var all string
	err := s.db.Read().QueryRow(`SELECT (SELECT GROUP_CONCAT(state || wrong || ' ' || locked || ' ' || openings || closed || mode || answers) FROM (SELECT * FROM vault_deposits ORDER BY id))
		|| (SELECT COUNT(*) FROM vault_refusals) || (SELECT COUNT(*) FROM vault_blocks)`).Scan(&all)
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

func TestWorstRobot(t *testing.T) {
	if testing.Short() {
		return
	}
	s := newSite(t, withProviders(loopbackProviders(t, new(*idp.Provider))))
	var ds []*vault.Deposit
	var starts []string
	for i := range 40 {
		mode := []vault.Mode{vault.BySMS, vault.BySender, vault.BySecret, vault.ByEmail, vault.ByOIDC}[i%5]
		d, sender := s.track(func(r *vault.DepositRequest) {
			r.Phone = fmt.Sprintf("06123412%02d", i)
			switch r.Mode = mode; mode {
			case vault.BySecret:
				r.Secret = "sans souci"
			case vault.ByOIDC:
				r.Identity = vault.Identity{BirthName: "Durand", FirstNames: "Anne", BirthDate: "1962-08-24"}
			}
		})
		s.wait(time.Millisecond)
		ds, starts = append(ds, d), append(starts, d.Link, sender)
	}
	for range 20 {
		_, sender := s.held()
		s.wait(time.Millisecond)
		starts = append(starts, sender)
	}
	ctx := chromium.Start(t, 4*time.Minute)
	chromium.Scripts(t, ctx, true)
	if _, err := chromedp.Call(ctx, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	before := s.lives()
	chromium.Do(t, ctx, "first page", chromedp.Navigate(s.srv.URL+"/retrait"))
	asked := 0
	for _, start := range starts {
		n, err := chromedp.Run(ctx, chromedp.Evaluate[int](robot+"("+fmt.Sprintf("%q", start)+")", chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		asked += n
		s.wait(time.Minute)
	}
	clickAll(t, ctx, []string{starts[0], starts[1], starts[2], starts[4], starts[6], starts[8], starts[80]})
	if asked < 10*len(starts) {
		t.Errorf("the robot asked %d times on %d links", asked, len(starts))
	}
	if after := s.lives(); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
	if len(s.refused) != 0 || len(s.answers) != 0 {
		t.Errorf("%q %q", s.refused, s.answers)
	}
	t.Logf("%d links, %d requests, %d codes sent", len(starts), asked, len(s.sms))
	s.wait(time.Hour)
	(&browser{s: s}).login(ds[0])
}

// clickAll clicks every button and link of a page as a hand does, ticked and filled in.
func clickAll(t *testing.T, ctx context.Context, starts []string) {
	t.Helper()
	for _, start := range starts {
		for n := 0; n < 12; n++ {
			err := chromedp.Do(ctx, chromedp.Navigate(start))
			for tries := 0; err != nil && tries < 50; tries++ { // what was clicked before is still on its way
				time.Sleep(20 * time.Millisecond)
				err = chromedp.Do(ctx, chromedp.Navigate(start))
			}
			if err != nil {
				t.Fatal(err)
			}
			more, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf(`(() => {
				for (const d of document.querySelectorAll("details")) d.open = true;
				for (const i of document.querySelectorAll("input[type=checkbox]")) i.checked = true;
				for (const i of document.querySelectorAll("input:not([type=hidden]):not([type=file]),textarea")) i.value = "scanner";
				const all = document.querySelectorAll("main button, main a[href]");
				setTimeout(() => all[%d] && all[%d].click(), 0);
				return all.length > %d })()`, n, n, n+1)))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Millisecond)
			if !more {
				break
			}
		}
	}
	if url, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href")); err != nil || strings.HasPrefix(url, "about:") {
		t.Errorf("the robot ended at %s, %v", url, err)
	}
}
