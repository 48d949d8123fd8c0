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
	s := &annuaire{Server: startAnnuaire(f).Server, resources: national(), pages: map[string]any{}}
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
