package addressbook

import (
	"errors"
	"slices"
	"strings"
)

// filter is a search filter (RFC 4511 section 4.5.1.7), read with bounds on depth and size.
type filter struct {
	op    byte
	attr  string // our name of the attribute, "" for one that no entry has
	value string // of equality
	// initial, any and final are the parts of a substring filter, as written.
	initial, final string
	any            []string
	sub            []*filter
	// What is compared: made once, a hostile filter is held against many values.
	lower, tight, saint pattern
}

// Tags of filters.
const (
	opAnd, opOr, opNot        = 0xa0, 0xa1, 0xa2
	opEqual, opSubstrings     = 0xa3, 0xa4
	opGreater, opLess         = 0xa5, 0xa6
	opPresent, opApprox       = 0x87, 0xa8
	opExtensible              = 0xa9
	subInitial, subAny        = 0x80, 0x81
	subFinal                  = 0x82
	maxDepth, maxNodes        = 12, 200
	maxAlternatives           = 4
	undefined, no, yes    tri = 0, -1, 1
)

type tri int

var (
	errFilter = errors.New("filter too deep or too large")
	errDump   = errors.New("the filter asks for everybody")
)

// attributes maps what clients ask by to the attribute that answers (RFC 4519, RFC 2798; the last are Exchange's, which Outlook knows).
var attributes = map[string]string{
	"cn": "cn", "commonname": "cn", "name": "cn", "displayname": "displayname", "fn": "cn", "anr": "anr", "ambiguousnameresolution": "anr",
	"sn": "sn", "surname": "sn", "givenname": "givenname", "gn": "givenname",
	"mail": "mail", "rfc822mailbox": "mail", "mailnickname": "mail", "email": "mail", "emailaddress": "mail", "uid": "mail", "userid": "mail",
	"o": "o", "organizationname": "o", "company": "o", "ou": "ou", "organizationalunitname": "ou", "department": "ou",
	"l": "l", "localityname": "l", "locality": "l", "title": "title", "description": "description", "info": "description", "notes": "description", "postalcode": "postalcode", "objectclass": "objectclass",
}

// parseFilter takes one filter off b.
func parseFilter(b *ber) (*filter, error) {
	nodes := 0
	f, err := readFilter(b, 0, &nodes)
	if err == nil {
		f.prepare()
	}
	return f, err
}

func (f *filter) prepare() {
	f.lower, f.tight, f.saint = f.pattern(strings.ToLower), f.pattern(tight), f.pattern(tightSaint)
	for _, s := range f.sub {
		s.prepare()
	}
}

func readFilter(b *ber, depth int, nodes *int) (*filter, error) {
	if *nodes++; depth > maxDepth || *nodes > maxNodes {
		return nil, errFilter
	}
	op, body, err := b.next()
	if err != nil {
		return nil, err
	}
	f := &filter{op: op}
	switch op {
	case opAnd, opOr, opNot:
		for len(body) > 0 {
			s, err := readFilter(&body, depth+1, nodes)
			if err != nil {
				return nil, err
			}
			f.sub = append(f.sub, s)
		}
		if op == opNot && len(f.sub) != 1 {
			return nil, errBER
		}
	case opEqual, opApprox, opGreater, opLess:
		var attr string
		if attr, err = body.text(tagOctets); err == nil {
			f.value, err = body.text(tagOctets)
		}
		f.name(attr)
	case opPresent:
		f.name(string(body))
	case opSubstrings:
		attr, err := body.text(tagOctets)
		if err != nil {
			return nil, err
		}
		f.name(attr)
		parts, err := body.want(tagSequence)
		if err != nil {
			return nil, err
		}
		return f, f.readParts(parts, nodes)
	case opExtensible: // never true here
	default:
		return nil, errBER
	}
	return f, err
}

func (f *filter) readParts(parts ber, nodes *int) error {
	if len(parts) == 0 {
		return errBER
	}
	for first := true; len(parts) > 0; first = false {
		if *nodes++; *nodes > maxNodes {
			return errFilter
		}
		tag, body, err := parts.next()
		switch {
		case err != nil:
			return err
		case tag == subInitial && first:
			f.initial = string(body)
		case tag == subAny:
			f.any = append(f.any, string(body))
		case tag == subFinal && len(parts) == 0:
			f.final = string(body)
		default:
			return errBER
		}
	}
	return nil
}

func (f *filter) name(attr string) {
	attr, _, _ = strings.Cut(strings.ToLower(attr), ";") // options: cn;lang-fr
	f.attr = attributes[attr]
}

// texts translates the filter into what to ask the directory for: alternatives of which one must be found wherever the filter holds.
// bounded is false where it may hold for entries that no text leads to.
func (f *filter) texts() (alternatives []string, bounded bool) {
	switch f.op {
	case opAnd:
		for _, s := range f.sub {
			switch a, b := s.texts(); {
			case !b:
			case !bounded:
				alternatives, bounded = a, true
			default:
				alternatives = both(alternatives, a)
			}
		}
		return alternatives, bounded
	case opOr:
		for _, s := range f.sub {
			a, b := s.texts()
			if !b {
				return nil, false
			}
			alternatives = union(alternatives, a...)
		}
		return alternatives, true
	case opEqual, opApprox, opSubstrings:
		switch {
		case f.attr == "":
			return nil, true
		case f.attr == "objectclass":
			return nil, false
		}
		text := f.value
		if f.op == opSubstrings {
			text = strings.Join(append(append([]string{f.initial}, f.any...), f.final), " ")
		}
		text = strings.TrimSpace(text)
		if f.op == opSubstrings && (f.initial == "" || len(f.any) > 0 || f.final != "") { // no beginning of an address
			text = strings.ReplaceAll(text, "@", " @")
		}
		if fold(text) == "" {
			return nil, false
		}
		return []string{strings.ToLower(text)}, true
	case opPresent:
		return nil, f.attr == ""
	case opNot:
		return nil, false
	}
	return nil, true
}

func union(list []string, more ...string) []string {
	for _, m := range more {
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// both gives the texts that ask for one of a and one of b; beyond the limit one of the two is enough, the filter itself does the rest.
func both(a, b []string) (out []string) {
	if len(a)*len(b) > maxAlternatives {
		if len(b) < len(a) {
			return b
		}
		return a
	}
	for _, x := range a {
		for _, y := range b {
			switch {
			case isAddress(x): // an address says all
				out = union(out, x)
			case isAddress(y):
				out = union(out, y)
			default:
				out = union(out, strings.Join(union(strings.Fields(x), strings.Fields(y)...), " "))
			}
		}
	}
	return out
}

// isAddress: the beginning of one, and not a domain alone.
func isAddress(text string) bool {
	i := strings.IndexByte(text, '@')
	return i > 0 && text[i-1] != ' '
}

// queries gives the texts of a whole filter, or errDump or errShort.
func (f *filter) queries() ([]string, error) {
	texts, bounded := f.texts()
	switch {
	case !bounded || len(texts) > maxAlternatives:
		return nil, errDump
	case len(texts) > 0 && len(long(texts)) == 0:
		return nil, errShort
	}
	return long(texts), nil
}

// holds evaluates the filter on an entry's attributes (RFC 4511 section 4.5.1.7), without regard to case and accents. The and of three
// values is the least, for no < undefined < yes.
func (f *filter) holds(e ldapEntry) tri {
	switch f.op {
	case opAnd:
		out := yes
		for _, s := range f.sub {
			out = min(out, s.holds(e))
		}
		return out
	case opOr:
		out := no
		for _, s := range f.sub {
			out = -min(-out, -s.holds(e))
		}
		return out
	case opNot:
		return -f.sub[0].holds(e)
	}
	if f.attr == "" {
		return undefined
	}
	switch f.op {
	case opPresent:
		return truth(f.attr == "anr" || len(e.get(f.attr)) > 0)
	case opEqual, opApprox, opSubstrings:
		names := []string{f.attr}
		if f.attr == "anr" {
			names = []string{"cn", "sn", "givenname", "displayname", "mail"}
		}
		for _, n := range names {
			for _, v := range e.get(n) {
				if f.matches(n, v, e) {
					return yes
				}
			}
		}
		return no
	}
	return undefined
}

func truth(b bool) tri {
	if b {
		return yes
	}
	return no
}

// pattern is what a value is compared with, in one of the forms in which values are compared.
type pattern struct {
	whole, initial, final string
	any                   []string
}

func (f *filter) pattern(form func(string) string) pattern {
	p := pattern{whole: form(f.value), initial: form(f.initial), final: form(f.final)}
	for _, a := range f.any {
		p.any = append(p.any, form(a))
	}
	return p
}

// matches compares one value, as the directory finds names: legoff is LE GOFF, st is Saint, and a beginning is that of any word, goff*.
// A mailbox is found by its local part too, as the nickname that Exchange gives it.
func (f *filter) matches(attr, value string, e ldapEntry) bool {
	if attr == "mail" {
		value = strings.ToLower(value)
		local, _, _ := strings.Cut(value, "@")
		return f.fits(value, f.lower, true) || f.op != opSubstrings && local == f.lower.whole
	}
	for i, end := range e.endings(value) {
		if f.fits(end.tight, f.tight, i == 0) || f.fits(end.saint, f.saint, i == 0) {
			return true
		}
	}
	return false
}

// fits compares a value in the form of p; whole tells that nothing of the value was left out.
func (f *filter) fits(value string, p pattern, whole bool) bool {
	switch {
	case f.op == opSubstrings:
		return p.within(value)
	case f.attr == "anr":
		return strings.HasPrefix(value, p.whole)
	}
	return whole && value == p.whole
}

func (p pattern) within(value string) bool {
	rest, ok := strings.CutPrefix(value, p.initial)
	if !ok {
		return false
	}
	for _, a := range p.any {
		i := strings.Index(rest, a)
		if i < 0 {
			return false
		}
		rest = rest[i+len(a):]
	}
	return strings.HasSuffix(rest, p.final)
}
