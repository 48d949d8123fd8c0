package ledger

import (
	"bytes"
	"testing"
)

// FuzzEncodeAsk: two asks have the same bytes only if they are the same.
func FuzzEncodeAsk(f *testing.F) {
	f.Add("c", "s", "r", uint32(0), "c", "s", "r", uint32(1))
	f.Add("ab", "c", "", uint32(0), "a", "bc", "", uint32(0))
	f.Add("", "\x00\x00\x00\x00\x00\x00\x00\x00", "", uint32(0), "\x00", "", "", uint32(0))
	f.Fuzz(func(t *testing.T, c1, s1, r1 string, n1 uint32, c2, s2, r2 string, n2 uint32) {
		a, b := Ask{Client: c1, Sender: s1, Recipient: r1}, Ask{Client: c2, Sender: s2, Recipient: r2}
		same := a == b && n1 == n2
		if bytes.Equal(encodeAsk(a, n1), encodeAsk(b, n2)) != same {
			t.Fatalf("%+v %d and %+v %d", a, n1, b, n2)
		}
		if (hashAsk([32]byte{}, a, n1) == hashAsk([32]byte{}, b, n2)) != same {
			t.Fatalf("hash of %+v %d and %+v %d", a, n1, b, n2)
		}
	})
}
