package keyring

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/store"
)

// minPrefix is how many digits name a key: fewer are a slip of the keyboard.
const minPrefix = 8

// All gives every key without its Data, by address, the best of each first.
func (r *Ring) All(ctx context.Context) ([]Key, error) {
	keys, err := query(ctx, r.db.Read(), lean, ``)
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	sortKeys(keys)
	slices.SortStableFunc(keys, func(a, b Key) int { return strings.Compare(a.Address, b.Address) })
	return keys, nil
}

// Under gives all that is kept for an address in key form, or "@domain", the best first.
func (r *Ring) Under(ctx context.Context, address string) ([]Key, error) {
	keys, err := query(ctx, r.db.Read(), columns, `WHERE address = ?`, address)
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	sortKeys(keys)
	return keys, nil
}

// Get gives the rows of the one key that a fingerprint, or its first digits, names; spaces and colons in it do not count. None or several are an
// *Error.
func (r *Ring) Get(ctx context.Context, fingerprint string) ([]Key, error) {
	p := strings.ToLower(strings.NewReplacer(" ", "", ":", "").Replace(fingerprint))
	p = strings.TrimPrefix(p, "0x")
	if len(p) < minPrefix || strings.Trim(p, "0123456789abcdef") != "" {
		return nil, &Error{Reason: fmt.Sprintf("%q is no fingerprint: %d hexadecimal digits or more", fingerprint, minPrefix)}
	}
	keys, err := query(ctx, r.db.Read(), columns, `WHERE fingerprint >= ? AND fingerprint < ? ORDER BY address`, p, p+"g")
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	if len(keys) == 0 {
		return nil, &Error{Reason: "no key " + p}
	}
	for _, k := range keys {
		if k.Fingerprint != keys[0].Fingerprint {
			return nil, &Error{Reason: fmt.Sprintf("%s names several keys: %s, %s", p, keys[0].Fingerprint, k.Fingerprint)}
		}
	}
	return keys, nil
}

// change writes each row of one key anew, as f leaves it. An address that is not "" means its row alone.
func (r *Ring) change(ctx context.Context, fingerprint, address string, f func(*Key)) (keys []Key, err error) {
	if keys, err = r.Get(ctx, fingerprint); err != nil {
		return nil, err
	}
	if address != "" {
		if keys = slices.DeleteFunc(keys, func(k Key) bool { return k.Address != address }); len(keys) == 0 {
			return nil, &Error{Reason: "the key is not kept for that address"}
		}
	}
	err = r.write(ctx, func(tx store.Tx) error {
		for i := range keys {
			k, err := one(tx, keys[i].Address, keys[i].Kind, keys[i].Fingerprint) // as it is now
			if err != nil {
				return err
			}
			f(k)
			if err := insert(tx, k); err != nil {
				return err
			}
			keys[i] = *k
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("change key: %w", err)
	}
	return keys, nil
}

// SetTrust is the operator's word on a key, under every address or the one given: nothing that is found later changes it.
func (r *Ring) SetTrust(ctx context.Context, fingerprint, address string, t Trust, why string) ([]Key, error) {
	if !t.Valid() {
		return nil, &Error{Reason: fmt.Sprintf("trust %q is none of %s", t, words())}
	}
	return r.change(ctx, fingerprint, address, func(k *Key) { k.Trust, k.Why, k.Fixed = t, line(why), true })
}

// Expire ends a key at a time, however long it says to be valid itself; the zero time takes that back.
func (r *Ring) Expire(ctx context.Context, fingerprint string, at time.Time) ([]Key, error) {
	return r.change(ctx, fingerprint, "", func(k *Key) { k.Until = at })
}

// Checked notes that revocation was asked for, and what came of it: why a key is revoked, or "" where it is not. Revoked stays revoked.
func (r *Ring) Checked(ctx context.Context, fingerprint string, at time.Time, revoked string) error {
	_, err := r.change(ctx, fingerprint, "", func(k *Key) {
		k.Checked = at
		if k.Revoked == "" {
			k.Revoked = line(revoked)
		}
	})
	return err
}

// Delete forgets a key, under every address or the one given. A source that finds it again brings it back: Rejected keeps it away.
func (r *Ring) Delete(ctx context.Context, fingerprint, address string) ([]Key, error) {
	keys, err := r.Get(ctx, fingerprint)
	if err != nil {
		return nil, err
	}
	if address != "" {
		if keys = slices.DeleteFunc(keys, func(k Key) bool { return k.Address != address }); len(keys) == 0 {
			return nil, &Error{Reason: "the key is not kept for that address"}
		}
	}
	err = r.write(ctx, func(tx store.Tx) error {
		for _, k := range keys {
			if _, err := tx.Exec(`DELETE FROM keyring_keys WHERE address = ? AND kind = ? AND fingerprint = ?`, k.Address, k.Kind, k.Fingerprint); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("delete key: %w", err)
	}
	return keys, nil
}
