package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"passerelle/crypto/smime"
	"passerelle/gateway/directory"
	"passerelle/gateway/keyring"
	"passerelle/gateway/message"
	"passerelle/policy"
)

// sealingKeys are what one recipient's copy can be sealed to now.
type sealingKeys struct {
	cert *x509.Certificate // nil: none
	pgp  []byte            // nil: none
	// doubt is why nothing could be learnt of the certificate's revocation, unasked why nobody could be asked for an OpenPGP key, where the operator
	// would wait: what is to be sealed so comes later.
	doubt, unasked error
	// ofCert and ofPGP are the keyring's, nil where the clinic's list or the config names the key.
	ofCert, ofPGP *keyring.Key
}

// keysOf asks who can open what is sealed: the clinic's own list first, then the keyring, then, where nothing is known, the recipient's own domain. What
// the list names and cannot be used leaves the place to the keyring.
func (g *Gateway) keysOf(ctx context.Context, m *mail, ans directory.Answer, to message.Address) (k sealingKeys, err error) {
	if c := ans.Contact; c != nil {
		if c.Certificate != nil && smime.Usable(c.Certificate, g.now()) == nil {
			k.take(c.Certificate, nil, g.certs.judge([]*x509.Certificate{c.Certificate}, to))
		}
		k.pgp = c.OpenPGPKey
	}
	if g.ring == nil || k.whole() && len(k.pgp) > 0 {
		return k, nil
	}
	if err := g.keepTold(ctx, ans, to); err != nil {
		return k, err
	}
	if err := g.fromRing(ctx, &k, to); err != nil {
		return k, err
	}
	if k.cert != nil || len(k.pgp) > 0 && (k.ofPGP == nil || k.ofPGP.Source != keyring.WKD) {
		return k, nil
	}
	unasked := (*keyring.Unasked)(nil)
	switch err := g.seek(ctx, m, to); {
	case errors.As(err, &unasked):
		if g.discovery.wait && len(k.pgp) == 0 {
			k.unasked = err
		}
		return k, nil
	case err != nil:
		return k, err
	}
	if k.ofPGP != nil { // it may be gone
		k.pgp, k.ofPGP = nil, nil
	}
	return k, g.fromRing(ctx, &k, to)
}

// fromRing fills what is missing out of the keyring.
func (g *Gateway) fromRing(ctx context.Context, k *sealingKeys, to message.Address) error {
	found, err := g.ring.For(ctx, to, g.now(), g.set.minTrust)
	if err != nil {
		return err
	}
	for i := range found {
		f := &found[i]
		switch {
		case f.Kind == keyring.SMIME && !k.whole():
			if chain, err := x509.ParseCertificates(f.Data); err == nil && len(chain) > 0 && smime.Usable(chain[0], g.now()) == nil {
				k.take(chain[0], f, g.judgeKey(ctx, f, chain, to))
			}
		case f.Kind == keyring.OpenPGP && len(k.pgp) == 0:
			k.pgp, k.ofPGP = f.Data, f
		}
	}
	return nil
}

// whole: there is a certificate without a doubt.
func (k *sealingKeys) whole() bool { return k.cert != nil && k.doubt == nil }

// take takes a certificate on its verdict: one without a doubt before one with, none that was found bad.
func (k *sealingKeys) take(c *x509.Certificate, of *keyring.Key, verdict error) {
	if verdict == nil || isDoubt(verdict) && k.cert == nil {
		k.cert, k.ofCert, k.doubt = c, of, verdict
	}
}

// named puts into the reason of a decision which key of the keyring it stands on.
func (k *sealingKeys) named(d policy.Decision) policy.Decision {
	by := map[string]*keyring.Key{policy.FormSMIME: k.ofCert, policy.FormOpenPGP: k.ofPGP}[d.Form]
	if d.Route == policy.Encrypt && by != nil {
		d.Reason += ", " + keyLine(by)
	}
	return d
}

// keyLines tells of every key that the keyring has for somebody, and what keeps it from being used.
func (g *Gateway) keyLines(ctx context.Context, to message.Address) (lines []string, err error) {
	if g.ring == nil {
		return nil, nil
	}
	k := &Keys{g.ring, g.set.minTrust}
	for _, address := range []string{to.Key(), "@" + to.Domain} {
		keys, err := g.ring.Under(ctx, address)
		if err != nil {
			return nil, err
		}
		for i := range keys {
			lines = append(lines, keyLine(&keys[i])+": "+k.Use(&keys[i], g.now()))
		}
	}
	return lines, nil
}

// CheckKeys names the keys in use that end within a month, with none in their place.
func (g *Gateway) CheckKeys(ctx context.Context) (warnings []string) {
	if g.ring == nil {
		return nil
	}
	list, err := g.ring.Expiring(ctx, g.now(), g.set.minTrust, keyWarning)
	if err != nil {
		return []string{"the keys of correspondents cannot be read: " + err.Error()}
	}
	for _, k := range list {
		warnings = append(warnings, fmt.Sprintf("the %s key %s of %s ends on %s: ask for the next one (passerelle keys list --expiring 30d)", k.Kind, keyring.Short(k.Fingerprint), k.Address, k.Ends().Format(time.DateOnly)))
	}
	return warnings
}

// keys counts the correspondents' keys, and warns of those that end.
func (d *doctor) keys(ctx context.Context, s *sheet) {
	if d.ring == nil {
		s.ok("", "none are kept")
		return
	}
	const remedy = "mail to these people waits meanwhile: `passerelle keys list` as the user that serves says the same; look at the folder's owner and disk"
	all, err := d.ring.All(ctx)
	if err != nil {
		s.fail(keyring.File, err.Error(), remedy)
		return
	}
	list, err := d.ring.Expiring(ctx, d.now(), d.set.minTrust, keyWarning)
	if err != nil {
		s.fail(keyring.File, err.Error(), remedy)
		return
	}
	used := map[string]bool{}
	for i := range all {
		if all[i].Usable(d.now(), d.set.minTrust) {
			used[all[i].Address] = true
		}
	}
	s.ok("", "%d kept, in use for %d addresses or domains", len(all), len(used))
	for _, k := range list {
		s.warn(keyring.Short(k.Fingerprint), fmt.Sprintf("the %s key of *%s ends on %s, and no other is there", k.Kind, k.Address[strings.LastIndexByte(k.Address, '@'):], k.Ends().Format(time.DateOnly)),
			"ask for the next one and import it (passerelle keys list --expiring 30d); behind it mail to there takes the next way of the rules")
	}
}

// keyLine is a key in one line: whose word it stands on, since when.
func keyLine(k *keyring.Key) string {
	whose := ""
	if k.Address[0] == '@' {
		whose = " of the domain"
	}
	return fmt.Sprintf("%s by key %s%s, %s (%s), seen %s", k.Kind, keyring.Short(k.Fingerprint), whose, k.Trust, k.Source, k.Seen.Format(time.DateOnly))
}
