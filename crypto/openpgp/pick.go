package openpgp

import (
	"fmt"
	"slices"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Pick finds, among the keys of a block that a stranger gave, armoured or binary, the one to encrypt to for whom wanted names: it bears a user
// ID, vouched for by the key itself and not revoked, whose address wanted accepts, and can be encrypted to at that time. Of several it is
// the one made last: who revokes a key may show it beside its successor. It gives the key with that user ID alone, binary: no other name, no photo and no
// certification by others, which are nobody's business here and have no bound. The error is a *KeyError.
func Pick(block []byte, wanted func(address string) bool, now time.Time) (key *Key, binary []byte, err error) {
	defer func() {
		if r := recover(); r != nil { // a stranger's bytes; a library's panic stays with them
			key, binary, err = nil, nil, &KeyError{Reason: "cannot be read", Err: fmt.Errorf("panic: %v", r)}
		}
	}()
	all, err := ReadKeys(block)
	if err != nil {
		return nil, nil, err
	}
	var last error = &KeyError{Reason: "bears no user ID of the address"}
	for _, k := range all {
		if !k.narrow(wanted, now) {
			continue
		}
		if err := k.Usable(now); err != nil {
			last = err
			continue
		}
		if key == nil || k.Created().After(key.Created()) {
			key = k
		}
	}
	if key == nil {
		return nil, nil, last
	}
	if binary, err = key.Binary(); err != nil {
		return nil, nil, &KeyError{key.Fingerprint(), "cannot be written", err}
	}
	return key, binary, nil
}

// narrow takes everything off a key that does not serve to write to the one wanted, and tells whether a user ID of his is left.
func (k *Key) narrow(wanted func(string) bool, now time.Time) bool {
	e := k.entity
	for id, i := range e.Identities {
		address := Mailbox(id)
		if address == "" || !wanted(address) {
			delete(e.Identities, id)
		} else if _, err := i.Verify(now, config(now)); err != nil {
			delete(e.Identities, id)
		}
	}
	e.Subkeys = slices.DeleteFunc(e.Subkeys, func(s openpgp.Subkey) bool {
		sig, err := s.LatestValidBindingSignature(now, config(now))
		return err == nil && sig.FlagsValid && !sig.FlagEncryptCommunications && !sig.FlagEncryptStorage
	})
	return len(e.Identities) > 0
}
