package directory

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The extensions of a telecom entry that speak of MSSanté (fr-core and the Annuaire Santé implementation guide, v2).
const (
	extEmailType = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-contact-point-email-type"
	extMailbox   = "https://interop.esante.gouv.fr/ig/fhir/annuaire/StructureDefinition/as-ext-mailbox-mss-metadata"
)

// records gives a record for each MSSanté mailbox of the matches whose address key is asked for.
func (ans *fhirAnswer) records(now time.Time, wanted func(key string) bool) []Record {
	var recs []Record
	for _, r := range ans.matches {
		done := make(map[string]bool) // a mailbox that stands twice in a resource
		for _, t := range r.Telecom {
			key, ok := t.mailbox()
			if !ok || !wanted(key) {
				continue
			}
			rec := ans.owner(r, now)
			rec.Address, rec.Source, rec.AsOf = key, "fhir", now
			t.describe(&rec, r.ResourceType)
			rec.Inactive = rec.Inactive || t.Use == "old" || t.Period.over(now)
			if id := fmt.Sprint(rec.Kind, key, rec.Inactive); !done[id] {
				done[id] = true
				recs = append(recs, rec)
			}
		}
	}
	return recs
}

// mailbox gives the address key of an MSSanté mailbox. An Organization has ordinary mail addresses as well, and others are of APICRYPT: the type
// alone tells.
func (t *fhirTelecom) mailbox() (key string, ok bool) {
	if t.System != "" && t.System != "email" {
		return "", false
	}
	if !slices.ContainsFunc(t.Extension, func(e fhirExtension) bool { return e.URL == extEmailType && e.ValueCoding.Code == "MSSANTE" }) {
		return "", false
	}
	key, err := addressKey(strings.TrimSpace(t.Value))
	return key, err == nil && len(key) <= maxField
}

// describe fills in what the mailbox's own extension says.
func (t *fhirTelecom) describe(rec *Record, resource string) {
	for _, e := range t.Extension {
		if e.URL != extMailbox {
			continue
		}
		for _, m := range e.Extension {
			switch m.URL {
			case "type": // the guide writes them under TRE_R256 in one place and under TRE_R257 in another: the code tells
				for _, c := range append(m.ValueCodeableConcept.Coding, m.ValueCoding) {
					if slices.Contains([]string{"PER", "ORG", "APP", "CAB"}, c.Code) {
						rec.Kind = c.Code
					}
				}
			case "service":
				rec.Service = clean(m.ValueString)
			case "listeRouge":
				rec.RedList = rec.RedList || m.ValueBoolean != nil && *m.ValueBoolean
			case "digitization":
				rec.Dematerialised = m.ValueBoolean
			}
		}
	}
	if rec.Kind == "" {
		rec.Flags = append(rec.Flags, "kind-missing")
		if rec.Kind = "PER"; resource == "Organization" {
			rec.Kind = "ORG"
		}
	}
}

// owner tells whose mailbox it is: a person, a person at a place, an organisation.
func (ans *fhirAnswer) owner(r *fhirResource, now time.Time) Record {
	var rec Record
	switch r.ResourceType {
	case "Practitioner":
		r.fillPerson(&rec)
	case "PractitionerRole":
		rec.IDType, rec.ID = r.person()
		if rec.ID == "" {
			rec.IDType, rec.ID = personID([]fhirIdentifier{r.Practitioner.Identifier})
		}
		if p := ans.included[refOf(r.Practitioner.Reference)]; p != nil && p.ResourceType == "Practitioner" {
			p.fillPerson(&rec)
		}
		for _, s := range r.Specialty {
			rec.Speciality = either(rec.Speciality, s.word("", nil))
		}
		if o := ans.included[refOf(r.Organization.Reference)]; o != nil && o.ResourceType == "Organization" {
			o.fillStructure(&rec)
		}
	case "Organization":
		r.fillStructure(&rec)
	}
	rec.Inactive = rec.Inactive || r.ended() || r.Period.over(now)
	return rec
}

// ended: what does not say is active (FHIR R4: "assumed active").
func (r *fhirResource) ended() bool { return r.Active != nil && !*r.Active }

func (r *fhirResource) fillPerson(rec *Record) {
	rec.Inactive = rec.Inactive || r.ended()
	if kind, id := r.person(); id != "" {
		rec.IDType, rec.ID = kind, id
	}
	var names []fhirName
	json.Unmarshal(r.Name, &names) // a name that cannot be read is none: the address is what counts
	slices.SortStableFunc(names, func(a, b fhirName) int { return nameRank(a) - nameRank(b) })
	if len(names) > 0 {
		n := names[0]
		rec.LastName, rec.FirstName = clean(n.Family), clean(strings.Join(n.Given, " "))
		rec.Title = clean(either(strings.Join(n.Suffix, " "), strings.Join(n.Prefix, " "))) // DR is the suffix, M and MME the prefix
	}
	for _, q := range r.Qualification {
		rec.Profession = either(rec.Profession, q.Code.word("/TRE-G15-ProfessionSante", professionNames))
		rec.Category = either(rec.Category, q.Code.word("/TRE-R09-CategorieProfessionnelle", categoryNames))
		rec.Speciality = either(rec.Speciality, q.Code.word("/TRE-R38-SpecialiteOrdinale", nil))
	}
}

func nameRank(n fhirName) int {
	return max(0, slices.Index([]string{"usual", "official", "", "nickname", "maiden", "old"}, n.Use))
}

func (r *fhirResource) fillStructure(rec *Record) {
	var name string
	json.Unmarshal(r.Name, &name)
	rec.Structure = clean(name)
	for _, kind := range []string{"FINESS", "FINEG", "FINEJ", "SIRET", "SIREN", "IDNST"} {
		for _, id := range r.Identifier {
			if rec.StructureID == "" && id.is(kind) {
				rec.StructureID = clean(id.Value)
			}
		}
	}
	for _, a := range r.Address {
		if a.Use != "old" && rec.City == "" {
			rec.City, rec.PostalCode = clean(a.City), clean(a.PostalCode)
		}
	}
}

// person gives a person's identifier, RPPS before ADELI.
func (r *fhirResource) person() (kind, id string) { return personID(r.Identifier) }

func personID(ids []fhirIdentifier) (kind, id string) {
	for _, kind := range []string{"RPPS", "ADELI"} {
		for _, i := range ids {
			if i.is(kind) && i.Value != "" {
				return kind, clean(i.Value)
			}
		}
	}
	for _, i := range ids { // the national number is the code of its kind and the identifier (TRE_G08: 8 RPPS, 0 ADELI)
		if i.System == "urn:oid:1.2.250.1.71.4.2.1" && len(i.Value) > 1 {
			if kind := idType(i.Value[:1]); len(kind) > 1 {
				return kind, clean(i.Value[1:])
			}
		}
	}
	return "", ""
}

// systems are the names of identifiers; the service wrote http://rpps.fr before.
var systems = map[string]string{
	"https://rpps.esante.gouv.fr": "RPPS", "http://rpps.fr": "RPPS", "https://adeli.esante.gouv.fr": "ADELI",
	"https://finess.esante.gouv.fr": "FINESS", "http://finess.sante.gouv.fr": "FINESS", "https://sirene.fr": "SIREN",
}

// is tells whether the identifier is of a kind. Its type tells before its system: one system has several kinds.
func (i *fhirIdentifier) is(kind string) bool {
	for _, c := range i.Type.Coding {
		if c.Code != "" {
			return c.Code == kind
		}
	}
	return systems[i.System] == kind
}

// word gives what a concept means in a code system: our word for the code, else the server's, else the code itself. "" is any system.
func (c *fhirConcept) word(system string, names map[string]string) string {
	for _, k := range c.Coding {
		if !strings.HasSuffix(k.System, system) || k.Code == "" {
			continue
		}
		return clean(either(names[k.Code], either(k.Display, k.Code)))
	}
	return ""
}

// over tells whether a period has ended or not begun. A bound that cannot be read is a doubt, and doubt does not verify.
func (p fhirPeriod) over(now time.Time) bool {
	if p.Start != "" {
		if from, _, ok := fhirTime(p.Start); !ok || now.Before(from) {
			return true
		}
	}
	if p.End != "" {
		if _, to, ok := fhirTime(p.End); !ok || !now.Before(to) {
			return true
		}
	}
	return false
}

// fhirTime gives the span that a dateTime of FHIR means: a year, a month, a day (of UTC), an instant.
func fhirTime(s string) (from, to time.Time, ok bool) {
	for _, f := range []struct {
		layout  string
		y, m, d int
	}{{"2006-01-02", 0, 0, 1}, {"2006-01", 0, 1, 0}, {"2006", 1, 0, 0}} {
		if t, err := time.Parse(f.layout, s); err == nil {
			return t, t.AddDate(f.y, f.m, f.d), true
		}
	}
	t, err := time.Parse(time.RFC3339, s)
	return t, t, err == nil
}

func clean(s string) string {
	s, _ = cleanField([]byte(s))
	return s
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
