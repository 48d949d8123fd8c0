// Package extraction writes synthetic MSSanté extraction files for tests, bench and demo. It takes a number of lines, a seed and
// the faults to plant, gives the 31 columns of the national file with invented people, and knows nothing of the mirror. The same
// options always give the same bytes.
package extraction

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Header is the national file's header, in its order (mssante.md section 6.1; unchanged since 2018).
var Header = []string{
	"Type de BAL", "Adresse BAL", "Type Identifiant PP", "Identifiant PP", "Identification nationale PP",
	"Type identifiant structure", "Identification Structure", "Service de rattachement", "Civilité d'exercice", "Nom d'exercice",
	"Prénom d'exercice", "Catégorie profession", "Libellé de catégorie profession", "Code Profession", "Libellé Profession",
	"Code savoir-faire", "Libellé savoir-faire", "Dématérialisation", "Raison Sociale structure BAL",
	"Enseigne commerciale structure BAL", "L2COMPLEMENTLOCALISATION", "L3COMPLEMENTDISTRIBUTION", "L4NUMEROVOIE",
	"L4COMPLEMENTNUMEROVOIE", "NL4TYPEVOIE", "L4LIBELLEVOIE", "L5LIEUDITMENTION", "L6LIGNEACHEMINEMENT", "Code postal",
	"Département", "Pays",
}

// Row is one line by column name; a column that is absent is written empty.
type Row map[string]string

// Options say what to write.
type Options struct {
	// Lines is the number of data lines, Extra included; at least len(Extra) are written.
	Lines int
	Seed  uint64
	// Domain of the synthetic people, "medecin.mssante.test" by default; organisations live at "etab." before the rest of it.
	Domain string
	// Extra rows are written first, as given: see Person and Organisation.
	Extra []Row
	// ReorderedHeader shuffles the columns; UnknownColumn adds one that no reader knows; BOM starts the file with U+FEFF.
	ReorderedHeader, UnknownColumn, BOM bool
	// Duplicates is how many of the lines repeat the mailbox of an earlier synthetic line with another place of practice.
	Duplicates int
	// BadUTF8 is how many of the lines hold a Latin-1 byte in the structure's name; Malformed how many have too few columns.
	BadUTF8, Malformed int
}

var (
	lastNames = []string{"MARTIN", "BERNARD", "THOMAS", "PETIT", "ROBERT", "RICHARD", "DURAND", "DUBOIS", "MOREAU", "LAURENT", "SIMON",
		"MICHEL", "LEFÈVRE", "LEROY", "ROUX", "DAVID", "BERTRAND", "MOREL", "FOURNIER", "GIRARD", "BONNET", "DUPONT", "LAMBERT",
		"FONTAINE", "ROUSSEAU", "VINCENT", "MULLER", "LE GOFF", "FAURE", "ANDRÉ", "MERCIER", "BLANC", "GUÉRIN", "BOYER", "GARNIER",
		"CHEVALIER", "FRANÇOIS", "LEGRAND", "GAUTHIER", "GARCIA", "PERRIN", "ROBIN", "CLÉMENT", "MORIN", "NICOLAS", "HENRY", "ROUSSEL",
		"MATHIEU", "GAUTIER", "MASSON", "MARCHAND", "DUVAL", "DENIS", "DUMONT", "MARIE", "LEMAIRE", "NOËL", "MEYER", "DUFOUR", "D'ALMEIDA"}
	firstNames = []string{"Jean", "Marie", "Philippe", "Nathalie", "Michel", "Isabelle", "Alain", "Sylvie", "Patrick", "Catherine", "Nicolas",
		"Céline", "Christophe", "Françoise", "Pierre", "Martine", "Éric", "Sandrine", "Frédéric", "Stéphanie", "Laurent", "Aurélie",
		"Stéphane", "Valérie", "David", "Hélène", "Pascal", "Véronique", "Daniel", "Anne", "Léa", "Zoé", "Hugo", "Anaïs", "Jean-Luc", "Chloé"}
	professions = []struct{ code, label, skill, skillLabel string }{
		{"10", "Médecin", "SM54", "Médecine Générale"}, {"10", "Médecin", "SM04", "Cardiologie et maladies vasculaires"},
		{"10", "Médecin", "SM44", "Radio-diagnostic"}, {"10", "Médecin", "SM40", "Pédiatrie"}, {"21", "Pharmacien", "", ""},
		{"40", "Chirurgien-Dentiste", "", ""}, {"50", "Sage-Femme", "", ""}, {"60", "Infirmier", "", ""},
		{"70", "Masseur-Kinésithérapeute", "", ""}, {"80", "Pédicure-Podologue", "", ""}, {"91", "Orthophoniste", "", ""},
	}
	places = []struct{ code, city, department string }{
		{"75012", "PARIS", "Paris"}, {"69003", "LYON", "Rhône"}, {"13005", "MARSEILLE", "Bouches-du-Rhône"}, {"31000", "TOULOUSE", "Haute-Garonne"},
		{"44000", "NANTES", "Loire-Atlantique"}, {"67000", "STRASBOURG", "Bas-Rhin"}, {"33000", "BORDEAUX", "Gironde"}, {"59000", "LILLE", "Nord"},
		{"35000", "RENNES", "Ille-et-Vilaine"}, {"20000", "AJACCIO", "Corse-du-Sud"}, {"97400", "SAINT-DENIS", "La Réunion"},
	}
)

// Person gives the row of a professional's mailbox.
func Person(address, firstName, lastName, rpps string) Row {
	p := professions[0]
	return Row{"Type de BAL": "PER", "Adresse BAL": address, "Type Identifiant PP": "8", "Identifiant PP": rpps,
		"Identification nationale PP": "8" + rpps, "Civilité d'exercice": "DR", "Nom d'exercice": lastName, "Prénom d'exercice": firstName,
		"Catégorie profession": "C", "Libellé de catégorie profession": "Civil", "Code Profession": p.code, "Libellé Profession": p.label,
		"Code savoir-faire": p.skill, "Libellé savoir-faire": p.skillLabel, "Dématérialisation": "O",
		"L6LIGNEACHEMINEMENT": "75012 PARIS", "Code postal": "75012", "Département": "Paris", "Pays": "France"}
}

// Organisation gives the row of an organisation's mailbox.
func Organisation(address, name, finess string) Row {
	return Row{"Type de BAL": "ORG", "Adresse BAL": address, "Type identifiant structure": "FINESS", "Identification Structure": finess,
		"Service de rattachement": "SECRETARIAT MEDICAL", "Dématérialisation": "N", "Raison Sociale structure BAL": name,
		"L4NUMEROVOIE": "12", "NL4TYPEVOIE": "RUE", "L4LIBELLEVOIE": "DE LA REPUBLIQUE",
		"L6LIGNEACHEMINEMENT": "69003 LYON", "Code postal": "69003", "Département": "Rhône", "Pays": "France"}
}

// RPPS gives the n-th synthetic RPPS number: eleven digits, the last of them the Luhn key.
func RPPS(n int) string { return withLuhn(fmt.Sprintf("10%08d", n%100_000_000)) }

// FINESS gives the n-th synthetic FINESS number: nine digits, the last of them the Luhn key.
func FINESS(n int) string { return withLuhn(fmt.Sprintf("%08d", 75_000_000+n%1_000_000)) }

// withLuhn appends the key that makes the whole divisible by ten (ISO/IEC 7812-1 annex B).
func withLuhn(s string) string {
	sum := 0
	for i := len(s) - 1; i >= 0; i-- {
		d := int(s[i] - '0')
		if (len(s)-1-i)%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return s + string(rune('0'+(10-sum%10)%10))
}

// FileName is the name that the national service gives a file generated at t (Paris time, to the minute).
func FileName(t time.Time) string {
	return "Extraction_Correspondance_MSSante_" + t.Format("200601021504") + ".txt"
}

// Address gives the mailbox of the n-th synthetic line that is neither duplicate nor extra. Every seventh is an organisation.
func Address(n int, domain string) string {
	if domain == "" {
		domain = "medecin.mssante.test"
	}
	if n%7 == 6 {
		_, rest, _ := strings.Cut(domain, ".")
		return fmt.Sprintf("secretariat%d@etab.%s", n, rest)
	}
	s := ascii(firstNames[n%len(firstNames)]) + "." + ascii(lastNames[n/len(firstNames)%len(lastNames)])
	if round := n / (len(firstNames) * len(lastNames)); round > 0 {
		s += fmt.Sprint(round + 1)
	}
	return s + "@" + domain
}

var asciiOf = strings.NewReplacer("É", "e", "È", "e", "é", "e", "è", "e", "ë", "e", "Ë", "e", "Ç", "c", "ç", "c", "ï", "i", " ", "-", "'", "")

func ascii(s string) string { return strings.ToLower(asciiOf.Replace(s)) }

// Write writes the file.
func Write(w io.Writer, o Options) error {
	rng := rand.New(rand.NewPCG(o.Seed, 0x6d737361))
	cols := slices.Clone(Header)
	if o.UnknownColumn {
		cols = append(cols, "Date de création")
	}
	if o.ReorderedHeader {
		rng.Shuffle(len(cols), func(i, j int) { cols[i], cols[j] = cols[j], cols[i] })
	}
	b := bufio.NewWriterSize(w, 1<<20)
	if o.BOM {
		b.WriteString("\ufeff")
	}
	b.WriteString(strings.Join(cols, "|") + "\n")
	for _, r := range o.Extra {
		writeRow(b, cols, r)
	}
	n := max(0, o.Lines-len(o.Extra))
	distinct := max(0, n-o.Duplicates-o.Malformed)
	for i := range n {
		switch {
		case i < distinct:
			r := synthetic(rng, i, o.Domain)
			if i < o.BadUTF8 {
				r["Raison Sociale structure BAL"] = "H\xf4pital" // Latin-1
			}
			writeRow(b, cols, r)
		case i < distinct+o.Malformed:
			b.WriteString("PER|perdu@medecin.mssante.test|8\n")
		default: // the same mailbox at another place of practice, written with capitals
			r := synthetic(rng, rng.IntN(max(1, distinct)), o.Domain)
			local, domain, _ := strings.Cut(r["Adresse BAL"], "@")
			r["Adresse BAL"] = strings.ToUpper(local[:1]) + local[1:] + "@" + domain
			writeRow(b, cols, r)
		}
	}
	return b.Flush()
}

func writeRow(b *bufio.Writer, cols []string, r Row) {
	for i, c := range cols {
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteString(r[c])
	}
	b.WriteByte('\n')
}

func synthetic(rng *rand.Rand, n int, domain string) Row {
	place := places[rng.IntN(len(places))]
	var r Row
	if n%7 == 6 {
		r = Organisation(Address(n, domain), fmt.Sprintf("CENTRE HOSPITALIER DE %s N° %d", place.city, n), FINESS(n))
	} else {
		r = Person(Address(n, domain), firstNames[n%len(firstNames)], lastNames[n/len(firstNames)%len(lastNames)], RPPS(n))
		p := professions[n%len(professions)]
		r["Code Profession"], r["Libellé Profession"], r["Code savoir-faire"], r["Libellé savoir-faire"] = p.code, p.label, p.skill, p.skillLabel
		r["Type identifiant structure"], r["Identification Structure"] = "SIRET", fmt.Sprintf("%014d", rng.Int64N(1e14))
		r["Raison Sociale structure BAL"] = "CABINET " + lastNames[rng.IntN(len(lastNames))]
		r["Dématérialisation"] = []string{"O", "N", ""}[n%3]
	}
	r["L4NUMEROVOIE"], r["NL4TYPEVOIE"], r["L4LIBELLEVOIE"] = fmt.Sprint(1+rng.IntN(200)), "AVENUE", "DU GENERAL DE GAULLE"
	r["L6LIGNEACHEMINEMENT"], r["Code postal"], r["Département"] = place.code+" "+place.city, place.code, place.department
	return r
}
