package portal

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest/idp"
	"passerelle/gateway/openid"
	"passerelle/gateway/vault"
)

// loopbackProviders are a provider for patients and one for professionals, both by one server, which op points to once the site stands.
func loopbackProviders(t *testing.T, op **idp.Provider) func(*site) []*openid.Provider {
	return func(s *site) []*openid.Provider {
		at := idp.Start(t, s.srv.URL+IdentityPath)
		*op = at
		patients, err := openid.New(openid.Config{Name: "fc", Label: "FranceConnect", Issuer: at.URL, ClientID: idp.Client, ClientSecret: idp.Secret,
			RedirectURL: s.srv.URL + IdentityPath, Timeout: 20 * time.Second, Claims: map[string]string{"birth_name": "family_name", "first_name": "given_name", "birth_date": "birthdate"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(patients.Close)
		c := patients.Config
		c.Name, c.Label, c.Professionals, c.Claims = "psc", "Pro Santé Connect", true, map[string]string{"rpps": "SubjectNameID"}
		staff, err := openid.New(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(staff.Close)
		return []*openid.Provider{patients, staff}
	}
}

// withProvider gives a site whose patients can prove themselves at a provider on loopback, and a deposit for Anne Durand.
func withProvider(t *testing.T, change ...func(*vault.DepositRequest)) (*site, *idp.Provider, *vault.Deposit) {
	t.Helper()
	var op *idp.Provider
	s := newSite(t, withProviders(loopbackProviders(t, &op)), func(s *site) { s.maxAnswer = 20 << 20 })
	op.Set(func(c *idp.Change) {
		c.Claims(map[string]any{"family_name": "DURAND", "given_name": "Anne Marie", "birthdate": "1962-08-24", "SubjectNameID": "810000000009"})
	})
	d := s.deposit(append([]func(*vault.DepositRequest){func(r *vault.DepositRequest) {
		r.Identity = vault.Identity{BirthName: "Durand", FirstNames: "Anne", BirthDate: "1962-08-24"}
	}}, change...)...)
	return s, op, d
}

// away follows the button to the provider and gives the address that it sends the browser back to.
func (b *browser) away(d *vault.Deposit, name string) string {
	b.s.t.Helper()
	r, page := b.do("GET", d.Link+"/identite/"+name, nil)
	if r.StatusCode != http.StatusSeeOther {
		b.s.t.Fatalf("%s %s", r.Status, page)
	}
	to := r.Header.Get("Location")
	if secret := d.Link[strings.LastIndexByte(d.Link, '/')+1:]; strings.Contains(strings.ToLower(to), secret) {
		b.s.t.Errorf("the provider is told the link: %s", to)
	}
	c := &http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), b.s.srv.URL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := c.Get(to)
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		b.s.t.Fatalf("not sent back: %s", resp.Status)
	}
	return back.String()
}

// returns comes back from the provider and gives the page that it ends on.
func (b *browser) returns(to string) (*http.Response, string) {
	b.s.t.Helper()
	r, page := b.do("GET", to, nil)
	if r.StatusCode != http.StatusSeeOther {
		return r, page
	}
	if l := r.Header.Get("Location"); strings.Contains(l, "code=") || strings.Contains(l, "state=") {
		b.s.t.Errorf("code or state stay in the address: %s", l)
	}
	return b.do("GET", b.s.srv.URL+r.Header.Get("Location"), nil)
}

const inside = "Veuillez trouver ci-joint"

func TestAnIdentityOpens(t *testing.T) {
	s, _, d := withProvider(t)
	b := &browser{s: s}
	_, page := b.do("GET", d.Link, nil)
	if !strings.Contains(page, "S’identifier avec FranceConnect") || strings.Contains(page, "Pro Santé Connect") {
		t.Errorf("the buttons: %s", page)
	}
	before := s.dump()
	back := b.away(d, "fc")
	if s.dump() != before {
		t.Error("the way to a provider changed something")
	}
	for _, c := range b.cookies {
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || strings.Contains(c.Value, d.Link[len(d.Link)-26:]) {
			t.Errorf("cookie %+v", c)
		}
	}
	if r, page := b.returns(back); r.StatusCode != http.StatusOK || !strings.Contains(page, inside) {
		t.Fatalf("%s %s", r.Status, page)
	}
	st, err := s.Status(t.Context(), d.ID)
	if err != nil || st.Level != "oidc/fc" || !strings.Contains(s.Stands(st, "fr"), "identité vérifiée, fc") {
		t.Errorf("%+v %s %v", st, s.Stands(st, "fr"), err)
	}
	if r, page := b.returns(back); r.StatusCode != http.StatusOK || !strings.Contains(page, inside) { // the back button, while the message is open
		t.Errorf("back: %s %s", r.Status, page)
	}
	if r, page := (&browser{s: s}).returns(back); r.StatusCode != http.StatusForbidden || strings.Contains(page, inside) { // the address, in another browser
		t.Errorf("stolen way back: %s %s", r.Status, page)
	}
	var replayed []*http.Cookie // the browser's cookies as they were before: a copy of them and of the address
	for _, c := range b.cookies[:1] {
		replayed = append(replayed, c)
	}
	thief := &browser{s: s, cookies: replayed}
	if r, page := thief.returns(back); strings.Contains(page, inside) || !strings.Contains(page, "a déjà servi") {
		t.Errorf("replayed: %s %s", r.Status, page)
	}
}

func TestSomebodyElse(t *testing.T) {
	s, op, d := withProvider(t)
	op.Set(func(c *idp.Change) {
		c.Claims(map[string]any{"family_name": "DURAND", "given_name": "Claire", "birthdate": "1962-08-24"})
	})
	b := &browser{s: s}
	for range 5 {
		r, page := b.returns(b.away(d, "fc"))
		if r.StatusCode != http.StatusOK || strings.Contains(page, inside) || !strings.Contains(page, "L’identité montrée n’est pas celle") {
			t.Fatalf("%s %s", r.Status, page)
		}
		s.wait(time.Minute)
	}
	if v, err := s.Look(t.Context(), d.Link[len(d.Link)-26:]); err != nil || v.LockedUntil.IsZero() {
		t.Errorf("not counted like wrong codes: %+v %v", v, err)
	}
	// The one it is meant for is not kept out by them.
	op.Set(func(c *idp.Change) {
		c.Claims(map[string]any{"family_name": "DURAND", "given_name": "Anne", "birthdate": "1962-08-24"})
	})
	if r, page := b.returns(b.away(d, "fc")); !strings.Contains(page, inside) {
		t.Errorf("%s %s", r.Status, page)
	}
}

func TestProfessionals(t *testing.T) {
	s, _, d := withProvider(t, func(r *vault.DepositRequest) {
		r.Identity, r.Mode, r.Proof = vault.Identity{RPPS: "10000000009"}, vault.ByOIDC, vault.ByOIDC
	})
	b := &browser{s: s}
	_, page := b.do("GET", d.Link, nil)
	if !strings.Contains(page, "S’identifier avec Pro Santé Connect") || strings.Contains(page, "FranceConnect") || strings.Contains(page, `name="code"`) {
		t.Errorf("the page: %s", page)
	}
	if r, page := b.returns(b.away(d, "psc")); !strings.Contains(page, inside) {
		t.Fatalf("%s %s", r.Status, page)
	}
	if r, _ := b.do("GET", d.Link+"/identite/fc", nil); r.StatusCode != http.StatusNotFound {
		t.Errorf("a provider that cannot vouch: %s", r.Status)
	}
}

func TestAttemptsThatFail(t *testing.T) {
	s, op, d := withProvider(t)
	b := &browser{s: s}
	fails := func(what, to, words string) {
		t.Helper()
		before := s.dump()
		r, page := b.returns(to)
		if strings.Contains(page, inside) || !strings.Contains(page, words) {
			t.Errorf("%s: %s %s", what, r.Status, page)
		}
		if s.dump() != before {
			t.Errorf("%s: the deposit was changed", what)
		}
	}
	u, err := url.Parse(b.away(d, "fc"))
	if err != nil {
		t.Fatal(err)
	}
	fails("he gave up", s.srv.URL+IdentityPath+"?error=access_denied&state="+u.Query().Get("state"), "n’a pas abouti")
	fails("a state of nobody's", s.srv.URL+IdentityPath+"?code=x&state=AAAAAAAAAAAAAAAAAAAAAAAAAA", "n’a pas commencé ici")
	fails("no state", s.srv.URL+IdentityPath+"?code=x", "n’a pas commencé ici")
	op.Set(func(c *idp.Change) { c.Token(func(m map[string]any) { m["nonce"] = "x" }) })
	fails("nonce", b.away(d, "fc"), "n’a pas abouti")
	op.Set(func(c *idp.Change) { c.Token(nil) })
	late := b.away(d, "fc")
	s.wait(ticketLife + time.Second)
	fails("too late", late, "ou a trop duré")
	gone := b.away(d, "fc")
	op.Set(func(c *idp.Change) { c.Down(true) })
	fails("the provider is away at the end", gone, "ne répond pas")
	op.Set(func(c *idp.Change) { c.Down(false) })
	if r, page := b.returns(b.away(d, "fc")); !strings.Contains(page, inside) {
		t.Errorf("afterwards: %s %s", r.Status, page)
	}
}
