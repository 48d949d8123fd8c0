package directory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"
	"passerelle/gateway/message"
)

// searchable gives a directory of a few people with the names that make searches fail, among 2000 synthetic ones.
func searchable(t testing.TB) (*Directory, string) {
	t.Helper()
	person := func(local, first, last, speciality, profession, postal, city string, rpps int) extraction.Row {
		r := extraction.Person(local+"@pro.mssante.test", first, last, extraction.RPPS(rpps))
		r["Libellé Profession"], r["Libellé savoir-faire"] = profession, speciality
		r["Code postal"], r["L6LIGNEACHEMINEMENT"], r["Département"] = postal, postal+" "+city, ""
		return r
	}
	second := person("yann.legoff", "Yann", "LE GOFF", "Médecine générale", "Médecin", "29200", "BREST", 900_001)
	second["Raison Sociale structure BAL"] = "MAISON DE SANTE DE RECOUVRANCE"
	org := extraction.Organisation("chirurgie@chu-metz.mssante.test", "CHU DE L'ÎLE D'ŒUVRE", extraction.FINESS(4))
	dir := t.TempDir()
	file := write(t, filepath.Join(t.TempDir(), "e.txt"), extraction.Options{Lines: 2000, Seed: 2, Extra: []extraction.Row{
		person("yann.legoff", "Yann", "LE GOFF", "Cardiologie et maladies vasculaires", "Médecin", "29000", "QUIMPER", 900_001), second,
		person("m.almeida", "Maria", "D'ALMEIDA-SOUZA", "Oto-rhino-laryngologie et chirurgie cervico-faciale", "Médecin", "42000", "SAINT-ETIENNE", 900_002),
		person("j.zwickert", "Jean-Luc", "ZWICKERT", "Psychiatrie", "Médecin", "75012", "PARIS", 900_003),
		person("zwickertova.eva", "Éva", "ZWICKERTOVÁ", "", "Masseur-Kinésithérapeute", "20200", "BASTIA", 900_004),
		person("lavergne", "Zoë", "LAVERGNE", "", "Sage-Femme", "20000", "AJACCIO", 900_005), org,
		person("fdlt", "François", "DE LA TOUBRE", "Chirurgie orthopédique et traumatologie", "Médecin", "21000", "DIJON", 900_006),
		person("vdb", "Søren", "VANDENBERGHE-STRAUẞ", "Orthopédie dento-faciale", "Chirurgien-Dentiste", "59200", "TOURCOING", 900_007),
		person("rea", "Paul", "KERBRIEUX", "Anesthésie-réanimation", "Médecin", "22000", "ST BRIEUC CEDEX", 900_008),
		person("rt", "Ève", "ŁUKAS", "Radio-thérapie", "Médecin", "54000", "NANCY", 900_009),
		person("gyn", "Lise", "ABRIQUET", "Gynécologie-obstétrique", "Médecin", "59100", "ROUBAIX", 900_010),
		person("bio", "Ali", "CHOUKRA", "Biologie médicale", "Médecin", "38000", "GRENOBLE", 900_011)}})
	if _, err := Import(t.Context(), dir, file, Options{AsOf: day, Now: fixed}); err != nil {
		t.Fatal(err)
	}
	return open(t, Config{StateDir: dir, Now: fixed}), dir
}

const (
	legoff  = "yann.legoff@pro.mssante.test"
	almeida = "m.almeida@pro.mssante.test"
	jeanluc = "j.zwickert@pro.mssante.test"
	eva     = "zwickertova.eva@pro.mssante.test"
	zoe     = "lavergne@pro.mssante.test"
	chu     = "chirurgie@chu-metz.mssante.test"
)

func TestSearchFinds(t *testing.T) {
	d, _ := searchable(t)
	for _, c := range []struct {
		q     Query
		first string // the best; "" for none
	}{
		{Query{Text: "Le Goff Yann"}, legoff}, {Query{Text: "yann le goff"}, legoff}, {Query{Text: "LEGOFF yann"}, legoff}, {Query{Text: "goff quimper"}, legoff},
		{Query{Text: "dr le-goff yan brest"}, legoff}, {Query{Text: "goff recouvrance"}, legoff}, {Query{Text: "legoff cardiologue"}, legoff},
		{Query{Text: "D'Almeida Maria"}, almeida}, {Query{Text: "d’almeida souza"}, almeida}, {Query{Text: "almeida st etienne"}, almeida},
		{Query{Text: "orl saint-étienne"}, almeida}, {Query{Text: "otorhino 42000"}, almeida}, {Query{Text: "souza 42"}, almeida}, {Query{Text: "dalmeida souza"}, almeida},
		{Query{Text: "zwickert"}, jeanluc}, {Query{Text: "zwick"}, jeanluc}, {Query{Text: "jean luc zwickert"}, jeanluc}, {Query{Text: "jeanluc zwick"}, jeanluc},
		{Query{Text: "zwickert paris 12"}, jeanluc}, {Query{Text: "zwickert Paris 12e"}, jeanluc}, {Query{Text: "J. Zwickert psychiatre"}, jeanluc},
		{Query{Text: "zwickertova"}, eva}, {Query{Text: "ZWICKERTOVÁ Eva"}, eva}, {Query{Text: "kiné bastia"}, eva}, {Query{Text: "kine 2b"}, eva}, {Query{Text: "zoë 2A"}, zoe},
		{Query{Text: "sage femme ajaccio lavergne"}, zoe}, {Query{Text: "la vergne"}, zoe}, {Query{Text: "chu oeuvre"}, chu}, {Query{Text: "CHU de l'Île"}, chu},
		// one wrong letter: replaced, missing, doubled, exchanged; and in a beginning
		{Query{Text: "zwikert"}, jeanluc}, {Query{Text: "zwickerd"}, jeanluc}, {Query{Text: "zwwickert"}, jeanluc}, {Query{Text: "zwciket"}, ""}, {Query{Text: "Dr Zwcikert"}, jeanluc},
		{Query{Text: "zwickret quimper"}, ""}, {Query{Text: "legof yann"}, legoff}, {Query{Text: "almeda souza"}, almeida},
		// names in one word and in three, strokes, a soft hyphen; what people call a speciality
		{Query{Text: "delatoubre"}, "fdlt@"}, {Query{Text: "latoubre dijon"}, "fdlt@"}, {Query{Text: "de la toubre"}, "fdlt@"}, {Query{Text: "toubre chirurgien"}, "fdlt@"},
		{Query{Text: "toubre orthopédiste"}, "fdlt@"}, {Query{Text: "van den berghe"}, "vdb@"}, {Query{Text: "Vanden Berghe Soren"}, "vdb@"},
		{Query{Text: "vandenberghe strauss"}, "vdb@"}, {Query{Text: "orthodontiste tourcoing"}, "vdb@"}, {Query{Text: "van\u00adden\u00adberghe"}, "vdb@"}, {Query{Text: "lukas nancy"}, "rt@"},
		{Query{Text: "réanimateur st brieuc"}, "rea@"}, {Query{Text: "anesthésiste saint-brieuc"}, "rea@"}, {Query{Text: "radiothérapeute nancy"}, "rt@"},
		{Query{Text: "obstétricienne roubaix"}, "gyn@"}, {Query{Text: "biologiste grenoble"}, "bio@"}, {Query{Text: "docteur Choukra, biologiste à Grenoble"}, "bio@"},
		{Query{Text: strings.Repeat("zwickert ", 20), RPPS: extraction.RPPS(900_004)}, eva}, {Query{Text: strings.Repeat("recouvrance ", 12), Place: "Ajaccio"}, ""},
		// addresses, whole and in part
		{Query{Text: legoff}, legoff}, {Query{Text: "Yann.LeGoff@PRO.mssante.test"}, legoff}, {Query{Text: "yann.legoff@"}, legoff}, {Query{Text: "<" + legoff + ">"}, legoff},
		{Query{Text: "legoff@pro"}, legoff}, {Query{Text: "@chu-metz"}, chu}, {Query{Text: "chu-metz.mssante.test"}, chu}, {Query{Text: "nobody@nowhere.test"}, ""},
		// RPPS
		{Query{Text: extraction.RPPS(900_002)}, almeida}, {Query{Text: "8" + extraction.RPPS(900_002)}, almeida}, {Query{RPPS: extraction.RPPS(900_003)}, jeanluc},
		{Query{Text: extraction.RPPS(900_002)[:2] + " " + extraction.RPPS(900_002)[2:5] + " " + extraction.RPPS(900_002)[5:8] + " " + extraction.RPPS(900_002)[8:]}, almeida},
		{Query{RPPS: "10 00 90 00 03"}, jeanluc}, {Query{RPPS: "99999999999"}, ""}, {Query{Text: "zwickert", RPPS: extraction.RPPS(900_004)}, eva},
		// words in their fields
		{Query{Text: "goff", Place: "29"}, legoff}, {Query{Text: "goff yann", Place: "Ajaccio"}, ""}, {Query{Place: "Quimper", Speciality: "cardio"}, legoff},
		{Query{Speciality: "sage-femme", Place: "20000", Text: "lavergne"}, zoe}, {Query{Place: "goff"}, ""}, {Query{Speciality: "quimper"}, ""},
	} {
		got, err := d.Search(t.Context(), c.q)
		switch {
		case err != nil:
			t.Errorf("%+v: %v", c.q, err)
		case c.first == "" && len(got) > 0:
			t.Errorf("%+v: got %s, want nothing", c.q, got[0].Address)
		case c.first != "" && (len(got) == 0 || !strings.HasPrefix(got[0].Address, c.first)):
			t.Errorf("%+v: got %d, want %s first: %+v", c.q, len(got), c.first, got)
		}
	}
}

// One result for a mailbox, with all its places; a name before its longer sisters; never more than was asked for.
func TestSearchResults(t *testing.T) {
	d, _ := searchable(t)
	got, err := d.Search(t.Context(), Query{Text: "le goff yann"})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range got {
		if r.Address == legoff {
			n++
		}
	}
	if n != 1 || len(got[0].Places) != 2 || got[0].Places[1].City != "BREST" || got[0].Source != "extraction" || !got[0].AsOf.Equal(day) {
		t.Fatalf("%d results of one mailbox: %+v", n, got[0])
	}
	got, err = d.Search(t.Context(), Query{Text: "zwickert"})
	if err != nil || len(got) != 2 || got[0].Address != jeanluc || got[1].Address != eva {
		t.Fatalf("a whole name comes before one that begins so: %v %+v", err, got)
	}
	for limit, want := range map[int]int{0: 20, -1: 20, 3: 3, 100: 100, 5000: 100} {
		if got, err := d.Search(t.Context(), Query{Text: "medecin", Limit: limit}); err != nil || len(got) != want {
			t.Errorf("limit %d: got %d, %v, want %d", limit, len(got), err, want)
		}
	}
	for _, q := range []string{"", "  ", "*", "\"'()--;", "@"} {
		if _, err := d.Search(t.Context(), Query{Text: q}); !errors.Is(err, ErrNothingAsked) {
			t.Errorf("%q: got %v, want ErrNothingAsked", q, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Search(ctx, Query{Text: "martin"}); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: got %v", err)
	}
}

// What a mirror that is away says; and a mirror of the former format, which answers look-ups until the file is imported again.
func TestSearchCannot(t *testing.T) {
	d, dir := searchable(t)
	path := filepath.Join(dir, MirrorName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Search(t.Context(), Query{Text: "goff"}); !errors.Is(err, ErrNotSearched) || !strings.Contains(err.Error(), "missing") {
		t.Fatalf("mirror removed: got %v", err)
	}
	writeFile(t, path, string(whole[:len(whole)-sealSize]))
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("DROP TABLE word; DROP TABLE ident; UPDATE meta SET value = '1' WHERE key = 'format'"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), sealFile(path)); err != nil {
		t.Fatal(err)
	}
	want(t, d, legoff, Verified, "")
	if _, err := d.Search(t.Context(), Query{Text: "goff"}); !errors.Is(err, ErrNotSearched) || !strings.Contains(err.Error(), "import the extraction again") {
		t.Fatalf("former format: got %v", err)
	}
}

// The configured file is imported again where the mirror that was made from it has no index.
func TestSearchAfterUpdate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, MirrorName)
	file := write(t, filepath.Join(t.TempDir(), extraction.FileName(day)), extraction.Options{Lines: 2000, Seed: 2})
	d := open(t, Config{StateDir: dir, ExtractionFile: file, Now: fixed})
	d.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(b[:len(b)-sealSize]))
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE meta SET value = '1' WHERE key = 'format'"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), sealFile(path)); err != nil {
		t.Fatal(err)
	}
	d = open(t, Config{StateDir: dir, ExtractionFile: file, Now: fixed})
	if got, err := d.Search(t.Context(), Query{Text: "martin"}); err != nil || len(got) == 0 {
		t.Fatalf("got %d, %v", len(got), err)
	}
}

// A mirror that is swapped under searches: each is answered from one whole mirror or the other.
func TestSearchDuringSwap(t *testing.T) {
	d, dir := searchable(t)
	file := write(t, filepath.Join(t.TempDir(), "e.txt"), extraction.Options{Lines: 3000, Seed: 5})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if got, err := d.Search(t.Context(), Query{Text: "martin jean"}); err != nil || len(got) == 0 {
					t.Errorf("got %d, %v", len(got), err)
					return
				}
			}
		})
	}
	for range 5 {
		if _, err := Import(t.Context(), dir, file, Options{AsOf: day, Now: fixed}); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

func TestOneLetterAway(t *testing.T) {
	for _, c := range []struct {
		typed, word string
		want        bool
	}{
		{"dupond", "dupont", true}, {"dupnt", "dupont", true}, {"duppont", "dupont", true}, {"udpont", "dupont", true}, {"dupotn", "dupont", true}, {"dpnt", "dupont", false},
		{"petti", "petit", true}, {"pett", "petit", true}, {"peti", "petit", true}, {"pet", "petit", false}, {"dupontt", "dupont", true}, {"xupont", "dupont", true}, {"abcd", "", false},
		{"cardilo", "cardiologie", true}, {"cardo", "cardiologie", false}, {"dupont", "", false}, {"aaaa", "bbbb", false},
	} {
		if got := oneLetterAway(c.typed, []byte(c.word)); got != c.want {
			t.Errorf("%s, %s: got %v", c.typed, c.word, got)
		}
	}
}

// FuzzSearch: whatever is typed is answered, within the limit, and holds what was asked for.
func FuzzSearch(f *testing.F) {
	for _, s := range []string{"Dr Dupond", `martin" OR 1=1 --`, "NEAR(martin jean)", "mar*", "-martin", "address:martin", "a@b.c", "٠١٢", "\x00\xff", "'; DROP TABLE word;--", "10 000 000 566"} {
		f.Add(s, "", "", "")
	}
	f.Add("le goff", "75", "médecin", "1000")
	d, _ := searchable(f)
	f.Fuzz(func(t *testing.T, text, place, skill, rpps string) {
		got, err := d.Search(context.Background(), Query{Text: text, Place: place, Speciality: skill, RPPS: rpps, Limit: 5})
		if err != nil && !errors.Is(err, ErrNothingAsked) {
			t.Fatal(err)
		}
		if len(got) > 5 {
			t.Fatalf("%d results", len(got))
		}
		for _, r := range got {
			if id := digitsOf(clip(rpps)); id != "" && !strings.HasPrefix(r.ID, rppsOf(id)[:min(len(rppsOf(id)), idDigits)]) {
				t.Fatalf("asked for %q, got %q", rpps, r.ID)
			}
		}
	})
}

// BenchmarkSearch asks a mirror of 1 000 000 lines, or of the number in LINES, what a secretary types; the figures are of single searches.
func BenchmarkSearch(b *testing.B) {
	lines := 1_000_000
	if s := os.Getenv("LINES"); s != "" {
		if _, err := fmt.Sscan(s, &lines); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	file := write(b, filepath.Join(b.TempDir(), extraction.FileName(day)), extraction.Options{Lines: lines, Seed: 1, Duplicates: lines / 3000})
	if _, err := Import(b.Context(), dir, file, Options{Now: fixed}); err != nil {
		b.Fatal(err)
	}
	d := open(b, Config{StateDir: dir, Now: fixed})
	for _, q := range []string{"dupont", "Dr Dupond", "dupont cardio lyon", "Le Goff Hélène", "d'almeida", "mar", "m", "medecin", "martin medecin paris generaliste jean",
		extraction.RPPS(77_777), "jean.dupont@", "saint-denis pédiatre", "zzzzzz qqqqq"} {
		b.Run(q, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				if _, err := d.Search(b.Context(), Query{Text: q}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
}

// Who is on the red list of another source, or has ended there, is not shown, though the extraction has him still.
func TestSearchHides(t *testing.T) {
	_, dir := searchable(t)
	f := &far{as: "fhir"}
	f.set(func(_ context.Context, a message.Address) ([]Record, error) {
		return []Record{{Address: a.Key(), Kind: "PER", RedList: a.Key() == jeanluc, Inactive: a.Key() == zoe}}, nil
	})
	d := withFar(t, dir, &clock{t: day}, f, Asking{OnMail: true})
	for _, c := range []struct {
		words, address string
		hidden         bool
	}{{"zwickert psychiatrie", jeanluc, true}, {"lavergne ajaccio", zoe, true}, {"legoff quimper", legoff, false}} {
		got, err := d.Search(t.Context(), Query{Text: c.words})
		if err != nil || len(got) != 1 || got[0].Address != c.address {
			t.Fatalf("%s before: %v, %+v", c.words, err, got)
		}
		d.Ask(t.Context(), address(t, c.address))
		if got, err = d.Search(t.Context(), Query{Text: c.words}); err != nil || (len(got) == 0) != c.hidden {
			t.Errorf("%s: hidden %v, want %v, %v", c.words, len(got) == 0, c.hidden, err)
		}
	}
}
