package openid_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest/idp"
	"passerelle/gateway/openid"

	"github.com/go-jose/go-jose/v4"
)

const back = "http://127.0.0.1:1/identite/retour" // nobody follows it

func pair(t *testing.T, change ...func(*openid.Config)) (*idp.Provider, *openid.Provider) {
	t.Helper()
	op := idp.Start(t, back)
	c := openid.Config{Name: "franceconnect", Issuer: op.URL, ClientID: idp.Client, ClientSecret: idp.Secret, RedirectURL: back, Timeout: 20 * time.Second,
		Scopes: []string{"profile"}, Claims: map[string]string{"birth_name": "family_name", "first_name": "given_name", "birth_date": "birthdate", "rpps": "SubjectNameID"}}
	for _, f := range change {
		f(&c)
	}
	p, err := openid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	op.Set(func(c *idp.Change) {
		c.Claims(map[string]any{"family_name": "DURAND", "given_name": "Anne Marie", "birthdate": "1962-08-24", "SubjectNameID": "810000000009"})
	})
	return op, p
}

// walk goes through the provider as a browser does, up to the address that it is sent back to.
func walk(t *testing.T, to string) url.Values {
	t.Helper()
	c := &http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), back) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := c.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	u, err := resp.Location()
	if err != nil {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("not sent back: %s %s", resp.Status, b)
	}
	return u.Query()
}

func TestWhoIsBeforeThePage(t *testing.T) {
	op, p := pair(t, func(c *openid.Config) { c.ACR = []string{"eidas1"} })
	op.Set(func(c *idp.Change) { c.Token(func(m map[string]any) { m["acr"] = "eidas2" }) })
	to, ticket, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	q := walk(t, to)
	if q.Get("state") != ticket.State || len(ticket.State) < 26 || len(ticket.Nonce) < 26 {
		t.Fatalf("state %q", q.Get("state"))
	}
	who, err := p.Finish(t.Context(), ticket, q.Get("code"))
	if err != nil || who != (openid.Person{BirthName: "DURAND", FirstNames: "Anne Marie", BirthDate: "1962-08-24", RPPS: "810000000009"}) {
		t.Fatalf("%+v %v", who, err)
	}
	if a := op.Asked[0]; a.Get("acr_values") != "eidas1" || a.Get("code_challenge_method") != "S256" || a.Get("scope") != "openid profile" || a.Get("nonce") != ticket.Nonce {
		t.Errorf("asked %v", a)
	}
	if _, err := p.Finish(t.Context(), ticket, q.Get("code")); err == nil || openid.Away(err) {
		t.Errorf("a code was redeemed twice: %v", err)
	}
}

// What is not this client's, this attempt's, this provider's or of the level asked for names nobody.
func TestTokensThatProveNothing(t *testing.T) {
	for name, forge := range map[string]func(*idp.Change){
		"audience": func(c *idp.Change) {
			c.Token(func(m map[string]any) { m["acr"], m["aud"] = "eidas2", []string{"another"} })
		},
		"issuer": func(c *idp.Change) {
			c.Token(func(m map[string]any) { m["acr"], m["iss"] = "eidas2", "https://another.test" })
		},
		"nonce": func(c *idp.Change) {
			c.Token(func(m map[string]any) { m["acr"], m["nonce"] = "eidas2", "other" })
		},
		"no nonce": func(c *idp.Change) {
			c.Token(func(m map[string]any) { m["acr"] = "eidas2"; delete(m, "nonce") })
		},
		"expired": func(c *idp.Change) {
			c.Token(func(m map[string]any) { m["acr"], m["exp"] = "eidas2", time.Now().Add(-time.Hour).Unix() })
		},
		"level":        func(c *idp.Change) { c.Token(func(m map[string]any) { m["acr"] = "eidas1" }) },
		"no level":     func(c *idp.Change) { c.Token(func(m map[string]any) { delete(m, "acr") }) },
		"shared key":   func(c *idp.Change) { c.Sign(jose.HS256) },
		"other person": func(c *idp.Change) { c.Info(func(m map[string]any) { m["sub"] = "another" }) },
	} {
		t.Run(name, func(t *testing.T) {
			op, p := pair(t, func(c *openid.Config) { c.ACR = []string{"eidas2"} })
			level := func(c *idp.Change) { c.Token(func(m map[string]any) { m["acr"] = "eidas2" }) }
			op.Set(level)
			good, goodTicket, err := p.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Finish(t.Context(), goodTicket, walk(t, good).Get("code")); err != nil {
				t.Fatalf("without the forgery: %v", err)
			}
			op.Set(forge)
			to, ticket, err := p.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			who, err := p.Finish(t.Context(), ticket, walk(t, to).Get("code"))
			if err == nil || openid.Away(err) || who != (openid.Person{}) {
				t.Errorf("%+v %v", who, err)
			}
		})
	}
}

func TestAVerifierOfAnotherAttempt(t *testing.T) {
	_, p := pair(t)
	to, _, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Finish(t.Context(), other, walk(t, to).Get("code")); err == nil {
		t.Error("a code stolen from another browser was redeemed")
	}
}

func TestAProviderThatIsAway(t *testing.T) {
	op, p := pair(t)
	op.Set(func(c *idp.Change) { c.Down(true) })
	if _, _, err := p.Begin(t.Context()); !openid.Away(err) {
		t.Errorf("%v", err)
	}
	op.Set(func(c *idp.Change) { c.Down(false) })
	to, ticket, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	code := walk(t, to).Get("code")
	op.Set(func(c *idp.Change) { c.Down(true) })
	if _, err := p.Finish(t.Context(), ticket, code); !openid.Away(err) {
		t.Errorf("%v", err)
	}
}

// Settings that name another issuer, and those at a place of their own (Pro Santé Connect).
func TestSettings(t *testing.T) {
	op, p := pair(t)
	srv := httptest.NewServer(http.RedirectHandler(op.URL+"/.well-known/openid-configuration", http.StatusFound))
	defer srv.Close()
	c := p.Config
	c.Discovery = op.URL + "/.well-known/openid-configuration"
	c.Issuer = "https://another.test"
	if p, _ = openid.New(c); p == nil {
		t.Fatal("no provider")
	}
	if _, _, err := p.Begin(t.Context()); err == nil {
		t.Error("another issuer's settings were taken")
	}
	c.Issuer, c.Discovery = op.URL, srv.URL
	p, _ = openid.New(c)
	if _, _, err := p.Begin(t.Context()); err == nil {
		t.Error("a redirect was followed")
	}
}
