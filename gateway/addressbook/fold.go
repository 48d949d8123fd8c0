package addressbook

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// fold writes text as words are compared: lower case, no accents, one blank between words, nothing but letters and digits.
func fold(s string) string {
	var b strings.Builder
	gap := false
	for _, r := range norm.NFKD.String(strings.ToValidUTF8(s, " ")) {
		switch {
		case unicode.Is(unicode.Mn, r), unicode.Is(unicode.Cf, r):
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			if gap && b.Len() > 0 {
				b.WriteByte(' ')
			}
			gap = false
			switch r = unicode.ToLower(r); r {
			case 'œ':
				b.WriteString("oe")
			case 'æ':
				b.WriteString("ae")
			case 'ß':
				b.WriteString("ss")
			case 'ø': // a stroke is no accent that NFKD would set apart
				b.WriteByte('o')
			case 'ł':
				b.WriteByte('l')
			case 'đ':
				b.WriteByte('d')
			default:
				b.WriteRune(r)
			}
		default:
			gap = true
		}
	}
	return b.String()
}

// ending is a value from one of its words on, in the forms in which it is compared.
type ending struct{ tight, saint string }

func endings(value string) (out []ending) {
	words := strings.Fields(fold(value))
	for i := range words {
		end := strings.Join(words[i:], " ")
		out = append(out, ending{tight(end), tightSaint(end)})
	}
	return out
}

// tight is a folded text without its blanks.
func tight(s string) string { return strings.ReplaceAll(fold(s), " ", "") }

// tightSaint is tight with the words written out that postal lines abbreviate.
func tightSaint(s string) string {
	words := strings.Fields(fold(s))
	for i, w := range words {
		switch w {
		case "st":
			words[i] = "saint"
		case "ste":
			words[i] = "sainte"
		}
	}
	return strings.Join(words, "")
}

// letters counts what a folded text has beside blanks.
func letters(folded string) (n int) {
	for _, r := range folded {
		if r != ' ' {
			n++
		}
	}
	return n
}
