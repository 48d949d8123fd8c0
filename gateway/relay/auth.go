package relay

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"passerelle/gateway/trust"
)

// Mechanisms of SASL that we speak.
const (
	External    = "EXTERNAL"    // RFC 4422 appendix A: the TLS certificate says who we are
	OAuthBearer = "OAUTHBEARER" // RFC 7628
	XOAuth2     = "XOAUTH2"     // its forerunner, without a standard
)

// Auth is how we prove to a hop who we are (RFC 4954). It is spoken under TLS that verified the hop, or not at all.
type Auth struct {
	// Identity names whose session this is. Connections are kept for it alone: no letter goes under another's name.
	Identity string
	// Mechanisms are tried in their order: the first that the hop offers is spoken. None: the certificate of the TLS session is all.
	Mechanisms []string
	// User is the mailbox that the session acts for. With EXTERNAL it may be empty: the one that the certificate names.
	User string
	// Tokens gives the access token of OAUTHBEARER and XOAUTH2.
	Tokens *trust.Tokens
}

// same tells whether two sessions have the same rights.
func (a *Auth) same(b *Auth) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Identity == b.Identity && a.User == b.User && a.Tokens == b.Tokens && slices.Equal(a.Mechanisms, b.Mechanisms)
}

// identity is the part of a pool's key that keeps identities apart.
func (h *Hop) identity() string {
	if h.Auth == nil {
		return ""
	}
	return "as " + h.Auth.Identity
}

// needsToken tells whether a token must be at hand before the hop is called.
func (a *Auth) needsToken() bool {
	return a != nil && slices.ContainsFunc(a.Mechanisms, func(m string) bool { return m != External })
}

func (a *Auth) check() error {
	for _, m := range a.Mechanisms {
		if m != External && (m != OAuthBearer && m != XOAuth2 || a.Tokens == nil || a.User == "") {
			return fmt.Errorf("mechanism %s is not known, or has no mailbox or no token", m)
		}
	}
	if strings.ContainsFunc(a.User, func(r rune) bool { return r <= ' ' || r == 0x7f }) { // ^A ends a field of both token mechanisms
		return errors.New("the mailbox does not fit into a SASL message")
	}
	return nil
}

// errToken: the hop refused the token. A fresh one may do.
var errToken = errors.New("access token refused")

// token fetches what the session needs before the hop is called: a command may take longer than a greeting may wait.
func (h *Hop) token(ctx context.Context) (string, *Error) {
	if !h.Auth.needsToken() {
		return "", nil
	}
	token, err := h.Auth.Tokens.Get(ctx)
	if err != nil {
		return "", h.temporary("auth", [3]int{4, 7, 0}, "jeton d'acces a la boite MSSante non obtenu, nouvel essai plus tard", err)
	}
	return token, nil
}

// openAs makes a connection ready for MAIL under an identity: a token that the hop refuses is forgotten, and a fresh one tried once.
func (r *Relay) openAs(ctx context.Context, hop Hop) (*conn, *Error) {
	var refused string
	var last *Error
	for {
		token, fail := hop.token(ctx)
		switch {
		case fail != nil && last != nil: // the refusal says more
			return nil, last
		case fail != nil:
			return nil, fail
		case last != nil && token == refused: // the command has no other
			return nil, last
		}
		c, fail := r.dial(ctx, hop, !hop.TLS.Implicit, token)
		if fail == nil {
			authed.WithLabelValues(hop.Name, "accepted").Inc()
			return c, nil
		}
		if fail.Step == "auth" {
			authed.WithLabelValues(hop.Name, "refused").Inc()
		}
		if !errors.Is(fail, errToken) {
			return nil, fail
		}
		hop.Auth.Tokens.Evict(token)
		if last != nil || ctx.Err() != nil {
			return nil, fail
		}
		refused, last = token, fail
	}
}

// authenticate says who we are, and greets again: some hops show their limits (SIZE) and abilities (DSN) to those alone whom they know.
func (c *conn) authenticate(token string) *Error {
	if c.hop.Auth == nil || len(c.hop.Auth.Mechanisms) == 0 {
		return nil
	}
	if fail := c.prove(token); fail != nil {
		return fail
	}
	return c.hello()
}

// prove speaks the first mechanism that the hop offers.
func (c *conn) prove(token string) *Error {
	a := c.hop.Auth
	if c.tls == nil { // RFC 4954 section 4: never in clear; hop.check keeps us from here
		return c.hop.temporary("auth", [3]int{4, 7, 0}, "authentification impossible sans TLS", errors.New("no TLS"))
	}
	offered := strings.Fields(strings.ToUpper(c.ext["AUTH"]))
	i := slices.IndexFunc(a.Mechanisms, func(m string) bool { return slices.Contains(offered, m) })
	if i < 0 {
		return c.hop.temporary("auth", [3]int{4, 7, 0}, "le relais suivant n'offre pas l'authentification configuree, a revoir par l'administrateur",
			fmt.Errorf("none of %s offered, but %q", strings.Join(a.Mechanisms, ", "), offered))
	}
	switch m := a.Mechanisms[i]; m {
	case XOAuth2:
		return c.bearer(m, "user="+a.User+"\x01auth=Bearer "+token+"\x01\x01", "")
	case OAuthBearer:
		host, port, _ := net.SplitHostPort(c.hop.Addr)
		// RFC 7628 section 3.1: the gs2 header (RFC 5801 section 4), then the pairs.
		return c.bearer(m, "n,a="+saslName.Replace(a.User)+",\x01host="+host+"\x01port="+port+"\x01auth=Bearer "+token+"\x01\x01", "\x01")
	}
	ir := "=" // RFC 4954 section 4: an empty initial response
	if a.User != "" {
		ir = base64.StdEncoding.EncodeToString([]byte(a.User))
	}
	r, fail := c.command("auth", c.timeouts.Hello, "AUTH EXTERNAL "+ir)
	if fail != nil {
		return fail
	}
	if r.code == 334 { // a hop that leaves the initial response unread asks for it
		if ir == "=" {
			ir = ""
		}
		if r, fail = c.command("auth", c.timeouts.Hello, ir); fail != nil {
			return fail
		}
	}
	return c.admitted(r, nil)
}

// saslName is RFC 5801 section 4.
var saslName = strings.NewReplacer("=", "=3D", ",", "=2C")

// bearer sends a message with a token. It never goes with the AUTH command itself: real operators want it so, and a long token would not
// fit there. A refusal is a challenge that holds a JSON object, which dummy answers before 535 comes; some operators drop the connection
// in the place of 535, or of both.
func (c *conn) bearer(mechanism, message, dummy string) *Error {
	r, fail := c.command("auth", c.timeouts.Hello, "AUTH "+mechanism)
	if fail != nil {
		return fail
	}
	if r.code != 334 {
		return c.admitted(r, nil)
	}
	r, fail = c.command("auth", c.timeouts.Hello, base64.StdEncoding.EncodeToString([]byte(message)))
	if fail != nil {
		if ne := (net.Error)(nil); fail.Enhanced != [3]int{4, 4, 2} || errors.As(fail.Err, &ne) && ne.Timeout() { // silence is no refusal
			return fail
		}
		return c.hop.noToken(errors.New("the connection was lost behind the token"))
	}
	if r.code != 334 {
		return c.admitted(r, errToken)
	}
	why := fmt.Errorf("challenge %s", oauthStatus(r.lines[0]))
	if r, fail = c.command("auth", c.timeouts.Hello, base64.StdEncoding.EncodeToString([]byte(dummy))); fail == nil && r.code/100 == 2 {
		return c.unexpected("auth", r) // it spoke of a fault and lets us in
	}
	c.broken = true
	return c.hop.noToken(why)
}

// oauthStatus reads the status out of a refusal (RFC 7628 section 3.2.2); nothing else of it is shown.
func oauthStatus(challenge string) string {
	raw, err := base64.StdEncoding.DecodeString(challenge)
	var o struct {
		Status string `json:"status"`
	}
	if err != nil || json.Unmarshal(raw, &o) != nil || !statusWord.MatchString(o.Status) {
		return "without a status"
	}
	return o.Status
}

var statusWord = regexp.MustCompile(`^[a-z0-9_]{1,30}$`)

func (h *Hop) noToken(why error) *Error {
	return h.temporary("auth", [3]int{4, 7, 0}, "jeton d'acces refuse par le relais suivant, nouvel essai plus tard", errors.Join(errToken, why))
}

// admitted reads the last reply of an exchange. Whatever the hop says against us, it says nothing against a letter or its sender: mail waits
// until the administrator has mended it.
func (c *conn) admitted(r reply, refused error) *Error {
	h, why := &c.hop, fmt.Errorf("reply %d", r.code)
	switch {
	case r.code == 235:
		return nil
	case !r.refusal():
		return c.unexpected("auth", r)
	case r.code < 500: // 454 and, before a session closes, 421
		return h.temporary("auth", [3]int{4, 7, 0}, "authentification momentanement impossible sur le relais suivant, nouvel essai plus tard", why)
	case r.code == 535 && refused != nil:
		return h.noToken(why)
	case r.code == 535:
		return h.temporary("auth", [3]int{4, 7, 0}, "certificat ou boite refuse par le relais suivant, a revoir par l'administrateur", why)
	}
	return h.temporary("auth", [3]int{4, 7, 0}, "authentification refusee par le relais suivant, a revoir par l'administrateur", why)
}
