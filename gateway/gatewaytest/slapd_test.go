package gatewaytest

import (
	"os/exec"
	"strings"
	"testing"
)

// TestSlapd: the server holds what Entry wrote, by the word of OpenLDAP's own client over verified StartTLS and LDAPS.
func TestSlapd(t *testing.T) {
	if testing.Short() {
		t.Skip("needs slapd")
	}
	if _, err := exec.LookPath("ldapsearch"); err != nil {
		t.Fatalf("install the Debian package ldap-utils: %v", err)
	}
	ca, err := NewCA("annuaire")
	if err != nil {
		t.Fatal(err)
	}
	s, err := StartSlapd(t.Context(), SlapdOptions{CA: ca, LDIF: Entry(`cn=Élodie\2C é,dc=region,dc=test`, "objectClass", "inetOrgPerson", "sn", " blank ", "mail", "a@b.test", "sn", "b")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, way := range [][]string{{"-ZZ", "-H", "ldap://" + s.Addr()}, {"-H", "ldaps://" + s.TLSAddr()}} {
		cmd := exec.CommandContext(t.Context(), "ldapsearch", append(way, "-x", "-LLL", "-D", SlapdAdmin+","+s.Suffix, "-w", SlapdPassword, "-b", s.Suffix, "(&(mail=a@b.test)(sn=b)(sn=blank))", "mail")...)
		cmd.Env = []string{"LDAPTLS_CACERT=" + s.CAFile()}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "mail: a@b.test") || strings.Count(string(out), "dn:") != 1 {
			t.Errorf("%s: %v\n%s", way, err, out)
		}
	}
}
