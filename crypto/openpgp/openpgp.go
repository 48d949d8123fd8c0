// Package openpgp encrypts to the keys of correspondents (RFC 9580). It takes public keys, armoured or binary, and a stream, gives
// an armoured message, and knows nothing of mail, MIME or where keys come from.
package openpgp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// maxKey bounds a key block: keys with many certifications reach tens of kilobytes.
const maxKey = 1 << 20

// maxRSA bounds what a stranger's key may cost a processor.
const maxRSA = 16384

// KeyError says why a key cannot be encrypted to. Its text is for the operator.
type KeyError struct {
	// Fingerprint in upper-case hex, "" where nothing could be read.
	Fingerprint string
	Reason      string
	Err         error
}

func (e *KeyError) Error() string {
	s := "openpgp key"
	if e.Fingerprint != "" {
		s += " " + e.Fingerprint
	}
	return s + ": " + e.Reason
}

func (e *KeyError) Unwrap() error { return e.Err }

// Key is a public key that could be encrypted to when it was parsed. Encrypt asks again: keys expire.
type Key struct{ entity *openpgp.Entity }

// Fingerprint in upper-case hex.
func (k *Key) Fingerprint() string { return fmt.Sprintf("%X", k.entity.PrimaryKey.Fingerprint) }

// Expires is when the key, as of now, can no longer be encrypted to; the zero time where never.
func (k *Key) Expires(now time.Time) time.Time {
	sub, err := k.entity.EncryptionKeyWithError(now, config(now))
	if err != nil {
		return now
	}
	first := time.Time{}
	for _, s := range []struct {
		made time.Time
		sig  *packet.Signature
	}{{sub.PublicKey.CreationTime, sub.SelfSignature}, {k.entity.PrimaryKey.CreationTime, sub.PrimarySelfSignature}} {
		if s.sig == nil || s.sig.KeyLifetimeSecs == nil || *s.sig.KeyLifetimeSecs == 0 {
			continue
		}
		if end := s.made.Add(time.Duration(*s.sig.KeyLifetimeSecs) * time.Second); first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// config is never nil: with a nil config and a version 6 key the library panics. RSA of less than 2048 bits is refused.
func config(now time.Time) *packet.Config {
	return &packet.Config{Time: func() time.Time { return now }, MinRSABits: 2048}
}

// ParseKeys reads every key of a block, armoured or binary, and refuses the block where one of them cannot be encrypted to at that
// time: expired, revoked, without an encryption subkey, RSA under 2048 bits, or a private key. The error is a *KeyError.
func ParseKeys(block []byte, now time.Time) (keys []*Key, err error) {
	read, err := ReadKeys(block)
	if err != nil {
		return nil, err
	}
	for _, k := range read {
		if err := k.Usable(now); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// Usable tells whether the key can be encrypted to at that time; the error is a *KeyError.
func (k *Key) Usable(now time.Time) error {
	_, err := k.choose(now)
	return err
}

// Revoked tells whether its owner took the key back.
func (k *Key) Revoked(now time.Time) bool { return k.entity.Revoked(now) }

// choose gives the newest subkey that can be encrypted to at that time; the error is a *KeyError.
func (k *Key) choose(now time.Time) (openpgp.Key, error) {
	if k.entity.PrivateKey != nil {
		return openpgp.Key{}, &KeyError{k.Fingerprint(), "holds a private key: take it away and give the public one", nil}
	}
	sub, err := k.entity.EncryptionKeyWithError(now, config(now))
	if err == nil {
		if n, lerr := sub.PublicKey.BitLength(); lerr == nil && n > maxRSA && sub.PublicKey.PubKeyAlgo.CanEncrypt() {
			return openpgp.Key{}, &KeyError{k.Fingerprint(), "is of more than 16384 bits", nil}
		}
		return sub, nil
	}
	reason := "has no usable encryption subkey"
	// The library's error says which key and why, but does not unwrap to it.
	var sel pgperrors.ErrEncryptionKeySelection
	if errors.As(err, &sel) {
		why := sel.PrimaryKeyErr
		if why == nil {
			why = sel.EncSelectionErr
		}
		switch {
		case why == nil:
		case errors.Is(why, pgperrors.ErrKeyExpired):
			reason = "has expired"
		case errors.Is(why, pgperrors.ErrKeyRevoked):
			reason = "is revoked"
		default:
			reason = "is not acceptable: " + why.Error()
		}
	}
	return openpgp.Key{}, &KeyError{k.Fingerprint(), reason, err}
}

// Encrypt starts an armoured message to keys and to hidden ones, whose ids are not written (Bcc). What is written to the result is
// encrypted as it comes; Close ends the message and must succeed for it to be whole. It does not close w. Where all keys announce
// SEIPDv2 it is that, with the cipher they prefer; else SEIPDv1 with MDC, which GnuPG 2.2 reads.
func Encrypt(w io.Writer, keys, hidden []*Key, now time.Time) (pt io.WriteCloser, err error) {
	defer func() {
		if r := recover(); r != nil {
			pt, err = nil, fmt.Errorf("encrypt: panic: %v", r)
		}
	}()
	var subs []openpgp.Key
	v2 := true
	for _, k := range slices.Concat(keys, hidden) {
		sub, err := k.choose(now)
		if err != nil {
			return nil, err
		}
		subs = append(subs, sub)
		v2 = v2 && sub.PrimarySelfSignature.SEIPDv2
	}
	if len(subs) == 0 {
		return nil, errors.New("encrypt: no key")
	}
	a, err := newArmour(w)
	if err != nil {
		return nil, err
	}
	var inner io.WriteCloser
	if v2 {
		inner, err = openpgp.EncryptWithParams(a, entities(keys), entities(hidden), &openpgp.EncryptParams{Config: config(now)})
	} else {
		inner, err = encryptV1(a, subs, len(keys), now)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return &sealing{inner, a}, nil
}

// encryptV1 writes the session key for each of subs, from the index hidden on without its id, and starts the packet. The cipher is
// AES-128, which everyone reads (RFC 9580 section 9.3), or AES-256 where all prefer that and one does not list AES-128.
func encryptV1(w io.Writer, subs []openpgp.Key, hidden int, now time.Time) (io.WriteCloser, error) {
	aes128, aes256 := true, true
	for _, k := range subs {
		prefers := k.PrimarySelfSignature.PreferredSymmetric
		aes128 = aes128 && slices.Contains(prefers, uint8(packet.CipherAES128))
		aes256 = aes256 && slices.Contains(prefers, uint8(packet.CipherAES256))
	}
	cipher := packet.CipherAES128
	if !aes128 && aes256 {
		cipher = packet.CipherAES256
	}
	session := make([]byte, cipher.KeySize())
	defer clear(session)
	rand.Read(session)
	for i, k := range subs {
		if err := packet.SerializeEncryptedKeyAEADwithHiddenOption(w, k.PublicKey, cipher, false, session, i >= hidden, config(now)); err != nil {
			return nil, err
		}
	}
	return newSEIPD(w, session)
}

func entities(keys []*Key) []*openpgp.Entity {
	var out []*openpgp.Entity
	for _, k := range keys {
		out = append(out, k.entity)
	}
	return out
}

type sealing struct {
	inner  io.WriteCloser
	armour *armour
}

func (s *sealing) Write(p []byte) (int, error) { return s.inner.Write(p) }

func (s *sealing) Close() error {
	if err := s.inner.Close(); err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	return s.armour.Close()
}
