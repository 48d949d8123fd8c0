package smime

import (
	"bytes"
	"testing"
)

// TestEncrypted: every message of ours is known for what it is; one that lacks an octet, or has one more, is none, wherever.
func TestEncrypted(t *testing.T) {
	for _, c := range []struct {
		algo  string
		suite Suite
	}{{"rsa", Compatible}, {"rsa", Modern}, {"p256", Compatible}, {"p521", Modern}} {
		p := newPerson(t, c.algo, nil)
		for _, n := range []int{1, 200, chunk + 5} {
			der := seal(t, random(n), c.suite, p.cert, newPerson(t, "p384", nil).cert)
			if got, err := Encrypted(bytes.NewReader(der)); err != nil || got != c.suite.Type() {
				t.Errorf("%s, %d bytes: got %q, %v", c.algo, n, got, err)
			}
			if _, err := Encrypted(bytes.NewReader(append(bytes.Clone(der), 0))); err == nil {
				t.Errorf("%s: an octet behind it is not seen", c.algo)
			}
			if n > 200 {
				continue
			}
			for cut := range der {
				if _, err := Encrypted(bytes.NewReader(der[:cut])); err == nil {
					t.Fatalf("%s: cut at %d of %d it counts as encrypted", c.algo, cut, len(der))
				}
			}
		}
	}
}

func FuzzEncrypted(f *testing.F) {
	f.Add([]byte{0x30, 0x80, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 7, 3, 0xa0, 0x80, 0x30, 0x80, 2, 1, 0, 0x31, 0x80, 0x30, 0x80, 0, 0, 0, 0, 0x30, 0x80})
	f.Add(seal(f, random(100), Compatible, newPerson(f, "p256", nil).cert))
	f.Fuzz(func(t *testing.T, ber []byte) {
		if _, err := Encrypted(bytes.NewReader(ber)); err == nil {
			if _, err := Encrypted(bytes.NewReader(append(ber, 0))); err == nil {
				t.Fatal("it ends at two places")
			}
		}
	})
}
