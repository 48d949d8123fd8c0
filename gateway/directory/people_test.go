package directory

import (
	"context"
	"slices"
	"testing"

	"passerelle/gateway/directory/extraction"
	"passerelle/gateway/message"
)

// person is somebody invented, whom every source of the room tells in its own tongue: an extraction, a FHIR server, an LDAP server.
type person struct {
	address                          string // as the source writes it, capitals and all
	kind                             string // PER, ORG
	title, first, last               string
	rpps                             string // "" for an organisation
	profession, professionCode       string
	structure, structureID, cityLine string // cityLine: "75012 PARIS"
}

// people are listed by each source; strangers are by none, though some look like one who is.
var (
	people = []person{
		{"Colette.Vasseur-Peuple@medecin.mssante.test", "PER", "DR", "Colette", "VASSEUR-PEUPLE", extraction.RPPS(7101), "Médecin", "10", "CABINET DU PONT", extraction.FINESS(7101), "75012 PARIS"},
		{"amadou.traore-lys@pharmacien.mssante.test", "PER", "M", "Amadou", "TRAORÉ-LYS", extraction.RPPS(7102), "Pharmacien", "21", "PHARMACIE DU LYS", extraction.FINESS(7102), "69003 LYON"},
		{"noe.d'aubremont@infirmier.mssante.test", "PER", "MME", "Noé", "D'AUBREMONT", extraction.RPPS(7103), "Infirmier", "60", "", "", ""},
		{"accueil.cardio@chu-invente.mssante.test", "ORG", "", "", "", "", "", "", "CHU INVENTÉ", extraction.FINESS(7104), "35000 RENNES"},
		{"o'brien+dossiers@clinique-bleue.mssante.test", "ORG", "", "", "", "", "", "", "CLINIQUE BLEUE", extraction.FINESS(7105), "44000 NANTES"},
	}
	strangers = []string{
		"colette.vasseur-peuple@medecin.mssante.test.example", "colette.vasseur-peupl@medecin.mssante.test", "xcolette.vasseur-peuple@medecin.mssante.test",
		"colette.vasseur-peuple@medecln.mssante.test", "personne@medecin.mssante.test", "*@medecin.mssante.test", "accueil*@chu-invente.mssante.test",
	}
)

// rows gives people as lines of the national extraction.
func rows() []extraction.Row {
	var all []extraction.Row
	for _, p := range people {
		r := extraction.Organisation(p.address, p.structure, p.structureID)
		if p.kind == "PER" {
			r = extraction.Person(p.address, p.first, p.last, p.rpps)
			r["Civilité d'exercice"], r["Code Profession"], r["Libellé Profession"] = p.title, p.professionCode, p.profession
			r["Raison Sociale structure BAL"], r["Identification Structure"] = p.structure, p.structureID
		}
		all = append(all, r)
	}
	return all
}

// verdictOf is what a source's answer says of an address: an error could not be asked, a living record verifies.
func verdictOf(recs []Record, err error) string {
	switch {
	case err != nil:
		return CouldNotAsk
	case slices.ContainsFunc(recs, func(r Record) bool { return !r.Inactive }):
		return Verified
	}
	return NotListed
}

// conform holds a source against people and strangers: the same verdict and the same facts for rules, whatever it speaks. Fields that its
// tongue cannot say are named in lacks: "structure_id", "title".
func conform(t *testing.T, ask func(context.Context, message.Address) ([]Record, error), lacks ...string) {
	t.Helper()
	for _, p := range people {
		a := address(t, p.address)
		recs, err := ask(t.Context(), a)
		if v := verdictOf(recs, err); v != Verified || len(recs) != 1 {
			t.Errorf("%s: %s with %d records (%v), want verified with one", p.address, v, len(recs), err)
			continue
		}
		r := recs[0]
		for _, f := range []struct{ name, got, want string }{
			{"address", r.Address, a.Key()}, {"kind", r.Kind, p.kind}, {"title", r.Title, p.title}, {"first_name", r.FirstName, p.first}, {"last_name", r.LastName, p.last},
			{"rpps", r.ID, p.rpps}, {"profession", r.Profession, p.profession}, {"structure", r.Structure, p.structure}, {"structure_id", r.StructureID, p.structureID},
		} {
			if f.got != f.want && !slices.Contains(lacks, f.name) {
				t.Errorf("%s: %s is %q, want %q", p.address, f.name, f.got, f.want)
			}
		}
		if p.rpps != "" && r.IDType != "RPPS" || r.RedList || r.Inactive || r.Source == "" || r.AsOf.IsZero() {
			t.Errorf("%s: %+v", p.address, r)
		}
	}
	for _, s := range strangers {
		recs, err := ask(t.Context(), address(t, s))
		if v := verdictOf(recs, err); v != NotListed {
			t.Errorf("%s: %s with %d records (%v), want not listed", s, v, len(recs), err)
		}
	}
}

func TestConformExtraction(t *testing.T) {
	dir := t.TempDir()
	importText(t, dir, extraction.FileName(day), text(t, extraction.Options{Lines: 20, Seed: 3, Extra: rows()}), Options{})
	d := open(t, Config{StateDir: dir, Now: fixed})
	conform(t, func(ctx context.Context, a message.Address) ([]Record, error) {
		ans := d.Ask(ctx, a)
		if ans.Verdict == CouldNotAsk {
			t.Fatal(ans.Why)
		}
		return ans.Records, nil
	})
}
