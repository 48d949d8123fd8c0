package ledger

import (
	"bytes"
	"testing"
)

// FuzzEncodeAsk: two asks have the same bytes only if they are the same.
func FuzzEncodeAsk(f *testing.F) {
	f.Add("c", "s", "r", "c", "s", "r")
	f.Add("ab", "c", "", "a", "bc", "")
	f.Add("", "\x00\x00\x00\x00\x00\x00\x00\x00", "", "\x00", "", "")
	f.Fuzz(func(t *testing.T, c1, s1, r1, c2, s2, r2 string) {
		a, b := Ask{Client: c1, Sender: s1, Recipient: r1}, Ask{Client: c2, Sender: s2, Recipient: r2}
		same := a == b
		if bytes.Equal(encodeAsk(a), encodeAsk(b)) != same {
			t.Fatalf("%+v and %+v", a, b)
		}
		if (hashAsk([32]byte{}, a) == hashAsk([32]byte{}, b)) != same {
			t.Fatalf("hash of %+v and %+v", a, b)
		}
	})
}
