package portal

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"passerelle/crypto/token"
	"passerelle/gateway/vault"
)

func (s *site) refuses(_ context.Context, d vault.Status, kind vault.Refusal) error {
	time.Sleep(20 * time.Millisecond) // a mail server takes its time
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	s.refused = append(s.refused, string(kind)+" "+d.Recipient.String())
	return nil
}

func (s *site) resends(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse
}

func (s *site) completes(ctx context.Context, id, phone string) error {
	if _, err := s.Complete(ctx, id, phone); err != nil {
		return err
	}
	return s.Release(ctx, id)
}

// recorded is a page as the portal gave it, to be shown to a browser again: also one that was the answer to a form.
type recorded struct {
	name   string
	status int
	header http.Header
	body   string
}

func (c *recorded) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	for k, v := range c.header {
		w.Header()[k] = v
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(c.status)
	w.Write([]byte(c.body))
}

// track gives a deposit of its own sending, and the link of its sender's page.
func (s *site) track(change ...func(*vault.DepositRequest)) (*vault.Deposit, string) {
	s.t.Helper()
	n := byte(len(s.sms) + len(change))
	d := s.deposit(append(change, func(r *vault.DepositRequest) {
		r.Sending = s.SendingKey(r.Sender, [32]byte{n, byte(s.now.UnixNano())})
	})...)
	return d, s.SendingLink(d.Sending)
}

// surface gives every page of the portal in one language, in each of the states that look different.
func (s *site) surface(lang string) []*recorded {
	s.t.Helper()
	q := "?lang=" + lang
	var all []*recorded
	b := &browser{s: s}
	add := func(name, method, to string, form ...string) {
		s.t.Helper()
		var resp *http.Response
		var body string
		sep := "?"
		if strings.Contains(to, "?") {
			sep = "&"
		}
		if to += sep + q[1:]; method == "POST" {
			v := url.Values{}
			for i := 0; i < len(form); i += 2 {
				v.Set(form[i], form[i+1])
			}
			resp, body = b.post(to, v.Encode())
		} else {
			resp, body = b.do(method, to, nil)
		}
		all = append(all, &recorded{name, resp.StatusCode, resp.Header, body})
		s.wait(time.Minute)
	}
	base := s.srv.URL
	add("typed", "GET", base+"/retrait")
	add("typed wrong", "POST", base+"/retrait", "code", "0000 0000 0000 0000")
	add("lost", "GET", base+"/r/trop-court")
	add("accessibility", "GET", base+"/accessibilite")
	add("legal", "GET", base+"/mentions")
	d, sender := s.track(func(r *vault.DepositRequest) { r.Face = vault.Face{Name: "Dr Claire Martin", Word: "Mimosa"} })
	add("link", "GET", d.Link)
	add("help", "GET", d.Link+"/aide")
	add("not me", "GET", d.Link+"/pas-moi")
	add("not me, unconfirmed", "POST", d.Link+"/pas-moi", "mot", "x")
	add("block", "GET", d.Link+"/bloquer")
	add("code asked", "POST", d.Link+"/code")
	add("code", "GET", d.Link+"?fait=code")
	add("code wrong", "POST", d.Link, "code", other(s.lastCode()))
	add("code right", "POST", d.Link, "code", s.lastCode())
	add("message", "GET", d.Link)
	add("message HTML", "GET", d.Link+"?vue=html")
	add("message picture", "GET", d.Link+"?voir=3")
	add("message PDF", "GET", d.Link+"?voir=0")
	add("print", "GET", d.Link+"?vue=imprimer")
	add("frame", "GET", d.Link+"/texte")
	add("file", "GET", d.Link+"/f/0")
	add("picture", "GET", d.Link+"/v/3")
	add("PDF", "GET", d.Link+"/v/0")
	add("archive", "GET", d.Link+"/tout.zip")
	add("answer refused", "POST", d.Link+"/reponse", "texte", "x")
	add("sender's page", "GET", sender)
	add("sender's page, unconfirmed", "POST", sender+"/retirer", "depot", d.ID, "mot", "x")
	add("not me, done", "POST", d.Link+"/pas-moi", "mot", "PAS MOI")
	add("block, done", "POST", d.Link+"/bloquer", "mot", "bloquer")
	add("blocked", "GET", d.Link+"/bloquer")
	add("unblock, done", "POST", d.Link+"/debloquer", "mot", "débloquer")
	add("leave", "POST", d.Link+"/fermer")
	add("withdrawn", "POST", sender+"/retirer", "depot", d.ID, "mot", "RETIRER")
	add("sender's page, ended", "GET", sender)
	add("gone", "GET", d.Link)
	d = s.deposit(func(r *vault.DepositRequest) { r.Mode, r.Secret = vault.BySecret, "sans souci" })
	add("phrase", "GET", d.Link)
	add("phrase, help", "GET", d.Link+"/aide")
	add("phrase wrong", "POST", d.Link, "code", "avec souci")
	add("phrase by a program", "POST", d.Link, "code", "avec souci", "email", "a@b.test")
	d = s.deposit(func(r *vault.DepositRequest) { r.Mode = vault.BySender })
	add("told", "GET", d.Link)
	add("told, help", "GET", d.Link+"/aide")
	d = s.deposit()
	add("code asked 2", "POST", d.Link+"/code")
	for range 5 {
		b.post(d.Link, "code="+other(s.lastCode()))
		s.wait(30 * time.Second)
	}
	add("locked", "GET", d.Link)
	d = s.deposit(func(r *vault.DepositRequest) { r.Mode = vault.ByEmail })
	add("by e-mail", "GET", d.Link)
	add("by e-mail, help", "GET", d.Link+"/aide")
	add("by e-mail, asked", "POST", d.Link+"/code")
	add("by e-mail, code", "GET", d.Link)
	if len(s.with) > 0 {
		d = s.deposit(func(r *vault.DepositRequest) {
			r.Mode, r.Identity = vault.ByOIDC, vault.Identity{BirthName: "Durand", FirstNames: "Anne", BirthDate: "1962-08-24"}
		})
		add("identity", "GET", d.Link)
		add("identity, help", "GET", d.Link+"/aide")
		add("identity, other", "GET", d.Link+"?identite=other")
		add("identity, astray", "GET", base+IdentityPath+"?state=x")
	}
	words := s.keptPhrase()
	add("passphrase", "GET", words)
	add("passphrase, sent", "GET", words+"?fait=sms")
	add("passphrase, none", "GET", words+"x")
	held, sender := s.held()
	add("sender's page, held", "GET", sender)
	add("sender's page, no number", "POST", sender+"/numero", "depot", held, "numero", "12")
	add("cross-site", "OPTIONS", base+"/retrait")
	return all
}

// keptPhrase gives the page of a passphrase that its reader may have sent again.
func (s *site) keptPhrase() string {
	s.t.Helper()
	link, r := token.NewLink(), request(s)
	if err := s.KeepPhrase(s.t.Context(), link, vault.Phrase{Sender: r.Sender, Recipient: r.Recipient, Words: "trois mots simples", Phone: "+33612341234", Lang: "fr"}); err != nil {
		s.t.Fatal(err)
	}
	return s.PhraseLink(link)
}

// held gives the id of a deposit that waits for a number, and its sender's page.
func (s *site) held() (id, sender string) {
	s.t.Helper()
	r := request(s)
	r.Phone, r.Hold, r.Sending = "", true, s.SendingKey(r.Sender, [32]byte{99, byte(s.now.UnixNano())})
	d, err := s.Deposit(s.t.Context(), r)
	if err == nil {
		err = s.Hold(s.t.Context(), d.ID)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return d.ID, s.SendingLink(d.Sending)
}

// setCookie gives a browser the session of another.
func setCookie(t *testing.T, ctx context.Context, site string, c *http.Cookie) {
	t.Helper()
	if _, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{Name: c.Name, Value: c.Value, URL: site}); err != nil {
		t.Fatal(err)
	}
}

func other(code string) string {
	if code == "000000" {
		return "000001"
	}
	return "000000"
}

// scripted tells whether a page has one script, and its policy allows that one by its hash.
func scripted(policy, page string) bool {
	_, rest, _ := strings.Cut(page, "<script>")
	script, after, ok := strings.Cut(rest, "</script>")
	sum := sha256.Sum256([]byte(script))
	return ok && !strings.Contains(after, "<script") && strings.HasSuffix(policy, "script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
}

// OWASP ASVS 5.0 sections 3.3 (cookies), 3.4 (headers) and 14.3 (nothing kept), over every page, in each state, by every method.
func TestHeadersAndCookies(t *testing.T) {
	s := newSite(t, func(s *site) { s.tls = true })
	cookies := 0
	all := s.surface("fr")
	b := &browser{s: s}
	d, sender := s.track()
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"} {
		for _, u := range []string{"/", "/retrait", "/accessibilite", "/mentions", "/favicon.ico", "/robots.txt", "/x", d.Link[len(s.srv.URL):], d.Link[len(s.srv.URL):] + "/aide", d.Link[len(s.srv.URL):] + "/reponse", sender[len(s.srv.URL):], sender[len(s.srv.URL):] + "/retirer"} {
			resp, body := b.do(m, s.srv.URL+u, nil)
			all = append(all, &recorded{m + " " + u, resp.StatusCode, resp.Header, body})
		}
		s.wait(time.Minute)
	}
	for _, c := range all {
		h := c.header
		for k, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "X-Robots-Tag": "noindex, nofollow, noarchive",
			"Strict-Transport-Security": "max-age=31536000"} {
			if h.Get(k) != want {
				t.Errorf("%s: %s is %q", c.name, k, h.Get(k))
			}
		}
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors '") || strings.Contains(policy, "script-src ") && !scripted(policy, c.body) || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", c.name, policy)
		}
		if strings.HasPrefix(h.Get("Content-Type"), "text/html") && !strings.Contains(policy, "base-uri 'none'") {
			t.Errorf("%s: base-uri: %q", c.name, policy)
		}
		if strings.HasPrefix(h.Get("Content-Type"), "text/html") && c.name != "frame" && strings.Contains(c.body, "<script") && !scripted(policy, c.body) {
			t.Errorf("%s has a script that its policy does not name", c.name)
		}
		if h.Get("Access-Control-Allow-Origin") != "" || h.Get("Server") != "" || h.Get("X-Powered-By") != "" {
			t.Errorf("%s: %v", c.name, h)
		}
		if typ := h.Get("Content-Type"); c.body != "" && (typ == "" || strings.HasPrefix(typ, "text/") && !strings.Contains(typ, "charset=utf-8")) {
			t.Errorf("%s: type %q", c.name, typ)
		}
		for _, bad := range []string{"onload=", "onclick=", "javascript:", "style=\"", "src=\"http", "href=\"http"} {
			if strings.HasPrefix(h.Get("Content-Type"), "text/html") && c.name != "frame" && strings.Contains(c.body, bad) {
				t.Errorf("%s holds %s", c.name, bad)
			}
		}
		for _, line := range h.Values("Set-Cookie") {
			cookies++
			for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=/", "Secure"} {
				if !strings.Contains(line, want) {
					t.Errorf("%s: a cookie without %s", c.name, want)
				}
			}
			if !strings.HasPrefix(line, "__Host-") || strings.Contains(line, "Domain=") {
				t.Errorf("%s: a cookie for other hosts", c.name)
			}
		}
	}
	if cookies < 2 || len(all) < 100 {
		t.Errorf("%d cookies on %d pages", cookies, len(all))
	}
}
