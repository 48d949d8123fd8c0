package openpgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// ReadKeys reads every key of a file, armoured (several blocks one after the other) or binary, whether it can be encrypted to or not. A private key
// among them is a *KeyError, as is a file without a key.
func ReadKeys(file []byte) (keys []*Key, err error) {
	defer func() {
		if r := recover(); r != nil { // a key is a stranger's bytes; a library's panic stays with it
			keys, err = nil, &KeyError{Reason: "cannot be read", Err: fmt.Errorf("panic: %v", r)}
		}
	}()
	if len(file) > maxKey {
		return nil, &KeyError{Reason: "is larger than 1 MiB"}
	}
	i := bytes.Index(file, begin)
	if i < 0 {
		return entitiesOf(bytes.NewReader(file))
	}
	for ; i >= 0; i = bytes.Index(file, begin) {
		file = file[i:]
		end := len(file)
		if next := bytes.Index(file[len(begin):], begin); next >= 0 {
			end = len(begin) + next
		}
		b, err := armor.Decode(bytes.NewReader(file[:end]))
		if err != nil {
			return nil, &KeyError{Reason: "its armour is broken", Err: err}
		}
		switch b.Type {
		case openpgp.PublicKeyType:
		case openpgp.PrivateKeyType:
			return nil, &KeyError{Reason: privateKey}
		default:
			return nil, &KeyError{Reason: "is not a public key block but " + fmt.Sprintf("%.40q", b.Type)}
		}
		more, err := entitiesOf(b.Body)
		if err != nil {
			return nil, err
		}
		keys, file = append(keys, more...), file[end:]
	}
	return keys, nil
}

var begin = []byte("-----BEGIN PGP")

const privateKey = "holds a private key: take it away and give the public one"

func entitiesOf(r io.Reader) (keys []*Key, err error) {
	ring, err := openpgp.ReadKeyRing(r)
	if err != nil || len(ring) == 0 {
		return nil, &KeyError{Reason: "cannot be read", Err: err}
	}
	for _, e := range ring {
		k := &Key{e}
		if private(e) {
			return nil, &KeyError{Fingerprint: k.Fingerprint(), Reason: privateKey}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func private(e *openpgp.Entity) bool {
	return e.PrivateKey != nil || slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool { return s.PrivateKey != nil })
}

// Created is when the key was made.
func (k *Key) Created() time.Time { return k.entity.PrimaryKey.CreationTime }

// Signed is when the owner last said something of the key: the newest of his signatures that verify, on the key, its names and its subkeys. Of two
// copies of a key the one with the later time is the later.
func (k *Key) Signed(now time.Time) (last time.Time) {
	later := func(s *packet.Signature, err error) {
		if err == nil && s != nil && s.CreationTime.After(last) {
			last = s.CreationTime
		}
	}
	later(k.entity.PrimarySelfSignature(now, config(now)))
	if len(k.entity.DirectSignatures) > 0 {
		later(k.entity.LatestValidDirectSignature(now, config(now)))
	}
	for i := range k.entity.Subkeys {
		later(k.entity.Subkeys[i].LatestValidBindingSignature(now, config(now)))
	}
	for _, id := range k.entity.Identities {
		later(id.LatestValidSelfCertification(now, config(now)))
	}
	return last
}

// UserIDs gives the names that the key's owner signed and did not take back, the primary one first.
func (k *Key) UserIDs(now time.Time) (ids []string) {
	_, primary := k.entity.PrimaryIdentity(now, config(now))
	if primary != nil {
		ids = append(ids, primary.UserId.Id)
	}
	for _, name := range slices.Sorted(maps.Keys(k.entity.Identities)) {
		id := k.entity.Identities[name]
		if id == primary {
			continue
		}
		if _, err := id.Verify(now, config(now)); err == nil {
			ids = append(ids, id.UserId.Id)
		}
	}
	return ids
}

// Mailbox is the address in a user ID: what stands in its last angle brackets, or all of it; "" where that is none.
func Mailbox(userID string) string {
	if i := strings.LastIndexByte(userID, '<'); i >= 0 {
		addr, _, ok := strings.Cut(userID[i+1:], ">")
		if !ok {
			return ""
		}
		userID = addr
	}
	if userID = strings.TrimSpace(userID); strings.Count(userID, "@") != 1 || strings.ContainsAny(userID, " \t") {
		return ""
	}
	return userID
}

// Binary is the key as a transferable public key (RFC 9580 section 10.1), without what others certified of it: that says nothing here, and
// may be of any size.
func (k *Key) Binary() (_ []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("write key: panic: %v", r)
		}
	}()
	e := *k.entity
	if private(&e) {
		return nil, errors.New("write key: it is private")
	}
	var b bytes.Buffer
	names := slices.Sorted(maps.Keys(e.Identities))
	e.Identities = nil
	subkeys := e.Subkeys
	e.Subkeys = nil
	if err := e.Serialize(&b); err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	for _, name := range names { // the library's map would give another order, and other bytes, each time
		id := *k.entity.Identities[name]
		id.OtherCertifications = nil
		if err := id.Serialize(&b); err != nil {
			return nil, fmt.Errorf("write key: %w", err)
		}
	}
	for _, s := range subkeys {
		if err := s.Serialize(&b, false); err != nil {
			return nil, fmt.Errorf("write key: %w", err)
		}
	}
	return b.Bytes(), nil
}

// Armoured writes a binary key as a public key block.
func Armoured(binary []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err == nil {
		_, err = w.Write(binary)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("armour key: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
