package addressbook

import (
	"strings"
)

// ldapEntry is a mailbox as an LDAP client sees it: an inetOrgPerson (RFC 2798), an organisation too, because address books ask for nothing else.
type ldapEntry struct {
	dn    string
	attrs []attribute
	ends  map[string][]ending // of the values that were compared
}

type attribute struct {
	name        string
	values      []string
	operational bool
}

// newEntry joins the places of one mailbox; each value stands once.
func newEntry(mailbox []Entry, base string) ldapEntry {
	first := mailbox[0]
	e := ldapEntry{dn: "mail=" + escapeDN(first.Address) + "," + base, ends: map[string][]ending{}}
	e.add("objectClass", "top", "person", "organizationalPerson", "inetOrgPerson")
	for _, m := range mailbox {
		name := m.Name()
		e.add("cn", name)
		if m.LastName != "" {
			e.add("cn", strings.TrimSpace(m.LastName+" "+m.FirstName)) // as it is typed as often
			e.add("sn", m.LastName)
			e.add("givenName", m.FirstName)
		} else {
			e.add("sn", name) // inetOrgPerson must have one
			e.add("cn", display(m))
		}
		e.add("title", title(m))
		e.add("o", m.Structure)
		e.add("ou", m.Service)
		e.add("l", m.City)
		e.add("postalCode", m.PostalCode)
		e.add("description", about(m)) // Thunderbird looks for a word of a search here too, and nowhere else for a town
	}
	e.add("displayName", display(first))
	e.add("mail", first.Address)
	return e
}

// about is all of one place: "Médecin, Cardiologie, Cabinet des Lilas, 69003 Lyon".
func about(e Entry) string {
	var parts []string
	for _, p := range []string{title(e), e.Service, e.Structure, strings.TrimSpace(e.PostalCode + " " + e.City)} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ", ")
}

// display tells an organisation's mailboxes apart.
func display(e Entry) string {
	if name := e.Name(); e.LastName == "" && e.Service != "" && e.Service != name {
		return name + " - " + e.Service
	}
	return e.Name()
}

// title says what somebody is: "Médecin, Cardiologie".
func title(e Entry) string {
	if e.Speciality == "" || e.Speciality == e.Profession {
		return e.Profession
	}
	if e.Profession == "" {
		return e.Speciality
	}
	return e.Profession + ", " + e.Speciality
}

func (e *ldapEntry) add(name string, values ...string) {
	for _, v := range values {
		if v == "" {
			continue
		}
		i := 0
		for i < len(e.attrs) && e.attrs[i].name != name {
			i++
		}
		if i == len(e.attrs) {
			e.attrs = append(e.attrs, attribute{name: name})
		}
		e.attrs[i].values = union(e.attrs[i].values, v)
	}
}

// get gives the values of an attribute by its name in lower case.
func (e ldapEntry) get(name string) []string {
	for _, a := range e.attrs {
		if strings.EqualFold(a.name, name) {
			return a.values
		}
	}
	return nil
}

// endings gives those of one of its values, each worked out once.
func (e ldapEntry) endings(value string) []ending {
	known, ok := e.ends[value]
	if !ok {
		if known = endings(value); e.ends != nil {
			e.ends[value] = known
		}
	}
	return known
}

// encode writes the entry with the attributes asked for (RFC 4511 section 4.5.1.8): none or * is all that users may see, + the operational
// ones, 1.1 nothing. An attribute bears the name by which it was asked for: Outlook asks for its own.
func (e ldapEntry) encode(wanted []string, typesOnly bool) []byte {
	all, plus := len(wanted) == 0, false
	for _, w := range wanted {
		all, plus = all || w == "*", plus || w == "+"
	}
	var out []byte
	done := map[string]bool{}
	put := func(name string, values []string) {
		if done[strings.ToLower(name)] || len(values) == 0 {
			return
		}
		done[strings.ToLower(name)] = true
		var vs []byte
		if !typesOnly {
			for _, v := range values {
				vs = append(vs, octets(v)...)
			}
		}
		out = append(out, tlv(tagSequence, octets(name), tlv(tagSet, vs))...)
	}
	for _, w := range wanted {
		name := strings.ToLower(w)
		if known := attributes[name]; known != "" && known != "anr" {
			if name == "mailnickname" || name == "uid" || name == "userid" {
				local, _, _ := strings.Cut(strings.Join(e.get("mail"), ""), "@")
				if local != "" {
					put(w, []string{local})
				}
				continue
			}
			name = known
		}
		put(w, e.get(name))
	}
	for _, a := range e.attrs {
		if all && !a.operational || plus && a.operational {
			put(a.name, a.values)
		}
	}
	return tlv(opSearchEntry, octets(e.dn), tlv(tagSequence, out))
}

// escapeDN writes a value of a distinguished name (RFC 4514 section 2.4).
func escapeDN(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case strings.IndexByte(`,+"\<>;=#`, c) >= 0, c == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == 0:
			b.WriteString(`\00`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unescapeDN is the value of an escaped one; ok is false for an unescaped special character or a broken escape.
func unescapeDN(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if strings.IndexByte(`,+"<>;=`, c) >= 0 {
			return "", false
		}
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		if i++; i >= len(s) {
			return "", false
		}
		if h, l := digit(s[i]), byte(0xff); h < 16 {
			if i+1 < len(s) {
				l = digit(s[i+1])
			}
			if l > 15 {
				return "", false
			}
			b.WriteByte(h<<4 | l)
			i++
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// normalDN makes two ways to write the base equal: lower case, no blanks around commas and equal signs.
func normalDN(dn string) string {
	parts := strings.Split(strings.ToLower(dn), ",")
	for i, p := range parts {
		name, value, ok := strings.Cut(p, "=")
		if parts[i] = strings.TrimSpace(name); ok {
			parts[i] += "=" + strings.TrimSpace(value)
		}
	}
	return strings.Join(parts, ",")
}
