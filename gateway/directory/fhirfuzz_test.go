package directory

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzFHIR: what a server writes gives an error or records of the address that was asked for, clean and bounded; it never says more than the
// page holds.
func FuzzFHIR(f *testing.F) {
	s := &annuaire{Server: startAnnuaire(f).Server, resources: nationalFHIR(), pages: map[string]any{}}
	for _, kind := range []string{"Practitioner", "PractitionerRole", "Organization"} {
		for _, q := range []url.Values{{}, {"_include": {"PractitionerRole:practitioner", "PractitionerRole:organization"}}, {"mailbox-mss": {vasseur.address}}} {
			b, err := json.Marshal(s.find(kind, q))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	for _, c := range []string{`{"resourceType":"OperationOutcome"}`, `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"OperationOutcome","issue":[{}]}}]}`,
		`{"resourceType":"Bundle","type":"searchset","link":[{"relation":"next","url":"x"}]}`, `<html>`, `null`, ``} {
		f.Add([]byte(c))
	}
	key := strings.ToLower(vasseur.address)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, kind := range []string{"Practitioner", "PractitionerRole", "Organization"} {
			p, err := parseBundle(body, kind)
			if err != nil {
				if p != nil || len(err.Error()) > 200 || !utf8.ValidString(err.Error()) {
					t.Fatalf("error %q", err)
				}
				continue
			}
			ans := &fhirAnswer{matches: p.matches, included: map[string]*fhirResource{}}
			for _, r := range p.included {
				ans.included[r.ref()] = r
			}
			recs := ans.records(day, func(string) bool { return true })
			if len(recs) > len(body)/2 {
				t.Fatalf("%d records of %d bytes", len(recs), len(body))
			}
			for _, r := range recs {
				soundFHIR(t, r)
				if !strings.Contains(string(body), "MSSANTE") && !strings.Contains(string(body), `\u`) {
					t.Fatalf("a mailbox without its type: %+v", r)
				}
			}
			for _, r := range ans.records(day, func(k string) bool { return k == key }) {
				if r.Address != key {
					t.Fatalf("asked %s, got %s", key, r.Address)
				}
			}
		}
	})
}

// FuzzFHIRFields puts a stranger's words into a resource that is otherwise whole: bytes that are no JSON hide what lies behind.
func FuzzFHIRFields(f *testing.F) {
	f.Add("A.B@medecin.mssante.test", "MSSANTE", "PER", "2026-11-20", "NOM", "usual", "Practitioner/003-1", "10", true)
	f.Add("a@b.test", "APICRYPT", "APP", "2026", "", "old", "https://x.test/fhir/Practitioner/003-1/_history/2", "99", false)
	f.Add("\"a b\"@b.test.", "MSSANTE", "X", "2026-13", "\x00\u2028", "", "Practitioner/", "", true)
	f.Fuzz(func(t *testing.T, address, emailType, kind, end, family, use, ref, code string, active bool) {
		p := person{last: family, title: family, rpps: code, profession: code, professionCode: code, structure: family, structureID: code, cityLine: family}
		box := mailbox(address, kind, map[string]any{"url": "service", "valueString": family})
		box["extension"].([]any)[0].(map[string]any)["valueCoding"].(map[string]any)["code"] = emailType
		box["period"], box["use"] = map[string]any{"end": end}, use
		role := practitionerRole("005-1", "003-1", "001-1", box)
		role["practitioner"], role["active"] = map[string]any{"reference": ref}, active
		doctor, structure := practitioner("003-1", p), organization("001-1", p)
		body := []byte(asJSON(map[string]any{"resourceType": "Bundle", "type": "searchset", "entry": []any{map[string]any{"resource": role}, map[string]any{"resource": doctor},
			map[string]any{"resource": structure}}}))
		page, err := parseBundle(body, "PractitionerRole")
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		ans := &fhirAnswer{matches: page.matches, included: map[string]*fhirResource{}}
		for _, r := range page.included {
			ans.included[r.ref()] = r
		}
		recs := ans.records(day, func(string) bool { return true })
		if len(recs) > 0 && emailType != "MSSANTE" {
			t.Fatalf("type %q is a mailbox", emailType)
		}
		for _, r := range recs {
			soundFHIR(t, r)
			if !r.Inactive && (!active || use == "old") {
				t.Fatalf("lives: %+v", r)
			}
		}
	})
}

func soundFHIR(t *testing.T, r Record) {
	t.Helper()
	if k, err := addressKey(r.Address); err != nil || k != r.Address {
		t.Fatalf("address %q is no key: %q, %v", r.Address, k, err)
	}
	if !slices.Contains([]string{"PER", "ORG", "APP", "CAB"}, r.Kind) || r.Source != "fhir" || !r.AsOf.Equal(day) {
		t.Fatalf("%+v", r)
	}
	for _, v := range []string{r.Title, r.FirstName, r.LastName, r.ID, r.Structure, r.StructureID, r.Service, r.Profession, r.Category, r.Speciality, r.City, r.PostalCode} {
		if len(v) > maxField || !utf8.ValidString(v) || strings.ContainsFunc(v, isControl) {
			t.Fatalf("field %q", v)
		}
	}
}
