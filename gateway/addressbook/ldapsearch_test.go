package addressbook

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// client runs one of the real ldap-utils and gives its result code and the values of what it printed, by attribute.
func client(t *testing.T, program string, env []string, args ...string) (code int, values map[string][]string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if testing.Short() {
			t.Skip(program + " is not here")
		}
		t.Fatalf("%s is needed: apt-get install ldap-utils", program)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	if cmd.Env = env; env == nil {
		cmd.Env = []string{"LDAPNOINIT=1"} // no ldap.conf of this machine
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		exit := (*exec.ExitError)(nil)
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		code = exit.ExitCode()
		t.Logf("%s: %s", program, strings.TrimSpace(complaint.String()))
	}
	values = map[string][]string{}
	for line := range strings.Lines(out.String()) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ":")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if raw, is := strings.CutPrefix(value, ": "); is {
			text, err := base64.StdEncoding.DecodeString(raw)
			if err != nil {
				t.Fatal(err)
			}
			value = " " + string(text)
		}
		values[name] = append(values[name], strings.TrimPrefix(value, " "))
	}
	return code, values
}

func search(t *testing.T, addr string, args ...string) (int, map[string][]string) {
	t.Helper()
	return client(t, "ldapsearch", nil, append([]string{"-LLL", "-o", "ldif-wrap=no", "-x", "-H", "ldap://" + addr}, args...)...)
}

const jean = "jean.dupont@medecin.mssante.fr"

// TestClientsQueries are what mail programs send, as they send it.
func TestClientsQueries(t *testing.T) {
	addr := serve(t, newBook(t, newShelf()))
	thunderbird := []string{"cn", "commonname", "sn", "surname", "givenname", "mail", "o", "company", "ou", "department", "title", "l", "locality", "postalcode", "telephonenumber", "objectclass"}
	outlook := []string{"cn", "commonName", "mail", "roleOccupant", "display-name", "displayname", "sn", "surname", "co", "organizationName", "o", "givenName",
		"legacyExchangeDN", "objectClass", "uid", "mailNickname", "title", "company", "physicalDeliveryOfficeName", "telephoneNumber"}
	for _, c := range []struct {
		name, filter string
		ask          []string
		code         int
		mail         []string
	}{
		{"Thunderbird completes a word (autoComplete.filterTemplate)", "(&(objectclass=*)(|(cn=dupont*)(mail=dupont*)(sn=dupont*)))", thunderbird, 0, []string{jean}},
		{"Thunderbird completes two words", "(&(objectclass=*)(|(cn=jean*dup*)(mail=jean*dup*)(sn=jean*dup*)))", thunderbird, 0, []string{jean}},
		{"Thunderbird from version 78", "(&(|(objectclass=person)(objectclass=inetorgperson))(|(displayName=*dup*)(cn=*dup*)(givenName=*dup*)(sn=*dup*)(xmozillanickname=*dup*)(mail=*dup*)(mozillaSecondEmail=*dup*)))",
			thunderbird, 0, []string{jean, "marie.dupond@infirmier.mssante.fr"}},
		{"Thunderbird's address book window, two words", "(&(objectclass=*)(&(|(cn=*lefevre*)(givenname=*lefevre*)(sn=*lefevre*)(mail=*lefevre*))(|(cn=*helene*)(givenname=*helene*)(sn=*helene*)(mail=*helene*))))",
			thunderbird, 0, []string{"helene.lefevre-noel@medecin.mssante.fr"}},
		{"Thunderbird, a whole address", "(&(objectclass=*)(|(cn=jean.dupont@medecin.mssante.fr*)(mail=jean.dupont@medecin.mssante.fr*)(sn=jean.dupont@medecin.mssante.fr*)))", thunderbird, 0, []string{jean}},
		{"Thunderbird, the beginning of an address", "(&(objectclass=*)(|(cn=jean.dupont@med*)(mail=jean.dupont@med*)(sn=jean.dupont@med*)))", thunderbird, 0, []string{jean}},
		{"Outlook checks a name", "(&(mail=*)(|(mail=dupont*)(|(cn=dupont*)(|(sn=dupont*)(givenName=dupont*)))))", outlook, 0, []string{jean}},
		{"Outlook, display name", "(&(mail=*)(|(mail=jean dupont*)(cn=jean dupont*)(sn=jean dupont*)(givenName=jean dupont*)(displayName=jean dupont*)))", outlook, 0, []string{jean}},
		{"Outlook, surname first", "(&(mail=*)(|(mail=dupont je*)(cn=dupont je*)(sn=dupont je*)(givenName=dupont je*)))", outlook, 0, []string{jean}},
		{"Outlook against Exchange", "(&(mailnickname=*)(|(&(objectCategory=person)(objectClass=user))(anr=dupont)))", outlook, 0, []string{jean}},
		{"Outlook's details", "(&(mail=jean.dupont@medecin.mssante.fr)(objectClass=*))", outlook, 0, []string{jean}},
		{"accents typed", "(|(cn=Hélène*)(sn=Hélène*))", nil, 0, []string{"helene.lefevre-noel@medecin.mssante.fr"}},
		{"accents escaped (RFC 4515)", `(cn=h\c3\a9l\c3\a8ne lef\c3\a8vre*)`, nil, 0, []string{"helene.lefevre-noel@medecin.mssante.fr"}},
		{"accents not typed, no hyphen", "(sn=LEFEVRE NOEL)", nil, 0, []string{"helene.lefevre-noel@medecin.mssante.fr"}},
		{"an organisation", "(&(mail=*)(|(cn=chu de nan*)(sn=chu de nan*)))", nil, 0, []string{"urgences@chu-nantes.mssante.fr"}},
		{"by department and place", "(&(o=CHU*)(l=nantes))", nil, 0, []string{"urgences@chu-nantes.mssante.fr"}},
		{"escaped characters", `(sn=o'brien, <script>\28\2a)`, nil, 0, nil},
		{"a star that is a letter", `(cn=\2a\2a\2a)`, nil, 11, nil},
		{"not him", "(&(sn=dup*)(!(givenName=jean)))", nil, 0, []string{"marie.dupond@infirmier.mssante.fr"}},
		{"more than the limit", "(sn=martin)", nil, 4, slices.Repeat([]string{"*"}, 20)},
		{"two letters", "(|(cn=du*)(sn=du*))", nil, 4, nil},
		{"everybody", "(objectClass=*)", nil, 11, nil},
		{"everybody with an address", "(mail=*)", nil, 11, nil},
		{"everybody, said otherwise", "(|(sn=dupont)(cn=*))", nil, 11, nil},
		{"everybody but one", "(!(sn=dupont))", nil, 11, nil},
		{"a list of names", "(|(sn=aaa*)(sn=bbb*)(sn=ccc*)(sn=ddd*)(sn=eee*))", nil, 11, nil},
		{"an attribute that nobody has", "(telexNumber=123456)", nil, 0, nil},
		{"a matching rule", "(cn:caseExactMatch:=Jean Dupont)", nil, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, got := search(t, addr, append([]string{"-b", "o=annuaire", c.filter}, c.ask...)...)
			mails := got["mail"]
			slices.Sort(mails)
			if code != c.code || len(mails) != len(c.mail) || len(mails) != len(got["dn"]) || len(mails) > 0 && c.mail[0] != "*" && !slices.Equal(mails, c.mail) {
				t.Errorf("result %d, %q, want %d, %q", code, mails, c.code, c.mail)
			}
		})
	}
}

func TestEntry(t *testing.T) {
	addr := serve(t, newBook(t, newShelf()))
	_, got := search(t, addr, "-b", "o=annuaire", "(sn=dupont)")
	for name, want := range map[string][]string{
		"dn": {"mail=" + jean + ",o=annuaire"}, "objectClass": {"top", "person", "organizationalPerson", "inetOrgPerson"}, "cn": {"Jean Dupont", "Dupont Jean"},
		"sn": {"Dupont"}, "givenName": {"Jean"}, "displayName": {"Jean Dupont"}, "mail": {jean}, "title": {"Médecin, Cardiologie"},
		"o": {"Cabinet des Lilas", "Clinique du Parc"}, "description": {"Médecin, Cardiologie, Cabinet des Lilas, 69003 Lyon", "Médecin, Cardiologie, Clinique du Parc, 69100 Villeurbanne"}, "l": {"Lyon", "Villeurbanne"}, "postalCode": {"69003", "69100"},
	} {
		if !slices.Equal(got[name], want) {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if _, got = search(t, addr, "-b", "o=annuaire", "(sn=dupont)", "mailNickname", "company"); got["mailNickname"][0] != "jean.dupont" || len(got["company"]) != 2 || len(got) != 3 {
		t.Errorf("by other names: %q", got)
	}
	if _, got = search(t, addr, "-b", "o=annuaire", "-A", "(sn=dupont)", "mail"); len(got["mail"]) != 1 || got["mail"][0] != "" {
		t.Errorf("types only: %q", got)
	}
	if _, got = search(t, addr, "-b", "o=annuaire", "(sn=dupont)", "1.1"); len(got) != 1 {
		t.Errorf("no attributes: %q", got)
	}
	if _, got = search(t, addr, "-b", "o=annuaire", "(cn=chu de nantes - urg*)", "displayName", "ou"); !slices.Equal(got["displayName"], []string{"CHU de Nantes - Urgences"}) || got["ou"][0] != "Urgences" {
		t.Errorf("an organisation: %q", got)
	}
	// Read again by its name, as "properties" of an entry do; a name that needs escapes too.
	for _, dn := range []string{"mail=" + jean + ",o=annuaire", "MAIL=" + jean + ", O=Annuaire", `mail=o'brien\+x@medecin.mssante.fr,o=annuaire`, `mail=o'brien\2bx@medecin.mssante.fr,o=annuaire`} {
		if code, got := search(t, addr, "-s", "base", "-b", dn, "(objectClass=*)"); code != 0 || len(got["mail"]) != 1 {
			t.Errorf("%s: %d %q", dn, code, got)
		}
	}
	if code, got := search(t, addr, "-s", "base", "-b", `mail=jean.dupond@medecin.mssante.fr,o=annuaire`, "(objectClass=*)"); len(got["mail"]) != 0 {
		t.Errorf("a near miss: %d %q", code, got)
	}
	if code, _ := search(t, addr, "-b", "dc=other", "(sn=dupont)"); code != 32 {
		t.Errorf("another base: %d", code)
	}
	if code, got := search(t, addr, "-b", "", "(sn=dupont)"); code != 0 || len(got["mail"]) != 1 {
		t.Errorf("no base: %d", code)
	}
}

func TestWhatTheServerSays(t *testing.T) {
	addr := serve(t, newBook(t, newShelf(), func(c *Config) { c.Base = "dc=clinique, dc=example" }))
	code, got := search(t, addr, "-s", "base", "-b", "", "(objectClass=*)", "+")
	if code != 0 || !slices.Equal(got["namingContexts"], []string{"dc=clinique, dc=example"}) || got["supportedLDAPVersion"][0] != "3" || got["subschemaSubentry"][0] != "cn=Subschema" ||
		!slices.Equal(got["supportedControl"], []string{"1.2.840.113556.1.4.319"}) || got["supportedExtension"] != nil {
		t.Errorf("root: %d %q", code, got)
	}
	if _, got = search(t, addr, "-s", "base", "-b", ""); len(got["namingContexts"]) != 0 || got["objectClass"][0] != "top" {
		t.Errorf("root without operational attributes: %q", got)
	}
	if _, got = search(t, addr, "-s", "base", "-b", "cn=subschema", "(objectClass=subschema)", "objectClasses", "attributeTypes"); len(got["objectClasses"]) != 4 || len(got["attributeTypes"]) != 12 {
		t.Errorf("schema: %q", got)
	}
	if _, got = search(t, addr, "-s", "base", "-b", "DC=clinique,DC=example", "(objectClass=*)"); !slices.Equal(got["objectClass"], []string{"top", "domain"}) || got["dc"][0] != "clinique" {
		t.Errorf("base: %q", got)
	}
	if code, got = search(t, addr, "-b", "dc=clinique,dc=example", "(sn=dupont)"); code != 0 || !strings.HasSuffix(got["dn"][0], ",dc=clinique, dc=example") {
		t.Errorf("below it: %d %q", code, got)
	}
}

// TestNoWalk: no size, page or cookie leads past the first twenty.
func TestNoWalk(t *testing.T) {
	addr := serve(t, newBook(t, newShelf()))
	for _, c := range []struct {
		args []string
		code int
		n    int
	}{
		{[]string{"-z", "5"}, 4, 5},
		{[]string{"-z", "1000"}, 4, 20},
		{[]string{"-E", "pr=7/noprompt"}, 4, 7},
		{[]string{"-E", "!pr=500/noprompt"}, 4, 20},
		{[]string{"-E", "!sss=cn"}, 12, 0},
		{[]string{"-E", "sss=cn"}, 4, 20},
		{[]string{"-E", "!vlv=0/10/1/0", "-E", "sss=cn"}, 12, 0},
	} {
		if code, got := search(t, addr, append(c.args, "-b", "o=annuaire", "(sn=martin)", "mail")...); code != c.code || len(got["mail"]) != c.n {
			t.Errorf("%q: %d, %d entries", c.args, code, len(got["mail"]))
		}
	}
}

func TestNothingElse(t *testing.T) {
	addr := serve(t, newBook(t, newShelf()))
	run := func(want int, program string, args ...string) {
		t.Helper()
		if code, _ := client(t, program, nil, append([]string{"-x", "-H", "ldap://" + addr}, args...)...); code != want {
			t.Errorf("%s %q: %d, want %d", program, args, code, want)
		}
	}
	run(53, "ldapsearch", "-D", "cn=admin", "-w", "secret", "-b", "o=annuaire", "(sn=dupont)") // a password is not ignored
	run(53, "ldapdelete", "mail="+jean+",o=annuaire")
	run(53, "ldapmodrdn", "mail="+jean+",o=annuaire", "mail=x")
	run(53, "ldapcompare", "mail="+jean+",o=annuaire", "sn:dupont")
	run(1, "ldapwhoami") // whatever the result
	run(2, "ldapsearch", "-P", "2", "-b", "o=annuaire", "(sn=dupont)")
	run(1, "ldapsearch", "-ZZ", "-b", "o=annuaire", "(sn=dupont)") // no certificate
}

func TestTLS(t *testing.T) {
	conf, ca := certificate(t)
	env := []string{"HOME=/nonexistent", "LDAPTLS_CACERT=" + ca} // LDAPNOINIT would hide it
	b := newBook(t, newShelf())
	addr := serve(t, b, func(c *ServerConfig) { c.TLS = conf })
	args := []string{"-LLL", "-x", "-b", "o=annuaire", "(sn=dupont)", "mail"}
	if code, got := client(t, "ldapsearch", env, append([]string{"-ZZ", "-H", "ldap://" + addr}, args...)...); code != 0 || len(got["mail"]) != 1 {
		t.Errorf("StartTLS: %d %q", code, got)
	}
	if _, got := search(t, addr, "-s", "base", "-b", "", "+"); !slices.Equal(got["supportedExtension"], []string{"1.3.6.1.4.1.1466.20037"}) {
		t.Errorf("not offered: %q", got)
	}
	addr = serve(t, b, func(c *ServerConfig) { c.TLS, c.ImplicitTLS = conf, true })
	if code, got := client(t, "ldapsearch", env, append([]string{"-H", "ldaps://" + addr}, args...)...); code != 0 || len(got["mail"]) != 1 {
		t.Errorf("LDAPS: %d %q", code, got)
	}
	if code, _ := search(t, addr, "-b", "o=annuaire", "(sn=dupont)"); code == 0 {
		t.Error("clear text on the LDAPS port was answered")
	}
}
