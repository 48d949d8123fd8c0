package directory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// The parts of FHIR R4 that are read; everything else is passed over.

type fhirBundle struct {
	ResourceType string
	Type         string
	Total        int
	Link         []struct{ Relation, URL string }
	Entry        []struct {
		Resource json.RawMessage
		Search   struct{ Mode string }
	}
}

// fhirResource is a Practitioner, a PractitionerRole, an Organization or an OperationOutcome.
type fhirResource struct {
	ResourceType string
	ID           string
	Active       *bool
	Identifier   []fhirIdentifier
	Name         json.RawMessage // a list of names of a Practitioner, a string of an Organization
	Telecom      []fhirTelecom
	Address      []struct {
		Use, City, PostalCode string
	}
	Qualification []struct{ Code fhirConcept }
	Specialty     []fhirConcept
	Period        fhirPeriod
	Practitioner  fhirReference
	Organization  fhirReference
	Issue         []struct{ Severity, Code string }
}

type fhirIdentifier struct {
	System, Value string
	Type          fhirConcept
}

type fhirConcept struct {
	Coding []fhirCoding
	Text   string
}

type fhirCoding struct{ System, Code, Display string }

type fhirReference struct {
	Reference  string
	Identifier fhirIdentifier
}

type fhirPeriod struct{ Start, End string }

type fhirName struct {
	Use, Family           string
	Given, Prefix, Suffix []string
}

type fhirTelecom struct {
	System, Value, Use string
	Period             fhirPeriod
	Extension          []fhirExtension
}

type fhirExtension struct {
	URL                  string
	ValueCoding          fhirCoding
	ValueCodeableConcept fhirConcept
	ValueString          string
	ValueBoolean         *bool
	Extension            []fhirExtension
}

// ref is the name by which others refer to the resource.
func (r *fhirResource) ref() string { return r.ResourceType + "/" + r.ID }

// refOf gives "Practitioner/003-1" of a reference: relative, absolute or of one version.
func refOf(s string) string {
	s, _, _ = strings.Cut(s, "/_history/")
	parts := strings.Split(s, "/")
	if len(parts) < 2 {
		return ""
	}
	return strings.Join(parts[len(parts)-2:], "/")
}

// fhirPage is one page of a search.
type fhirPage struct {
	matches, included []*fhirResource
	next              string
	total             int
}

// parseBundle reads one page of a search on a type of resource. Whatever is no whole answer to that search is an error: an outcome that speaks of
// a fault or a parameter passed over, a match of another type. Its errors repeat nothing that the server wrote.
func parseBundle(body []byte, resource string) (*fhirPage, error) {
	// A few bytes of JSON make a hundred of ours: a page of nothing but commas would take 80 MB.
	if bytes.Count(body, []byte{','}) > maxFHIRValues {
		return nil, errors.New("the answer has too many values")
	}
	var b fhirBundle
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, errors.New("the answer is no JSON, or breaks off")
	}
	if b.ResourceType == "OperationOutcome" {
		return nil, errors.New("the service answered with a fault of its own (OperationOutcome)")
	}
	if b.ResourceType != "Bundle" || b.Type != "searchset" {
		return nil, errors.New("the answer is no searchset")
	}
	p := &fhirPage{total: b.Total}
	for _, l := range b.Link {
		if l.Relation == "next" {
			if p.next != "" {
				return nil, errors.New("the answer has two next links")
			}
			p.next = l.URL
		}
	}
	for _, e := range b.Entry {
		var kind struct{ ResourceType string }
		if err := json.Unmarshal(e.Resource, &kind); err != nil {
			return nil, errors.New("an entry holds no resource")
		}
		r := &fhirResource{ResourceType: kind.ResourceType}
		switch kind.ResourceType {
		case "Practitioner", "PractitionerRole", "Organization", "OperationOutcome":
			if err := json.Unmarshal(e.Resource, r); err != nil {
				return nil, errors.New("a resource cannot be read")
			}
		}
		switch {
		case r.ResourceType == "OperationOutcome" || e.Search.Mode == "outcome":
			for _, i := range r.Issue {
				if i.Severity != "information" {
					return nil, errors.New("the service searched with a fault or a warning (OperationOutcome)")
				}
			}
		case e.Search.Mode == "include" || e.Search.Mode == "" && r.ResourceType != resource:
			p.included = append(p.included, r)
		case r.ResourceType == resource && (e.Search.Mode == "match" || e.Search.Mode == ""):
			p.matches = append(p.matches, r)
		default:
			return nil, fmt.Errorf("a match is no %s", resource)
		}
	}
	return p, nil
}
