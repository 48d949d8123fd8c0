package gateway

import (
	"context"
	"crypto/x509"
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
	// ofCert and ofPGP are the keyring's, nil where the clinic's list or the config names the key.
	ofCert, ofPGP *keyring.Key
}

// keysOf asks who can open what is sealed: the clinic's own list first, then the keyring. What the list names and cannot be used leaves the
// place to the keyring.
func (g *Gateway) keysOf(ctx context.Context, c *directory.Contact, to message.Address) (k sealingKeys, err error) {
	if c != nil {
		if c.Certificate != nil && smime.Usable(c.Certificate, g.now()) == nil {
			k.cert = c.Certificate
		}
		k.pgp = c.OpenPGPKey
	}
	if g.ring == nil || k.cert != nil && len(k.pgp) > 0 {
		return k, nil
	}
	found, err := g.ring.For(ctx, to, g.now(), g.set.minTrust)
	if err != nil {
		return k, err
	}
	for i := range found {
		f := &found[i]
		switch {
		case f.Kind == keyring.SMIME && k.cert == nil:
			if cert := f.Certificate(); cert != nil && smime.Usable(cert, g.now()) == nil {
				k.cert, k.ofCert = cert, f
			}
		case f.Kind == keyring.OpenPGP && len(k.pgp) == 0:
			k.pgp, k.ofPGP = f.Data, f
		}
	}
	return k, nil
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
