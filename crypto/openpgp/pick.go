package openpgp

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
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
	ring, err := readRing(block)
	if err != nil {
		return nil, nil, err
	}
	var last error = &KeyError{Reason: "bears no user ID of the address"}
	for _, e := range ring {
		if !narrow(e, wanted, now) {
			continue
		}
		k := &Key{e}
		if err := k.Usable(now); err != nil {
			last = err
			continue
		}
		if key == nil || e.PrimaryKey.CreationTime.After(key.entity.PrimaryKey.CreationTime) {
			key = k
		}
	}
	if key == nil {
		return nil, nil, last
	}
	var b bytes.Buffer
	if err := key.entity.Serialize(&b); err != nil {
		return nil, nil, &KeyError{key.Fingerprint(), "cannot be written", err}
	}
	return key, b.Bytes(), nil
}

// narrow takes everything off a key that does not serve to write to the one wanted, and tells whether a user ID of his is left.
func narrow(e *openpgp.Entity, wanted func(string) bool, now time.Time) bool {
	for id, i := range e.Identities {
		address := Address(id)
		if address == "" || !wanted(address) {
			delete(e.Identities, id)
		} else if _, err := i.Verify(now, config(now)); err != nil {
			delete(e.Identities, id)
		} else {
			i.OtherCertifications = nil
		}
	}
	e.Subkeys = slices.DeleteFunc(e.Subkeys, func(s openpgp.Subkey) bool {
		sig, err := s.LatestValidBindingSignature(now, config(now))
		return err == nil && sig.FlagsValid && !sig.FlagEncryptCommunications && !sig.FlagEncryptStorage
	})
	return len(e.Identities) > 0
}

// Address gives the address of a user ID as written: what stands between < and > at its end, or the whole where it is nothing else
// (draft-koch-openpgp-webkey-service-19 calls that mailbox-only); "" where it names none.
func Address(userID string) string {
	s := strings.TrimSpace(userID)
	if inner, ok := strings.CutSuffix(s, ">"); ok {
		i := strings.LastIndexByte(inner, '<')
		if i < 0 {
			return ""
		}
		s = inner[i+1:]
	}
	if strings.Count(s, "@") == 0 || strings.ContainsAny(s, "<> \t\r\n,;") {
		return ""
	}
	return s
}
