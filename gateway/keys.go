package gateway

import (
	"context"
	"crypto/x509"
	"fmt"
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

// keyLine is a key in one line: whose word it stands on, since when.
func keyLine(k *keyring.Key) string {
	whose := ""
	if k.Address[0] == '@' {
		whose = " of the domain"
	}
	return fmt.Sprintf("%s by key %s%s, %s (%s), seen %s", k.Kind, keyring.Short(k.Fingerprint), whose, k.Trust, k.Source, k.Seen.Format(time.DateOnly))
}
