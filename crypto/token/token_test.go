package token

import (
	"math"
	"strings"
	"testing"
)

func TestLinkRoundTrip(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := NewLink()
		if len(s) != LinkLength || seen[s] {
			t.Fatalf("%q", s)
		}
		seen[s] = true
		for _, w := range []string{s, strings.ToUpper(s), s + ".", s + ">", s[:8] + "-" + s[8:], strings.ReplaceAll(s, "0", "O"), strings.ReplaceAll(s, "1", "l")} {
			if got, ok := ParseLink(w); !ok || got != s {
				t.Fatalf("%q -> %q, %v", w, got, ok)
			}
		}
	}
	if bits := LinkLength * math.Log2(float64(len(alphabet))); bits < 128 {
		t.Errorf("%.1f bits", bits)
	}
	for _, w := range []string{"", "short", strings.Repeat("a", 25), strings.Repeat("a", 27), strings.Repeat("u", 26), "../" + strings.Repeat("a", 23), strings.Repeat("-", 500)} {
		if _, ok := ParseLink(w); ok {
			t.Errorf("%q accepted", w)
		}
	}
}

func TestCode(t *testing.T) {
	first := map[byte]int{}
	for range 2000 {
		c := NewCode()
		got, ok := ParseCode(" " + SpacedCode(c) + " ")
		if !ok || got != c || len(c) != 6 {
			t.Fatalf("%q -> %q", c, got)
		}
		first[c[0]]++
	}
	if len(first) != 10 {
		t.Errorf("first digits seen: %v", first)
	}
	for _, w := range []string{"", "12345", "1234567", "12345a", "١٢٣٤٥٦", strings.Repeat(" ", 100)} {
		if _, ok := ParseCode(w); ok {
			t.Errorf("%q accepted", w)
		}
	}
	if !Equal([]byte("a"), []byte("a")) || Equal([]byte("a"), []byte("b")) || Equal([]byte("a"), nil) {
		t.Error("Equal")
	}
}

func TestPassphrase(t *testing.T) {
	if len(words) < 1024 {
		t.Fatalf("%d words", len(words))
	}
	if bits := PassphraseWords * math.Log2(float64(len(words))); bits < 80 {
		t.Errorf("%.1f bits", bits)
	}
	seen := map[string]bool{}
	for i, w := range words {
		if len(w) < 4 || len(w) > 8 || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz") != "" || seen[w] {
			t.Errorf("%q", w)
		}
		seen[w] = true
		for _, v := range words[:i] {
			if near(v, w) {
				t.Errorf("%s and %s look alike", v, w)
			}
		}
	}
	p := NewPassphrase()
	if strings.Count(p, "-") != PassphraseWords-1 || p == NewPassphrase() {
		t.Errorf("%q", p)
	}
}

func TestDerivePassphrase(t *testing.T) {
	k, other := [32]byte{1}, [32]byte{2}
	p := DerivePassphrase(k, []byte("sum"), []byte("a@dest.test"))
	if strings.Count(p, "-") != PassphraseWords-1 || p != DerivePassphrase(k, []byte("sum"), []byte("a@dest.test")) {
		t.Errorf("%q", p)
	}
	for name, q := range map[string]string{
		"key": DerivePassphrase(other, []byte("sum"), []byte("a@dest.test")), "recipient": DerivePassphrase(k, []byte("sum"), []byte("b@dest.test")),
		"message": DerivePassphrase(k, []byte("mus"), []byte("a@dest.test")), "border": DerivePassphrase(k, []byte("suma"), []byte("@dest.test")),
	} {
		if p == q {
			t.Errorf("another %s gives the same words", name)
		}
	}
	words := strings.Split(p, "-")
	if words[0] == words[1] && words[1] == words[2] {
		t.Errorf("%q repeats one word", p)
	}
}

// near tells whether one slip makes a into b.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	return i == len(a) || a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

func FuzzParseLink(f *testing.F) {
	f.Add(NewLink())
	f.Fuzz(func(t *testing.T, s string) {
		if got, ok := ParseLink(s); ok {
			if again, ok := ParseLink(got); !ok || again != got {
				t.Fatalf("%q -> %q -> %q", s, got, again)
			}
		}
	})
}
