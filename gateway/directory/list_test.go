package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

const armoured = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----\n"

const listYAML = `# the clinic's list
- address: Zoe.Noel@Example.test
  name: Zoé Noël
  person: patient
  phone: 06 12 34 56 78
  prefer: pickup
  lang: fr
- address: "@partner.test"
  person: partner
  prefer: plain
- address: ami@partner.test
  openpgp: keys/ami.asc
  form: openpgp
- {address: inline@partner.test, secret: correct horse, form: zip, opposed: oui, openpgp: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----"}
- address: "*@élan.test"
  label: "voir dossier"
`

// listed writes a list and its key and opens a directory over it.
func listed(t testing.TB, name, text string, c *clock) (*Directory, string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "keys", "ami.asc"), armoured)
	path := filepath.Join(dir, name)
	writeFile(t, path, text)
	cfg := Config{StateDir: t.TempDir(), ListFile: path}
	if c != nil {
		cfg.Now = c.now
	}
	d, err := Open(context.Background(), cfg)
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, path, err
}

func contact(t testing.TB, d *Directory, addr string) *Contact {
	t.Helper()
	return d.Ask(context.Background(), address(t, addr)).Contact
}

func TestListYAML(t *testing.T) {
	for name, text := range map[string]string{"sequence": listYAML,
		"under contacts": "contacts:\n" + strings.ReplaceAll("\n"+listYAML, "\n", "\n  ")} {
		t.Run(name, func(t *testing.T) {
			d, _, err := listed(t, "list.yaml", text, nil)
			if err != nil {
				t.Fatal(err)
			}
			zoe := contact(t, d, "ZOE.noel@example.TEST")
			if zoe == nil || zoe.Name != "Zoé Noël" || zoe.Person != "patient" || zoe.Phone != "+33612345678" || zoe.Prefer != "pickup" ||
				!zoe.Mobile() || !zoe.Listed() || zoe.Line == 0 {
				t.Fatalf("zoe: %+v", zoe)
			}
			if c := contact(t, d, "anybody@partner.test"); c == nil || c.Prefer != "plain" {
				t.Fatalf("domain entry: %+v", c)
			}
			if c := contact(t, d, "ami@partner.test"); c == nil || c.Prefer != "" || string(c.OpenPGPKey) != armoured {
				t.Fatalf("an address's own entry wins: %+v", c)
			}
			if c := contact(t, d, "inline@partner.test"); c == nil || !c.Opposed || c.Secret != "correct horse" || len(c.OpenPGPKey) == 0 {
				t.Fatalf("inline: %+v", c)
			}
			if c := contact(t, d, "x@xn--lan-9la.test"); c == nil || c.Label != "voir dossier" {
				t.Fatalf("A-label: %+v", c)
			}
			if c := contact(t, d, "x@other.test"); c != nil {
				t.Fatalf("unknown: %+v", c)
			}
			if s := d.Status(); s.Contacts != 5 || s.ListFault != "" {
				t.Fatalf("status: %+v", s)
			}
		})
	}
}

func TestListCSV(t *testing.T) {
	rows := [][]string{{"Nom", "Adresse", "Téléphone", "Type", "Opposition", "Clé"},
		{"Zoé; Noël", "zoe@example.test", "+33 (0)6 12-34-56-78", "patient", "", ""},
		{"", "", "", "", "", ""},
		{"Société É", "@fournisseur.test", "", "Fournisseur", "non", ""},
		{"Ami", "ami@example.test", "", "professionnel", "X", "keys/ami.asc"}}
	in := func(sep string) string {
		var b strings.Builder
		for _, r := range rows {
			for i, v := range r {
				if i > 0 {
					b.WriteString(sep)
				}
				fmt.Fprintf(&b, "%q", v)
			}
			b.WriteString("\r\n")
		}
		return b.String()
	}
	cp1252, err := charmap.Windows1252.NewEncoder().String(in(";"))
	if err != nil {
		t.Fatal(err)
	}
	utf16, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(in("\t"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"semicolon": in(";"), "comma": in(","), "tab": in("\t"), "BOM": "\ufeff" + in(";"),
		"windows-1252": cp1252, "utf-16": utf16} {
		t.Run(name, func(t *testing.T) {
			d, _, err := listed(t, "list.csv", text, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c := contact(t, d, "zoe@example.test"); c == nil || c.Name != "Zoé; Noël" || c.Phone != "+33612345678" || c.Opposed || c.Line != 2 {
				t.Fatalf("zoe: %+v", c)
			}
			if c := contact(t, d, "x@fournisseur.test"); c == nil || c.Person != "supplier" || c.Name != "Société É" {
				t.Fatalf("domain: %+v", c)
			}
			if c := contact(t, d, "ami@example.test"); c == nil || !c.Opposed || c.Person != "professional" || string(c.OpenPGPKey) != armoured {
				t.Fatalf("ami: %+v", c)
			}
		})
	}
}

// Every faulty line is told, with its line, and nothing of a faulty list is taken.
func TestListFaults(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"yaml": {"l.yaml", `- address: a@b.test
  phone: 12
  prefr: pickup
- name: nobody
- address: a@b@c
- address: ok@b.test
- address: OK@b.test
- address: d@b.test
  prefer: fax
  prefer: plain
  opposed: perhaps
- just text
- address: [a]
- address: e@b.test
  openpgp: keys/none.asc
`, `l.yaml:2: phone is neither international (+33...) nor a French number of ten digits
l.yaml:3: unknown field "prefr"; known are address, name, first_name, birth_name, birth_date, person, phone, prefer, form, openpgp, certificate, secret, rpps, mss, alias_of, pickup_at, qualified, opposed, label, lang
l.yaml:4: the entry has no address
l.yaml:5: domain is not a host name
l.yaml:7: address stands in line 6 already
l.yaml:9: prefer is "fax"; allowed are trust, encrypt, pickup, plain, refuse
l.yaml:10: prefer stands twice in the entry
l.yaml:11: opposed is "perhaps"; allowed are yes and no
l.yaml:12: an entry must be a mapping (address: ..., name: ...)
l.yaml:13: the value must be plain text
l.yaml:14: openpgp: none.asc: no such file or directory`},
		"csv": {"l.csv", "address;phone;opposed\na@b.test;061234567;\nb@b.test;;maybe\nc@b.test\n;0612345678;\nd@b.test;;\nd@b.test;;\n",
			`l.csv:2:10: phone is neither international (+33...) nor a French number of ten digits
l.csv:3:11: opposed is "maybe"; allowed are yes and no
l.csv:4: the row has 1 columns, the first row has 3
l.csv:5: the entry has no address
l.csv:7: address stands in line 6 already`},
		"csv header":   {"l.csv", "name;opposd\nx;y\n", "l.csv:1:6: unknown field \"opposd\"; known are address, name, first_name, birth_name, birth_date, person, phone, prefer, form, openpgp, certificate, secret, rpps, mss, alias_of, pickup_at, qualified, opposed, label, lang\nl.csv:1: no column for address"},
		"csv twice":    {"l.csv", "mail;adresse\nx;y\n", "l.csv:1: two columns for address"},
		"csv quotes":   {"l.csv", "address;name\na@b.test;\"x\" y\n", `l.csv:2: extraneous or missing " in quoted-field`},
		"csv empty":    {"l.csv", "", "l.csv:1: the list is empty: its first row must name the columns"},
		"yaml scalar":  {"l.yaml", "hello", "l.yaml:1: the list must be a sequence of entries"},
		"yaml mapping": {"l.yaml", "people: []\n", `l.yaml:1: the list must be a sequence of entries, or one under the key "contacts"`},
		"private key":  {"l.yaml", "- address: a@b.test\n  openpgp: |\n    -----BEGIN PGP PRIVATE KEY BLOCK-----\n    x\n", "l.yaml:2: this is a private key; the public one belongs here"},
		"two keys":     {"l.yaml", "- address: a@b.test\n  openpgp: x\n  key: y\n", "l.yaml:3: openpgp stands twice in the entry"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := listed(t, c.file, c.text, nil)
			if e := new(ListError); !errors.As(err, &e) || err.Error() != c.want {
				t.Fatalf("got\n%v\nwant\n%s", err, c.want)
			}
		})
	}
	for name, text := range map[string]string{"syntax": "- address: 'a\n- b: {", "latin-1": "- name: \xe9\n", "tab": "-\taddress: a\n\tb: c"} {
		_, _, err := listed(t, "l.yaml", text, nil)
		if e := new(ListError); !errors.As(err, &e) {
			t.Fatalf("%s: got %v", name, err)
		}
	}
	if _, err := Open(t.Context(), Config{StateDir: t.TempDir(), ListFile: filepath.Join(t.TempDir(), "none.yaml")}); err == nil ||
		err.Error() != "none.yaml: no such file or directory" {
		t.Fatalf("missing list: %v", err)
	}
}

// A changed list is taken when it stood still for a second; a faulty one leaves the former content.
func TestListHotReload(t *testing.T) {
	c := &clock{t: day}
	d, path, err := listed(t, "l.yaml", "- address: a@b.test\n", c)
	if err != nil {
		t.Fatal(err)
	}
	has := func(what string, a, b bool) {
		t.Helper()
		if gotA, gotB := contact(t, d, "a@b.test") != nil, contact(t, d, "b@b.test") != nil; gotA != a || gotB != b {
			t.Fatalf("%s: a %v, b %v", what, gotA, gotB)
		}
	}
	has("at first", true, false)
	writeFile(t, path, "- address: a@b.test\n- address: b@b.test\n")
	has("within the second", true, false)
	c.add(time.Second)
	has("seen once", true, false)
	c.add(time.Second)
	has("stood still", true, true)

	writeFile(t, path, "- adress: a@b.test\n")
	c.add(time.Second)
	has("faulty, seen", true, true)
	c.add(time.Second)
	has("faulty", true, true)
	if s := d.Status(); !strings.Contains(s.ListFault, "l.yaml:1") || s.Contacts != 2 {
		t.Fatalf("status: %+v", s)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c.add(time.Second)
		has("gone", true, true)
	}
	writeFile(t, path, "- address: b@b.test\n")
	c.add(time.Second)
	has("there again", true, true)
	c.add(time.Second)
	has("reloaded", false, true)
	if s := d.Status(); s.ListFault != "" || s.Contacts != 1 {
		t.Fatalf("status: %+v", s)
	}
}

// A list that is changed while it is read is read again: the change may be somebody's "do not send". The key is a pipe, so that the reading stands
// still until the list was changed.
func TestListChangedWhileItIsRead(t *testing.T) {
	dir, c := t.TempDir(), &clock{t: day}
	path, pipe := filepath.Join(dir, "l.yaml"), filepath.Join(dir, "k.asc")
	writeFile(t, path, "- address: a@b.test\n")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	opened := make(chan struct{})
	writer.Go(func() {
		for i := range 2 { // the list is read twice
			if i == 1 {
				<-opened // who reads now is not who read before
			}
			w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the reader
			if err != nil {
				t.Error(err)
				return
			}
			if i == 0 {
				writeFile(t, path, "- address: a@b.test\n  opposed: oui\n")
			}
			io.WriteString(w, armoured)
			w.Close()
		}
	})
	l, err := openList(path, map[string]string{"k@b.test": pipe}, nil, c.now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Error(err)
	}
	close(opened)
	for range 2 { // seen, and stood still
		c.add(listEvery)
		l.find(address(t, "a@b.test"))
	}
	if !l.find(address(t, "a@b.test")).Opposed {
		t.Error("the change is not seen")
		go os.ReadFile(pipe) // lets the writer end
	}
	writer.Wait()
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	key := func(name string) string {
		p := filepath.Join(dir, name)
		writeFile(t, p, strings.Replace(armoured, "mDMEZ", name, 1))
		return p
	}
	list := filepath.Join(dir, "l.yaml")
	writeFile(t, list, "- address: own@a.test\n  openpgp: own.asc\n- address: none@a.test\n- address: '@b.test'\n  person: partner\n")
	key("own.asc")
	d := open(t, Config{StateDir: t.TempDir(), ListFile: list, KeyFiles: map[string]string{"own@a.test": key("x.asc"), "@a.test": key("a.asc"),
		"One@B.test": key("one.asc"), "@c.test": key("c.asc"), "k@c.test": key("k.asc")}})
	for addr, w := range map[string]string{"own@a.test": "own.asc", "none@a.test": "a.asc", "any@a.test": "a.asc", "one@b.test": "one.asc",
		"two@b.test": "", "x@c.test": "c.asc", "k@c.test": "k.asc"} {
		c := contact(t, d, addr)
		if c == nil || w == "" && c.OpenPGPKey != nil || !strings.Contains(string(c.OpenPGPKey), w) {
			t.Fatalf("%s: got %q, want %q", addr, c.OpenPGPKey, w)
		}
		if listed := strings.HasPrefix(addr, "own") || strings.HasPrefix(addr, "none") || strings.HasSuffix(addr, "b.test"); c.Listed() != listed {
			t.Fatalf("%s: listed %v", addr, c.Listed())
		}
	}
	if c := contact(t, d, "one@b.test"); c.Person != "partner" {
		t.Fatalf("a key of one address keeps the domain's entry: %+v", c)
	}
	writeFile(t, filepath.Join(dir, "bad.asc"), "hello")
	if _, err := Open(t.Context(), Config{StateDir: t.TempDir(), KeyFiles: map[string]string{"x@y.test": filepath.Join(dir, "bad.asc")}}); err == nil ||
		!strings.Contains(err.Error(), "no OpenPGP public key") {
		t.Fatalf("bad key: %v", err)
	}
}

func TestPhone(t *testing.T) {
	for in, w := range map[string]string{"06 12 34 56 78": "+33612345678", "07.12.34.56.78": "+33712345678", "0033 6 12 34 56 78": "+33612345678",
		"+33 (0)6 12 34 56 78": "+33612345678", "612345678": "+33612345678", "33612345678": "+33612345678", "0690 12 34 56": "+590690123456",
		"0692123456": "+262692123456", "01 23 45 67 89": "+33123456789", "+32 470 12 34 56": "+32470123456", "06\u00a012\u202f34\u00a056\u00a078": "+33612345678",
		"": "!", "112": "!", "061234567": "!", "+33061234567": "!", "+336123456789": "!", "+0612345678": "!", "+1234567890123456": "!", "3,36E+10": "!",
		"06+12345678": "!", "512345678": "!", "06 12 34 56 78 (bureau)": "!", "٠٦١٢٣٤٥٦٧٨": "!"} {
		got, err := normalPhone(in)
		if err != nil {
			got = "!"
		}
		if got != w {
			t.Errorf("%q: got %q (%v), want %q", in, got, err, w)
		}
	}
	for phone, w := range map[string]bool{"+33612345678": true, "+33123456789": false, "+590690123456": true, "+590590123456": false, "+32470123456": true, "": false} {
		if got := (&Contact{Phone: phone}).Mobile(); got != w {
			t.Errorf("Mobile(%q) = %v", phone, got)
		}
	}
}

func TestNothingPersonalInLogs(t *testing.T) {
	var b bytes.Buffer
	c := &Contact{Address: "zoe@example.test", Name: "Zoe", Secret: "horse", Phone: "+33612345678"}
	log := slog.New(slog.NewJSONHandler(&b, nil))
	log.Info("x", "contact", c, "secret", c.Secret, "nobody", (*Contact)(nil))
	fmt.Fprintf(&b, "%v %s %#v", c.Secret, c.Secret, c.Secret)
	dir := t.TempDir()
	file := write(t, filepath.Join(t.TempDir(), "e.txt"), extraction.Options{Lines: 10})
	d := open(t, Config{StateDir: dir, ExtractionFile: file, Log: log})
	d.Ask(t.Context(), address(t, "zoe@example.test"))
	os.Remove(filepath.Join(dir, MirrorName))
	d.Ask(t.Context(), address(t, "zoe@example.test"))
	// Reload logs the fault of a list as it is: here the header row was forgotten, and a key of the config is none.
	_, _, err := listed(t, "l.csv", "zoe@example.test;Zoe;+33612345678\n", nil)
	log.Error("reload", "err", err)
	writeFile(t, file, "no key")
	_, err = Open(t.Context(), Config{StateDir: dir, KeyFiles: map[string]string{"zoe@example.test": file}})
	if log.Error("reload", "err", err); !strings.Contains(b.String(), "l.csv:1:") {
		t.Errorf("the log does not say where: %s", b.String())
	}
	for _, s := range []string{"zoe", "Zoe", "horse", "+336"} {
		if strings.Contains(b.String(), s) {
			t.Errorf("the log holds %q: %s", s, b.String())
		}
	}
}

// The two samples in the tree say the same.
func TestListSamples(t *testing.T) {
	for _, name := range []string{"list.yaml", "list-windows-1252.csv"} {
		d := open(t, Config{StateDir: t.TempDir(), ListFile: "../../testdata/directory/" + name})
		zoe, jean, other := contact(t, d, "zoe.noel@example.test"), contact(t, d, "jean.petit@example.test"), contact(t, d, "x@assurance.test")
		if zoe == nil || zoe.Name != "Zoé Noël" || zoe.Phone != "+33612345678" || jean == nil || !jean.Opposed || other == nil || other.Person != "partner" {
			t.Fatalf("%s: %+v %+v %+v", name, zoe, jean, other)
		}
	}
}
