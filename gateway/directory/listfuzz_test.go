package directory

import (
	"bytes"
	"reflect"
	"runtime"
	"testing"
)

// FuzzList reads what an operator, a spreadsheet or a share may leave in the list's file: no panic, memory in proportion to the file, every entry
// in the form in which it is looked up, and what is accepted prints back to the same.
func FuzzList(f *testing.F) {
	for _, text := range []string{
		"address;phone;openpgp\na@b.test;0612345678;x\n", "mail,nom,opposition\n\"a@b.test\",\xe9,oui\n", "\xff\xfea\x00", "address\n\"\n", "adresse\tn° rpps\talias\na@b.test\t10001234566\tc@d.test\n",
		"address;secret;label;certificat\n@b.test;\"x;\"\"y\";Zo\xc3\xa9;a.pem\n", "\xef\xbb\xbfadresse;mss;langue\r\na@B.Test;A@c.test;fr\r\n",
	} {
		f.Add([]byte(text), false)
	}
	for _, text := range []string{listYAML, "contacts: &a\n- *a\n- <<: {address: a@b.test}\n", "- address: !!binary aGVsbG8=\n- ? x\n- |\n x\n", "- {address: a@b.test, openpgp: |\n    -----BEGIN PGP PUBLIC KEY BLOCK-----\n  }\n",
		"- {address: a@b.test, name: \"  a ;b\\u00a0\", openpgp: \"-----BEGIN PGP PUBLIC KEY BLOCK-----\\r\\nx\\r\"}\n",
		"- &a {address: a@b.test}\n- [*a, *a, *a]\n"} {
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, yaml bool) {
		parse := func() ([]*Contact, []Fault) { return parseCSV("l.csv", text) }
		if yaml {
			parse = func() ([]*Contact, []Fault) { return parseYAML("l.yaml", text) }
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		cs, faults := parse()
		runtime.ReadMemStats(&after)
		if took, most := after.TotalAlloc-before.TotalAlloc, uint64(4<<20+4096*len(text)); took > most {
			t.Fatalf("%d bytes took %d of memory, more than %d", len(text), took, most)
		}
		for _, c := range cs {
			if k, err := contactKey(c.Address); err != nil || k != c.Address {
				t.Fatalf("key %q is not stable: %q %v", c.Address, k, err)
			}
			if c.Phone != "" {
				if p, err := normalPhone(c.Phone); err != nil || p != c.Phone {
					t.Fatalf("phone %q is not stable: %q %v", c.Phone, p, err)
				}
			}
			c.Mobile()
		}
		if len(faults) > 0 { // nothing of it is taken
			return
		}
		printed, err := writeCSV(cs)
		if err != nil {
			t.Fatalf("what was accepted cannot be printed: %v", err)
		}
		again, faults := parseCSV("l.csv", printed)
		if len(faults) > 0 || len(again) != len(cs) {
			t.Fatalf("%d entries print to %d: %v\n%s", len(cs), len(again), faults, printed)
		}
		for i, c := range cs {
			if a, b := unplaced(c), unplaced(again[i]); !reflect.DeepEqual(a, b) {
				t.Fatalf("entry %d was %+v, prints to %+v\n%s", i, a, b, printed)
			}
		}
		if twice, err := writeCSV(again); err != nil || !bytes.Equal(twice, printed) {
			t.Fatalf("printed twice it is another: %v\n%s\n%s", err, printed, twice)
		}
	})
}

// unplaced is an entry without where it stood, and with its secret to be compared, not shown.
func unplaced(c *Contact) Contact {
	b := *c
	b.File, b.Line = "", 0
	return b
}
