package directory

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The columns that a record is made of, by the names of the national file (31 columns, unchanged since 2018; the order is not
// relied on). The mandatory ones are those that rules and the ledger read: a file without them would make rules silently miss.
const (
	colKind = iota
	colAddress
	colIDType
	colID
	colStructureID
	colService
	colTitle
	colLast
	colFirst
	colCategory
	colProfession
	colSpeciality
	colDemat
	colStructure
	colTrade
	colCity
	colPostal
	colDepartment
	columnCount
)

var columnNames = [columnCount]struct {
	name      string
	mandatory bool
}{
	colKind:        {"Type de BAL", true},
	colAddress:     {"Adresse BAL", true},
	colIDType:      {"Type Identifiant PP", true},
	colID:          {"Identifiant PP", true},
	colStructureID: {"Identification Structure", true},
	colService:     {"Service de rattachement", false},
	colTitle:       {"Civilité d'exercice", false},
	colLast:        {"Nom d'exercice", true},
	colFirst:       {"Prénom d'exercice", true},
	colCategory:    {"Libellé de catégorie profession", true},
	colProfession:  {"Libellé Profession", true},
	colSpeciality:  {"Libellé savoir-faire", false},
	colDemat:       {"Dématérialisation", false},
	colStructure:   {"Raison Sociale structure BAL", true},
	colTrade:       {"Enseigne commerciale structure BAL", false},
	colCity:        {"L6LIGNEACHEMINEMENT", false},
	colPostal:      {"Code postal", false},
	colDepartment:  {"Département", false},
}

const (
	maxColumns = 256
	maxField   = 512 // bytes kept of one field
)

// columns knows where each column of ours stands in this file's lines.
type columns struct {
	width  int
	closed bool             // the header ends in a separator; a line may then do without it
	at     [columnCount]int // -1 where absent
}

// parseHeader reads the header line. Unknown columns are passed over; a mandatory one that is missing is named.
func parseHeader(line []byte) (columns, error) {
	line = bytes.TrimPrefix(line, []byte("\ufeff"))
	if !utf8.Valid(line) {
		return columns{}, fmt.Errorf("header line is not UTF-8")
	}
	names := strings.Split(string(line), "|")
	c := columns{width: len(names), closed: strings.TrimSpace(names[len(names)-1]) == ""}
	if c.width > maxColumns {
		return columns{}, fmt.Errorf("header has %d columns, more than %d", c.width, maxColumns)
	}
	where := make(map[string]int, len(names))
	for i, n := range names {
		n = headerKey(n)
		if n == "" {
			continue
		}
		if _, twice := where[n]; twice {
			where[n] = -1 // only a fault if it is a column of ours
			continue
		}
		where[n] = i
	}
	var missing []string
	for i, col := range columnNames {
		at, ok := where[headerKey(col.name)]
		switch {
		case ok && at < 0:
			return columns{}, fmt.Errorf("header has the column %q twice", col.name)
		case ok:
			c.at[i] = at
		default:
			c.at[i] = -1
			if col.mandatory {
				missing = append(missing, fmt.Sprintf("%q", col.name))
			}
		}
	}
	if len(missing) == mandatoryCount() {
		return columns{}, fmt.Errorf("this is no extraction file: the first line holds none of its columns")
	}
	if missing != nil {
		return columns{}, fmt.Errorf("header lacks the mandatory columns %s", strings.Join(missing, ", "))
	}
	return c, nil
}

func mandatoryCount() (n int) {
	for _, c := range columnNames {
		if c.mandatory {
			n++
		}
	}
	return n
}

// headerKey forgives what editors do to a header: case, apostrophe, decomposed accents, spaces around.
func headerKey(s string) string {
	s = strings.ReplaceAll(norm.NFC.String(s), "\u2019", "'")
	return strings.ToLower(strings.Join(strings.Fields(s), " "))
}

// lineFault says what is wrong with a data line.
type lineFault int

const (
	lineGood    lineFault = iota
	lineBadUTF8           // usable: the bad bytes were replaced, the address is clean
	lineShort             // fewer columns than the header
	lineLong              // more columns than the header
	lineBad               // no usable address or type
)

// row is a data line cut into the columns of ours; parse reuses it from line to line.
type row struct {
	value  [columnCount]string
	fields [][]byte
}

// parse fills the row. The address comes out as the key it is looked up by: lower case, domain as A-label.
func (r *row) parse(c columns, line []byte) lineFault {
	r.fields = r.fields[:0]
	for rest := line; ; {
		f, after, more := bytes.Cut(rest, []byte{'|'})
		r.fields = append(r.fields, f)
		if !more {
			break
		}
		if len(r.fields) > maxColumns {
			return lineLong
		}
		rest = after
	}
	switch n := len(r.fields); {
	case n < c.width && !(c.closed && n == c.width-1):
		return lineShort
	case n > c.width && !(n == c.width+1 && len(r.fields[n-1]) == 0): // a closing separator is no column
		return lineLong
	}
	fault := lineGood
	for i, at := range c.at {
		if at < 0 || at >= len(r.fields) {
			r.value[i] = ""
			continue
		}
		v, clean := cleanField(r.fields[at])
		if !clean {
			if i == colAddress || i == colKind {
				return lineBad
			}
			fault = lineBadUTF8
		}
		r.value[i] = v
	}
	if !isKind(r.value[colKind]) {
		return lineBad
	}
	key, err := addressKey(r.value[colAddress])
	if err != nil || len(key) > maxField {
		return lineBad
	}
	r.value[colAddress] = key
	return fault
}

// cleanField gives a field without surrounding space, control characters and bad UTF-8, not longer than maxField. clean tells
// whether it was valid UTF-8.
func cleanField(f []byte) (s string, clean bool) {
	f = bytes.TrimSpace(f)
	clean = utf8.Valid(f)
	if !clean {
		f = bytes.ToValidUTF8(f, []byte("\ufffd"))
	}
	if len(f) > maxField {
		f = bytes.ToValidUTF8(f[:maxField], nil)
	}
	if bytes.ContainsFunc(f, isControl) {
		f = bytes.Map(func(r rune) rune {
			if isControl(r) {
				return ' '
			}
			return r
		}, f)
	}
	return string(f), clean
}

// isControl: also what turns the direction of the text behind it, and makes a name or an address read as another (UAX 9 section 2).
func isControl(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// isKind: PER and ORG occur today; APP and CAB are announced. Another short word is kept as it is.
func isKind(s string) bool {
	if s == "" || len(s) > 8 {
		return false
	}
	for _, c := range []byte(s) {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}
