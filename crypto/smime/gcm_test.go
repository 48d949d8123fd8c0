package smime

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"testing"
)

// TestGCM holds the stream against the standard library, over every way in which a content may be cut.
func TestGCM(t *testing.T) {
	key, nonce := random(32), [12]byte(random(12))
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 15, 16, 17, 31, 32, 33, 127, 128, 1000, 4096, 5000, 65536, 70001} {
		content := random(size)
		want := aead.Seal(nil, nonce[:], content, nil)
		for _, cut := range []int{16, 32, 48, 4096, 65536} {
			if size/cut > 300 {
				continue
			}
			g, err := newGCM(key, nonce)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			buf := make([]byte, 0, cut+16)
			for rest := content; len(rest) > 0; {
				n := min(cut, len(rest))
				buf, rest = append(buf[:0], rest[:n]...), rest[n:]
				got = append(got, g.encrypt(buf)...)
			}
			if got = append(got, g.sum()...); !bytes.Equal(got, want) {
				t.Fatalf("%d bytes cut at %d: not what crypto/cipher gives", size, cut)
			}
		}
	}
}

// RFC 3394 section 4.6.
func TestWrapKey(t *testing.T) {
	in := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	got, err := wrapKey(in("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"), in("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F"))
	if want := in("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v", got, err)
	}
}
