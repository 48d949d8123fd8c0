package addressbook

import "strings"

// What the server says of itself. Clients read the first to learn what it can do: Outlook looks whether it could browse, and asks for
// nothing of the kind where no control for it is named.

const subschemaDN = "cn=Subschema"

// rootDSE is RFC 4512 section 5.1. All but the object class is given to who asks for it by name or by +.
func rootDSE(base string, startTLS bool) ldapEntry {
	e := ldapEntry{attrs: []attribute{
		{"objectClass", []string{"top"}, false},
		{"namingContexts", []string{base}, true},
		{"defaultNamingContext", []string{base}, true}, // of Active Directory: Outlook takes it for its search base
		{"subschemaSubentry", []string{subschemaDN}, true},
		{"supportedLDAPVersion", []string{"3"}, true},
		{"supportedControl", []string{oidPaged}, true},
		{"vendorName", []string{"passerelle"}, true},
	}}
	if startTLS {
		e.attrs = append(e.attrs, attribute{"supportedExtension", []string{oidStartTLS}, true})
	}
	return e
}

// baseEntry is what stands above the mailboxes.
func baseEntry(base string) ldapEntry {
	rdn, _, _ := strings.Cut(base, ",")
	name, value, _ := strings.Cut(rdn, "=")
	class := map[string]string{"o": "organization", "ou": "organizationalUnit", "dc": "domain", "c": "country", "l": "locality"}[strings.ToLower(strings.TrimSpace(name))]
	if class == "" {
		class = "extensibleObject"
	}
	return ldapEntry{dn: base, attrs: []attribute{
		{"objectClass", []string{"top", class}, false},
		{strings.TrimSpace(name), []string{strings.TrimSpace(value)}, false},
		{"subschemaSubentry", []string{subschemaDN}, true},
	}}
}

// subschema is RFC 4512 section 4.2: the few attributes and classes that entries here have (RFC 4519, RFC 4524, RFC 2798).
func subschema() ldapEntry {
	return ldapEntry{dn: subschemaDN, attrs: []attribute{
		{"objectClass", []string{"top", "subentry", "subschema"}, false},
		{"cn", []string{"Subschema"}, false},
		{"objectClasses", []string{
			"( 2.5.6.0 NAME 'top' ABSTRACT MUST objectClass )",
			"( 2.5.6.6 NAME 'person' SUP top STRUCTURAL MUST ( sn $ cn ) MAY description )",
			"( 2.5.6.7 NAME 'organizationalPerson' SUP person STRUCTURAL MAY ( title $ ou $ l $ postalCode ) )",
			"( 2.16.840.1.113730.3.2.2 NAME 'inetOrgPerson' SUP organizationalPerson STRUCTURAL MAY ( displayName $ givenName $ mail $ o ) )",
		}, true},
		{"attributeTypes", []string{
			"( 2.5.4.0 NAME 'objectClass' EQUALITY objectIdentifierMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.38 )",
			directoryString("2.5.4.3", "cn", "commonName"), directoryString("2.5.4.4", "sn", "surname"),
			directoryString("2.5.4.42", "givenName", "gn"), directoryString("2.16.840.1.113730.3.1.241", "displayName", ""),
			directoryString("2.5.4.10", "o", "organizationName"), directoryString("2.5.4.11", "ou", "organizationalUnitName"),
			directoryString("2.5.4.7", "l", "localityName"), directoryString("2.5.4.12", "title", ""), directoryString("2.5.4.13", "description", ""), directoryString("2.5.4.17", "postalCode", ""),
			"( 0.9.2342.19200300.100.1.3 NAME ( 'mail' 'rfc822Mailbox' ) EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )",
		}, true},
	}}
}

func directoryString(oid, name, other string) string {
	if name = "'" + name + "'"; other != "" {
		name = "( " + name + " '" + other + "' )"
	}
	return "( " + oid + " NAME " + name + " EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )"
}
