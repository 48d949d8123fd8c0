package directory

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// toySeal shows what is bound: the address before the phrase, all of it read backwards.
func toySeal(address string, phrase []byte) ([]byte, error) {
	return []byte(address + "\n" + string(phrase)), nil
}

func toyOpen(address string, sealed []byte) ([]byte, error) {
	phrase, ok := strings.CutPrefix(string(sealed), address+"\n")
	if !ok {
		return nil, errors.New("another address")
	}
	return []byte(phrase), nil
}

func sealed(t *testing.T, address, phrase string) string {
	t.Helper()
	text, err := SealSecret(address, phrase, toySeal)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestSealedSecret: it opens in its own entry alone, however the address is spelt, in CSV and YAML, after a clean-up too.
func TestSealedSecret(t *testing.T) {
	const phrase = "corail-menthe-sillon"
	s, domain := sealed(t, " Labo@Courrier.Test ", " "+phrase+" "), sealed(t, "*@partner.test", phrase)
	if strings.Contains(s, "corail") || !strings.HasPrefix(s, "sealed:v1:") {
		t.Fatal(s)
	}
	csv := "adresse;mot de passe\nlabo@courrier.test;" + s + "\n@partner.test;" + domain + "\nclear@x.test;123456789012\n"
	yaml := "- {address: labo@courrier.test, secret: \"" + s + "\"}\n- {address: \"@partner.test\", secret: \"" + domain + "\"}\n- {address: clear@x.test, secret: \"123456789012\"}\n"
	for name, text := range map[string]string{"list.csv": csv, "list.yaml": yaml} {
		path := filepath.Join(t.TempDir(), name)
		writeFile(t, path, text)
		l, err := openList(path, nil, toyOpen, time.Now, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, at := range []string{"labo@courrier.test", "@partner.test"} {
			if c := l.contacts[at]; c.Secret != phrase || !c.Sealed {
				t.Errorf("%s: %s has %q", name, at, string(c.Secret))
			}
		}
		d := &Directory{list: l}
		got := d.Secrets()
		if len(got) != 3 || !got[0].Sealed || got[0].Weakness != "" || got[2].Sealed || !strings.Contains(got[2].Weakness, "digits") {
			t.Errorf("%s: %+v", name, got)
		}
		if l, err = openList(path, nil, nil, time.Now, nil); err != nil || l.contacts["labo@courrier.test"].Secret == "" {
			t.Errorf("%s, for a look: %v", name, err)
		}
		if got = (&Directory{list: l}).Secrets(); len(got) != 3 || got[0].Weakness != "" {
			t.Errorf("%s, for a look: %+v", name, got)
		}
	}
	for name, entry := range map[string]string{"another entry": "b@courrier.test;" + s, "of a domain": "labo@partner.test;" + domain, "cut": "labo@courrier.test;" + s[:len(s)-3] + "!",
		"another version": "labo@courrier.test;" + strings.Replace(s, "v1", "v2", 1)} {
		path := filepath.Join(t.TempDir(), "list.csv")
		writeFile(t, path, "adresse;secret\n"+entry+"\n")
		if _, err := openList(path, nil, toyOpen, time.Now, nil); err == nil || !strings.Contains(err.Error(), "list.csv:2: secret: ") || strings.Contains(err.Error(), s[12:]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestImportSealsSecrets: no phrase stays in clear, sealed ones stay as they are, and one that is too short is a fault of its line.
func TestImportSealsSecrets(t *testing.T) {
	seal := func(address, phrase string) (string, error) { return SealSecret(address, phrase, toySeal) }
	path := filepath.Join(t.TempDir(), "export.csv")
	done := sealed(t, "b@x.test", "tulipe-verger")
	writeFile(t, path, "adresse;secret\na@x.test;corail-menthe\nb@x.test;"+done+"\nc@x.test;\n")
	clean, n, err := ImportList(path, nil, seal)
	want := "address;secret\na@x.test;" + sealed(t, "a@x.test", "corail-menthe") + "\nb@x.test;" + done + "\nc@x.test;\n"
	if err != nil || n != 3 || string(clean) != want {
		t.Errorf("%v\n%s", err, clean)
	}
	writeFile(t, path, "adresse;secret\na@x.test;corail-menthe\nb@x.test;court\n")
	if clean, _, err = ImportList(path, nil, seal); err == nil || !strings.Contains(err.Error(), "export.csv:3: secret: the phrase has fewer than 8") || clean != nil || strings.Contains(err.Error(), "court") {
		t.Errorf("%v %s", err, clean)
	}
}

func TestWeakness(t *testing.T) {
	for phrase, want := range map[string]string{"corail-menthe-sillon": "", "R3pas-du_Lundi!": "", "abcdefghijk": "11 characters", "été à Trouville": "ASCII", "01/02/1956 1234": "digits", "aaaabbbbaaaabb": "2 different"} {
		if got := Secret(phrase).Weakness(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", phrase, got, want)
		}
	}
	for _, bad := range []string{"", "1234567", "sealed:v1:abcdefgh", "two\nlines here", strings.Repeat("x", 500), "\xff1234567"} {
		if text, err := SealSecret("a@x.test", bad, toySeal); err == nil {
			t.Errorf("%q was sealed: %s", bad, text)
		}
	}
	if _, err := SealSecret("nobody", "corail-menthe", toySeal); err == nil {
		t.Error("sealed for no address")
	}
}
