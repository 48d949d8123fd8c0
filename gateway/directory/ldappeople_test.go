package directory

import (
	"fmt"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// TestConformLDAP: the people of every source, told by a real slapd.
func TestConformLDAP(t *testing.T) {
	var entries []string
	for i, p := range people {
		class, pairs := "inetOrgPerson", []string{"title", p.title, "sn", p.last, "givenName", p.first, "uid", p.rpps, "description", p.profession}
		if p.kind == "ORG" {
			class, pairs = "organizationalRole", nil
		}
		postal, city, _ := strings.Cut(p.cityLine, " ")
		pairs = append(pairs, "o", p.structure, "departmentNumber", p.structureID, "postalCode", postal, "l", city)
		all := []string{"objectClass", class, "objectClass", "extensibleObject", "mail", p.address, "employeeType", p.kind, "businessCategory", "MSSANTE"}
		for j := 0; j < len(pairs); j += 2 {
			if pairs[j+1] != "" { // LDAP has no empty values
				all = append(all, pairs[j], pairs[j+1])
			}
		}
		entries = append(entries, gatewaytest.Entry(fmt.Sprintf("cn=p%d,dc=region,dc=test", i), all...))
	}
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)}, entries...)
	conform(t, openLDAP(t, ldapFor(s)).ask)
}
