// Package token makes what people and links prove themselves with. It takes nothing but chance, gives links' secrets, codes of six
// digits and passphrases, reads them back as people type them, and knows nothing of what they open.
package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/binary"
	"math/big"
	"strings"
)

// alphabet is Crockford's base 32 in lower case: no i, l, o, u, so nothing is mistaken for 1 and 0.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// LinkLength is the length of a link's secret: 26 characters of 5 bits are 130 bits.
const LinkLength = 26

// ShortLength is the length of what is typed in the place of a link: 16 characters of 5 bits are 80 bits.
const ShortLength = 16

// NewLink makes a link's secret in its one canonical spelling.
func NewLink() string { return draw(LinkLength) }

// NewShort makes a secret to be typed by hand, in its one canonical spelling.
func NewShort() string { return draw(ShortLength) }

// SpacedShort gives it, or a whole link's secret, as it is shown to people: "K7QF 2M9X 4TRC 8WPA".
func SpacedShort(s string) string {
	var b strings.Builder
	for i, c := range strings.ToUpper(s) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// draw: 256 is a multiple of 32, so every character is equally likely.
func draw(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return string(b)
}

// ParseLink gives the canonical spelling of a link's secret as it came back: upper case, hyphens and spaces, o for 0, i and l for
// 1, and the punctuation that mail programs glue to the end of a link are forgiven. ok is false for everything else.
func ParseLink(s string) (secret string, ok bool) { return parse(s, LinkLength) }

// ParseShort does the same for what was typed by hand.
func ParseShort(s string) (secret string, ok bool) { return parse(s, ShortLength) }

func parse(s string, length int) (secret string, ok bool) {
	if len(s) > 3*length {
		return "", false
	}
	s = strings.TrimRight(s, ".,;:!?)>]}\"'")
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c == '-' || c == ' ':
			continue
		}
		switch c {
		case 'o':
			c = '0'
		case 'i', 'l':
			c = '1'
		}
		if strings.IndexByte(alphabet, c) < 0 {
			return "", false
		}
		b.WriteByte(c)
	}
	return b.String(), b.Len() == length
}

// CodeLength is the number of digits of a code.
const CodeLength = 6

// NewCode makes a code of six digits, all 10^6 equally likely.
func NewCode() string {
	n := number(1_000_000)
	var b [CodeLength]byte
	for i := CodeLength - 1; i >= 0; i-- {
		b[i], n = byte('0'+n%10), n/10
	}
	return string(b[:])
}

// ParseCode gives the six digits of what a person typed: spaces, dots and hyphens between them are forgiven.
func ParseCode(s string) (code string, ok bool) {
	if len(s) > 64 {
		return "", false
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			b.WriteRune(r)
		case strings.ContainsRune(" .-\t\u00a0\u202f", r):
		default:
			return "", false
		}
	}
	return b.String(), b.Len() == CodeLength
}

// SpacedCode gives a code as it is shown to people: "123 456".
func SpacedCode(code string) string {
	if len(code) != CodeLength {
		return code
	}
	return code[:3] + " " + code[3:]
}

// Equal compares in constant time.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// The list: French words of four to eight letters without accents, no two of which differ by one letter more, less, other, or by
// two neighbours exchanged; what is misread or mistyped once is no other word.
//
//go:embed words.txt
var wordList string

var words = strings.Fields(wordList)

// PassphraseWords is the number of words of a passphrase. The list has 1466 words, 10.5 bits each: eight are 84 bits.
const PassphraseWords = 8

// NewPassphrase makes a passphrase of words that can be told by telephone: "moulin-citron-...".
func NewPassphrase() string {
	var p [PassphraseWords]string
	for i := range p {
		p[i] = words[number(int64(len(words)))]
	}
	return strings.Join(p[:], "-")
}

// DerivePassphrase makes the passphrase that belongs to a key and to what it is for: the same words each time, and without the key no
// better to be guessed than those of NewPassphrase.
func DerivePassphrase(key [32]byte, about ...[]byte) string {
	seed := derive(key, "passerelle passphrase v1", about)
	var p [PassphraseWords]string
	for i := range p {
		h := sha256.Sum256(append(seed, byte(i)))
		p[i] = words[binary.BigEndian.Uint64(h[:])%uint64(len(words))] // 64 bits over 1466 words: the bias is below 2^-53
	}
	return strings.Join(p[:], "-")
}

// DeriveLink makes the link's secret that belongs to a key and to what it is for, the same each time.
func DeriveLink(key [32]byte, about ...[]byte) string {
	seed := derive(key, "passerelle link v1", about)
	var b [LinkLength]byte
	for i := range b {
		b[i] = alphabet[seed[i]%32]
	}
	return string(b[:])
}

func derive(key [32]byte, use string, about [][]byte) []byte {
	m := hmac.New(sha256.New, key[:])
	for _, s := range append([][]byte{[]byte(use)}, about...) { // length first: no two lists give the same bytes
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		m.Write(s)
	}
	return m.Sum(nil)
}

func number(n int64) int64 {
	v, err := rand.Int(rand.Reader, big.NewInt(n))
	if err != nil { // crypto/rand has not failed since Go 1.24: it ends the process instead
		panic("token: " + err.Error())
	}
	return v.Int64()
}
