package directory

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// fold cuts s into words as they are compared in a search: lower case, no accents, letters and digits alone. "Le Goff" is le, goff;
// "D'ALMEIDA" is d, almeida; "œdème" is oedeme; "St" is saint, "Ste" is sainte, as the postal lines abbreviate them.
func fold(s string) []string {
	var words []string
	var b []byte
	end := func() {
		if len(b) > 0 {
			words = append(words, unabbreviated(string(b)))
			b = b[:0]
		}
	}
	if !isASCII(s) {
		s = norm.NFKD.String(s)
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b = append(b, byte(r))
		case r >= 'A' && r <= 'Z':
			b = append(b, byte(r)+'a'-'A')
		case r < utf8.RuneSelf:
			end()
		case r == 'œ', r == 'Œ':
			b = append(b, "oe"...)
		case r == 'æ', r == 'Æ':
			b = append(b, "ae"...)
		case r == 'ß', r == 'ẞ':
			b = append(b, "ss"...)
		case r == 'ø', r == 'Ø': // a stroke is no accent that NFKD would set apart
			b = append(b, 'o')
		case r == 'ł', r == 'Ł':
			b = append(b, 'l')
		case r == 'đ', r == 'Đ':
			b = append(b, 'd')
		case unicode.Is(unicode.Mn, r), unicode.Is(unicode.Cf, r): // the accent that NFKD has set apart; a soft hyphen out of a text
		case unicode.IsLetter(r), unicode.IsDigit(r):
			b = utf8.AppendRune(b, unicode.ToLower(r))
		default:
			end()
		}
		if len(b) > maxWord {
			end()
		}
	}
	end()
	return words
}

// maxWord bounds a word of the index, in bytes; what is longer is cut in two.
const maxWord = 40

func unabbreviated(w string) string {
	switch w {
	case "st":
		return "saint"
	case "ste":
		return "sainte"
	}
	return w
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isDigits(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// The fields that a word of the index comes from. A word stands in the index once for each field, its key ends in the field's byte,
// which is below every letter: so the words sort as words, and those of one text stand together.
const (
	fieldLast byte = iota + 1
	fieldFirst
	fieldSkill // profession, speciality, service
	fieldPlace // city, postal code, department
	fieldStructure
	fieldLocal  // the address before the @
	fieldDomain // and behind it
	fieldEnd
)

// fields is a set of them.
type fields uint16

func setOf(list ...byte) (f fields) {
	for _, b := range list {
		f |= 1 << b
	}
	return f
}

func (f fields) has(b byte) bool { return f&(1<<b) != 0 }

// anyField is where a word that says nothing of its field is looked for. The domain is not among them: "medecin" would find everybody
// at medecin.mssante.fr.
var anyField = setOf(fieldLast, fieldFirst, fieldSkill, fieldPlace, fieldStructure, fieldLocal)
