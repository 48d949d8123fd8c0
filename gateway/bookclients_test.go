package gateway_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// TestMailProgramsFind: what a secretary types into Thunderbird or Outlook, in the filters that these make of it, finds whom the page finds.
func TestMailProgramsFind(t *testing.T) {
	tool, err := exec.LookPath("ldapsearch")
	if err != nil {
		if testing.Short() {
			t.Skip("ldapsearch is not here")
		}
		t.Fatal("ldapsearch is needed: apt-get install ldap-utils")
	}
	ldap, file := freeAddr(t), filepath.Join(t.TempDir(), "extraction.txt")
	text := strings.Replace(withRules(plainRules), "hops:\n", fmt.Sprintf("  ldap: {addr: %q}\nhops:\n", ldap), 1) + "directory: {extraction: \"" + file + "\"}\n"
	var turn atomic.Int64
	begin := time.Now()
	custom(t, text, nil, func(h *house) {
		h.opts = append(h.opts, gateway.Clock(func() time.Time { return begin.Add(time.Duration(turn.Load()) * time.Minute) })) // no search waits for its turn
		if err := gatewaytest.WriteDirectory(file, gatewaytest.Doctor("e.legoffic@medecin.mssante.fr", "Erwan", "Le Goffic"), gatewaytest.Doctor("mc@medecin.mssante.fr", "Marie-Claude", "O'Brien"),
			gatewaytest.Doctor("fdlt@medecin.mssante.fr", "François", "De La Tour"), gatewaytest.Doctor("p.sm@medecin.mssante.fr", "Paul", "Saint-Martin"),
			gatewaytest.Doctor("lvdb@medecin.mssante.fr", "Luc", "Vandenberghe"), gatewaytest.Doctor("stephane.roy@medecin.mssante.fr", "Stéphane", "Roy"),
			gatewaytest.Hospital("imagerie.stlouis@aphp.mssante.fr", "HOPITAL SAINT-LOUIS")); err != nil {
			t.Fatal(err)
		}
	})
	whole := func(template string) func(string) string {
		return func(typed string) string { return strings.ReplaceAll(template, "%s", typed) }
	}
	programs := []func(typed string) string{
		whole("(&(mail=*)(|(mail=%s*)(|(cn=%s*)(|(sn=%s*)(|(givenName=%s*)(displayName=%s*))))))"), // Outlook
		whole("(|(mail=*%s*)(cn=*%s*)(givenName=*%s*)(sn=*%s*))"),
		func(typed string) string { // Thunderbird's ldap_2.autoComplete.filterTemplate, (|(cn=%v1*%v2-*)(mail=%v1*%v2-*)(sn=%v1*%v2-*))
			return whole("(&(objectclass=*)(|(cn=%s*)(mail=%s*)(sn=%s*)))")(strings.Replace(typed, " ", "*", 1))
		},
		func(typed string) string { // Thunderbird's mail.addr_book.autocompletequery.format: each word in one of these
			all := "(&(objectclass=*)(&"
			for _, word := range strings.Fields(typed) {
				all += whole("(|(cn=*%s*)(givenName=*%s*)(sn=*%s*)(mozillaNickname=*%s*)(mail=*%s*)(mozillaSecondEmail=*%s*)(description=*%s*))")(word)
			}
			return all + "))"
		},
	}
	words := len(programs) - 1
	for _, c := range []struct {
		typed, mail string
		apart       bool // found where the words are looked for one by one
	}{
		{"le goffic", "e.legoffic@", false}, {"goffic", "e.legoffic@", false}, {"legoffic", "e.legoffic@", false}, {"Erwan Le G", "e.legoffic@", false}, {"LE GOFFIC Er", "e.legoffic@", false},
		{"obrien", "mc@", false}, {"o'brien", "mc@", false}, {"o’bri", "mc@", false}, {"marie claude", "mc@", false}, {"claude o", "mc@", false}, {"marieclaude", "mc@", false},
		{"de la tour", "fdlt@", false}, {"delatour", "fdlt@", false}, {"latour", "fdlt@", false}, {"tour", "fdlt@", false}, {"françois de la", "fdlt@", false},
		{"saint martin", "p.sm@", false}, {"st martin", "p.sm@", false}, {"st-mart", "p.sm@", false}, {"martin", "p.sm@", false}, {"saintmartin", "p.sm@", false},
		{"van den berghe", "lvdb@", false}, {"vandenb", "lvdb@", false}, {"vanden berghe", "lvdb@", false}, {"stéph", "stephane.roy@", false}, {"steph", "stephane.roy@", false},
		{"hopital st louis", "imagerie.stlouis@", false}, {"hôpital saint", "imagerie.stlouis@", false}, {"imagerie.stlouis@aph", "imagerie.stlouis@", false},
		{"imagerie.stlouis@aphp.mssante.fr", "imagerie.stlouis@", false}, {"stephane.roy@medecin.m", "stephane.roy@", false},
		{"tour francois", "fdlt@", true}, {"roy lyon", "stephane.roy@", true}, {"lyon roy généraliste", "", true}, {"roy médecine lyon", "stephane.roy@", true}, {"roy paris", "", true},
	} {
		for i, p := range programs {
			if turn.Add(1); c.apart && i != words {
				continue
			}
			filter := p(c.typed)
			cmd := exec.CommandContext(t.Context(), tool, "-LLL", "-x", "-o", "ldif-wrap=no", "-H", "ldap://"+ldap, "-b", "o=annuaire", filter, "mail")
			cmd.Env = []string{"LDAPNOINIT=1"}
			out, err := cmd.CombinedOutput()
			if n := strings.Count(string(out), "mail: "); err != nil || c.mail == "" && n != 0 || c.mail != "" && (n != 1 || !strings.Contains(string(out), "mail: "+c.mail)) {
				t.Errorf("%s: want %q: %v %s", filter, c.mail, err, out)
			}
		}
	}
}
