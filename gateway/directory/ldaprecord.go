package directory

import (
	"errors"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// names lists the attributes to ask for.
func (a LDAPAttributes) names() []string {
	all := []string{a.Address, a.Kind, a.Title, a.LastName, a.FirstName, a.RPPS, a.Profession, a.Category, a.Speciality, a.Structure,
		a.StructureID, a.Service, a.City, a.PostalCode, a.Department, a.RedList, a.Inactive, a.Certificate, a.OpenPGPKey}
	all = slices.DeleteFunc(all, func(s string) bool { return s == "" })
	slices.Sort(all)
	return slices.Compact(all)
}

// records makes a record of each entry that bears the address. A server matches addresses by its schema's rule, without case and
// inner space or by likeness, and the operator's filter may be wide: what counts is the address in our own form.
func (l *ldapSource) records(key string, entries []*ldap.Entry) ([]Record, error) {
	var recs []Record
	for _, e := range entries {
		addresses := values(e, l.cfg.Attributes.Address)
		if len(addresses) == 0 {
			return nil, errors.New("an entry was found whose attributes.address cannot be read: is it the server's own spelling, may we read it")
		}
		if slices.ContainsFunc(addresses, func(v string) bool { return sameAddress(v, key) }) && l.isMailbox(e) {
			recs = append(recs, l.record(key, e))
		}
	}
	return recs, nil
}

// sameAddress also reads Active Directory's proxyAddresses, "SMTP:a@b".
func sameAddress(value, key string) bool {
	if len(value) > 5 && strings.EqualFold(value[:5], "smtp:") {
		value = value[5:]
	}
	k, err := addressKey(value)
	return err == nil && k == key && !strings.ContainsRune(k, '\ufffd') // bytes that were no UTF-8
}

func (l *ldapSource) isMailbox(e *ldap.Entry) bool {
	if l.mss == "" {
		return true
	}
	return slices.ContainsFunc(values(e, l.mss), func(v string) bool { return l.mssValue == "" || strings.EqualFold(v, l.mssValue) })
}

func (l *ldapSource) record(key string, e *ldap.Entry) Record {
	at := l.cfg.Attributes
	get := func(name string) string { // several values are shown as they are: which one is meant is not ours to say
		s, _ := cleanField([]byte(strings.Join(values(e, name), "; ")))
		return s
	}
	r := Record{Address: key, Source: "ldap", AsOf: l.now(),
		Title: get(at.Title), FirstName: get(at.FirstName), LastName: get(at.LastName),
		Structure: get(at.Structure), StructureID: get(at.StructureID), Service: get(at.Service),
		Profession: get(at.Profession), Category: get(at.Category), Speciality: get(at.Speciality),
		City: get(at.City), PostalCode: get(at.PostalCode), Department: get(at.Department),
		RedList: notFalse(e, at.RedList), Inactive: notFalse(e, at.Inactive)}
	r.Keys = append(raw(e, at.Certificate), raw(e, at.OpenPGPKey)...)
	switch ids := values(e, at.RPPS); len(ids) {
	case 0:
	case 1:
		r.IDType, r.ID = "RPPS", ids[0]
	default: // nobody has two
		r.Flags = append(r.Flags, "rpps-several")
	}
	kind := strings.ToUpper(get(at.Kind))
	switch {
	case isKind(kind):
		r.Kind = kind
	case at.Kind != "":
	case r.LastName != "" || r.ID != "":
		r.Kind = "PER"
	case r.Structure != "":
		r.Kind = "ORG"
	}
	return r
}

// values gives an attribute's distinct values, clean and without the empty ones; none where name is "".
func values(e *ldap.Entry, name string) []string {
	if name == "" {
		return nil
	}
	var out []string
	for _, a := range e.Attributes { // the library's own look-up stops at the first of that name
		if !strings.EqualFold(a.Name, name) {
			continue
		}
		for _, b := range a.ByteValues {
			if v, _ := cleanField(b); v != "" && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out
}

// The bounds of what an entry may bring to seal to.
const (
	maxEntryKeys = 8 // of one attribute
	maxEntryKey  = 64 << 10
)

// raw gives an attribute's values as they are, the first few that are not too large. ";binary" is a way of transfer (RFC 4522): servers add it
// and leave it out.
func raw(e *ldap.Entry, name string) (out [][]byte) {
	bare := func(s string) string { return strings.TrimSuffix(strings.ToLower(s), ";binary") }
	for _, a := range e.Attributes {
		if name == "" || bare(a.Name) != bare(name) {
			continue
		}
		for _, b := range a.ByteValues {
			if len(b) > 0 && len(b) <= maxEntryKey && len(out) < maxEntryKeys {
				out = append(out, b)
			}
		}
	}
	return out
}

// notFalse tells whether a boolean (RFC 4517 section 3.3.3: TRUE, FALSE) is there and says anything but no: a date of leaving, "oui" or a status of the
// directory's own is a doubt, and doubt neither verifies nor shows.
func notFalse(e *ldap.Entry, name string) bool {
	return slices.ContainsFunc(values(e, name), func(v string) bool { return !strings.EqualFold(v, "false") && v != "0" })
}
