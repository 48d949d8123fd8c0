package directory

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

// ldapCA signs all test servers; strangers know another.
var ldapCA = sync.OnceValues(func() (*gatewaytest.CA, error) { return gatewaytest.NewCA("annuaire") })

// slapd runs a real server with these entries below dc=region,dc=test.
func slapd(t *testing.T, opt gatewaytest.SlapdOptions, entries ...string) *gatewaytest.Slapd {
	t.Helper()
	if testing.Short() {
		t.Skip("needs slapd")
	}
	opt.LDIF += strings.Join(entries, "")
	s, err := gatewaytest.StartSlapd(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func authority(t *testing.T) *gatewaytest.CA {
	t.Helper()
	ca, err := ldapCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// doctor is an entry as a region might have it: inetOrgPerson, with the marks that ldapFor maps.
func doctor(cn, mail string, more ...string) string {
	return gatewaytest.Entry("cn="+cn+",dc=region,dc=test", append([]string{"objectClass", "inetOrgPerson", "objectClass", "extensibleObject", "sn", "Doe",
		"mail", mail, "businessCategory", "MSSANTE"}, more...)...)
}

// ldapFor reads those entries from s, bound as the administrator over StartTLS.
func ldapFor(s *gatewaytest.Slapd) LDAPConfig {
	return LDAPConfig{URL: "ldap://" + s.Addr(), Base: s.Suffix, Filter: "(&(objectClass=*)(mail=%s))", MSS: "businessCategory=mssante",
		BindDN: gatewaytest.SlapdAdmin + "," + s.Suffix, Password: gatewaytest.SlapdPassword, StartTLS: true, CA: s.CAFile(), Timeout: 5 * time.Second,
		Attributes: LDAPAttributes{Address: "mail", Kind: "employeeType", Title: "title", LastName: "sn", FirstName: "givenName", RPPS: "uid",
			Profession: "description", Speciality: "audio", Structure: "o", StructureID: "departmentNumber", Service: "ou", City: "l",
			PostalCode: "postalCode", RedList: "roomNumber", Inactive: "carLicense"}}
}

func openLDAP(t *testing.T, cfg LDAPConfig) remote {
	t.Helper()
	l, err := newLDAP(cfg, fixed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	return l
}

// found asks and wants n records.
func found(t *testing.T, l remote, a string, n int) []Record {
	t.Helper()
	recs, err := l.ask(t.Context(), address(t, a))
	if err != nil || len(recs) != n {
		t.Fatalf("%s: %d records, %v; want %d", a, len(recs), err, n)
	}
	return recs
}

const late = "deadline exceeded" // whatever met it first says it in its own words

// unasked wants an error that says why, and shows neither who was asked about nor the password.
func unasked(t *testing.T, l remote, a, why string) {
	t.Helper()
	recs, err := l.ask(t.Context(), address(t, a))
	if err == nil || recs != nil {
		t.Fatalf("%s: %d records, %v; want an error", a, len(recs), err)
	}
	if !strings.Contains(err.Error(), why) && !(why == late && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(err.Error(), "i/o timeout"))) {
		t.Errorf("error is %q, want %q in it", err, why)
	}
	local, _, _ := strings.Cut(a, "@")
	if text := fmt.Sprintf("%v %+v", err, errors.Unwrap(err)); strings.Contains(text, local) || strings.Contains(text, gatewaytest.SlapdPassword) {
		t.Errorf("error tells too much: %s", text)
	}
}

func TestLDAPFields(t *testing.T) {
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)},
		doctor(`Élodie (Lys\2C Marie) \2A`, "Elodie.LYS@Medecin.mssante.test", "title", "DR", "givenName", "Élodie", "uid", "10003456789", "employeeType", "per",
			"description", "Médecin", "audio", "\xff\xfecardio\x00", "o", "CABINET (DU * PONT)", "departmentNumber", "750000001", "ou", "Cardiologie", "l", "PARIS", "postalCode", "75012"),
		doctor("two", "deux@medecin.mssante.test", "mail", "Trois@medecin.mssante.test", "sn", "Second", "uid", "1", "uid", "2", "roomNumber", "true", "carLicense", "TRUE"),
		gatewaytest.Entry("cn=accueil,dc=region,dc=test", "objectClass", "organizationalRole", "objectClass", "extensibleObject", "mail", "accueil@chu.mssante.test",
			"o", "CHU", "businessCategory", "mssante"),
		gatewaytest.Entry("cn=odd,dc=region,dc=test", "objectClass", "organizationalRole", "objectClass", "extensibleObject", "mail", "odd@chu.mssante.test",
			"o", "CHU", "employeeType", "médecin", "businessCategory", "mssante", "businessCategory", "other"))
	for _, way := range []string{"StartTLS", "LDAPS", "clear on loopback", "anonymous"} {
		t.Run(way, func(t *testing.T) {
			cfg := ldapFor(s)
			switch way {
			case "LDAPS":
				cfg.URL = "ldaps://" + s.TLSAddr()
			case "clear on loopback":
				cfg.StartTLS, cfg.CA = false, ""
			case "anonymous":
				cfg.BindDN, cfg.Password = "", ""
			}
			l := openLDAP(t, cfg)
			got := found(t, l, "elodie.lys@medecin.mssante.test", 1)[0]
			want := Record{Address: "elodie.lys@medecin.mssante.test", Kind: "PER", Title: "DR", FirstName: "Élodie", LastName: "Doe", IDType: "RPPS", ID: "10003456789",
				Profession: "Médecin", Speciality: "\ufffdcardio", Structure: "CABINET (DU * PONT)", StructureID: "750000001", Service: "Cardiologie", City: "PARIS",
				PostalCode: "75012", Source: "ldap", AsOf: day}
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			for _, a := range []string{"deux@medecin.mssante.test", "TROIS@MEDECIN.mssante.test"} {
				r := found(t, l, a, 1)[0]
				if r.Address != strings.ToLower(a) || r.ID != "" || len(r.Flags) != 1 || r.Flags[0] != "rpps-several" || !r.RedList || !r.Inactive ||
					!strings.Contains(r.LastName, "; ") {
					t.Errorf("%s: %+v", a, r)
				}
			}
			if r := found(t, l, "accueil@chu.mssante.test", 1)[0]; r.Kind != "" { // kind is mapped, and the entry has none
				t.Errorf("kind %q was guessed", r.Kind)
			}
			if r := found(t, l, "odd@chu.mssante.test", 1)[0]; r.Kind != "" {
				t.Errorf("kind %q is none", r.Kind)
			}
			found(t, l, "personne@medecin.mssante.test", 0)
			if recs, err := l.ask(t.Context(), message.Address{}); err != nil || recs != nil {
				t.Errorf("null sender: %v, %v", recs, err)
			}
		})
	}
	cfg := ldapFor(s)
	cfg.Attributes.Kind, cfg.PasswordFile = "", filepath.Join(t.TempDir(), "password")
	writeFile(t, cfg.PasswordFile, gatewaytest.SlapdPassword+"\n")
	l := openLDAP(t, cfg)
	if a, b := found(t, l, "accueil@chu.mssante.test", 1)[0].Kind, found(t, l, "deux@medecin.mssante.test", 1)[0].Kind; a != "ORG" || b != "PER" {
		t.Errorf("kinds %q, %q", a, b)
	}
}

// TestLDAPKeys: certificates and OpenPGP keys of an entry come as they are, with and without ";binary", few and small.
func TestLDAPKeys(t *testing.T) {
	ca := authority(t)
	issued, err := ca.IssueLocal(pkix.Name{CommonName: "Dr Doe"})
	if err != nil {
		t.Fatal(err)
	}
	der, pgp := string(issued.Cert.Raw), "\x99\x00binary\xff key"
	many := []string{"userCertificate;binary", der}
	for i := range 12 {
		many = append(many, "audio", fmt.Sprintf("\x99 key %02d", i))
	}
	s := slapd(t, gatewaytest.SlapdOptions{CA: ca},
		doctor("one", "one@a.test", "userCertificate;binary", der, "audio", pgp),
		doctor("many", "many@a.test", many...),
		doctor("large", "large@a.test", "audio", strings.Repeat("x", maxEntryKey+1)),
		doctor("none", "none@a.test"))
	for _, name := range []string{"userCertificate;binary", "userCertificate", "USERCERTIFICATE;BINARY"} {
		cfg := ldapFor(s)
		cfg.Attributes.Certificate, cfg.Attributes.OpenPGPKey, cfg.Attributes.Speciality = name, "audio", ""
		l := openLDAP(t, cfg)
		if got := found(t, l, "one@a.test", 1)[0].Keys; len(got) != 2 || string(got[0]) != der || string(got[1]) != pgp {
			t.Errorf("%s: got %d keys: %q", name, len(got), got)
		}
		if got := found(t, l, "many@a.test", 1)[0].Keys; len(got) != 1+maxEntryKeys {
			t.Errorf("%s: got %d keys of many", name, len(got))
		}
		for _, a := range []string{"large@a.test", "none@a.test"} {
			if got := found(t, l, a, 1)[0].Keys; len(got) != 0 {
				t.Errorf("%s: %s has %d keys", name, a, len(got))
			}
		}
	}
	cfg := ldapFor(s)
	cfg.Attributes.Certificate = "userCertificate;binary"
	d, err := Open(t.Context(), Config{StateDir: t.TempDir(), LDAP: &cfg, LDAPAsking: Asking{OnMail: true, Timeout: 5 * time.Second, About: func(d string) bool { return d == "a.test" }}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for a, want := range map[string]int{"one@a.test": 1, "none@a.test": 0, "nobody@a.test": 0} {
		if got := d.Ask(t.Context(), address(t, a)); len(got.Keys) != want || got.KeysFrom != "ldap" || got.KeysAsOf.IsZero() {
			t.Errorf("%s: %d keys from %q of %s", a, len(got.Keys), got.KeysFrom, got.KeysAsOf)
		}
	}
	if got := d.Ask(t.Context(), address(t, "one@elsewhere.test")); got.KeysFrom != "" {
		t.Errorf("a source that was not asked told of keys: %q", got.KeysFrom)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := d.Ask(t.Context(), address(t, "two@a.test")); got.KeysFrom != "" {
		t.Errorf("a source that is away told of keys: %q", got.KeysFrom)
	}
}

// TestLDAPExactly: what the server calls equal, and what an operator's wide filter finds, is held against the address in our own form.
func TestLDAPExactly(t *testing.T) {
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)},
		doctor("a", "jean.martin@medecin.mssante.test"),
		doctor("b", "jean  martin@medecin.mssante.test"), // the schema's rule takes many spaces for one
		doctor("c", "ordinaire@medecin.mssante.test", "businessCategory", "x"),
		gatewaytest.Entry("cn=d,dc=region,dc=test", "objectClass", "inetOrgPerson", "sn", "D", "mail", "sans@medecin.mssante.test", "businessCategory", "courriel"),
		gatewaytest.Entry("cn=e,dc=region,dc=test", "objectClass", "inetOrgPerson", "sn", "E", "mail", "sans.marque@medecin.mssante.test"),
		doctor("f", "double@medecin.mssante.test", "o", "UN"), doctor("g", "DOUBLE@medecin.mssante.test", "o", "DEUX"),
		doctor("h", "ad@medecin.mssante.test", "description", "SMTP:Jean.AD@medecin.mssante.test", "description", "x400:c=FR"),
		doctor("i", "accent@medecin.mssante.test", "displayName", "Élodie@medecin.mssante.test"))
	l := openLDAP(t, ldapFor(s))
	found(t, l, "jean.martin@medecin.mssante.test", 1)
	found(t, l, `"jean martin"@medecin.mssante.test`, 0)
	found(t, l, "ordinaire@medecin.mssante.test", 1)
	found(t, l, "sans@medecin.mssante.test", 0)
	found(t, l, "sans.marque@medecin.mssante.test", 0)
	if recs := found(t, l, "double@medecin.mssante.test", 2); recs[0].Structure == recs[1].Structure {
		t.Errorf("twice the same: %+v", recs)
	}
	cfg := ldapFor(s)
	cfg.Filter, cfg.MSS = "(mail=*%s*)", "*"
	l = openLDAP(t, cfg)
	found(t, l, "martin@medecin.mssante.test", 0)
	found(t, l, "jean.martin@medecin.mssante.test", 1)
	found(t, l, "sans.marque@medecin.mssante.test", 1)
	cfg.MSS = "businessCategory" // any value
	l = openLDAP(t, cfg)
	found(t, l, "sans@medecin.mssante.test", 1)
	found(t, l, "sans.marque@medecin.mssante.test", 0)
	cfg.Filter, cfg.Attributes.Address = "(description=smtp:%s)", "description"
	l = openLDAP(t, cfg)
	found(t, l, "jean.ad@medecin.mssante.test", 1)
	cfg.Filter, cfg.Attributes.Address = "(displayName=%s)", "displayname"
	l = openLDAP(t, cfg)
	found(t, l, "élodie@medecin.mssante.test", 1)
	found(t, l, "elodie@medecin.mssante.test", 0)
}

// TestLDAPInjection: whatever the address holds, the server sees one value.
func TestLDAPInjection(t *testing.T) {
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)},
		doctor("a", "jean.martin@medecin.mssante.test"), doctor("b", `"a(b)*\\c, d"@medecin.mssante.test`), doctor("c", "o'brien+x=y/z@medecin.mssante.test"))
	l := openLDAP(t, ldapFor(s))
	found(t, l, `"a(b)*\\c, d"@medecin.mssante.test`, 1)
	found(t, l, "o'brien+x=y/z@medecin.mssante.test", 1)
	locals := []string{"*", "jean*", "jean.martin)(mail=*", "*)(|(mail=*", `\2a`, `*\00`, "jean.martin\x00", "a)(objectClass=*))(&(x=", "\xff", "é", "&(mail=*)", "!"}
	for _, local := range locals {
		recs, err := l.ask(t.Context(), message.Address{Local: local, Domain: "medecin.mssante.test"})
		if err != nil || len(recs) != 0 {
			t.Errorf("%q: %d records, %v", local, len(recs), err)
		}
	}
	for line := range strings.Lines(s.LogText()) {
		// slapd writes the filter it parsed; a value that it cannot compare is "(?=undefined)" or the like, still one of two.
		if _, filter, ok := strings.Cut(line, "filter="); ok && strings.Count(filter, "(") != 3 {
			t.Errorf("the filter came apart: %s", line)
		}
	}
	if n := strings.Count(s.LogText(), "filter="); n != len(locals)+2 {
		t.Errorf("%d searches, want %d", n, len(locals)+2)
	}
}

// TestLDAPRefused: what the server refuses, or tells in part, could not be asked.
func TestLDAPRefused(t *testing.T) {
	same := func(n int) (all string) {
		for i := range n {
			all += doctor(fmt.Sprintf("s%d", i), "many@medecin.mssante.test")
		}
		return all
	}
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t), Conf: []string{"require authc", "access to dn.base=\"cn=hidden,dc=region,dc=test\" attrs=mail by * search", "access to * by * read"}},
		doctor("a", "jean.martin@medecin.mssante.test"), same(5), doctor("hidden", "cache@medecin.mssante.test"),
		gatewaytest.Entry("cn=reader,dc=region,dc=test", "objectClass", "person", "sn", "R", "userPassword", "reader"))
	const a = "jean.martin@medecin.mssante.test"
	change := func(f func(*LDAPConfig)) remote {
		cfg := ldapFor(s)
		f(&cfg)
		return openLDAP(t, cfg)
	}
	found(t, change(func(*LDAPConfig) {}), a, 1)
	unasked(t, change(func(c *LDAPConfig) { c.Password = gatewaytest.SlapdPassword + "!" }), a, "49 (Invalid Credentials)")
	unasked(t, change(func(c *LDAPConfig) { c.BindDN = "cn=nobody,dc=region,dc=test" }), a, "49 (Invalid Credentials)")
	unasked(t, change(func(c *LDAPConfig) { c.BindDN, c.Password = "", "" }), a, "53 (Unwilling To Perform)")
	unasked(t, change(func(c *LDAPConfig) { c.Base = "ou=nowhere,dc=region,dc=test" }), a, "32 (No Such Object)")
	unasked(t, change(func(c *LDAPConfig) { c.Base = "dc=elsewhere,dc=test" }), a, "the server answers ")
	unasked(t, change(func(c *LDAPConfig) { c.Attributes.Address = "rfc822Mailbox2" }), a, "cannot be read")
	reader := change(func(c *LDAPConfig) { c.BindDN, c.Password = "cn=reader,dc=region,dc=test", "reader" })
	found(t, reader, a, 1)
	unasked(t, reader, "cache@medecin.mssante.test", "cannot be read")

	l := change(func(c *LDAPConfig) { c.SizeLimit = 4 })
	unasked(t, l, "many@medecin.mssante.test", "4 (Size Limit Exceeded)")
	found(t, l, a, 1)
	found(t, change(func(c *LDAPConfig) { c.SizeLimit = 5 }), "many@medecin.mssante.test", 5)
}

// TestLDAPReferral: a part of the tree on another server is not asked, and says so unless the answer is there already.
func TestLDAPReferral(t *testing.T) {
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)}, doctor("a", "jean.martin@medecin.mssante.test"),
		gatewaytest.Entry("ou=loin,dc=region,dc=test", "objectClass", "referral", "objectClass", "extensibleObject", "ou", "loin", "ref", "ldap://127.0.0.1:1/ou=loin,dc=region,dc=test"))
	l := openLDAP(t, ldapFor(s))
	found(t, l, "jean.martin@medecin.mssante.test", 1)
	unasked(t, l, "personne@medecin.mssante.test", "another server")
	cfg := ldapFor(s)
	cfg.Base = "ou=loin,dc=region,dc=test"
	unasked(t, openLDAP(t, cfg), "jean.martin@medecin.mssante.test", "10 (Referral)")
	for ref, want := range map[string]bool{
		"ldap://ForestDnsZones.c.test/DC=ForestDnsZones,DC=c,DC=test": false, "ldap://DomainDnsZones.c.test/DC=DomainDnsZones,DC=c,DC=test": false,
		"ldap://c.test/CN=Configuration,DC=c,DC=test": false, "ldap://sub.c.test/DC=sub,DC=c,DC=test": true, "ldap://c.test": true, "%zz": true,
	} {
		if got := peopleElsewhere([]string{ref}); got != want {
			t.Errorf("%s: %v", ref, got)
		}
	}
}

// TestLDAPMany: every entry of 1200 is found, by 16 at once, over few connections.
func TestLDAPMany(t *testing.T) {
	const n = 1200
	mail := func(i int) string { return fmt.Sprintf("medecin.%04d@medecin.mssante.test", i) }
	var ldif strings.Builder
	for i := range n {
		ldif.WriteString(doctor(fmt.Sprintf("d%04d", i), mail(i), "uid", fmt.Sprintf("1%010d", i)))
	}
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t), LDIF: ldif.String()})
	l := openLDAP(t, ldapFor(s))
	start := time.Now()
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := g; i < n; i += 16 {
				recs, err := l.ask(t.Context(), address(t, mail(i)))
				if err != nil || len(recs) != 1 || recs[0].ID != fmt.Sprintf("1%010d", i) {
					t.Errorf("%d: %v, %v", i, recs, err)
					return
				}
				if recs, err := l.ask(t.Context(), address(t, "x"+mail(i))); err != nil || len(recs) != 0 {
					t.Errorf("stranger %d: %v, %v", i, recs, err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d questions in %v", 2*n, time.Since(start))
	if conns := strings.Count(s.LogText(), "ACCEPT from"); conns > ldapConns+1 { // one was the look whether it listens
		t.Errorf("%d connections, want %d at most", conns, ldapConns)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	if _, err := l.ask(context.Background(), address(t, mail(1))); !errors.Is(err, errLDAPClosed) {
		t.Errorf("asked when closed: %v", err)
	}
}
