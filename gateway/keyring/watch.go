package keyring

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	mKeys = promauto.NewGaugeVec(prometheus.GaugeOpts{Name: "passerelle_keyring_keys", Help: "Keys of correspondents, by kind, trust and state."},
		[]string{"kind", "trust", "state"}) // smime, openpgp; rejected ... confirmed; valid, "not yet valid", expired, revoked
	mExpiry = promauto.NewGaugeVec(prometheus.GaugeOpts{Name: "passerelle_keyring_expiry_seconds",
		Help: "When the next key that mail is sealed to ends without another in its place, in seconds since 1970; +Inf where none does."}, []string{"kind"})
	mExpiring = promauto.NewGaugeVec(prometheus.GaugeOpts{Name: "passerelle_keyring_expiring",
		Help: "Keys that mail is sealed to, without another in their place, that end within so many days."}, []string{"kind", "days"}) // 30, 7
)

// stages are how long before its end a key is warned of, first and last.
var stages = []time.Duration{30 * 24 * time.Hour, 7 * 24 * time.Hour}

// Expiring gives the keys in use that end within a time, unless the same address has another of the same kind that outlives it; soonest
// first.
func (r *Ring) Expiring(ctx context.Context, now time.Time, least Trust, within time.Duration) ([]Key, error) {
	keys, err := r.All(ctx)
	if err != nil {
		return nil, err
	}
	return ending(keys, now, least, within), nil
}

// ending is Expiring of keys; a negative time is without bound.
func ending(keys []Key, now time.Time, least Trust, within time.Duration) (out []Key) {
	type place struct {
		address string
		kind    Kind
	}
	last := map[place]*Key{} // what lasts longest
	for i := range keys {
		k := &keys[i]
		if !k.Usable(now, least) {
			continue
		}
		p := place{k.Address, k.Kind}
		if was := last[p]; was == nil || !was.Ends().IsZero() && (k.Ends().IsZero() || k.Ends().After(was.Ends())) {
			last[p] = k
		}
	}
	for _, k := range last {
		if end := k.Ends(); !end.IsZero() && (within < 0 || end.Sub(now) <= within) {
			out = append(out, *k)
		}
	}
	slices.SortFunc(out, func(a, b Key) int {
		return cmp.Or(a.Ends().Compare(b.Ends()), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

// Watch counts the keys and logs each one in use that ends, once 30 and once 7 days before. It is called by its
// owner every now and then, from one goroutine.
func (r *Ring) Watch(ctx context.Context, least Trust) error {
	now := r.now()
	keys, err := r.All(ctx)
	if err != nil {
		return err
	}
	mKeys.Reset()
	for i := range keys {
		mKeys.WithLabelValues(string(keys[i].Kind), string(keys[i].Trust), string(keys[i].State(now))).Inc()
	}
	mExpiry.WithLabelValues(string(SMIME)).Set(inf)
	mExpiry.WithLabelValues(string(OpenPGP)).Set(inf)
	for _, kind := range []Kind{SMIME, OpenPGP} {
		for _, s := range stages {
			mExpiring.WithLabelValues(string(kind), days(s)).Set(0)
		}
	}
	warned := map[string]int{}
	for _, k := range slices.Backward(ending(keys, now, least, -1)) { // the soonest last: it stays in the gauge
		left := k.Ends().Sub(now)
		mExpiry.WithLabelValues(string(k.Kind)).Set(float64(k.Ends().Unix()))
		stage := 0
		for i, s := range stages {
			if left <= s {
				stage = i + 1
				mExpiring.WithLabelValues(string(k.Kind), days(s)).Inc()
			}
		}
		id := k.Address + " " + k.Fingerprint
		if stage > 0 {
			warned[id] = stage
		}
		if stage > r.warned[id] {
			r.log.Warn("a correspondent's key ends soon: ask for the next one, or mail to him takes the next way of the rules", "kind", string(k.Kind),
				"key", Short(k.Fingerprint), "domain", domain(k.Address), "ends", k.Ends().Format(time.DateOnly), "days", int(left.Hours()/24))
		}
	}
	r.warned = warned
	return nil
}

var inf = math.Inf(1)

// domain hides the local part: logs never name a person.
func domain(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

func days(d time.Duration) string { return fmt.Sprint(int(d.Hours() / 24)) }
