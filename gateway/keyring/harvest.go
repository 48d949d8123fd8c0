package keyring

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"

	"passerelle/crypto/smime"
	"passerelle/gateway/message"
)

var mHarvested = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_keyring_harvested_total", Help: "Certificates of signed mail from outside, by what became of them."},
	[]string{"result"}) // new, known, refused, full

// Harvester takes certificates out of signed mail that arrives from outside. nil takes none.
//
// It takes certificates alone. An OpenPGP signature proves no more than that whoever wrote the letter has the key that came with it, and an Autocrypt
// header not even that: such a key would be worth Seen, which a stranger can have for any address whose mail nobody authenticates. Who wants such keys
// looks them up in the domain's key directory, or imports them.
type Harvester struct {
	ring *Ring

	mu   sync.Mutex
	pace *rate.Limiter // of what is new
}

const (
	harvestsAnHour = 120
	harvestBurst   = 60
	maxHarvested   = 3        // certificates of one address
	maxHarvestPath = 64 << 10 // octets of a chain
)

// NewHarvester puts what it takes into ring.
func NewHarvester(ring *Ring) *Harvester {
	return &Harvester{ring: ring, pace: rate.NewLimiter(rate.Every(time.Hour/harvestsAnHour), harvestBurst)}
}

// Harvest takes the certificate of who signed a letter from an address: the first of chain, or, where it is for signing alone, another of the same mailbox
// by the same issuer that came with it. verified says that the signature is good and that the chain leads to an authority whom the operator
// believes; without it, or where the certificate names another mailbox, nothing is taken. Nor where the operator confirmed a certificate that is still
// good. It gives whether something new was taken; an error is the ring's own, and no reason to hold mail up.
func (h *Harvester) Harvest(ctx context.Context, from message.Address, chain []*x509.Certificate, verified bool, at time.Time) (added bool, err error) {
	if h == nil || !verified || from.IsNull() || len(chain) == 0 {
		return false, nil
	}
	address := from.Key()
	path := harvestable(chain, address, at)
	if path == nil {
		mHarvested.WithLabelValues("refused").Inc()
		return false, nil
	}
	known, err := h.ring.Under(ctx, address)
	if err != nil {
		return false, err
	}
	m, err := ofCertificate(path, at)
	if err != nil || m.Fault != nil {
		mHarvested.WithLabelValues("refused").Inc()
		return false, nil
	}
	harvested := 0
	for _, k := range known {
		switch {
		case k.Kind != SMIME:
		case k.Fingerprint == m.Fingerprint && (k.Fixed || at.Sub(k.Seen).Abs() < toldEvery):
			mHarvested.WithLabelValues("known").Inc()
			return false, nil
		case k.Fingerprint != m.Fingerprint && k.Usable(at, Confirmed):
			mHarvested.WithLabelValues("known").Inc()
			return false, nil
		case k.Fingerprint != m.Fingerprint && k.Source == Harvested && k.State(at) == Valid:
			harvested++
		}
	}
	isKnown := slices.ContainsFunc(known, func(k Key) bool { return k.Kind == SMIME && k.Fingerprint == m.Fingerprint })
	h.mu.Lock()
	full := !isKnown && (harvested >= maxHarvested || !h.pace.AllowN(at, 1))
	h.mu.Unlock()
	if full {
		mHarvested.WithLabelValues("full").Inc()
		return false, nil
	}
	added, err = h.ring.Put(ctx, Key{Address: address, Kind: SMIME, Data: m.Data, Source: Harvested, Trust: Verified, Why: "signed a letter that arrived from outside"})
	switch {
	case errors.As(err, new(*Error)):
		mHarvested.WithLabelValues("refused").Inc()
		return false, nil
	case err != nil:
		return false, fmt.Errorf("harvest certificate: %w", err)
	case added:
		mHarvested.WithLabelValues("new").Inc()
	default:
		mHarvested.WithLabelValues("known").Inc()
	}
	return added, nil
}

// harvestable gives the certificate to seal to, with what leads up from it; nil where there is none.
func harvestable(chain []*x509.Certificate, address string, at time.Time) []*x509.Certificate {
	size := 0
	for _, c := range chain {
		size += len(c.Raw)
	}
	if len(chain) > maxPath || size > maxHarvestPath || !names(chain[0], address) {
		return nil
	}
	if smime.Usable(chain[0], at) == nil {
		return chain
	}
	signer := chain[0]
	for _, c := range chain[1:] { // who has one certificate to sign and one to open sends both
		if c.IsCA || !names(c, address) || smime.Usable(c, at) != nil {
			continue
		}
		above := slices.DeleteFunc(slices.Clone(chain), func(o *x509.Certificate) bool { return o == c || o == signer })
		if slices.ContainsFunc(above, func(ca *x509.Certificate) bool { return issued(ca, signer) && issued(ca, c) }) {
			return append([]*x509.Certificate{c}, above...)
		}
	}
	return nil
}

// names tells whether a certificate names a mailbox, an address in key form.
func names(c *x509.Certificate, address string) bool {
	return slices.ContainsFunc(mailboxes(c), func(a string) bool {
		key, err := AddressKey(a)
		return err == nil && key == address
	})
}
