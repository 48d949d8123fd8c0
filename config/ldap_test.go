package config

import (
	"strings"
	"testing"
	"time"
)

// TestLDAP: the example of docs/operations.md loads and leaves the defaults in place.
func TestLDAP(t *testing.T) {
	c := parse(t, small+`
directory:
  ldap:
    url: ldap://annuaire.region.example
    ca: /etc/passerelle/region-ca.pem
    base: ou=annuaire,dc=region,dc=example
    filter: (&(objectClass=person)(mail=%s))
    mss: typeMessagerie=MSSANTE
    bind_dn: cn=passerelle,ou=services,dc=region,dc=example
    password_file: /etc/passerelle/ldap.password
    attributes: {rpps: numeroRPPS, profession: title, structure_id: finess, city: ""}
`, noenv)
	l := c.Directory.LDAP
	if !l.StartTLS || l.Clear || l.Ask != "background" || l.Timeout != Duration(2*time.Second) || l.SizeLimit != 20 || l.Attributes.Address != "mail" ||
		l.Attributes.LastName != "sn" || l.Attributes.RPPS != "numeroRPPS" || l.Attributes.City != "" {
		t.Errorf("%+v", l)
	}
}

// TestLDAPOneFault: each change to a good directory is told once, at its key, or is none.
func TestLDAPOneFault(t *testing.T) {
	for change, key := range map[string]string{
		`url: "ldap://annuaire.test"`: "", `url: "ldaps://annuaire.test:636/"`: "", `url: "ldap://[::1]:3890"`: "", `url: "${NONE:-}"`: "",
		`url: "ldap://annuaire.test", start_tls: false`: "start_tls", `url: "ldap://annuaire.test", start_tls: false, clear: true`: "",
		`url: "ldap://127.0.0.1", start_tls: false`: "", `url: "ldap://localhost", start_tls: false`: "", `url: "ldaps://annuaire.test", start_tls: false`: "",
		`url: "https://annuaire.test"`: "url", `url: "ldap://"`: "url", `url: "ldap://a.test/dc=x"`: "url", `url: "ldap://a.test:99999"`: "url", `url: "ldapi://%2Frun"`: "url",
		`filter: "(mail=%s)"`: "", `filter: "(mail:caseExactMatch:=%s)"`: "", `filter: "(proxyAddresses=smtp:%s)"`: "", `filter: "(|(mail=%s))"`: "",
		`filter: ""`: "filter", `filter: "(mail=x)"`: "filter", `filter: "mail=%s"`: "filter", `filter: "(mail=%s"`: "filter", `filter: "(%s)"`: "filter",
		`filter: "(%s=x)"`: "filter", `filter: "(&(mail=x)(%s=x))"`: "filter",
		`base: "o=Région"`: "", `base: "annuaire"`: "base", `base: ""`: "base", `base: "dc=a,,"`: "base",
		`mss: "*"`: "", `mss: type`: "", `mss: "=x"`: "mss", `mss: ""`: "mss", `mss: "a b"`: "mss",
		`attributes: {title: "a;lang-fr"}`: "", `attributes: {title: "2.5.4.12"}`: "", `attributes: {title: "a b"}`: "attributes.title", `attributes: {address: ""}`: "attributes.address",
		`bind_dn: cn=x`: "bind_dn", `password: x`: "bind_dn", `bind_dn: cn=x, password: x`: "", `bind_dn: cn=x, password: x, password_file: /x`: "password_file",
		`timeout: 50ms`: "timeout", `size_limit: -1`: "size_limit", `ask: Mail`: "ask",
		`domains: [chu.test, x.y.test]`: "", `domains: ["*"]`: "domains[0]", `domains: [chu.test, "@x.test"]`: "domains[1]", `domains: [Patient.mssante.fr]`: "domains[0]",
	} {
		set := map[string]string{"url": `"ldap://a.test"`, "base": "dc=x", "mss": "type"}
		var lines []string
		for k, v := range set {
			if !strings.HasPrefix(change, k+":") {
				lines = append(lines, k+": "+v)
			}
		}
		_, err := Parse("t.yaml", []byte(small+"directory: {ldap: {"+strings.Join(append(lines, change), ", ")+"}}\n"), noenv, anyFile)
		switch faults, _ := err.(Faults); {
		case key == "" && err != nil:
			t.Errorf("%s: %v", change, err)
		case key != "" && (len(faults) != 1 || faults[0].Key != "directory.ldap."+key):
			t.Errorf("%s: %v, want one fault at %s", change, err, key)
		}
	}
}
