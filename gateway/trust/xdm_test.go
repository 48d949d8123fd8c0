package trust

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"passerelle/gateway/message"
)

const (
	insA = "279035121518989"
	insB = "255081416802538"
)

// cda is the head of a document as French software writes it.
func cda(code, ins string, traits bool) string {
	patient := ""
	if traits {
		patient = `<patient><name><family qualifier="BR">CORSE</family><given>FIGATELLIX</given></name><administrativeGenderCode code="M" codeSystem="2.16.840.1.113883.5.1"/><birthTime value="19881012"/></patient>`
	}
	return `<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.3"/><code code="` + code + `" codeSystem="2.16.840.1.113883.6.1"/>` +
		`<recordTarget><patientRole><id extension="` + ins + `" root="1.2.250.1.213.1.4.8"/><id extension="42" root="1.2.3.4"/>` + patient + `</patientRole></recordTarget>` +
		`<component><structuredBody><code code="not-this"/></structuredBody></component></ClinicalDocument>`
}

func metadata(ins string) string {
	return `<?xml version="1.0"?><lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"><RegistryObjectList><ExtrinsicObject>` +
		`<ExternalIdentifier identificationScheme="urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427" value="` + ins + `^^^&amp;1.2.250.1.213.1.4.8&amp;ISO^NH"/>` +
		`<ExternalIdentifier identificationScheme="urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab" value="1.2.3"/></ExtrinsicObject></RegistryObjectList></lcm:SubmitObjectsRequest>`
}

func xdmZip(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readXDM(b []byte) (*XDM, error) { return ReadXDM(bytes.NewReader(b), int64(len(b))) }

func TestReadXDM(t *testing.T) {
	x, err := readXDM(xdmZip(t, "README.TXT", "x", "INDEX.HTM", "<html>", "IHE_XDM/SUBSET01/METADATA.XML", metadata(insA),
		"IHE_XDM/SUBSET01/DOC0001.XML", cda("11502-2", insA, true), "IHE_XDM\\SUBSET01\\doc0002.xml", cda("18748-4", insA[:13], true), "IHE_XDM/SUBSET01/STYLE.XML", "<style/>"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(x.Patients, []string{insA}) || !slices.Equal(x.Codes, []string{"11502-2", "18748-4"}) || !x.Qualified {
		t.Errorf("got %+v", x)
	}
	x, err = readXDM(xdmZip(t, "IHE_XDM/SUBSET01/METADATA.XML", metadata(insA), "IHE_XDM/SUBSET01/DOC0001.XML", cda("11502-2", insB, false)))
	if err != nil || x.Qualified || len(x.Patients) != 2 {
		t.Errorf("got %+v %v, want two patients, not qualified", x, err)
	}
	latin := strings.Replace(strings.Replace(cda("1", insA, true), "UTF-8", "ISO-8859-1", 1), "CORSE", "B\xe9RAUD", 1)
	if x, err = readXDM(xdmZip(t, "METADATA.XML", metadata(insA), "A.XML", latin)); err != nil || !x.Qualified {
		t.Errorf("latin-1: %+v %v", x, err)
	}
}

func TestReadXDMRefuses(t *testing.T) {
	m := metadata(insA)
	many := make([]string, 0, 2*maxXDMEntries+4)
	for i := range maxXDMEntries + 1 {
		many = append(many, fmt.Sprint("f", i), "")
	}
	flood := strings.Repeat(`<ExternalIdentifier identificationScheme="urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427" value="%d"/>`, 1)
	var patients strings.Builder
	for i := range maxPatients + 1 {
		fmt.Fprintf(&patients, strings.Replace(flood, "%d", "%013d^^^&amp;1.2.250.1.213.1.4.8&amp;ISO", 1), i)
	}
	long := strings.Repeat("n", 60_000)
	half := "<ClinicalDocument>" + strings.Repeat("<a/>", maxXMLTokens/4) + "</ClinicalDocument>" // a few KiB of archive
	for name, c := range map[string]struct {
		file  []byte
		limit bool
	}{
		"no zip":          {[]byte("PK but no archive"), false},
		"no metadata":     {xdmZip(t, "IHE_XDM/SUBSET01/DOC0001.XML", cda("1", insA, true)), false},
		"document type":   {xdmZip(t, "METADATA.XML", `<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`), false},
		"entity":          {xdmZip(t, "METADATA.XML", `<a>&b;</a>`), false},
		"truncated":       {xdmZip(t, "METADATA.XML", m[:len(m)-30]), false},
		"crossed":         {xdmZip(t, "METADATA.XML", "<a><b></a></b>"), false},
		"unknown charset": {xdmZip(t, "METADATA.XML", `<?xml version="1.0" encoding="x-none"?><a/>`), false},
		"deep":            {xdmZip(t, "METADATA.XML", strings.Repeat("<a>", maxXMLDepth+1)), true},
		"large":           {xdmZip(t, "METADATA.XML", "<a>"+strings.Repeat(" ", maxXDMFile)), true},
		"one long tag":    {xdmZip(t, "METADATA.XML", `<a b="`+strings.Repeat("x", maxXMLToken+8<<10)+`"/>`), true},
		"tokens":          {xdmZip(t, "METADATA.XML", m, "A.XML", half, "B.XML", half), true},
		"entries":         {xdmZip(t, many...), true},
		"directory":       {xdmZip(t, append([]string{"METADATA.XML", m}, slices.Repeat([]string{long, ""}, 20)...)...), true},
		"patients":        {xdmZip(t, "METADATA.XML", "<a>"+patients.String()+"</a>"), true},
	} {
		if x, err := readXDM(c.file); err == nil || errors.Is(err, errXDMLimit) != c.limit {
			t.Errorf("%s: got %+v, %v", name, x, err)
		}
	}
}

// What is wrong with a document goes to the log: no word of it does.
func TestXDMFaultTellsNothing(t *testing.T) {
	_, err := readXDM(xdmZip(t, "METADATA.XML", metadata(insA), "DOC0001.XML", strings.Replace(cda("1", insA, true), "CORSE", "LES&FIGATELLIX", 1)))
	if err == nil || strings.Contains(err.Error(), "FIGATELLIX") || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("got %v", err)
	}
}

func TestXDMCheck(t *testing.T) {
	x := &XDM{Patients: []string{insA}, Codes: []string{"11502-2", "18748-4"}, Qualified: true}
	const good = "Subject: XDM/1.0/DDM+ECHOGRAPHIE CORSE FIGATELLIX 12/10/1988\n"
	for _, c := range []struct {
		name, header, ins string
		x                 *XDM
		want              string
		wrong             bool
	}{
		{"all fits", good + "X-MSS-CODECDA: 18748-4, 11502-2\nX-MSS-INS: O\n", insA, x, "", false},
		{"without fields", good, insA[:13] + "00", x, "", false},
		{"replaced", "Subject: [Annule et remplace] XDM/1.0/DDM+CR CORSE FIGATELLIX\n", "", x, "", false},
		{"another patient", good, insB, x, "", true},
		{"codes", good + "X-MSS-CODECDA: 11502-2\n", "", x, "CODECDA", false},
		{"not qualified", good + "X-MSS-INS: O\n", "", &XDM{Codes: []string{"1"}}, "lacks the INS", false},
		{"neither", good + "X-MSS-INS: oui\n", "", x, "neither", false},
		{"no document", good + "X-MSS-INS: N\n", "", &XDM{}, "without a CDA", false},
		{"subject", "Subject: Compte rendu\n", "", x, "subject", false},
		{"several", good, "", &XDM{Patients: []string{insA, insB}}, "several patients", false},
		{"one of several is another's", good, insA, &XDM{Patients: []string{insA, insB}}, "several patients", true},
	} {
		h, _, err := message.ReadHeader(message.BytesBody([]byte(strings.ReplaceAll(c.header+"\n", "\n", "\r\n"))), 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		faults, wrong := c.x.Check(h, c.ins)
		if got := strings.Join(faults, "; "); wrong != c.wrong || (c.want == "") != (got == "") || !strings.Contains(got, c.want) || strings.Contains(got, insA) {
			t.Errorf("%s: got %q %t", c.name, got, wrong)
		}
	}
}

func FuzzXDM(f *testing.F) {
	f.Add(xdmZip(f, "METADATA.XML", metadata(insA), "DOC0001.XML", cda("11502-2", insA, true)))
	f.Add([]byte("PK"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := readXDM(b); err == nil && (len(x.Patients) > maxPatients || len(x.Codes) > maxCodes) {
			t.Errorf("over the limits: %d patients, %d codes", len(x.Patients), len(x.Codes))
		}
	})
}
