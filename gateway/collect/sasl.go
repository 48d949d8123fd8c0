package collect

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
)

// errRefused: the server does not let us in. token is the one to evict, "" with a certificate.
type errRefused struct {
	token string
	err   error
}

func (e *errRefused) Error() string { return fmt.Sprintf("the operator refuses the login: %v", e.err) }
func (e *errRefused) Unwrap() error { return e.err }

// xoauth2 is the mechanism of that name, which the operators took over from large providers.
type xoauth2 struct{ user, token string }

func (x *xoauth2) Start() (string, []byte, error) {
	return "XOAUTH2", []byte("user=" + x.user + "\x01auth=Bearer " + x.token + "\x01\x01"), nil
}

// Next: a challenge is a refusal with its reason, which holds nothing that we need. There is no second word to say: the session ends here,
// as operators end it themselves.
func (x *xoauth2) Next([]byte) ([]byte, error) { return nil, errChallenge }

var errChallenge = errors.New("a challenge in the place of a welcome")

// watched tells whether the server challenged what we said: for tokens that is a refusal.
type watched struct {
	sasl.Client
	challenged bool
}

func (w *watched) Next(challenge []byte) ([]byte, error) {
	w.challenged = true
	if _, err := w.Client.Next(challenge); err != nil {
		return nil, errChallenge // what the server says may quote the token
	}
	return nil, errChallenge
}

// saslName escapes as RFC 5801 section 4 asks.
var saslName = strings.NewReplacer("=", "=3D", ",", "=2C")

// client gives the mechanism and, where there is one, the token in it.
func (b *Box) client(ctx context.Context) (sasl.Client, string, error) {
	if b.Auth == External {
		return sasl.NewExternalClient(b.Mailbox), "", nil
	}
	if b.Token == nil {
		return nil, "", errors.New("no token source")
	}
	token, err := b.Token(ctx)
	if err != nil {
		return nil, "", err
	}
	if b.Auth == OAuthBearer {
		return sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: saslName.Replace(b.Mailbox), Token: token}), token, nil
	}
	return &xoauth2{b.Mailbox, token}, token, nil
}
