package keyring

import (
	"context"
	"errors"
	"slices"
	"time"
)

// toldEvery: that a source told of a known key again is noted once in so long. Mail is not to write each time.
const toldEvery = 12 * time.Hour

// Told keeps all that a source tells of an address, and forgets what it told before and tells no more: whose key it is took it away. What the
// operator fixed stays. A key that nothing can be sealed to is left out: an *Error then says why, and all else is done.
func (r *Ring) Told(ctx context.Context, address string, source Source, keys []Key) error {
	known, err := r.Under(ctx, address)
	if err != nil {
		return err
	}
	now := r.now()
	var odd error
	var told []string
	for _, k := range keys {
		k.Address, k.Source = address, source
		m, err := readOne(k.Kind, k.Data, now)
		if err != nil {
			odd = err
			continue
		}
		told = append(told, m.Fingerprint)
		i := slices.IndexFunc(known, func(o Key) bool { return o.Kind == k.Kind && o.Fingerprint == m.Fingerprint })
		if i >= 0 && string(known[i].Data) == string(m.Data) && known[i].Trust.AtLeast(k.Trust) && now.Sub(known[i].Seen).Abs() < toldEvery {
			continue
		}
		_, err = r.Put(ctx, k)
		if errors.As(err, new(*Error)) {
			odd = err
		} else if err != nil {
			return err
		}
	}
	for _, k := range known {
		if k.Source != source || k.Fixed || slices.Contains(told, k.Fingerprint) {
			continue
		}
		if _, err := r.Delete(ctx, k.Fingerprint, address); err != nil && !isUnknown(err) {
			return err
		}
		r.log.Info("a key is told of no more by its source, and forgotten", "source", string(source), "domain", domain(address), "key", Short(k.Fingerprint))
	}
	return odd
}
