package gateway_test

import (
	"regexp"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// The region's LDAP hears of the white list's addresses alone, or of those of its own domains; never of a patient, never of whom else the
// clinic writes to. Where a reload leaves another source in its place, its connections are closed.
func TestLDAPAskedAboutItsDomains(t *testing.T) {
	if testing.Short() {
		t.Skip("needs slapd")
	}
	region, err := gatewaytest.NewCA("region")
	must(t, err)
	s, err := gatewaytest.StartSlapd(t.Context(), gatewaytest.SlapdOptions{CA: region, LDIF: gatewaytest.Entry("cn=chef,dc=region,dc=test", "objectClass", "inetOrgPerson", "sn", "Roux",
		"mail", "chef@chu.test", "businessCategory", "MSSANTE")})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	h := newRemoteHouse(t, "ldap", "{url: \"ldap://"+s.Addr()+"\", base: \"dc=region,dc=test\", mss: businessCategory, ca: \""+s.CAFile()+"\", ask: mail, timeout: 6s, verifies: true}")
	ours := regexp.MustCompile(`conn=1001 fd=\d+ closed`) // conn=1000 waited for it to listen
	const patient = "269054958815780@patient.mssante.fr"
	everybody := []string{"first@peer.mssante.test", "chef@chu.test", "someone@dest.test", patient}
	hears := func(when string, want ...string) {
		t.Helper()
		before := len(s.LogText())
		for _, a := range everybody {
			h.explain(a)
		}
		var heard string
		until(t, when+": its log, which comes behind", func() bool {
			heard = s.LogText()[before:]
			return strings.Count(heard, "SEARCH RESULT") >= len(want)
		})
		for _, a := range everybody {
			asked := false
			for _, w := range want {
				asked = asked || w == a
			}
			if strings.Contains(heard, "(mail="+a+")") != asked {
				t.Errorf("%s: about %s: asked %t, want %t", when, a, !asked, asked)
			}
		}
	}
	hears("the white list's", "first@peer.mssante.test")
	h.reload(t, "mss: businessCategory,", "mss: businessCategory, domains: [chu.test, \"X.test\"],")
	hears("its own", "chef@chu.test")
	if a := h.explain("chef@chu.test"); a.Verdict != "verified" || a.Source != "ldap" {
		t.Errorf("%+v", a)
	}
	if a := h.explain("someone@dest.test"); a.Verdict != "not-listed" || len(a.Sources) != 1 {
		t.Errorf("whom it is not asked about: %+v", a)
	}
	closed := func() bool { return ours.MatchString(s.LogText()) }
	if closed() || strings.Contains(s.LogText(), "conn=1002") {
		t.Errorf("a reload that leaves the source as it is closed its connection:\n%s", s.LogText())
	}
	h.reload(t, "timeout: 6s", "timeout: 5s")
	until(t, "the connection of the former state is closed", closed)
	if a := h.explain("chef@chu.test"); a.Verdict != "verified" {
		t.Errorf("under the new state: %+v", a)
	}
}
