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
	// %s is what was typed; the last ones are of Thunderbird's window of the address book and of a column search.
	programs := []string{
		"(&(objectclass=*)(|(cn=%s*)(mail=%s*)(sn=%s*)))",
		"(|(mail=*%s*)(cn=*%s*)(givenName=*%s*)(sn=*%s*))",
		"(&(|(objectclass=person)(objectclass=inetorgperson))(|(displayName=*%s*)(cn=*%s*)(givenName=*%s*)(sn=*%s*)(mozillaNickname=*%s*)(mail=*%s*)(mozillaSecondEmail=*%s*)(o=*%s*)))",
		"(&(mail=*)(|(mail=%s*)(|(cn=%s*)(|(sn=%s*)(|(givenName=%s*)(displayName=%s*))))))",
	}
	for _, c := range []struct{ typed, mail string }{
		{"le goffic", "e.legoffic@"}, {"goffic", "e.legoffic@"}, {"legoffic", "e.legoffic@"}, {"Erwan Le G", "e.legoffic@"}, {"LE GOFFIC Er", "e.legoffic@"},
		{"obrien", "mc@"}, {"o'brien", "mc@"}, {"o’bri", "mc@"}, {"marie claude", "mc@"}, {"claude o", "mc@"}, {"marieclaude", "mc@"},
		{"de la tour", "fdlt@"}, {"delatour", "fdlt@"}, {"latour", "fdlt@"}, {"tour", "fdlt@"}, {"françois de la", "fdlt@"}, {"francois tour", ""},
		{"saint martin", "p.sm@"}, {"st martin", "p.sm@"}, {"st-mart", "p.sm@"}, {"martin", "p.sm@"}, {"saintmartin", "p.sm@"},
		{"van den berghe", "lvdb@"}, {"vandenb", "lvdb@"}, {"vanden berghe", "lvdb@"}, {"stéph", "stephane.roy@"}, {"steph", "stephane.roy@"},
		{"hopital st louis", "imagerie.stlouis@"}, {"hôpital saint", "imagerie.stlouis@"}, {"imagerie.stlouis@aph", "imagerie.stlouis@"},
		{"imagerie.stlouis@aphp.mssante.fr", "imagerie.stlouis@"}, {"stephane.roy@medecin.m", "stephane.roy@"},
	} {
		for i, p := range programs {
			if turn.Add(1); c.typed == "francois tour" && i > 0 {
				continue
			}
			filter := strings.ReplaceAll(p, "%s", c.typed)
			cmd := exec.CommandContext(t.Context(), tool, "-LLL", "-x", "-o", "ldif-wrap=no", "-H", "ldap://"+ldap, "-b", "o=annuaire", filter, "mail")
			cmd.Env = []string{"LDAPNOINIT=1"}
			out, err := cmd.CombinedOutput()
			if n := strings.Count(string(out), "mail: "); err != nil || c.mail == "" && n != 0 || c.mail != "" && (n != 1 || !strings.Contains(string(out), "mail: "+c.mail)) {
				t.Errorf("%s: want %q: %v %s", filter, c.mail, err, out)
			}
		}
	}
}
