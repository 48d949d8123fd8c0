// Package openid asks an OpenID provider who is before the page. It takes a provider's settings, gives the address to send a browser to and,
// from what the browser brings back, the names, birth date or number that the provider vouches for; and knows nothing of deposits, pages or
// what is opened by that.
//
// It is the relying party of OpenID Connect Core 1.0 section 3.1 (code flow), with PKCE (RFC 7636, S256), state and nonce.
package openid

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Config sets up one provider. Issuer, ClientID and RedirectURL are required.
type Config struct {
	// Name is the operator's word for it, Label what people read on the button.
	Name, Label string
	// Issuer is compared with what the provider signs. Discovery is where its settings lie; "" is the issuer's well-known place.
	Issuer, Discovery      string
	ClientID, ClientSecret string
	// Scopes are asked for beside openid.
	Scopes []string
	// ACR are the levels asked for (acr_values). What comes back must be one of them; a higher eIDAS level is as good: eidas2 for eidas1.
	ACR []string
	// Claims maps birth_name, first_name, birth_date and rpps to the provider's names.
	Claims map[string]string
	// Professionals: it knows professionals by their number, else patients by name and birth date.
	Professionals bool
	RedirectURL   string
	// Timeout bounds each request to the provider; 0 is 10 s.
	Timeout time.Duration
	Now     func() time.Time
}

// Person is who the provider says it is; what it did not say is "".
type Person struct{ BirthName, FirstNames, BirthDate, RPPS string }

// Error is what became of an attempt.
type Error struct {
	Away bool // the provider could not be asked; nothing is known
	Err  error
}

func (e *Error) Error() string { return "openid: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Away tells whether an attempt failed because the provider could not be asked.
func Away(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Away
}

// Ticket is what the browser keeps, sealed, of the attempt that it began.
type Ticket struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
}

// Provider is one provider. It is safe for concurrent use.
type Provider struct {
	Config
	client *http.Client
	mu     sync.Mutex
	known  *oidc.Provider // its settings, once they could be read
	algs   []string
	read   time.Time
}

// settingsLife is how long a provider's settings hold before they are read again; its keys are fetched by themselves when a new one signs.
const settingsLife = 6 * time.Hour

// maxAnswer bounds what a provider's answer may be.
const maxAnswer = 1 << 20

// New gives a provider. It asks it nothing yet: a clinic's portal starts also where a provider is away.
func New(c Config) (*Provider, error) {
	if c.Issuer == "" || c.ClientID == "" || c.RedirectURL == "" {
		return nil, errors.New("new provider: issuer, client id and redirect URL are needed")
	}
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Discovery == "" {
		c.Discovery = strings.TrimRight(c.Issuer, "/") + "/.well-known/openid-configuration"
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost, t.IdleConnTimeout = 2, 30*time.Second
	return &Provider{Config: c, client: &http.Client{Transport: bounded{t}, Timeout: c.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a provider's endpoints stand where its settings say
	}}}, nil
}

// Close lets its idle connections go.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

// bounded cuts an answer that has no end.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// asymmetric are the algorithms that a signature may be of: none, and a secret that both sides know, are no signature of the provider's.
var asymmetric = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}

// settings reads the provider's own, or gives those that hold. Ones that have run out hold on where the provider is away.
func (p *Provider) settings(ctx context.Context) (*oidc.Provider, []string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known != nil && p.Now().Sub(p.read) < settingsLife {
		return p.known, p.algs, nil
	}
	known, algs, err := p.discover(ctx)
	switch {
	case err == nil:
		p.known, p.algs, p.read = known, algs, p.Now()
	case p.known == nil || !Away(err):
		return nil, nil, err
	}
	return p.known, p.algs, nil
}

func (p *Provider) discover(ctx context.Context) (*oidc.Provider, []string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Discovery, nil)
	if err != nil {
		return nil, nil, &Error{Err: fmt.Errorf("read settings of %s: %w", p.Name, err)}
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, nil, &Error{Away: true, Err: fmt.Errorf("read settings of %s: %w", p.Name, err)}
	}
	defer resp.Body.Close()
	var c oidc.ProviderConfig
	if resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	} else {
		err = json.NewDecoder(resp.Body).Decode(&c)
	}
	if err != nil {
		return nil, nil, &Error{Away: true, Err: fmt.Errorf("read settings of %s: %w", p.Name, err)}
	}
	if c.IssuerURL != p.Issuer {
		return nil, nil, &Error{Err: fmt.Errorf("read settings of %s: they are of %q, not of %q", p.Name, c.IssuerURL, p.Issuer)}
	}
	var algs []string
	for _, a := range c.Algorithms {
		if slices.Contains(asymmetric, a) {
			algs = append(algs, a)
		}
	}
	if len(algs) == 0 {
		algs = []string{"RS256"} // OpenID Connect Core section 2: what everybody has
	}
	c.Algorithms = algs
	// The keys are fetched behind this request too.
	return c.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.client)), algs, nil
}

func (p *Provider) oauth(known *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: known.Endpoint(), RedirectURL: p.RedirectURL,
		Scopes: append([]string{oidc.ScopeOpenID}, p.Scopes...)}
}

// Begin gives the address to send the browser to, and what it must keep.
func (p *Provider) Begin(ctx context.Context) (string, Ticket, error) {
	known, _, err := p.settings(ctx)
	if err != nil {
		return "", Ticket{}, err
	}
	t := Ticket{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
	opts := []oauth2.AuthCodeOption{oidc.Nonce(t.Nonce), oauth2.S256ChallengeOption(t.Verifier)}
	if len(p.ACR) > 0 {
		opts = append(opts, oauth2.SetAuthURLParam("acr_values", strings.Join(p.ACR, " ")))
	}
	return p.oauth(known).AuthCodeURL(t.State, opts...), t, nil
}

// Finish takes the code that the browser brought back, whose state its caller has compared with the ticket's.
func (p *Provider) Finish(ctx context.Context, t Ticket, code string) (Person, error) {
	known, algs, err := p.settings(ctx)
	if err != nil {
		return Person{}, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	token, err := p.oauth(known).Exchange(ctx, code, oauth2.VerifierOption(t.Verifier))
	if err != nil {
		var answered *oauth2.RetrieveError
		away := !errors.As(err, &answered) || answered.Response.StatusCode >= 500
		if answered != nil { // its own text would quote the answer's body
			err = fmt.Errorf("%s %s", answered.Response.Status, answered.ErrorCode)
		}
		return Person{}, &Error{Away: away, Err: fmt.Errorf("redeem the code of %s: %w", p.Name, err)}
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := known.Verifier(&oidc.Config{ClientID: p.ClientID, SupportedSigningAlgs: algs, Now: p.Now}).Verify(ctx, raw)
	if err != nil {
		return Person{}, &Error{Err: fmt.Errorf("verify the token of %s: %w", p.Name, err)}
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return Person{}, &Error{Err: fmt.Errorf("read the token of %s: %w", p.Name, err)}
	}
	switch acr, _ := claims["acr"].(string); {
	case id.Nonce == "" || id.Nonce != t.Nonce:
		return Person{}, &Error{Err: fmt.Errorf("the token of %s answers another attempt", p.Name)}
	case !p.enough(acr):
		return Person{}, &Error{Err: fmt.Errorf("the level that %s gives is not enough", p.Name)}
	}
	if p.complete(claims) || known.UserInfoEndpoint() == "" {
		return p.person(claims), nil
	}
	info, err := known.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return Person{}, &Error{Away: true, Err: fmt.Errorf("ask %s for the identity: %w", p.Name, err)}
	}
	if info.Subject != id.Subject { // OpenID Connect Core section 5.3.2: else it may be somebody else's
		return Person{}, &Error{Err: fmt.Errorf("the identity of %s is another person's than its token", p.Name)}
	}
	if err := info.Claims(&claims); err != nil { // over those of the token
		return Person{}, &Error{Err: fmt.Errorf("read the identity of %s: %w", p.Name, err)}
	}
	return p.person(claims), nil
}

// enough tells whether the level given is one that was asked for, or a higher one of eIDAS.
func (p *Provider) enough(acr string) bool {
	if len(p.ACR) == 0 || slices.Contains(p.ACR, acr) {
		return true
	}
	got, ok := strings.CutPrefix(acr, "eidas")
	return ok && len(got) == 1 && got >= "1" && got <= "3" && slices.ContainsFunc(p.ACR, func(a string) bool {
		asked, ok := strings.CutPrefix(a, "eidas")
		return ok && len(asked) == 1 && asked < got
	})
}

// The names in Config.Claims.
const (
	BirthName = "birth_name"
	FirstName = "first_name"
	BirthDate = "birth_date"
	RPPS      = "rpps"
)

func (p *Provider) person(claims map[string]any) Person {
	get := func(name string) string {
		if claim := p.Claims[name]; claim != "" {
			s, _ := claims[claim].(string)
			return s
		}
		return ""
	}
	return Person{BirthName: get(BirthName), FirstNames: get(FirstName), BirthDate: get(BirthDate), RPPS: get(RPPS)}
}

// complete tells whether the claims hold what people are compared by.
func (p *Provider) complete(claims map[string]any) bool {
	who := p.person(claims)
	if p.Professionals {
		return who.RPPS != ""
	}
	return who.BirthName != "" && who.FirstNames != "" && who.BirthDate != ""
}
