package directory

import (
	"slices"
	"strings"
)

// The doubts that an identifier may raise. They flag and never reject: the national files hold numbers that follow no rule any more.
const (
	flagRPPS      = "rpps-check-failed"
	flagADELI     = "adeli-malformed"
	flagStructure = "structure-check-failed"
)

// flag looks at the record's identifiers.
func (r *Record) flag() {
	add := func(f string, doubt bool) {
		if doubt && !slices.Contains(r.Flags, f) {
			r.Flags = append(slices.Clip(r.Flags), f)
		}
	}
	switch r.IDType {
	case "RPPS":
		add(flagRPPS, r.ID != "" && !validRPPS(r.ID))
	case "ADELI":
		add(flagADELI, r.ID != "" && !validADELI(r.ID))
	}
	add(flagStructure, r.StructureID != "" && !validStructure(r.StructureID))
}

// validRPPS: eleven digits, the last a Luhn key over the others.
func validRPPS(s string) bool { return len(s) == 11 && luhn(s) }

// validADELI: nine signs that begin with a department, 2A and 2B for Corsica. ADELI ended in 2024; old numbers were given with keys by
// several rules, so that none is checked.
func validADELI(s string) bool { return len(s) == 9 && departmental(s) }

// validStructure reads what the national files call a structure's identification: FINESS (nine signs), SIREN (nine digits), SIRET
// (fourteen), or RPPS or ADELI with a rank behind it for a practice without a number of its own; each also with its type's digit before it.
func validStructure(s string) bool {
	switch len(s) {
	case 9:
		return validFINESS(s)
	case 10:
		return validFINESS(s[1:])
	case 14:
		return validSIRET(s)
	case 15:
		return validSIRET(s[1:])
	}
	return true // of no form that has a key: an identifier of the region or the practice
}

// validFINESS: department, six signs, a Luhn key. A Corsican number has a letter that no rule makes a digit of: its form alone is checked.
func validFINESS(s string) bool {
	if len(s) != 9 || !departmental(s) {
		return false
	}
	return s[1] == 'A' || s[1] == 'B' || luhn(s)
}

// validSIRET: fourteen digits with a Luhn key; La Poste's establishments beyond the first have a plain sum that five divides.
func validSIRET(s string) bool {
	if luhn(s) {
		return true
	}
	if !strings.HasPrefix(s, "356000000") || !digits(s) {
		return false
	}
	sum := 0
	for i := range len(s) {
		sum += int(s[i] - '0')
	}
	return sum%5 == 0
}

// departmental: all digits, but that the second sign may be Corsica's letter.
func departmental(s string) bool {
	if len(s) < 2 {
		return false
	}
	if s[0] == '2' && (s[1] == 'A' || s[1] == 'B') {
		return digits(s[2:])
	}
	return digits(s)
}

func digits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// luhn checks the key that ends s (ISO/IEC 7812-1 annex B).
func luhn(s string) bool {
	if s == "" || !digits(s) {
		return false
	}
	sum := 0
	for i := range len(s) {
		n := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}
