package trust

import (
	"strings"
	"unicode"
)

// Label is the display name of a mailbox's From (Référentiel socle MSSanté #2, ECO.2.2.7): `<Titre>_<Prénom>_<NOM>_<Entité>` of a
// person, where title, first name and entity may be missing; the entity alone of anything else. "" where too little is known.
func Label(kind, title, first, last, entity string) string {
	if kind != Person {
		return LabelText(entity)
	}
	if last = LabelText(last); last == "" {
		return ""
	}
	var parts []string
	for _, s := range []string{LabelText(title), LabelText(first), strings.ToUpper(last), LabelText(entity)} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "_")
}

// LabelText takes out of a name what ECO.2.2.7 forbids (< > " CR LF), and other control characters.
func LabelText(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '<' || r == '>' || r == '"':
			return -1
		case unicode.IsControl(r):
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 120 {
		s = string(r[:120])
	}
	return s
}
