package directory

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Query is what somebody looks for. Text is written as in a search box: name, place, speciality, address, RPPS in any order, with or
// without accents, words cut short. The other fields say where their words must stand. What is empty is not asked.
type Query struct {
	Text              string
	Place, Speciality string // place: town, postal code or its beginning, department by name or number
	RPPS              string // or its beginning
	Limit             int    // mailboxes; 0 is 20, 100 at most
}

const (
	defaultLimit = 20
	maxLimit     = 100
	maxText      = 300 // bytes of a field of a query that are read
	maxAsked     = 12  // words of a query that are read
)

// wanted is one word of a query: a record must hold one of its forms.
type wanted struct {
	forms    []form
	optional bool   // it only raises the score
	digits   string // of an identifier, instead of forms
	address  string // the whole address that the word is a part of, "" where none
}

// form is one way to write a word.
type form struct {
	text   string
	in     fields
	prefix bool
}

// parse reads a query. It takes anything: what is typed becomes words and numbers, never a part of a statement.
func (q Query) parse() []wanted {
	var list []wanted
	if id := digitsOf(clip(q.RPPS)); id != "" {
		list = append(list, wanted{digits: rppsOf(id)})
	}
	list = append(list, parseText(clip(q.Place), setOf(fieldPlace), false)...)
	list = append(list, parseText(clip(q.Speciality), setOf(fieldSkill), false)...)
	list = append(list, parseText(clip(q.Text), anyField, true)...) // last: what is beyond the limit is left out
	return list[:min(len(list), maxAsked)]
}

func (q Query) limit() int {
	if q.Limit <= 0 {
		return defaultLimit
	}
	return min(q.Limit, maxLimit)
}

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, " ")
}

// piece is a word with what stood around it.
type piece struct {
	text    string
	bound   bool   // an apostrophe or hyphen ties it to the word before
	in      fields // where it may stand
	address string
}

func parseText(s string, in fields, free bool) []wanted {
	pieces := joinNumbers(piecesOf(s, in))
	if free {
		pieces = dropped(pieces)
	}
	words := make([]wanted, 0, len(pieces))
	for i, p := range pieces {
		if free && len(p.text) >= 6 && isDigits(p.text) {
			words = append(words, wanted{digits: rppsOf(p.text)})
			continue
		}
		w := wanted{forms: []form{{p.text, p.in, true}}, address: p.address}
		if p.address == "" { // le goff is legoff, van den berghe is vandenberghe
			for n, joined := 1, p.text; n <= 2 && n <= i && !isDigits(pieces[i-n].text) && pieces[i-n].address == ""; n++ {
				joined = pieces[i-n].text + joined
				w.forms = append(w.forms, form{joined, p.in, true})
			}
		}
		if i > 0 {
			if code := arrondissement(pieces[i-1].text, p.text); code != "" {
				w.forms = append(w.forms, form{code, p.in & setOf(fieldPlace), true})
			}
		}
		if p.in.has(fieldSkill) {
			for _, other := range otherWords(p.text) {
				w.forms = append(w.forms, form{other, setOf(fieldSkill), true})
			}
		}
		w.optional = isParticle(p.text) && p.address == ""
		if w.optional { // "de" is no beginning of Denis where more is typed
			w.forms[0].prefix = false
		}
		words = append(words, w)
	}
	if !slices.ContainsFunc(words, func(w wanted) bool { return !w.optional }) {
		for i := range words {
			words[i].optional, words[i].forms[0].prefix = false, true
		}
	}
	return words
}

// piecesOf cuts a text at its spaces, and what stands between them into words.
func piecesOf(s string, in fields) []piece {
	var out []piece
	for _, token := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' || r == '|' || r <= ' ' || r == 0xa0 || r == 0x202f }) {
		where, address := in, ""
		if at := strings.IndexByte(token, '@'); in != anyField {
		} else if at >= 0 {
			where |= setOf(fieldDomain)
			if at > 0 {
				address = strings.ToLower(strings.Trim(token, "<>\"'"))
				if key, err := addressKey(address); err == nil {
					address = key
				}
			}
		} else if strings.Contains(strings.Trim(token, "."), ".") {
			where |= setOf(fieldDomain)
		}
		for i, w := range fold(token) {
			out = append(out, piece{text: w, bound: i > 0, in: where, address: address})
		}
		if len(out) > 4*maxAsked {
			break
		}
	}
	return out
}

// joinNumbers puts together an RPPS that was typed in groups: "10 001 234 566".
func joinNumbers(in []piece) []piece {
	for from := range in {
		all, to := "", from
		for to < len(in) && isDigits(in[to].text) && in[to].address == "" {
			all, to = all+in[to].text, to+1
		}
		if to-from > 1 && (len(all) == idDigits || len(all) == idDigits+1) {
			joined := in[from]
			joined.text = all
			return slices.Concat(in[:from], []piece{joined}, in[to:])
		}
	}
	return in
}

// dropped takes out forms of address and the small words of a sentence, unless nothing else is there.
func dropped(in []piece) []piece {
	out := slices.DeleteFunc(slices.Clone(in), func(p piece) bool {
		if p.address != "" || p.bound {
			return false
		}
		switch p.text {
		case "dr", "docteur", "pr", "prof", "professeur", "m", "mr", "mme", "mlle", "monsieur", "madame", "mademoiselle",
			"a", "au", "aux", "en", "et", "ou", "chez", "dans", "pres", "sur":
			return true
		}
		return false
	})
	if len(out) == 0 {
		return in
	}
	return out
}

// isParticle: words that stand in front of a name or a place, and that one record writes and the next leaves out.
func isParticle(w string) bool {
	switch w {
	case "l", "d", "le", "la", "les", "de", "du", "des", "el", "al", "ben", "van", "von", "der", "den", "di", "da", "do", "dos", "mac", "mc", "o":
		return true
	}
	return false
}

// rppsOf takes the type of identifier off a national identifier of a person: 8 before the eleven digits of an RPPS.
func rppsOf(digits string) string {
	if len(digits) == idDigits+1 && digits[0] == '8' {
		return digits[1:]
	}
	return digits
}

func digitsOf(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

// arrondissement gives the postal code of "Paris 12", "Lyon 3e", "Marseille 1er".
func arrondissement(town, number string) string {
	end := 0
	for end < len(number) && number[end] >= '0' && number[end] <= '9' {
		end++
	}
	switch number[end:] {
	case "", "e", "eme", "er", "ieme":
	default:
		return ""
	}
	n, err := strconv.Atoi(number[:end])
	if err != nil || n < 1 {
		return ""
	}
	for _, t := range [...]struct {
		name        string
		first, most int
	}{{"paris", 75000, 20}, {"lyon", 69000, 9}, {"marseille", 13000, 16}} {
		if t.name == town && n <= t.most {
			return strconv.Itoa(t.first + n)
		}
	}
	return ""
}

// otherWords gives what the national file calls what people say: the file has "Cardiologie" where people type "cardiologue".
func otherWords(w string) []string {
	switch w {
	case "generaliste":
		return []string{"generale"}
	case "orl":
		return []string{"oto", "otorhino"}
	case "kine", "kinesitherapie":
		return []string{"kinesitherapeute"}
	case "ide", "infirmiere", "infirmieres":
		return []string{"infirmier"}
	case "pharmacie", "pharmacienne":
		return []string{"pharmacien"}
	case "urgentiste":
		return []string{"urgence"}
	case "interniste":
		return []string{"interne"}
	case "reanimateur", "reanimatrice":
		return []string{"reanimation"}
	case "pedopsychiatre":
		return []string{"psychiatrie"}
	case "diabetologue":
		return []string{"diabetologie", "endocrinologie"}
	case "cancerologue", "oncologue":
		return []string{"cancerologie", "oncologie"}
	case "orthodontiste", "orthodontie": // "Orthopédie dento-faciale"
		return []string{"dento"}
	case "radiologue", "radiologie":
		return []string{"radio", "imagerie"}
	case "ophtalmologue", "ophtalmologiste", "ophtalmo":
		return []string{"ophtalmologie"}
	case "gyneco", "gynecologue":
		return []string{"gynecologie"}
	case "dentaire":
		return []string{"dentiste"}
	}
	for _, e := range [...]struct{ person, what string }{{"logue", "logi"}, {"iatre", "iatri"}, {"iste", "i"}, {"therapeute", "therapi"}, {"tricien", "tri"}, {"tricienne", "tri"},
		{"chirurgien", "chirurgi"}, {"chirurgienne", "chirurgi"}} {
		if stem, ok := strings.CutSuffix(w, e.person); ok && (len(stem) > 1 || strings.HasPrefix(w, "chir")) {
			return []string{stem + e.what}
		}
	}
	return nil
}

// mayBeTypo: short words and numbers are not guessed at.
func (w wanted) mayBeTypo() bool {
	return w.digits == "" && !w.optional && utf8.RuneCountInString(w.forms[0].text) >= 4 && !isDigits(w.forms[0].text)
}
