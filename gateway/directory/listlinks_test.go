package directory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/charmap"

	"passerelle/gateway/directory/extraction"
)

func openText(t *testing.T, name, text string) (*list, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	writeFile(t, path, text)
	return openList(path, nil, nil, time.Now, nil)
}

func TestAliases(t *testing.T) {
	l, err := openText(t, "l.csv", "adresse;alias de\na@x.test;b@x.test\nb@x.test;c@x.test\nc@x.test;\nd@x.test;nobody@y.test\n")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"a@x.test": "c@x.test", "b@x.test": "c@x.test", "c@x.test": "", "d@x.test": "nobody@y.test"} {
		if got := l.contacts[from].AliasOf; got != to {
			t.Errorf("%s leads to %q, want %q", from, got, to)
		}
	}
	for rows, want := range map[string]string{
		"a@x.test;a@x.test\n": "l.csv:2: alias_of leads back", "a@x.test;b@x.test\nb@x.test;a@x.test\n": "l.csv:3: alias_of leads back",
		"z@x.test;a@x.test\na@x.test;b@x.test\nb@x.test;a@x.test\n": "l.csv:2: alias_of leads through more than 8", "@x.test;b@x.test\n": "not for a domain",
		"a@x.test;nonsense\n": "l.csv:2:10: alias_of",
	} {
		if _, err := openText(t, "l.csv", "adresse;alias de\n"+rows); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", rows, err, want)
		}
	}
	if _, err := openText(t, "l.csv", "adresse;mss;rpps\na@x.test;a@x.test;\nb@x.test;;10003456785\n"); err == nil || !strings.Contains(err.Error(), "own address") || !strings.Contains(err.Error(), "no RPPS number") {
		t.Errorf("%v", err)
	}
}

func testCertificate(t *testing.T, until time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: until.AddDate(-1, 0, 0), NotAfter: until, EmailAddresses: []string{"a@x.test"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "old.pem"), testCertificate(t, time.Now().Add(-time.Hour)))
	writeFile(t, filepath.Join(dir, "good.pem"), testCertificate(t, time.Now().Add(time.Hour)))
	path := filepath.Join(dir, "l.csv")
	block, _ := pem.Decode([]byte(testCertificate(t, time.Now().Add(time.Hour))))
	writeFile(t, filepath.Join(dir, "windows.cer"), string(block.Bytes))
	writeFile(t, path, "adresse;certificat;forme\na@x.test;old.pem;\nb@x.test;good.pem;smime\nc@x.test;windows.cer;\n")
	l, err := openList(path, nil, nil, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, over, _ := l.status(); n != 3 || over != 1 || l.contacts["b@x.test"].Certificate == nil || l.contacts["b@x.test"].Form != "smime" || l.contacts["c@x.test"].Certificate == nil {
		t.Errorf("%d entries, %d certificates over", n, over)
	}
	writeFile(t, filepath.Join(dir, "good.pem"), "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n")
	if _, err := openList(path, nil, nil, time.Now, nil); err == nil || !strings.Contains(err.Error(), "private key") {
		t.Errorf("%v", err)
	}
}

// The links: what the operator wrote, and the same RPPS; a name never.
func TestKnownAs(t *testing.T) {
	dir := t.TempDir()
	var b strings.Builder
	if err := extraction.Write(&b, extraction.Options{Lines: 5, Extra: []extraction.Row{extraction.Person("jean.petit@medecin.mssante.test", "Jean", "PETIT", extraction.RPPS(77))}}); err != nil {
		t.Fatal(err)
	}
	if _, err := importText(t, dir, "e.txt", b.String(), Options{AsOf: day}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "l.csv")
	writeFile(t, file, "adresse;nom;rpps;mss\nj.petit@mail.test;;"+extraction.RPPS(77)+";\nx@mail.test;;;x@medecin.mssante.test\nsame.name@mail.test;Jean PETIT;;\nother@mail.test;;"+extraction.RPPS(78_000)+";\n"+
		"jean.petit@medecin.mssante.test;;;other@medecin.mssante.test\n")
	c := &clock{t: day}
	d, err := Open(t.Context(), Config{StateDir: dir, ListFile: file, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for a, want := range map[string]string{"j.petit@mail.test": "jean.petit@medecin.mssante.test RPPS", "x@mail.test": "x@medecin.mssante.test the clinic's list", "same.name@mail.test": " ",
		"other@mail.test": " ", "jean.petit@medecin.mssante.test": " ", "nobody@mail.test": " "} {
		for range 2 {
			if k := d.Ask(t.Context(), address(t, a)).KnownAs; k.Address.String()+" "+k.By() != want {
				t.Errorf("%s: got %s %s, want %s", a, k.Address.String(), k.By(), want)
			}
		}
	}
	c.add(40 * 24 * time.Hour) // too old to be believed: nothing is suggested from it
	if k := d.Ask(t.Context(), address(t, "j.petit@mail.test")).KnownAs; !k.Address.IsNull() {
		t.Errorf("from an extraction that is too old: %v", k.By())
	}
}

// Where the extraction shows several mailboxes of a person nobody can tell which he reads: all are told of, the same ones in every mirror, and
// three at most. The one that was written to is none of them.
func TestKnownAsSeveral(t *testing.T) {
	person := func(n int) extraction.Row {
		return extraction.Person(fmt.Sprintf("jean.petit%d@medecin.mssante.test", n), "Jean", "PETIT", extraction.RPPS(77))
	}
	for name, c := range map[string]struct {
		boxes []int
		want  string
		more  bool
	}{
		"one":            {[]int{1}, "jean.petit1", false},
		"one, two lines": {[]int{1, 1}, "jean.petit1", false},
		"two":            {[]int{2, 1}, "jean.petit1 jean.petit2", false},
		"three":          {[]int{3, 1, 2}, "jean.petit1 jean.petit2 jean.petit3", false},
		"five":           {[]int{5, 4, 3, 2, 1}, "jean.petit1 jean.petit2 jean.petit3", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := extraction.Options{Lines: 20}
			for _, n := range c.boxes {
				o.Extra = append(o.Extra, person(n))
			}
			if _, err := importText(t, dir, "e.txt", text(t, o), Options{AsOf: day}); err != nil {
				t.Fatal(err)
			}
			list := filepath.Join(dir, "l.csv")
			writeFile(t, list, "adresse;rpps;mss\nj.petit@mail.test;"+extraction.RPPS(77)+";\nsure@mail.test;"+extraction.RPPS(77)+";jean.petit2@medecin.mssante.test\n")
			d := open(t, Config{StateDir: dir, ListFile: list, Now: fixed})
			for range 2 { // the second from memory
				k := d.Ask(t.Context(), address(t, "j.petit@mail.test")).KnownAs
				var got []string
				for _, a := range k.All() {
					got = append(got, strings.TrimSuffix(a.String(), "@medecin.mssante.test"))
				}
				if strings.Join(got, " ") != c.want || k.More != c.more || k.Confirmed {
					t.Errorf("got %q, more %t, confirmed %t; want %q, more %t", got, k.More, k.Confirmed, c.want, c.more)
				}
			}
			if k := d.Ask(t.Context(), address(t, "sure@mail.test")).KnownAs; !k.Confirmed || len(k.All()) != 1 || k.Address.Local != "jean.petit2" {
				t.Errorf("the operator's own target: %+v", k)
			}
		})
	}
}

func TestImportList(t *testing.T) {
	const export = "Nom de famille;Prénom;Adresse e-mail;Tél. portable;Type de correspondant;Ne pas écrire;N° RPPS;Ville\r\n" +
		"Noël;Zoé;Zoe.Noel@Courrier.Test;06 12 34 56 78;Patient;;;Lyon\r\nPetit;Jean;jean@x.test;;Professionnel;oui;" + "\r\n"
	full := strings.Replace(export, "oui;\r\n", "oui;"+extraction.RPPS(3)+";Paris\r\n", 1)
	latin, err := charmap.Windows1252.NewEncoder().String(full)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"utf-8": full, "bom": "\ufeff" + full, "windows-1252": latin, "commas": strings.ReplaceAll(full, ";", ","), "tabs": strings.ReplaceAll(full, ";", "\t")} {
		path := filepath.Join(t.TempDir(), "export.csv")
		writeFile(t, path, text)
		clean, n, err := ImportList(path, []string{"ville"}, nil)
		if err != nil || n != 2 || !strings.HasPrefix(string(clean), "address;name;person;phone;rpps;opposed\nzoe.noel@courrier.test;Zoé Noël;patient;+33612345678;;\njean@x.test;Jean Petit;professional;;") {
			t.Errorf("%s: %v\n%s", name, err, clean)
			continue
		}
		out := filepath.Join(t.TempDir(), "list.csv")
		if err := WriteList(out, clean); err != nil {
			t.Fatal(err)
		}
		if fi, _ := os.Stat(out); fi.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", fi.Mode())
		}
		l, err := openList(out, nil, nil, time.Now, nil)
		if err != nil || !l.contacts["jean@x.test"].Opposed || l.contacts["zoe.noel@courrier.test"].Phone != "+33612345678" {
			t.Errorf("%s: the clean list reads otherwise: %v", name, err)
		}
	}
	for text, want := range map[string]string{
		full:                            `export.csv:1:` + "", // Ville is not ignored
		"Adresse;Tél\na@x.test;12\n":    "export.csv:2:10: phone",
		"Adresse;Opositon\na@x.test;x":  "unknown field",
		"PK\x03\x04rest":                "save the sheet as CSV",
		"Adresse\na@x.test\nA@X.test\n": "export.csv:3: address stands in line 2",
	} {
		path := filepath.Join(t.TempDir(), "export.csv")
		writeFile(t, path, text)
		if clean, _, err := ImportList(path, nil, nil); err == nil || !strings.Contains(err.Error(), want) || clean != nil {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
