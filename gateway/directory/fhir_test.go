package directory

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConformFHIR(t *testing.T) {
	for _, noPOST := range []bool{false, true} {
		for _, size := range []int{50, 1} {
			t.Run(fmt.Sprintf("noPOST=%v,page=%d", noPOST, size), func(t *testing.T) {
				s := startAnnuaire(t, nationalFHIR()...)
				s.noPOST, s.size = noPOST, size
				f := s.client(t, nil)
				f.limit.bucket.SetLimit(1000) // the rate has a test of its own
				conform(t, f.ask)
				for _, c := range s.asked() {
					if c.Header.Get("ESANTE-API-KEY") != nationalKey {
						t.Fatal("a call without the key")
					}
					if strings.Contains(c.URL.String(), "%40") && !noPOST {
						t.Fatalf("an address stands in a URL: %s", c.URL.Path)
					}
				}
			})
		}
	}
}

var vasseur = people[0]

// TestFHIRMailboxes: which telecom entries are a mailbox of the trust space, and whose.
func TestFHIRMailboxes(t *testing.T) {
	const addr = "colette.vasseur-peuple@medecin.mssante.test"
	with := func(box map[string]any, kv ...any) map[string]any {
		box = maps.Clone(box)
		for i := 0; i < len(kv); i += 2 {
			box[kv[i].(string)] = kv[i+1]
		}
		return box
	}
	typed := func(code string) map[string]any {
		return map[string]any{"system": "email", "value": addr, "extension": []any{map[string]any{"url": extEmailType, "valueCoding": coding("", code)}}}
	}
	good := mailbox(addr, "PER")
	closed := practitioner("003-1", vasseur, good)
	closed["active"] = false
	retired := practitioner("003-1", vasseur)
	retired["active"] = false
	closedRole := practitionerRole("005-1", "003-1", "001-1", good)
	closedRole["active"] = false
	endedRole := practitionerRole("005-1", "003-1", "001-1", good)
	endedRole["period"] = map[string]any{"end": "2026-11-19"}
	lastDay := practitionerRole("005-1", "003-1", "001-1", good)
	lastDay["period"] = map[string]any{"start": "2024", "end": "2026-11-20"}
	doctor := practitioner("003-1", vasseur)
	for name, c := range map[string]struct {
		resources []map[string]any
		want      string
		check     func(Record) bool
	}{
		"personal":             {[]map[string]any{practitioner("003-1", vasseur, good)}, Verified, func(r Record) bool { return r.Kind == "PER" && r.Category == "Civil" }},
		"red list":             {[]map[string]any{practitioner("003-1", vasseur, mailbox(addr, "PER", map[string]any{"url": "listeRouge", "valueBoolean": true}))}, Verified, func(r Record) bool { return r.RedList }},
		"office":               {[]map[string]any{practitioner("003-1", vasseur, mailbox(addr, "CAB"))}, Verified, func(r Record) bool { return r.Kind == "CAB" }},
		"application":          {[]map[string]any{organization("001-1", vasseur, mailbox(addr, "APP"))}, Verified, func(r Record) bool { return r.Kind == "APP" && r.Structure == "CABINET DU PONT" }},
		"service":              {[]map[string]any{organization("001-1", vasseur, mailbox(addr, "ORG", map[string]any{"url": "service", "valueString": " Accueil\n "}))}, Verified, func(r Record) bool { return r.Service == "Accueil" }},
		"digitization":         {[]map[string]any{organization("001-1", vasseur, mailbox(addr, "ORG", map[string]any{"url": "digitization", "valueBoolean": false}))}, Verified, func(r Record) bool { return r.Dematerialised != nil && !*r.Dematerialised }},
		"type not given":       {[]map[string]any{organization("001-1", vasseur, typed("MSSANTE"))}, Verified, func(r Record) bool { return r.Kind == "ORG" && slices.Equal(r.Flags, []string{"kind-missing"}) }},
		"type unknown":         {[]map[string]any{practitioner("003-1", vasseur, mailbox(addr, "XYZ"))}, Verified, func(r Record) bool { return r.Kind == "PER" && len(r.Flags) == 1 }},
		"capitals":             {[]map[string]any{practitioner("003-1", vasseur, mailbox(strings.ToUpper(addr), "PER"))}, Verified, func(r Record) bool { return r.Address == addr }},
		"role":                 {[]map[string]any{doctor, practitionerRole("005-1", "003-1", "001-1", good)}, Verified, func(r Record) bool { return r.LastName == "VASSEUR-PEUPLE" && r.ID == vasseur.rpps }},
		"role's last day":      {[]map[string]any{doctor, lastDay}, Verified, nil},
		"both":                 {[]map[string]any{closed, doctor, practitionerRole("005-1", "003-2", "001-1", good)}, Verified, nil},
		"ordinary mail":        {[]map[string]any{organization("001-1", vasseur, map[string]any{"system": "email", "value": addr})}, NotListed, nil},
		"Apicrypt":             {[]map[string]any{practitioner("003-1", vasseur, typed("APICRYPT"))}, NotListed, nil},
		"phone":                {[]map[string]any{practitioner("003-1", vasseur, with(good, "system", "phone"))}, NotListed, nil},
		"closed":               {[]map[string]any{closed}, NotListed, nil},
		"closed role":          {[]map[string]any{doctor, closedRole}, NotListed, nil},
		"role of one retired":  {[]map[string]any{retired, practitionerRole("005-1", "003-1", "001-1", good)}, NotListed, nil},
		"role that ended":      {[]map[string]any{doctor, endedRole}, NotListed, nil},
		"old mailbox":          {[]map[string]any{practitioner("003-1", vasseur, with(good, "use", "old"))}, NotListed, nil},
		"mailbox that ended":   {[]map[string]any{practitioner("003-1", vasseur, with(good, "period", map[string]any{"end": "2026-11"}), with(good, "period", map[string]any{"end": "2026-10"}))}, Verified, nil},
		"mailbox not begun":    {[]map[string]any{practitioner("003-1", vasseur, with(good, "period", map[string]any{"start": "2026-11-20T09:00:00+01:00"}), with(good, "period", map[string]any{"start": "2027"}))}, Verified, nil},
		"mailbox of next year": {[]map[string]any{practitioner("003-1", vasseur, with(good, "period", map[string]any{"start": "2027"}))}, NotListed, nil},
		"unreadable end":       {[]map[string]any{practitioner("003-1", vasseur, with(good, "period", map[string]any{"end": "demain"}))}, NotListed, nil},
		"longer address":       {[]map[string]any{practitioner("003-1", vasseur, mailbox(addr+".example", "PER"))}, NotListed, nil},
		"no address":           {[]map[string]any{practitioner("003-1", vasseur, mailbox("x", "PER"), mailbox("", "PER"))}, NotListed, nil},
		"nobody":               {nil, NotListed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := startAnnuaire(t, c.resources...).client(t, nil)
			recs, err := f.ask(t.Context(), address(t, addr))
			if v := verdictOf(recs, err); v != c.want {
				t.Fatalf("got %s (%v), want %s: %+v", v, err, c.want, recs)
			}
			if c.check != nil && (len(recs) != 1 || !c.check(recs[0])) {
				t.Fatalf("got %+v", recs)
			}
		})
	}
}

// TestFHIRFaults: whatever goes wrong, the address is verified in the end or could not be asked; nothing says that it is not listed, and no
// error repeats the address or the key.
func TestFHIRFaults(t *testing.T) {
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("another server was called, with the key %q", r.Header.Get("ESANTE-API-KEY"))
	}))
	t.Cleanup(other.Close)
	reply := func(status int, contentType, body string, header ...string) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, r *http.Request, _ int) bool {
			w.Header().Set("Content-Type", contentType)
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
			return true
		}
	}
	const fhirJSON, empty = "application/fhir+json", `{"resourceType":"Bundle","type":"searchset","total":0}`
	bundle := func(rest string) func(http.ResponseWriter, *http.Request, int) bool {
		return reply(200, fhirJSON, `{"resourceType":"Bundle","type":"searchset"`+rest+`}`)
	}
	// the first n calls have the trouble, then the server is well
	first := func(n int, do func(http.ResponseWriter, *http.Request, int) bool) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, r *http.Request, call int) bool { return call <= n && do(w, r, call) }
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	io.CopyN(z, zeros{}, 64<<20)
	z.Close()
	hangUp := func(w http.ResponseWriter, r *http.Request, _ int) bool { panic(http.ErrAbortHandler) }
	for name, c := range map[string]struct {
		trouble func(http.ResponseWriter, *http.Request, int) bool
		want    string
		why     string
		in      time.Duration // deadline of the asker, 0 is 5 s
	}{
		"429, then well":        {first(1, reply(429, "text/plain", "", "Retry-After", "1")), Verified, "", 0},
		"429 for an hour":       {reply(429, "text/plain", "", "Retry-After", "3600"), CouldNotAsk, "429", 0},
		"429 until a date":      {reply(429, "text/plain", "", "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), CouldNotAsk, "429", 0},
		"503 with Retry-After":  {first(1, reply(503, "text/html", "<html>", "Retry-After", "1")), Verified, "", 0},
		"502 twice, then well":  {first(2, reply(502, "text/html", "<html>Bad Gateway")), Verified, "", 0},
		"502 for good":          {reply(502, "text/html", "<html>Bad Gateway"), CouldNotAsk, "502", 0},
		"500":                   {reply(500, fhirJSON, `{"resourceType":"OperationOutcome"}`), CouldNotAsk, "500", 0},
		"401":                   {reply(401, "application/json", `{"message":"Unauthorized"}`), CouldNotAsk, "API key", 0},
		"400":                   {reply(400, fhirJSON, `{"resourceType":"OperationOutcome"}`), CouldNotAsk, "400", 0},
		"404":                   {reply(404, "text/html", ""), CouldNotAsk, "404", 0},
		"204":                   {reply(204, fhirJSON, ""), CouldNotAsk, "204", 0},
		"HTML page with 200":    {reply(200, "text/html", "<html>Maintenance"), CouldNotAsk, "Content-Type", 0},
		"no content type":       {reply(200, "", empty), CouldNotAsk, "Content-Type", 0},
		"HTML called JSON":      {reply(200, fhirJSON, "<html>Maintenance"), CouldNotAsk, "no JSON", 0},
		"empty body":            {reply(200, fhirJSON, ""), CouldNotAsk, "no JSON", 0},
		"truncated JSON":        {reply(200, fhirJSON, empty[:30]), CouldNotAsk, "no JSON", 0},
		"two answers":           {reply(200, fhirJSON, empty+empty), CouldNotAsk, "no JSON", 0},
		"null":                  {reply(200, fhirJSON, "null"), CouldNotAsk, "searchset", 0},
		"an empty object":       {reply(200, fhirJSON, "{}"), CouldNotAsk, "searchset", 0},
		"another resource":      {reply(200, fhirJSON, `{"resourceType":"CapabilityStatement"}`), CouldNotAsk, "searchset", 0},
		"another bundle":        {reply(200, fhirJSON, `{"resourceType":"Bundle","type":"history"}`), CouldNotAsk, "searchset", 0},
		"outcome with 200":      {reply(200, fhirJSON, `{"resourceType":"OperationOutcome","issue":[{"severity":"error"}]}`), CouldNotAsk, "OperationOutcome", 0},
		"outcome in the bundle": {bundle(`,"entry":[{"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"not-found"}]},"search":{"mode":"outcome"}}]`), CouldNotAsk, "warning", 0},
		"wrong type":            {bundle(`,"entry":[{"resource":{"resourceType":"Device","id":"1"},"search":{"mode":"match"}}]`), CouldNotAsk, "a match is no", 0},
		"null entry":            {bundle(`,"entry":[null]`), CouldNotAsk, "no resource", 0},
		"matches announced":     {bundle(`,"total":2`), CouldNotAsk, "announced", 0},
		"deep JSON":             {bundle(`,"x":` + strings.Repeat("[", 1<<18) + strings.Repeat("]", 1<<18)), CouldNotAsk, "no JSON", 0},
		"deep extension":        {bundle(`,"entry":[{"resource":{"resourceType":"Practitioner","telecom":[` + strings.Repeat(`{"extension":[`, 15000) + strings.Repeat("]}", 15000) + `]}}]`), CouldNotAsk, "no JSON", 0},
		"a match is withheld": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			return strings.Contains(r.URL.Path, "PractitionerRole") && bundle(`,"total":2,"entry":[{"resource":{"resourceType":"PractitionerRole","id":"1"}}]`)(w, r, n)
		}, CouldNotAsk, "announced", 0},
		"a match too many is announced": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			return strings.Contains(r.URL.Path, "Organization") && bundle(`,"total":2`)(w, r, n)
		}, Verified, "", 0},
		"oversize":             {bundle(`,"x":"` + strings.Repeat("x", maxFHIRPage) + `"`), CouldNotAsk, "larger", 0},
		"gzip bomb":            {reply(200, fhirJSON, bomb.String(), "Content-Encoding", "gzip"), CouldNotAsk, "larger", 0},
		"broken gzip":          {reply(200, fhirJSON, bomb.String()[:200], "Content-Encoding", "gzip"), CouldNotAsk, "breaks off", 0},
		"next on another host": {bundle(`,"link":[{"relation":"next","url":"` + other.URL + `/fhir/v2/_page?id=1"}]`), CouldNotAsk, "another server", 0},
		"next without TLS":     {bundle(`,"link":[{"relation":"next","url":"http://127.0.0.1/fhir/v2/_page?id=1"}]`), CouldNotAsk, "another server", 0},
		"next of no scheme":    {bundle(`,"link":[{"relation":"next","url":"//` + strings.TrimPrefix(other.URL, "https://") + `/x"}]`), CouldNotAsk, "another server", 0},
		"next with a user":     {bundle(`,"link":[{"relation":"next","url":"https://a:b@127.0.0.1/x"}]`), CouldNotAsk, "another server", 0},
		"next that is no URL":  {bundle(`,"link":[{"relation":"next","url":"::"}]`), CouldNotAsk, "no URL", 0},
		"two next links":       {bundle(`,"link":[{"relation":"next","url":"a"},{"relation":"next","url":"b"}]`), CouldNotAsk, "two next", 0},
		"pages that go round":  {bundle(`,"link":[{"relation":"next","url":"_page?id=1"}]`), CouldNotAsk, "go round", 0},
		"pages without end": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			return bundle(fmt.Sprintf(`,"link":[{"relation":"next","url":"_page?id=%d"}]`, n))(w, r, n)
		}, CouldNotAsk, "more than", 30 * time.Second},
		"redirect to another host": {reply(302, "text/html", "", "Location", other.URL), CouldNotAsk, "redirects", 0},
		"redirect that keeps POST": {reply(307, "text/html", "", "Location", other.URL), CouldNotAsk, "redirects", 0},
		"hangs up once":            {first(1, hangUp), Verified, "", 0},
		"hangs up":                 {hangUp, CouldNotAsk, "EOF", 0},
		"slow":                     {func(w http.ResponseWriter, r *http.Request, _ int) bool { <-r.Context().Done(); return true }, CouldNotAsk, "deadline", time.Second},
		"body that drips":          {drip, CouldNotAsk, "deadline", time.Second},
		"one of three is down": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			return strings.Contains(r.URL.Path, "Organization") && reply(502, "", "")(w, r, n)
		}, CouldNotAsk, "Organization", 0},
		"a warning that informs": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			return strings.Contains(r.URL.Path, "Organization") && bundle(`,"entry":[{"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"information"}]},"search":{"mode":"outcome"}}]`)(w, r, n)
		}, Verified, "", 0},
		"an inclusion of any shape": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			return strings.Contains(r.URL.Path, "Organization") && bundle(`,"entry":[{"resource":{"resourceType":"Location","address":"x"},"search":{"mode":"include"}}]`)(w, r, n)
		}, Verified, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startAnnuaire(t, nationalFHIR()...)
			s.trouble = c.trouble
			f := s.client(t, nil)
			f.limit.bucket.SetLimit(1000)
			if c.in == 0 {
				c.in = 20 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.in)
			defer cancel()
			began := time.Now()
			recs, err := f.ask(ctx, address(t, vasseur.address))
			if v := verdictOf(recs, err); v != c.want {
				t.Fatalf("got %s (%v), want %s: %+v", v, err, c.want, recs)
			}
			if d := time.Since(began); d > c.in+10*time.Second {
				t.Errorf("took %s of %s", d, c.in)
			}
			if err == nil {
				return
			}
			if !strings.Contains(err.Error(), c.why) {
				t.Errorf("got %q, want %q in it", err, c.why)
			}
			for _, secret := range []string{nationalKey, "vasseur", "VASSEUR", "medecin.mssante"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error tells %q: %v", secret, err)
				}
			}
		})
	}
}

// TestFHIRMemory: no page makes the reader take many times its size.
func TestFHIRMemory(t *testing.T) {
	fill := func(before, unit, after string) []byte {
		n := (maxFHIRPage - len(before) - len(after)) / (len(unit) + 1)
		return []byte(before + strings.Repeat(unit+",", n) + unit + after)
	}
	const head = `{"resourceType":"Bundle","type":"searchset","entry":[`
	role := head + `{"resource":{"resourceType":"PractitionerRole","telecom":[`
	for name, body := range map[string][]byte{
		"entries": fill(head, "{}", "]}"), "numbers": fill(role, "0", "]}}]}"), "nulls": fill(role+`{"extension":[`, "null", "]}]}}]}"),
		"objects": fill(role+`{"extension":[`, "{}", "]}]}}]}"), "lists": fill(head+`{"resource":{"resourceType":"Practitioner","x":`, "[]", "}}]}"),
		"brackets": []byte(head + strings.Repeat("[", maxFHIRPage/2) + strings.Repeat("]", maxFHIRPage/2) + "]}"),
		"links":    fill(`{"resourceType":"Bundle","type":"searchset","link":[`, `{"url":""}`, "]}"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		page, err := parseBundle(body, "PractitionerRole")
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 12 || err == nil {
			t.Errorf("%s: %d MiB for 1 MiB (%v, %v)", name, took, page, err)
		}
	}
	most := fill(role+`{"extension":[`, "{"+strings.Repeat(" ", maxFHIRPage/maxFHIRValues)+"}", "]}]}}]}")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := parseBundle(most, "PractitionerRole")
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 24 || err != nil {
		t.Errorf("the most that is read: %d MiB for 1 MiB (%v)", took, err)
	}
}

func drip(w http.ResponseWriter, r *http.Request, _ int) bool {
	w.Header().Set("Content-Type", "application/fhir+json")
	for r.Context().Err() == nil {
		io.WriteString(w, " ")
		http.NewResponseController(w).Flush()
		time.Sleep(20 * time.Millisecond)
	}
	return true
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestFHIRUnknownCA(t *testing.T) {
	s := startAnnuaire(t, nationalFHIR()...)
	f := s.client(t, func(c *FHIRConfig) { c.CA = "" })
	recs, err := f.ask(t.Context(), address(t, vasseur.address))
	if err == nil || !strings.Contains(err.Error(), "certificate") || len(s.asked()) > 0 {
		t.Fatalf("got %v, %v and %d calls", recs, err, len(s.asked()))
	}
}

func TestFHIRServerAway(t *testing.T) {
	s := startAnnuaire(t, nationalFHIR()...)
	f := s.client(t, nil)
	s.Close()
	if recs, err := f.ask(t.Context(), address(t, vasseur.address)); err == nil || strings.Contains(err.Error(), "vasseur") {
		t.Fatalf("got %v, %v", recs, err)
	}
}

// A page may repeat a resource of the one before it: one record.
func TestFHIRDuplicates(t *testing.T) {
	p := practitioner("003-1", vasseur, mailbox(vasseur.address, "PER"), mailbox(strings.ToUpper(vasseur.address), "PER"))
	s := startAnnuaire(t, p, p, p)
	s.size = 1
	recs, err := s.client(t, nil).ask(t.Context(), address(t, vasseur.address))
	if err != nil || len(recs) != 1 {
		t.Fatalf("got %d records, %v", len(recs), err)
	}
}

func TestFHIRKeepsConnections(t *testing.T) {
	s := startAnnuaire(t, nationalFHIR()...)
	f := s.client(t, nil)
	f.limit.bucket.SetLimit(1000)
	seen := map[string]bool{}
	for range 10 {
		if _, err := f.ask(t.Context(), address(t, vasseur.address)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range s.asked() {
		seen[c.RemoteAddr] = true
	}
	if len(s.asked()) != 30 || len(seen) > 6 {
		t.Fatalf("%d calls over %d connections", len(s.asked()), len(seen))
	}
}

func TestFHIRConfigFaults(t *testing.T) {
	for _, c := range []FHIRConfig{{URL: ""}, {URL: "gateway.test/fhir"}, {URL: "http://gateway.test/fhir/v2"}, {URL: "https://u:p@gateway.test/"}, {URL: "https://gateway.test/?k=1"},
		{URL: "ftp://127.0.0.1/"}, {URL: "https://gateway.test", CA: "/nowhere"}, {URL: "https://gateway.test", CA: "fhir_test.go"}} {
		if r, err := newFHIR(c, newFHIRLimit(), fixed, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v: taken", c)
			r.close()
		}
	}
	if s := fmt.Sprintf("%v %+v %#v", FHIRConfig{APIKey: nationalKey}, FHIRConfig{APIKey: nationalKey}, FHIRConfig{APIKey: nationalKey}); strings.Contains(s, nationalKey) {
		t.Error("the key is printed")
	}
}
