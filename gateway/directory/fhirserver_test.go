package directory

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// annuaire is an HTTPS server that answers as the national service does: bundles, pages by an opaque next link, a key in a header.
type annuaire struct {
	*httptest.Server
	ca string // file of its certificate

	mu        sync.Mutex
	resources []map[string]any // in its order
	size      int              // entries on a page; 0 is 50, or what the search asks for
	noPOST    bool
	pages     map[string]any // by the id of a next link
	calls     []*http.Request
	// trouble answers in the server's place where it is set and gives true.
	trouble func(w http.ResponseWriter, r *http.Request, call int) bool
}

const nationalKey = "0000-invented-key"

func startAnnuaire(t testing.TB, resources ...map[string]any) *annuaire {
	t.Helper()
	s := &annuaire{resources: resources, pages: map[string]any{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // the test of an unknown CA makes it speak
	s.StartTLS()
	t.Cleanup(s.Close)
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, s.ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	return s
}

// asked is the calls so far.
func (s *annuaire) asked() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *annuaire) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm() // net/http sees a client go away only once the body was read
	s.mu.Lock()
	s.calls = append(s.calls, r)
	call, trouble := len(s.calls), s.trouble
	s.mu.Unlock()
	if trouble != nil && trouble(w, r, call) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("ESANTE-API-KEY") != nationalKey {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/fhir/v2/")
	kind, op, _ := strings.Cut(rest, "/")
	switch {
	case !ok:
		http.NotFound(w, r)
	case kind == "_page":
		writeFHIR(w, s.pages[r.URL.Query().Get("id")])
	case r.Method == http.MethodPost && (op != "_search" || s.noPOST):
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	default:
		writeFHIR(w, s.find(kind, r.Form))
	}
}

func writeFHIR(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/fhir+json;charset=UTF-8")
	json.NewEncoder(w).Encode(v)
}

// find gives the first page of a search and keeps the others. A string matches by its beginning, whatever its case (FHIR R4, search, "string").
func (s *annuaire) find(kind string, q url.Values) any {
	var entries []any
	total := 0 // matches alone (FHIR R4, Bundle.total)
	included := map[string]bool{}
	for _, r := range s.resources {
		if r["resourceType"] != kind || !matches(r, q) {
			continue
		}
		total++
		entries = append(entries, map[string]any{"fullUrl": s.URL + "/fhir/v2/" + kind + "/" + r["id"].(string), "resource": r, "search": map[string]any{"mode": "match"}})
		for _, want := range q["_include"] {
			_, field, _ := strings.Cut(want, ":")
			ref, _ := r[field].(map[string]any)
			for _, o := range s.resources {
				if id := fmt.Sprintf("%s/%s", o["resourceType"], o["id"]); ref["reference"] == id && !included[id] {
					included[id] = true
					entries = append(entries, map[string]any{"resource": o, "search": map[string]any{"mode": "include"}})
				}
			}
		}
	}
	if n, err := strconv.Atoi(q.Get("_count")); err == nil && s.size == 0 {
		s.size = n
	}
	return s.paged(entries, total)
}

func (s *annuaire) paged(entries []any, total int) any {
	size := s.size
	if size == 0 {
		size = 50
	}
	b := map[string]any{"resourceType": "Bundle", "type": "searchset", "total": total, "link": []any{map[string]any{"relation": "self", "url": s.URL + "/fhir/v2"}}}
	if len(entries) > size {
		id := fmt.Sprintf("%08x", len(s.pages))
		s.pages[id] = nil // its place
		s.pages[id] = s.paged(entries[size:], total)
		b["link"] = []any{map[string]any{"relation": "next", "url": s.URL + "/fhir/v2/_page?id=" + id}}
		entries = entries[:size]
	}
	if len(entries) > 0 {
		b["entry"] = entries
	}
	return b
}

func matches(r map[string]any, q url.Values) bool {
	if id := q.Get("identifier"); id != "" && !strings.Contains(asJSON(r["identifier"]), `"`+id+`"`) {
		return false
	}
	if id := q.Get("practitioner"); id != "" && !strings.Contains(asJSON(r["practitioner"]), `"Practitioner/`+id+`"`) {
		return false
	}
	box := q.Get("mailbox-mss")
	if box == "" {
		return true
	}
	list, _ := r["telecom"].([]any)
	for _, t := range list {
		if v, _ := t.(map[string]any)["value"].(string); strings.HasPrefix(strings.ToLower(v), strings.ToLower(box)) {
			return true
		}
	}
	return false
}

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// client gives a client of the server, its config changed by with.
func (s *annuaire) client(t testing.TB, with func(*FHIRConfig)) *fhir {
	t.Helper()
	cfg := FHIRConfig{URL: s.URL + "/fhir/v2/", APIKey: nationalKey, CA: s.ca}
	if with != nil {
		with(&cfg)
	}
	r, err := newFHIR(cfg, newFHIRLimit(), fixed, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close() })
	return r.(*fhir)
}

// The resources of an invented person or organisation, as the service writes them (mssante.md section 6.2, checked against the v2 guide).

func coding(system, code string) map[string]any {
	return map[string]any{"system": system, "code": code}
}

func mailbox(address, kind string, more ...any) map[string]any {
	meta := append([]any{map[string]any{"url": "type", "valueCodeableConcept": map[string]any{"coding": []any{
		coding("https://mos.esante.gouv.fr/NOS/TRE_R257-TypeBAL/FHIR/TRE-R257-TypeBAL", kind)}}}}, more...)
	return map[string]any{"system": "email", "value": address, "extension": []any{
		map[string]any{"url": extEmailType, "valueCoding": coding("https://mos.esante.gouv.fr/NOS/TRE_R256-TypeMessagerie/FHIR/TRE-R256-TypeMessagerie", "MSSANTE")},
		map[string]any{"url": extMailbox, "extension": meta}}}
}

func identifier(kind, system, value string) map[string]any {
	return map[string]any{"use": "official", "system": system, "value": value,
		"type": map[string]any{"coding": []any{coding("https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203", kind)}}}
}

func practitioner(id string, p person, telecom ...any) map[string]any {
	prefix, suffix := []any{p.title}, []any{}
	if p.title == "DR" {
		prefix, suffix = []any{"MME"}, []any{"DR"}
	}
	return map[string]any{"resourceType": "Practitioner", "id": id, "active": true, "telecom": telecom,
		"identifier": []any{identifier("IDNPS", "urn:oid:1.2.250.1.71.4.2.1", "8"+p.rpps), identifier("RPPS", "https://rpps.esante.gouv.fr", p.rpps)},
		"name":       []any{map[string]any{"use": "usual", "family": p.last, "given": []any{p.first}, "prefix": prefix, "suffix": suffix}},
		"qualification": []any{map[string]any{"code": map[string]any{"coding": []any{
			coding("https://mos.esante.gouv.fr/NOS/TRE_G15-ProfessionSante/FHIR/TRE-G15-ProfessionSante", p.professionCode),
			coding("https://mos.esante.gouv.fr/NOS/TRE_R09-CategorieProfessionnelle/FHIR/TRE-R09-CategorieProfessionnelle", "C")}}}}}
}

func practitionerRole(id, person, structure string, telecom ...any) map[string]any {
	return map[string]any{"resourceType": "PractitionerRole", "id": id, "active": true, "telecom": telecom,
		"practitioner": map[string]any{"reference": "Practitioner/" + person}, "organization": map[string]any{"reference": "Organization/" + structure}}
}

func organization(id string, p person, telecom ...any) map[string]any {
	postal, city, _ := strings.Cut(p.cityLine, " ")
	return map[string]any{"resourceType": "Organization", "id": id, "active": true, "name": p.structure,
		"identifier": []any{identifier("IDNST", "urn:oid:1.2.250.1.71.4.2.2", "1"+p.structureID), identifier("FINEG", "https://finess.esante.gouv.fr", p.structureID)},
		"address":    []any{map[string]any{"city": city, "postalCode": postal}},
		"telecom":    append([]any{map[string]any{"system": "email", "value": "contact." + p.address}, map[string]any{"system": "phone", "value": "0100000000"}}, telecom...)}
}

// national gives people as resources: an organisation's mailbox on an Organization, a person's on his role where he has a structure.
func nationalFHIR() []map[string]any {
	var all []map[string]any
	for i, p := range people {
		n := fmt.Sprint(7000 + i)
		switch box := mailbox(p.address, p.kind); {
		case p.kind == "ORG":
			all = append(all, organization("001-"+n, p, box))
		case p.structure == "":
			all = append(all, practitioner("003-"+n, p, box))
		default:
			all = append(all, practitioner("003-"+n, p), organization("001-"+n, p), practitionerRole("005-"+n, "003-"+n, "001-"+n, box))
		}
	}
	return all
}
