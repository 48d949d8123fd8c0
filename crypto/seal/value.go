package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// Value seals something short (a phone number, an agreed secret, a link's secret for reminders) under the server key. The purpose
// gives every use a key of its own; the name, that of the row, is authenticated, so that a value moved to another row or column
// does not open there. What comes out is version octet 1, nonce, ciphertext and tag.
func Value(key Key, purpose, name string, plain []byte) ([]byte, error) {
	aead, err := valueAEAD(key, purpose)
	if err != nil {
		return nil, fmt.Errorf("seal value for %s: %w", purpose, err)
	}
	out := make([]byte, 1+aead.NonceSize(), 1+aead.NonceSize()+len(plain)+aead.Overhead())
	out[0] = 1
	rand.Read(out[1:])
	return aead.Seal(out, out[1:], plain, []byte(name)), nil
}

// OpenValue opens what Value sealed with the same key, purpose and name.
func OpenValue(key Key, purpose, name string, sealed []byte) ([]byte, error) {
	aead, err := valueAEAD(key, purpose)
	if err != nil {
		return nil, fmt.Errorf("open value for %s: %w", purpose, err)
	}
	n := 1 + aead.NonceSize()
	if len(sealed) < n+aead.Overhead() || sealed[0] != 1 {
		return nil, fmt.Errorf("open value for %s: %w", purpose, ErrLocked)
	}
	plain, err := aead.Open(nil, sealed[1:n], sealed[n:], []byte(name))
	if err != nil {
		return nil, fmt.Errorf("open value for %s: %w", purpose, ErrLocked)
	}
	return plain, nil
}

// Mark gives the HMAC-SHA-256 of the parts under a key derived for the purpose: what may be compared, but not opened.
func Mark(key Key, purpose string, parts ...string) []byte {
	k, err := hkdf.Key(sha256.New, key[:], nil, "passerelle mark v1\x00"+purpose, 32)
	if err != nil { // a fixed length under 255 blocks: HKDF has no other error
		panic("seal: " + err.Error())
	}
	mac := hmac.New(sha256.New, k)
	for _, p := range parts {
		fmt.Fprintf(mac, "%d:%s,", len(p), p)
	}
	return mac.Sum(nil)
}

func valueAEAD(key Key, purpose string) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key[:], nil, "passerelle value v1\x00"+purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
