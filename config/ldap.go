package config

import (
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// LDAP is a clinic's or a region's LDAP directory. None of it is standard, so all of it stands here.
type LDAP struct {
	// URL is ldap://host[:port] or ldaps://host[:port]; "" if there is no such directory.
	URL string `yaml:"url"`
	// Base is the DN below which everything is searched.
	Base string `yaml:"base"`
	// Filter finds the entries of an address, which is put in the place of %s.
	Filter string `yaml:"filter"`
	// MSS tells which entries are MSSanté mailboxes: attribute, attribute=value, or * where all that the filter finds are.
	MSS string `yaml:"mss"`
	// Domains are those whose addresses it is asked about; empty: the white list's. It is never asked about the patients' domain.
	Domains []string `yaml:"domains"`
	// BindDN asks with a password, that stands here or in a file; "" asks anonymously.
	BindDN       string `yaml:"bind_dn"`
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	// StartTLS begins TLS on an ldap:// connection, or gives up.
	StartTLS bool `yaml:"start_tls"`
	// Clear lets a server that is not on this machine be asked without TLS.
	Clear bool `yaml:"clear"`
	// CA verifies the server's certificate in the place of the system's roots.
	CA string `yaml:"ca"`
	// Ask is never, background (for addresses that were asked before), or mail: while the message waits, timeout at most.
	Ask string `yaml:"ask"`
	// Every is the age at which an answer is asked for again; MaxAge makes an older one "could not ask".
	Every  Duration `yaml:"every"`
	MaxAge Duration `yaml:"max_age"`
	// Verifies: its word alone makes a recipient verified; false shows its records beside the others'.
	Verifies bool `yaml:"verifies"`

	Timeout Duration `yaml:"timeout"`
	// KeyTrust is what keys of the attributes certificate and openpgp_key are worth: discovered or verified (a directory that its operator vouches for).
	KeyTrust string `yaml:"key_trust"`
	// SizeLimit is how many entries one address may have; more are "could not ask".
	SizeLimit  int            `yaml:"size_limit"`
	Attributes LDAPAttributes `yaml:"attributes"`
}

// LDAPAttributes names the attribute for each field of a record; "" where the directory has none.
type LDAPAttributes struct {
	// Address is what the filter compares; an entry counts only if one of its values is the very address.
	Address string `yaml:"address"`
	// Kind holds PER or ORG; without it an entry with a last name or an RPPS is PER, one with a structure ORG.
	Kind        string `yaml:"kind"`
	Title       string `yaml:"title"`
	LastName    string `yaml:"last_name"`
	FirstName   string `yaml:"first_name"`
	RPPS        string `yaml:"rpps"`
	Profession  string `yaml:"profession"`
	Category    string `yaml:"category"`
	Speciality  string `yaml:"speciality"`
	Structure   string `yaml:"structure"`
	StructureID string `yaml:"structure_id"`
	Service     string `yaml:"service"`
	City        string `yaml:"city"`
	PostalCode  string `yaml:"postal_code"`
	Department  string `yaml:"department"`
	// RedList and Inactive are booleans: FALSE, 0 or no value is no, everything else is yes.
	RedList  string `yaml:"red_list"`
	Inactive string `yaml:"inactive"`
	// Certificate holds certificates for S/MIME in DER: userCertificate;binary. OpenPGPKey holds public keys, armoured or binary. What they hold
	// goes to the keyring.
	Certificate string `yaml:"certificate"`
	OpenPGPKey  string `yaml:"openpgp_key"`
}

// defaultLDAP names the attributes of inetOrgPerson (RFC 2798, RFC 4519); others have no common name.
func defaultLDAP() LDAP {
	return LDAP{
		Filter: "(&(objectClass=person)(mail=%s))", StartTLS: true, Ask: "background", Every: Duration(day), MaxAge: Duration(21 * day), Timeout: Duration(2 * time.Second), SizeLimit: 20, KeyTrust: "discovered",
		Attributes: LDAPAttributes{Address: "mail", LastName: "sn", FirstName: "givenName", Structure: "o", City: "l", PostalCode: "postalCode"},
	}
}

// ldap checks the directory's LDAP server where there is one.
func (v *validator) ldap() {
	const key = "directory.ldap"
	l := v.c.Directory.LDAP
	v.oneOf(key+".ask", l.Ask, "never", "background", "mail")
	v.oneOf(key+".key_trust", l.KeyTrust, "discovered", "verified")
	if l.URL != "" && l.Attributes.Certificate+l.Attributes.OpenPGPKey != "" && l.KeyTrust == "discovered" && !slices.Contains([]string{"seen", "discovered"}, v.c.Encrypt.MinTrust) &&
		len(v.c.Encrypt.SMIME.Roots) == 0 && v.ok(key+".key_trust") {
		v.fault(key+".key_trust", "is below encrypt.min_trust (%s): what is found there would never be sealed to", v.c.Encrypt.MinTrust)
	}
	v.file(key+".ca", l.CA)
	v.file(key+".password_file", l.PasswordFile)
	if (l.Timeout < Duration(100*time.Millisecond) || l.Timeout > Duration(30*time.Second)) && v.ok(key+".timeout") {
		v.fault(key+".timeout", "must be between 100ms and 30s")
	}
	if (l.Every < Duration(time.Minute) || l.Every > 21*Duration(day)) && v.ok(key+".every") {
		v.fault(key+".every", "must be between 1m and 21d")
	}
	if l.MaxAge < l.Every && v.ok(key+".max_age") && v.ok(key+".every") {
		v.fault(key+".max_age", "must not be less than every: an answer would be too old before it is asked for again")
	}
	if l.SizeLimit < 1 && v.ok(key+".size_limit") {
		v.fault(key+".size_limit", "must be more than 0")
	}
	for i, d := range l.Domains {
		at := index(key+".domains", i)
		v.domain(at, d)
		if v.ok(at) && strings.EqualFold(d, v.c.Trust.PatientDomain) {
			v.fault(at, "%s is the patients' domain: no directory is asked about patients", d)
		}
	}
	if l.URL == "" {
		return
	}
	v.ldapURL(key+".url", l)
	if dn, err := ldap.ParseDN(l.Base); v.ok(key+".base") && (err != nil || len(dn.RDNs) == 0) {
		v.fault(key+".base", "%q is no distinguished name (ou=annuaire,dc=region,dc=example)", l.Base)
	}
	if fault := filterFault(l.Filter); fault != "" && v.ok(key+".filter") {
		v.fault(key+".filter", "%s", fault)
	}
	if name, value, eq := strings.Cut(l.MSS, "="); v.ok(key+".mss") && l.MSS != "*" && (!isAttribute(name) || eq && value == "") {
		v.fault(key+".mss", "must tell which entries are MSSante mailboxes: attribute, attribute=value, or * where all are")
	}
	switch {
	case l.Password != "" && l.PasswordFile != "":
		v.fault(key+".password_file", "password is set too: one of the two")
	case l.BindDN != "" && l.Password == "" && l.PasswordFile == "":
		v.fault(key+".bind_dn", "needs password or password_file: servers take an empty password for anonymous")
	case l.BindDN == "" && (l.Password != "" || l.PasswordFile != ""):
		v.fault(key+".bind_dn", "must be set: whose password is it")
	}
	a := reflect.ValueOf(l.Attributes)
	for _, f := range fieldsOf(a.Type()) {
		at, name := join(key+".attributes", f.name), a.Field(f.index).String()
		if (name != "" || f.name == "address") && v.ok(at) && !isAttribute(name) {
			v.fault(at, "%q is no name of an attribute", name)
		}
	}
}

func (v *validator) ldapURL(key string, l LDAP) {
	if !v.ok(key) {
		return
	}
	u, err := url.Parse(l.URL)
	switch {
	case err != nil || u.User != nil: // it may hold a password
		v.fault(key, "is no ldap://host:port or ldaps://host:port")
		return
	case u.Scheme != "ldap" && u.Scheme != "ldaps", u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		v.fault(key, "%q is no ldap://host:port or ldaps://host:port", l.URL)
		return
	}
	port := u.Port()
	if port == "" {
		port = "389"
	}
	if v.hostport(key, net.JoinHostPort(u.Hostname(), port)) && u.Scheme == "ldap" && !l.StartTLS && !l.Clear && !loopback(u.Hostname()) {
		v.fault("directory.ldap.start_tls", "false is for loopback: names and the password would cross the network in clear (clear: true insists)")
	}
}

// filterFault tells what is wrong with a filter (RFC 4515): %s stands once, as a value, and with it the filter compiles.
func filterFault(f string) string {
	at := strings.Index(f, "%s")
	switch {
	case strings.Count(f, "%s") != 1:
		return "must hold %s once, in the place of the address"
	case strings.LastIndexByte(f[:at], '(') > strings.LastIndexByte(f[:at], '='):
		return "%s must stand behind an =, as the value that is looked for"
	}
	if _, err := ldap.CompileFilter(strings.Replace(f, "%s", "a@b.example", 1)); err != nil {
		return "is no LDAP filter (&(objectClass=person)(mail=%s))"
	}
	return ""
}

// isAttribute tells whether s is an attribute description (RFC 4512 section 2.5): a name or an OID, with options.
func isAttribute(s string) bool {
	for _, c := range []byte(s) {
		if !(c == '-' || c == '.' || c == ';' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return false
		}
	}
	return s != ""
}
