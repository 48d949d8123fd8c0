package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// bundle answers a search for one mailbox as the national service does (docs/operations.md, Annuaire Santé FHIR v2).
const bundle = `{"resourceType":"Bundle","type":"searchset","total":1,"entry":[{"search":{"mode":"match"},"resource":{"resourceType":"Practitioner","id":"1","active":true,
 "identifier":[{"use":"official","system":"https://rpps.esante.gouv.fr","value":"10003456786","type":{"coding":[{"system":"https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203","code":"RPPS"}]}}],
 "name":[{"use":"usual","family":"ROUX","given":["Anne"]}],
 "telecom":[{"system":"email","value":"%s","extension":[
  {"url":"https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-contact-point-email-type","valueCoding":{"system":"https://mos.esante.gouv.fr/NOS/TRE_R256-TypeMessagerie/FHIR/TRE-R256-TypeMessagerie","code":"MSSANTE"}},
  {"url":"https://interop.esante.gouv.fr/ig/fhir/annuaire/StructureDefinition/as-ext-mailbox-mss-metadata","extension":[
   {"url":"type","valueCodeableConcept":{"coding":[{"system":"https://mos.esante.gouv.fr/NOS/TRE_R257-TypeBAL/FHIR/TRE-R257-TypeBAL","code":"PER"}]}}]}]}]}}]}`

// Whom the extraction does not show waits until FHIR was asked in the background, and then goes; a stranger is "not listed" only once FHIR said so.
func TestFHIRBesideTheExtraction(t *testing.T) {
	var calls atomic.Int32
	var away atomic.Bool
	fhir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if away.Load() {
			http.Error(w, "<html>maintenance</html>", http.StatusBadGateway)
			return
		}
		r.ParseForm()
		w.Header().Set("Content-Type", "application/fhir+json")
		if strings.Contains(r.URL.Path, "/Practitioner/") && !strings.Contains(r.URL.Path, "Role") || strings.HasSuffix(r.URL.Path, "/Practitioner") {
			if strings.Contains(r.Form.Encode(), "anne.roux") {
				fmt.Fprintf(w, bundle, "anne.roux@peer.mssante.test")
				return
			}
		}
		fmt.Fprint(w, `{"resourceType":"Bundle","type":"searchset","total":0}`)
	}))
	defer fhir.Close()
	h := newInSpace(t, "rules:\n  - {name: known, domain: [peer.mssante.test], verdict: [verified], route: trust}\n  - {name: strangers, domain: [peer.mssante.test], route: refuse, text: Inconnu}\n"+
		"  - {name: rest, route: plain}\n#directory: fhir: {url: \""+fhir.URL+"/fhir/v2\"}\n", nil, nil)
	const from = "dr@mss.clinic.test"
	until := func(to, code, words string) {
		t.Helper()
		var got []string
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			got = h.send(h.lmtp, from, hello, to)
			if codes(got) == code && strings.Contains(got[0], words) {
				return
			}
			if codes(got) != "451" { // never anything but later before the answer
				break
			}
		}
		t.Fatalf("%s: %q\n%s", to, got, h.log.String())
	}
	if got := h.send(h.lmtp, from, hello, "anne.roux@peer.mssante.test"); codes(got) != "451" || !strings.Contains(got[0], "pas encore interroge") {
		t.Errorf("before FHIR was asked: %q", got)
	}
	until("anne.roux@peer.mssante.test", "250", "")
	if got := h.send(h.lmtp, from, hello, "marie.durand@peer.mssante.test"); codes(got) != "250" {
		t.Errorf("the extraction's own: %q", got)
	}
	until("stranger@peer.mssante.test", "550", "Inconnu")
	before := calls.Load()
	if got := h.send(h.lmtp, from, hello, "someone@dest.test"); codes(got) != "250" || calls.Load() != before {
		t.Errorf("an ordinary address: %q, %d calls", got, calls.Load()-before)
	}
	away.Store(true)
	until("other@peer.mssante.test", "451", "annuaire injoignable")
	if got := h.send(h.lmtp, from, hello, "anne.roux@peer.mssante.test"); codes(got) != "250" {
		t.Errorf("a dated answer while FHIR is away: %q", got)
	}
	if len(h.sink.To("other@peer.mssante.test"))+len(h.peer.To("other@peer.mssante.test")) != 0 {
		t.Error("a doubt opened")
	}
	x, err := h.g.Explain(t.Context(), from, "anne.roux@peer.mssante.test", []byte(strings.ReplaceAll(hello, "\n", "\r\n")))
	if err != nil || len(x.Answer.Sources) != 2 || x.Answer.Source != "fhir" || len(x.Answer.Contradictions) != 1 {
		t.Errorf("%v %+v", err, x.Answer)
	}
	if strings.Contains(h.log.String(), "anne.roux") || strings.Contains(h.log.String(), "ROUX") {
		t.Error("the log names who was asked about")
	}
}
