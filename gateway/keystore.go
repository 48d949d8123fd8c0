package gateway

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"passerelle/config"
	"passerelle/gateway/keyring"
)

// What `passerelle keys` asks for and is given.
type (
	Key      = keyring.Key
	KeyKind  = keyring.Kind
	KeyTrust = keyring.Trust
)

// keyWarning is how long before its end a key in use is warned of.
const keyWarning = 30 * 24 * time.Hour

// Keys is the keyring of a state folder, beside a gateway that serves or not.
type Keys struct {
	*keyring.Ring
	least keyring.Trust
}

// OpenKeys opens the keyring of cfg's state folder; a serving gateway sees what is changed within about a second.
func OpenKeys(ctx context.Context, cfg *config.Config) (*Keys, error) {
	if err := ownedByUs(cfg.StateDir); err != nil {
		return nil, err
	}
	r, err := keyring.Open(ctx, keyring.Config{Dir: cfg.StateDir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return &Keys{r, keyring.Trust(cfg.Encrypt.MinTrust)}, nil
}

// Use says in a word or two whether mail may be sealed to the key now: "good", or why not.
func (k *Keys) Use(key *Key, now time.Time) string {
	switch {
	case key.Trust == keyring.Rejected:
		return string(keyring.Rejected)
	case key.State(now) != keyring.Valid:
		return string(key.State(now))
	case !key.Trust.AtLeast(k.least):
		return "below min_trust"
	}
	return "good"
}

// KeyImport says how keys of files are taken.
type KeyImport struct {
	Address string // "": those that each key names
	Trust   KeyTrust
	Why     string
}

// KeyImported is what became of one key of a file, under one address.
type KeyImported struct {
	Key
	Added   bool
	Warning string // what the operator should look at
	Err     error  // why it was not taken; Address is "" where the key names none
}

// Import reads a file of keys and keeps each under its addresses. The error is that of the file; each key's own stands with it.
func (k *Keys) Import(ctx context.Context, file string, o KeyImport, now time.Time) (done []KeyImported, err error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if st.Size() > keyring.MaxFile {
		return nil, &keyring.Error{Reason: "the file is larger than 1 MiB"}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	found, err := keyring.Read(raw, now)
	if err != nil {
		return nil, err
	}
	if o.Address != "" {
		if o.Address, err = keyring.AddressKey(o.Address); err != nil {
			return nil, &keyring.Error{Reason: "--address: " + err.Error()}
		}
	}
	why := o.Why
	if why == "" {
		why = "file " + filepath.Base(file)
	}
	for i := range found {
		m := &found[i]
		addresses := m.Addresses
		if o.Address != "" {
			addresses = []string{o.Address}
		}
		one := KeyImported{Key: Key{Kind: m.Kind, Fingerprint: m.Fingerprint, Data: m.Data, Name: m.Name, NotBefore: m.NotBefore, NotAfter: m.NotAfter,
			Source: keyring.Import, Trust: o.Trust, Why: why, Fixed: true}}
		if m.Fault != nil {
			one.Err = &keyring.Error{Fingerprint: m.Fingerprint, Reason: strings.TrimPrefix(m.Fault.Error(), "openpgp key "+strings.ToUpper(m.Fingerprint)+": ")}
		} else if len(addresses) == 0 {
			one.Err = &keyring.Error{Fingerprint: m.Fingerprint, Reason: "names no address: say whose it is by --address"}
		}
		if one.Err != nil {
			done = append(done, one)
			continue
		}
		for _, a := range addresses {
			one.Address, one.Warning = a, ""
			if !m.Names(a) {
				one.Warning = "it does not name " + a
				if len(m.Addresses) > 0 {
					one.Warning += " but " + strings.Join(m.Addresses[:min(3, len(m.Addresses))], ", ")
				}
			}
			if e := m.NotAfter; one.Warning == "" && !e.IsZero() && e.Sub(now) < keyWarning {
				one.Warning = "it ends on " + e.Format(time.DateOnly)
			}
			one.Added, one.Err = k.Put(ctx, one.Key)
			done = append(done, one)
		}
	}
	return done, nil
}

// Expiring gives the keys that mail is sealed to now and that end within a time, unless the same address has another of the same kind that
// outlives it; soonest first.
func (k *Keys) Expiring(ctx context.Context, now time.Time, within time.Duration) ([]Key, error) {
	return k.Ring.Expiring(ctx, now, k.least, within)
}

// Named gives the keys whose address, name or fingerprint holds a word.
func Named(keys []Key, word string) []Key {
	word = strings.ToLower(word)
	return slices.DeleteFunc(slices.Clone(keys), func(k Key) bool {
		return !strings.Contains(k.Address, word) && !strings.HasPrefix(k.Fingerprint, word) && !strings.Contains(strings.ToLower(k.Name), word)
	})
}

// Of gives the keys of an address or "@domain", or the one that the beginning of a fingerprint names.
func (k *Keys) Of(ctx context.Context, which string) ([]Key, error) {
	if !strings.Contains(which, "@") {
		return k.Get(ctx, which)
	}
	address, err := keyring.AddressKey(which)
	if err != nil {
		return nil, err
	}
	return k.Under(ctx, address)
}

// Trust is the operator's word on a key, for all its addresses or for one.
func (k *Keys) Trust(ctx context.Context, fingerprint, address string, t KeyTrust, why string) (_ []Key, err error) {
	if address != "" {
		if address, err = keyring.AddressKey(address); err != nil {
			return nil, err
		}
	}
	return k.SetTrust(ctx, fingerprint, address, t, why)
}

// Forget deletes a key for all its addresses or for one.
func (k *Keys) Forget(ctx context.Context, fingerprint, address string) (_ []Key, err error) {
	if address != "" {
		if address, err = keyring.AddressKey(address); err != nil {
			return nil, err
		}
	}
	return k.Delete(ctx, fingerprint, address)
}
