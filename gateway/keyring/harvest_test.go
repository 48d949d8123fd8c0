package keyring

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

const (
	forBoth    = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
	forSigning = x509.KeyUsageDigitalSignature
)

// mailCert issues a certificate for mail.
func mailCert(t *testing.T, ca *gatewaytest.CA, address string, usage x509.KeyUsage, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	i, err := ca.Issue(gatewaytest.Leaf{Subject: pkix.Name{CommonName: address}, Change: func(c *x509.Certificate) {
		c.EmailAddresses, c.KeyUsage, c.ExtKeyUsage = []string{address}, usage, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
		if change != nil {
			change(c)
		}
	}})
	must(t, err)
	return i.Cert
}

func newRing(t *testing.T, now func() time.Time) *Ring {
	t.Helper()
	r, err := Open(t.Context(), Config{Dir: t.TempDir(), Every: time.Nanosecond, Now: now})
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// TestHarvest: of what arrives signed, the certificate is taken that mail to its author can be sealed to, and nothing else.
func TestHarvest(t *testing.T) {
	ca, err := gatewaytest.NewCA("mail")
	must(t, err)
	other, err := gatewaytest.NewCA("other")
	must(t, err)
	now := time.Now()
	a := at(t, "A@d.test")
	both, signs := mailCert(t, ca, "a@d.test", forBoth, nil), mailCert(t, ca, "a@d.test", forSigning, nil)
	for _, c := range []struct {
		name     string
		from     message.Address
		chain    []*x509.Certificate
		verified bool
		want     *x509.Certificate
	}{
		{"signer", a, []*x509.Certificate{both, ca.Cert}, true, both},
		{"signer without his authority", a, []*x509.Certificate{both}, true, both},
		{"not verified", a, []*x509.Certificate{both, ca.Cert}, false, nil},
		{"another's", at(t, "b@d.test"), []*x509.Certificate{both, ca.Cert}, true, nil},
		{"nobody's", message.Address{}, []*x509.Certificate{both, ca.Cert}, true, nil},
		{"none", a, nil, true, nil},
		{"for signing alone", a, []*x509.Certificate{signs, ca.Cert}, true, nil},
		{"its brother to open", a, []*x509.Certificate{signs, both, ca.Cert}, true, both},
		{"a brother of another authority", a, []*x509.Certificate{signs, mailCert(t, other, "a@d.test", forBoth, nil), ca.Cert, other.Cert}, true, nil},
		{"another's beside it", a, []*x509.Certificate{signs, mailCert(t, ca, "b@d.test", forBoth, nil), ca.Cert}, true, nil},
		{"ran out", a, []*x509.Certificate{mailCert(t, ca, "a@d.test", forBoth, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }), ca.Cert}, true, nil},
		{"of a web server", a, []*x509.Certificate{mailCert(t, ca, "a@d.test", forBoth, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), ca.Cert}, true, nil},
		{"too large", a, []*x509.Certificate{mailCert(t, ca, "a@d.test", forBoth, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: make([]byte, maxHarvestPath)}}
		}), ca.Cert}, true, nil},
	} {
		r := newRing(t, func() time.Time { return now })
		added, err := NewHarvester(r).Harvest(t.Context(), c.from, c.chain, c.verified, now)
		must(t, err)
		keys, err := r.All(t.Context())
		must(t, err)
		if c.want == nil {
			if added || len(keys) != 0 {
				t.Errorf("%s: it was taken", c.name)
			}
			continue
		}
		if keys, err = r.For(t.Context(), c.from, now, Verified); err != nil || !added || len(keys) != 1 || !keys[0].Certificate().Equal(c.want) ||
			keys[0].Source != Harvested || keys[0].Trust != Verified || keys[0].Fixed {
			t.Errorf("%s: added %t, %d keys, %v", c.name, added, len(keys), err)
		}
	}
	var none *Harvester
	if added, err := none.Harvest(t.Context(), a, []*x509.Certificate{both}, true, now); added || err != nil {
		t.Errorf("off: %t, %v", added, err)
	}
}

// TestHarvestBounds: what the operator said stays, an address has a few certificates, an hour brings so many.
func TestHarvestBounds(t *testing.T) {
	ca, err := gatewaytest.NewCA("mail")
	must(t, err)
	now := time.Now()
	r := newRing(t, func() time.Time { return now })
	h := NewHarvester(r)
	take := func(address string, c *x509.Certificate) bool {
		t.Helper()
		added, err := h.Harvest(t.Context(), at(t, address), []*x509.Certificate{c, ca.Cert}, true, now)
		must(t, err)
		return added
	}
	mine, next := mailCert(t, ca, "a@d.test", forBoth, nil), mailCert(t, ca, "a@d.test", forBoth, nil)
	_, err = r.Put(t.Context(), Key{Address: "a@d.test", Kind: SMIME, Data: mine.Raw, Source: Import, Trust: Confirmed, Fixed: true})
	must(t, err)
	if take("a@d.test", next) {
		t.Error("taken beside one that the operator confirmed")
	}
	take("a@d.test", mine)
	if keys, _ := r.Under(t.Context(), "a@d.test"); len(keys) != 1 || keys[0].Trust != Confirmed || keys[0].Source != Import || !keys[0].Fixed {
		t.Errorf("the operator's word is changed: %d keys, %s by %s", len(keys), keys[0].Trust, keys[0].Source)
	}
	bad := mailCert(t, ca, "r@d.test", forBoth, nil)
	if !take("r@d.test", bad) {
		t.Error("not taken")
	}
	keys, _ := r.Under(t.Context(), "r@d.test")
	_, err = r.SetTrust(t.Context(), keys[0].Fingerprint, "", Rejected, "stolen")
	must(t, err)
	take("r@d.test", bad)
	if keys, _ := r.For(t.Context(), at(t, "r@d.test"), now, Seen); len(keys) != 0 {
		t.Error("a rejected certificate is back")
	}
	for i := range maxHarvested + 2 {
		if got := take("many@d.test", mailCert(t, ca, "many@d.test", forBoth, nil)); got != (i < maxHarvested) {
			t.Errorf("certificate %d of an address: taken %t", i+1, got)
		}
	}
	taken := 0
	for i := range harvestBurst + 20 {
		if address := fmt.Sprintf("x%d@d.test", i); take(address, mailCert(t, ca, address, forBoth, nil)) {
			taken++
		}
	}
	if taken == 0 || taken > harvestBurst {
		t.Errorf("%d taken at once", taken)
	}
	now = now.Add(time.Hour)
	if !take("later@d.test", mailCert(t, ca, "later@d.test", forBoth, nil)) {
		t.Error("an hour later none is taken")
	}
}

// TestTold: a source's word is followed, both ways, and leaves the others' and the operator's alone.
func TestTold(t *testing.T) {
	ca, err := gatewaytest.NewCA("mail")
	must(t, err)
	now := time.Now()
	r := newRing(t, func() time.Time { return now })
	one, two, old := mailCert(t, ca, "a@d.test", forBoth, nil), mailCert(t, ca, "a@d.test", forBoth, nil), mailCert(t, ca, "a@d.test", forBoth, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })
	key := func(c *x509.Certificate) Key { return Key{Kind: SMIME, Data: c.Raw, Trust: Discovered} }
	_, err = r.Put(t.Context(), Key{Address: "a@d.test", Kind: SMIME, Data: mailCert(t, ca, "a@d.test", forBoth, nil).Raw, Source: Harvested, Trust: Verified})
	must(t, err)
	count := func(what string, want int) {
		t.Helper()
		if keys, err := r.Under(t.Context(), "a@d.test"); err != nil || len(keys) != want {
			t.Errorf("%s: %d keys, want %d, %v", what, len(keys), want, err)
		}
	}
	must(t, r.Told(t.Context(), "a@d.test", LDAP, []Key{key(one), key(two)}))
	count("two", 3)
	gen := func() (n int64) {
		must(t, r.db.Read().QueryRowContext(t.Context(), `SELECT generation FROM keyring_state`).Scan(&n))
		return n
	}
	was := gen()
	must(t, r.Told(t.Context(), "a@d.test", LDAP, []Key{key(one), key(two)}))
	if gen() != was {
		t.Error("the same word writes again")
	}
	if err := r.Told(t.Context(), "a@d.test", LDAP, []Key{key(one), key(old)}); !errors.As(err, new(*Error)) {
		t.Errorf("one that ran out: %v", err)
	}
	count("one, and one that ran out", 2)
	keys, err := r.Under(t.Context(), "a@d.test")
	must(t, err)
	for _, k := range keys {
		if k.Source == LDAP {
			_, err := r.SetTrust(t.Context(), k.Fingerprint, "", Confirmed, "")
			must(t, err)
		}
	}
	must(t, r.Told(t.Context(), "a@d.test", LDAP, nil))
	count("none, but the operator confirmed it", 2)
	must(t, r.Told(t.Context(), "b@d.test", LDAP, nil))
}
