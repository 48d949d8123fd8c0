package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	maxDN   = 4096 // octets of a DN as text
	maxRDNs = 40
)

// attr is one attribute of a DN as text. The white list quotes by several customs, so a value has one or two readings: without its
// quotes and escapes, and as it stands.
type attr struct {
	kind     string // short name in upper case, or dotted numbers
	readings []string
	exact    string // the value itself by RFC 4514, spaces and all
}

// distinguished is a DN as text: relative names in the order written, each of one or more attributes.
type distinguished [][]attr

// subject is a certificate's DN, in the order of its ASN.1.
type subject [][]pair

type pair struct{ kind, value, exact string }

// CompareDN tells whether a DN as text, written from CN to C as the white list has it or from C to CN, is the subject of a certificate:
// the same attributes in the same order, types without regard to case, values equal after NFC, with runs of any Unicode space as one
// space. Letters' case in values counts.
func CompareDN(want string, cert *x509.Certificate) error {
	w, err := parseDN(want)
	if err != nil {
		return fmt.Errorf("read DN of the list: %w", err)
	}
	s, err := subjectOf(cert)
	if err != nil {
		return err
	}
	if !w.is(s) {
		return fmt.Errorf("DN %q of the certificate is not %q of the list", dnText(cert), want)
	}
	return nil
}

// is compares in both directions.
func (d distinguished) is(s subject) bool {
	if len(d) != len(s) || len(d) == 0 {
		return false
	}
	forth, back := true, true
	for i := range d {
		forth = forth && sameRDN(d[i], s[i])
		back = back && sameRDN(d[i], s[len(s)-1-i])
	}
	return forth || back
}

// isExactly compares from CN to C, values octet by octet.
func (d distinguished) isExactly(s subject) bool {
	if len(d) != len(s) || len(d) == 0 {
		return false
	}
	for i, rdn := range d {
		got := s[len(s)-1-i]
		if len(rdn) != len(got) {
			return false
		}
		for j, a := range rdn {
			if a.kind != got[j].kind || a.exact != got[j].exact {
				return false
			}
		}
	}
	return true
}

// sameRDN compares two relative names as sets (X.501 section 9.4).
func sameRDN(want []attr, got []pair) bool {
	if len(want) != len(got) {
		return false
	}
	used := make([]bool, len(got))
	for _, w := range want {
		i := slices.IndexFunc(got, func(p pair) bool { return p.kind == w.kind && slices.Contains(w.readings, p.value) })
		for i >= 0 && used[i] {
			i = nextPair(got, w, i+1)
		}
		if i < 0 {
			return false
		}
		used[i] = true
	}
	return true
}

func nextPair(got []pair, w attr, from int) int {
	for i := from; i < len(got); i++ {
		if got[i].kind == w.kind && slices.Contains(w.readings, got[i].value) {
			return i
		}
	}
	return -1
}

// parseDN reads RFC 4514, RFC 1779 and what operators really write: quotes without escapes, commas within a value, spaces behind commas.
func parseDN(s string) (distinguished, error) {
	if len(s) > maxDN || !utf8.ValidString(s) {
		return nil, fmt.Errorf("longer than %d octets or no UTF-8", maxDN)
	}
	d := make(distinguished, 0, 5) // as operators have
	var rdn []attr
	for rest := s; ; {
		kind, after, ok := cutKind(rest)
		if !ok {
			return nil, fmt.Errorf("no attribute at octet %d", len(s)-len(rest))
		}
		raw, sep, next := cutValue(after)
		a := attr{kind, readings(raw), unescape(raw)}
		if a.readings[0] == "" {
			return nil, fmt.Errorf("attribute %s is empty", kind)
		}
		rdn = append(rdn, a)
		if sep != '+' {
			d, rdn = append(d, rdn), nil
		}
		if sep == 0 {
			return d, nil
		}
		if len(d)+len(rdn) > maxRDNs {
			return nil, fmt.Errorf("over %d attributes", maxRDNs)
		}
		rest = next
	}
}

// cutKind reads `type =`.
func cutKind(s string) (kind, rest string, ok bool) {
	kind, rest, ok = strings.Cut(s, "=")
	kind = strings.ToUpper(strings.TrimFunc(kind, unicode.IsSpace))
	kind = strings.TrimPrefix(kind, "OID.")
	if !ok || kind == "" || len(kind) > 64 {
		return "", "", false
	}
	for _, c := range []byte(kind) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return "", "", false
		}
	}
	if short, ok := aliases[kind]; ok {
		kind = short
	}
	return kind, rest, true
}

// cutValue ends at a separator that another attribute follows; a comma that none follows belongs to the value. Within an RFC 1779 quoted
// value, which ends in a quote before a separator, nothing separates.
func cutValue(s string) (raw string, sep byte, rest string) {
	i := 0
	if t := strings.TrimLeftFunc(s, unicode.IsSpace); strings.HasPrefix(t, `"`) {
		lead := len(s) - len(t)
		if end := quotedEnd(t); end > 0 {
			i = lead + end
		}
	}
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',', ';', '+':
			if _, _, ok := cutKind(s[i+1:]); ok {
				return s[:i], s[i], s[i+1:]
			}
		}
	}
	return s, 0, ""
}

// quotedEnd gives the place behind the closing quote if a separator or the end follows it, else 0.
func quotedEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			after := strings.TrimLeftFunc(s[i+1:], unicode.IsSpace)
			if after == "" {
				return i + 1
			}
			if strings.IndexByte(",;+", after[0]) >= 0 {
				if _, _, ok := cutKind(after[1:]); ok {
					return i + 1
				}
			}
			return 0
		}
	}
	return 0
}

func readings(raw string) []string {
	raw = strings.TrimFunc(raw, unicode.IsSpace)
	plain := raw
	if len(plain) >= 2 && plain[0] == '"' && quotedEnd(plain) == len(plain) {
		plain = plain[1 : len(plain)-1]
	}
	out := []string{normal(unescape(plain))}
	if literal := normal(raw); literal != out[0] {
		out = append(out, literal)
	}
	return out
}

// unescape takes RFC 4514 section 2.4 escapes away: a backslash before two hex digits or before any other character.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			if i+1 == len(s) { // what stood behind it was a space, trimmed before
				break
			}
			if i+2 < len(s) {
				if h, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
					b.Write(h)
					i += 2
					continue
				}
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// normal is the form in which values are compared.
func normal(s string) string {
	if isNormal(s) { // a hundred thousand names need no copies
		return s
	}
	return strings.Join(strings.FieldsFunc(norm.NFC.String(s), unicode.IsSpace), " ")
}

func isNormal(s string) bool {
	before := ' '
	for _, r := range s {
		if unicode.IsSpace(r) && (r != ' ' || before == ' ') {
			return false
		}
		before = r
	}
	return (before != ' ' || s == "") && norm.NFC.IsNormalString(s)
}

// dnText writes a certificate's subject as the white list does, from CN to C. pkix.Name would put it into an order of its own.
func dnText(cert *x509.Certificate) string {
	var seq pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.RawSubject, &seq); err != nil {
		return ""
	}
	return seq.String()
}

// subjectOf reads a certificate's subject itself: pkix.Name would lose order and sets.
func subjectOf(cert *x509.Certificate) (subject, error) {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(cert.RawSubject, &seq); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("read the certificate's subject: malformed")
	}
	var out subject
	for _, set := range seq {
		var rdn []pair
		for _, a := range set {
			v, ok := a.Value.(string)
			if !ok {
				return nil, fmt.Errorf("the certificate's subject holds a value that is no text")
			}
			if !utf8.ValidString(v) { // a T61String of old tools, in practice Latin-1
				r := make([]rune, 0, len(v))
				for _, c := range []byte(v) {
					r = append(r, rune(c))
				}
				v = string(r)
			}
			kind := a.Type.String()
			if short, ok := oids[kind]; ok {
				kind = short
			}
			rdn = append(rdn, pair{kind, normal(v), v})
		}
		out = append(out, rdn)
	}
	return out, nil
}

var oids = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "SERIALNUMBER", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "T", "2.5.4.17": "POSTALCODE", "2.5.4.42": "GN", "2.5.4.97": "ORGANIZATIONIDENTIFIER",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC", "1.2.840.113549.1.9.1": "E",
}

// aliases are other names for the same types, and the dotted numbers of those that have a name.
var aliases = func() map[string]string {
	m := map[string]string{"S": "ST", "SP": "ST", "EMAILADDRESS": "E", "EMAIL": "E", "GIVENNAME": "GN", "G": "GN", "SURNAME": "SN", "TITLE": "T",
		"COMMONNAME": "CN", "COUNTRYNAME": "C", "ORGANIZATIONNAME": "O", "ORGANIZATIONALUNITNAME": "OU", "STATEORPROVINCENAME": "ST", "LOCALITYNAME": "L"}
	for oid, short := range oids {
		m[oid] = short
	}
	return m
}()
