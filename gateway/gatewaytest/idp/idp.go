// Package idp is an OpenID provider on loopback for tests: zitadel's, which is certified, with one person who is always logged in. It is
// no part of gatewaytest, which the demo links.
package idp

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Client and Secret are what the relying party is registered with.
const (
	Client = "passerelle"
	Secret = "zitadel-test-secret"
)

// Provider is a running provider. Its fields may be changed between requests, under Set.
type Provider struct {
	URL string

	mu    sync.Mutex
	store *people
	srv   *httptest.Server

	claims map[string]any          // of the person at the browser
	forge  func(map[string]any)    // changes the id token before it is signed again
	alg    jose.SignatureAlgorithm // it is then signed with; "" is the provider's own
	down   bool                    // every answer is 503
	info   func(map[string]any)    // changes the identity at userinfo
	Asked  []url.Values            // what authorize was asked
}

// Set changes what the provider says.
func (p *Provider) Set(change func(*Change)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&Change{p})
}

// Change is handed to Set.
type Change struct{ p *Provider }

// Claims are the person's: {"family_name": "Durand", ...}.
func (c *Change) Claims(m map[string]any) { c.p.claims = m }

// Token changes the claims of each id token, which is then signed again by the provider's key.
func (c *Change) Token(f func(map[string]any)) { c.p.forge = f }

// Sign sets the algorithm of each id token: HS256 takes the client's secret as its key.
func (c *Change) Sign(alg jose.SignatureAlgorithm) { c.p.alg = alg }

// Info changes what userinfo says.
func (c *Change) Info(f func(map[string]any)) { c.p.info = f }

// Down lets every request fail.
func (c *Change) Down(down bool) { c.p.down = down }

type people struct {
	*storage.Storage
	p *Provider
}

type one struct{}

const who, password = "patient", "secret"

func (one) user() *storage.User                      { return &storage.User{ID: who, Username: who, Password: password} }
func (o one) GetUserByID(string) *storage.User       { return o.user() }
func (o one) GetUserByUsername(string) *storage.User { return o.user() }
func (one) ExampleClientID() string                  { return Client }

// SetUserinfoFromToken is what userinfo says of the person.
func (s *people) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, _, _, _ string) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	all := map[string]any{"sub": who}
	for k, v := range s.p.claims {
		all[k] = v
	}
	if s.p.info != nil {
		s.p.info(all)
	}
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, info)
}

// Start gives a provider that redirects to redirect alone.
func Start(t *testing.T, redirect string) *Provider {
	t.Helper()
	p := &Provider{claims: map[string]any{}}
	var h http.Handler
	p.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(p.srv.Close)
	p.URL = p.srv.URL
	client := storage.WebClient(Client, Secret, redirect)
	p.store = &people{storage.NewStorageWithClients(one{}, map[string]*storage.Client{Client: client}), p}
	provider, err := op.NewProvider(&op.Config{CryptoKey: sha256.Sum256([]byte("test")), CodeMethodS256: true, AuthMethodPost: true}, p.store,
		op.StaticIssuer(p.URL), op.WithAllowInsecure())
	if err != nil {
		t.Fatalf("start the OpenID provider: %v", err)
	}
	back := op.AuthCallbackURL(provider)
	mux := http.NewServeMux()
	mux.HandleFunc("/login/username", func(w http.ResponseWriter, r *http.Request) { // where WebClient sends to: the person is logged in already
		id := r.URL.Query().Get("authRequestID")
		if err := p.store.CheckUsernamePassword(who, password, id); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, back(op.ContextWithIssuer(r.Context(), p.URL), id), http.StatusFound)
	})
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.Asked = append(p.Asked, r.URL.Query())
		p.mu.Unlock()
		provider.ServeHTTP(w, r)
	})
	mux.HandleFunc("/oauth/token", func(w http.ResponseWriter, r *http.Request) { p.token(t, w, r, provider) })
	mux.Handle("/", provider)
	h = mux
	return p
}

// token answers as the provider does, with the id token changed as the test wants it.
func (p *Provider) token(t *testing.T, w http.ResponseWriter, r *http.Request, provider http.Handler) {
	rec := httptest.NewRecorder()
	provider.ServeHTTP(rec, r)
	p.mu.Lock()
	forge, alg := p.forge, p.alg
	p.mu.Unlock()
	var answer map[string]any
	if rec.Code == http.StatusOK && json.Unmarshal(rec.Body.Bytes(), &answer) == nil && (forge != nil || alg != "") {
		answer["id_token"] = p.sign(t, answer["id_token"].(string), forge, alg)
		rec.Body.Reset()
		if err := json.NewEncoder(rec.Body).Encode(answer); err != nil {
			t.Error(err)
		}
	}
	w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
	w.WriteHeader(rec.Code)
	w.Write(rec.Body.Bytes())
}

func (p *Provider) sign(t *testing.T, raw string, forge func(map[string]any), alg jose.SignatureAlgorithm) string {
	token, err := jose.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Errorf("read the id token: %v", err)
		return ""
	}
	claims := map[string]any{}
	if err := json.Unmarshal(token.UnsafePayloadWithoutVerification(), &claims); err != nil {
		t.Error(err)
	}
	if forge != nil {
		forge(claims)
	}
	own, err := p.store.SigningKey(context.Background())
	if err != nil {
		t.Error(err)
	}
	key := jose.SigningKey{Algorithm: own.SignatureAlgorithm(), Key: jose.JSONWebKey{Key: own.Key(), KeyID: own.ID()}}
	if alg == jose.HS256 {
		sum := sha256.Sum256([]byte(Secret))
		key = jose.SigningKey{Algorithm: alg, Key: sum[:]}
	}
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Error(err)
		return ""
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Error(err)
	}
	out, err := signer.Sign(payload)
	if err != nil {
		t.Error(err)
		return ""
	}
	s, err := out.CompactSerialize()
	if err != nil {
		t.Error(err)
	}
	return s
}
