package trust_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/trust"
)

func addr(t *testing.T, s string) message.Address {
	t.Helper()
	a, err := message.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const table = `adresse;bal;type;titre;prénom;nom;entité;libellé;délégués
dr.martin@clinic.test;jean.martin@clinic.mss.test;PER;Dr;Jean;Martin;Cardiologie;;marie@clinic.test,zoe@clinic.test
secretariat@clinic.test;cardio@clinic.mss.test;ORG;;;;"Secrétariat ""Cardio"" <1>";;
marie@clinic.test;cardio@clinic.mss.test;ORG;;;;Cardiologie;;
dpi@clinic.test;dpi@clinic.mss.test;APP;;;;;Dossier patient;
rh@clinic.test;-;;;;;;;
stage@clinic.test;;;;;;;;
`

func identities(t *testing.T, change func(*trust.IdentityConfig)) *trust.Identities {
	t.Helper()
	file := filepath.Join(t.TempDir(), "identities.csv")
	if err := os.WriteFile(file, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := trust.IdentityConfig{Table: file, Pattern: "{local}@clinic.mss.test", Domains: []string{"clinic.test", "old.clinic.test"},
		Mailboxes:     map[string]string{"rh@clinic.test": "rh@clinic.mss.test", "labo@clinic.test": "labo@clinic.mss.test"},
		Delegates:     map[string][]string{"Paul@clinic.test": {"marie@clinic.test"}, "dr.martin@clinic.test": {"luc@clinic.test"}},
		ClinicDomains: []string{"clinic.test", "old.clinic.test", "other.test"}, OwnDomains: []string{"clinic.mss.test"}}
	if change != nil {
		change(&cfg)
	}
	x, err := trust.NewIdentities(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// Out and back: an address, its mailbox, and where that mailbox's mail goes.
func TestAccounts(t *testing.T) {
	x := identities(t, nil)
	for _, c := range []struct{ address, mailbox, by, label, back string }{
		{"Dr.Martin@clinic.test", "jean.martin@clinic.mss.test", "table", "Dr_Jean_MARTIN_Cardiologie", "dr.martin@clinic.test"},
		{"secretariat@clinic.test", "cardio@clinic.mss.test", "table", "Secrétariat Cardio 1", "secretariat@clinic.test"},
		{"marie@clinic.test", "cardio@clinic.mss.test", "table", "Cardiologie", "secretariat@clinic.test"},
		{"dpi@clinic.test", "dpi@clinic.mss.test", "table", "Dossier patient", "dpi@clinic.test"},
		{"labo@clinic.test", "labo@clinic.mss.test", "table", "", "labo@clinic.test"},
		{"Paul@clinic.test", "paul@clinic.mss.test", "pattern", "", "paul@clinic.test"},
		{"paul@old.clinic.test", "paul@clinic.mss.test", "pattern", "", "paul@clinic.test"},
		{"jean.martin@clinic.mss.test", "jean.martin@clinic.mss.test", "own address", "Dr_Jean_MARTIN_Cardiologie", "dr.martin@clinic.test"},
		{"rh@clinic.test", "", "table", "", ""}, // refused by the table: neither the config nor the pattern gives it one
		{"stage@clinic.test", "", "table", "", ""},
		{"paul@other.test", "", "", "", ""},
		{"fran\u212a@clinic.test", "", "pattern", "", ""},  // the Kelvin sign is no k
		{"jean.martin@clinic.test", "", "pattern", "", ""}, // the table gives that mailbox to dr.martin
		{"cardio@old.clinic.test", "", "pattern", "", ""},
		{"Rh@old.clinic.test", "", "table", "", ""}, // a local part is one person in each domain of the pattern
		{"dr.martin@old.clinic.test", "", "table", "", ""},
		{"DPI@old.clinic.test", "dpi@clinic.mss.test", "pattern", "", "dpi@clinic.test"},
		{"a+b@clinic.test", "", "pattern", "", ""},
		{"postmaster@clinic.test", "", "pattern", "", ""},
		{"paul@sub.clinic.test", "", "", "", ""},
		{"paul@dest.test", "", "", "", ""},
	} {
		got, ok := x.Of(addr(t, c.address))
		if ok != (c.mailbox != "") || got.Mailbox.String() != c.mailbox || got.By != c.by || got.Label != c.label {
			t.Errorf("%s: %+v %t", c.address, got, ok)
			continue
		}
		if c.mailbox == "" {
			continue
		}
		if back, _ := x.Internal(got.Mailbox); back.String() != c.back {
			t.Errorf("%s: mail goes to %s, want %s", c.mailbox, back, c.back)
		}
	}
	for _, mailbox := range []string{"rh@clinic.mss.test", "stage@clinic.mss.test", "dr.martin@clinic.mss.test", "a+b@clinic.mss.test", "postmaster@clinic.mss.test", "paul@dest.test", "paul@clinic.test"} {
		if back, ok := x.Internal(addr(t, mailbox)); ok {
			t.Errorf("%s: mail goes to %s, want nobody", mailbox, back)
		}
	}
}

func TestWritesAs(t *testing.T) {
	x := identities(t, nil)
	for _, c := range []struct{ name, envelope, author, sender, login, want string }{
		{"himself", "dr.martin@clinic.test", "dr.martin@clinic.test", "", "", "as jean.martin@clinic.mss.test by table for dr.martin@clinic.test"},
		{"no From", "dr.martin@clinic.test", "", "", "", "as jean.martin@clinic.mss.test by table for dr.martin@clinic.test"},
		{"Sender names the secretary", "dr.martin@clinic.test", "dr.martin@clinic.test", "marie@clinic.test", "", "as jean.martin@clinic.mss.test by table for dr.martin@clinic.test, written by marie@clinic.test / cardio@clinic.mss.test"},
		{"the envelope names her", "marie@clinic.test", "dr.martin@clinic.test", "", "", "as jean.martin@clinic.mss.test by table for dr.martin@clinic.test, written by marie@clinic.test / cardio@clinic.mss.test"},
		{"the login names her", "dr.martin@clinic.test", "dr.martin@clinic.test", "", "Marie@clinic.test", "as jean.martin@clinic.mss.test by table for dr.martin@clinic.test, written by Marie@clinic.test / cardio@clinic.mss.test"},
		{"a delegate without mailbox", "luc@clinic.test", "dr.martin@clinic.test", "", "", "as jean.martin@clinic.mss.test by table for dr.martin@clinic.test, written by luc@clinic.test / luc@clinic.mss.test"},
		{"a delegate by pattern", "zoe@clinic.test", "jean.martin@clinic.mss.test", "", "", "as jean.martin@clinic.mss.test by own address, written by zoe@clinic.test / zoe@clinic.mss.test"},
		{"for who has the pattern", "marie@clinic.test", "paul@clinic.test", "", "", "as paul@clinic.mss.test by pattern for paul@clinic.test, written by marie@clinic.test / cardio@clinic.mss.test"},
		{"a shared mailbox", "marie@clinic.test", "secretariat@clinic.test", "", "", "as cardio@clinic.mss.test by table for secretariat@clinic.test, written by marie@clinic.test"},
		{"by the mailbox's name", "marie@clinic.test", "cardio@clinic.mss.test", "", "", "as cardio@clinic.mss.test by own address, written by marie@clinic.test"},
		{"envelope is the mailbox", "jean.martin@clinic.mss.test", "dr.martin@clinic.test", "", "", "as jean.martin@clinic.mss.test by table for dr.martin@clinic.test"},
		{"none", "dr@other.test", "dr@other.test", "", "", "no-mailbox"},
		{"from elsewhere", "dr.martin@clinic.test", "marie@dest.test", "", "", "foreign"},
		{"refused", "rh@clinic.test", "rh@clinic.test", "", "", "refused"},
		{"no delegate", "paul@clinic.test", "dr.martin@clinic.test", "", "", "not-delegate"},
		{"one of two is none", "marie@clinic.test", "dr.martin@clinic.test", "paul@clinic.test", "", "not-delegate"},
		{"the login is none", "dr.martin@clinic.test", "dr.martin@clinic.test", "", "paul@clinic.test", "not-delegate"},
		{"delegation has no way back", "dr.martin@clinic.test", "zoe@clinic.test", "", "", "not-delegate"},
		{"nor does it go on", "luc@clinic.test", "paul@clinic.test", "", "", "not-delegate"},
		{"a stranger", "x@dest.test", "dr.martin@clinic.test", "", "", "not-delegate"},
		{"a mailbox of another", "cardio@clinic.mss.test", "dr.martin@clinic.test", "", "", "not-delegate"},
	} {
		as, refusal := x.WritesAs(trust.Writing{Envelope: addr(t, c.envelope), Author: addr(t, c.author), Sender: addr(t, c.sender), Login: addr(t, c.login)})
		got := refusal
		if refusal == "" {
			got = as.String()
			if !as.Sender.IsNull() {
				got += " / " + as.Sender.String()
			}
		}
		if got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestLabel(t *testing.T) {
	for _, c := range []struct{ kind, title, first, last, entity, want string }{
		{"PER", "Dr", "Jean", "Martin", "", "Dr_Jean_MARTIN"},
		{"PER", "", "", "Lefèvre", "", "LEFÈVRE"},
		{"PER", "Dr", "Jean", "", "Cardio", ""},
		{"PER", "Pr", "Anne\r\nMarie", "<Le \"Gall\">", "CH\tX", "Pr_Anne Marie_LE GALL_CH X"},
		{"ORG", "Dr", "Jean", "Martin", "Laboratoire", "Laboratoire"},
		{"APP", "", "", "", "", ""},
	} {
		if got := trust.Label(c.kind, c.title, c.first, c.last, c.entity); got != c.want {
			t.Errorf("%v: %q", c, got)
		}
	}
}

// A changed table counts once it stood for a second; a broken one leaves the last good one in force.
func TestTableIsReadAgain(t *testing.T) {
	now := time.Now()
	var file string
	x := identities(t, func(c *trust.IdentityConfig) {
		file, c.Pattern, c.Now = c.Table, "", func() time.Time { return now }
	})
	has := func() bool { _, ok := x.Of(addr(t, "new@clinic.test")); return ok }
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	turn := func() { now = now.Add(time.Second); has() }
	write(table + "new@clinic.test;new@clinic.mss.test;;;;;;;\n")
	if turn(); has() {
		t.Error("taken at the first look")
	}
	if turn(); !has() {
		t.Error("not taken")
	}
	write(table + "new@clinic.test;new@elsewhere.test;;;;;;;\n")
	turn()
	turn()
	if !has() || x.Fault() == nil || !strings.Contains(x.Fault().Error(), "identities.csv:8") {
		t.Errorf("a broken table: %t, %v", has(), x.Fault())
	}
	write(table)
	turn()
	turn()
	if has() || x.Fault() != nil {
		t.Errorf("mended: %t, %v", has(), x.Fault())
	}
}

func TestTableFaults(t *testing.T) {
	for _, c := range []trust.IdentityConfig{{Mailboxes: map[string]string{"Rh@clinic.test": "rh@clinic.mss.test", "rh@clinic.test": "-"}},
		{Delegates: map[string][]string{"Dr@clinic.test": {"a@clinic.test"}, "dr@clinic.test": {"b@clinic.test"}}}} {
		c.ClinicDomains, c.OwnDomains = []string{"clinic.test"}, []string{"clinic.mss.test"}
		if _, err := trust.NewIdentities(c); err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("one address in two cases of letters: %v", err)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"", "first row"},
		{"adresse;bal;x\n", `"x"`},
		{"adresse;adresse\n", "twice"},
		{"adresse;nom\n", "must be there"},
		{"adresse;bal\na@dest.test;a@clinic.mss.test\n", ":2: the address is in none of clinic.domains"},
		{"adresse;bal\na@clinic.test;a@dest.test\n", "none of trust.own_domains"},
		{"adresse;bal\na@clinic.test;-\nA@clinic.test;a@clinic.mss.test\n", ":3: the address has a row already"},
		{"adresse;bal;type\na@clinic.test;-;X\n", "none of PER"},
		{"adresse;bal;delegues\na@clinic.test;-;b\n", "delegate"},
		{"adresse;bal\na@clinic.test\n", "wrong number of fields"},
	} {
		file := filepath.Join(t.TempDir(), "t.csv")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := trust.NewIdentities(trust.IdentityConfig{Table: file, ClinicDomains: []string{"clinic.test"}, OwnDomains: []string{"clinic.mss.test"}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
}
