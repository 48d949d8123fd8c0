package gateway_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// withXDM is a message with IHE_XDM.ZIP of one CDA document about the patient.
func withXDM(t *testing.T, subject, fields, patient string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range map[string]string{
		"IHE_XDM/SUBSET01/METADATA.XML": `<a><ExternalIdentifier identificationScheme="urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427" value="` + patient + `^^^&amp;1.2.250.1.213.1.4.8&amp;ISO^NH"/></a>`,
		"IHE_XDM/SUBSET01/DOC0001.XML": `<ClinicalDocument xmlns="urn:hl7-org:v3"><code code="11502-2"/><recordTarget><patientRole><id extension="` + patient + `" root="1.2.250.1.213.1.4.8"/><patient>` +
			`<name><family>CORSE</family><given>FIGATELLIX</given></name><administrativeGenderCode code="M"/><birthTime value="19881012"/></patient></patientRole></recordTarget></ClinicalDocument>`,
	} {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	head := strings.Replace(hello[:strings.Index(hello, "\n\n")], "Subject: essai", "Subject: "+subject, 1)
	return head + "\n" + fields + "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nBonjour\n--b\n" +
		"Content-Type: application/zip; name=IHE_XDM.zip\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=IHE_XDM.zip\n\n" +
		base64.StdEncoding.EncodeToString(b.Bytes()) + "\n--b--\n"
}

const (
	ddm      = "XDM/1.0/DDM+BILAN CORSE FIGATELLIX 12/10/1988"
	patientA = "279035121518989"
	patientB = "255081416802538"
)

// TestDocuments: what a message says of its health documents is held against them; another patient's never reach a patient, whatever the
// setting.
func TestDocuments(t *testing.T) {
	rules := "rules: [{name: space, trust_domain: true, route: trust, qualified: true}, {name: patients, patient: true, route: trust, qualified: true}, {name: rest, route: plain}]\n"
	const dr, doctor = "dr@mss.clinic.test", "marie.durand@peer.mssante.test"
	start := func(t *testing.T, keys string) *inSpace {
		return newInSpace(t, rules, nil, func(h *house) {
			h.edit = func(text string) string {
				text = strings.Replace(text, `domains: {peer.mssante.test: `, `patient_domain: patient.test
  documents: {`+keys+`}
  domains: {patient.test: ["CN=mss.peer.test,O=PEER,C=FR"], peer.mssante.test: `, 1)
				return strings.Replace(text, `hosts: {peer`, `hosts: {patient.test: "{peer}", peer`, 1)
			}
		})
	}
	last := func(h *inSpace) string {
		ms := h.peer.Messages()
		if len(ms) == 0 {
			return ""
		}
		return strings.ReplaceAll(string(ms[len(ms)-1].Data), "\r\n", "\n")
	}

	t.Run("noted and filled", func(t *testing.T) {
		h := start(t, "product: DEV935997, fill: true")
		letter := withXDM(t, ddm, "", patientA)
		if got := h.send(h.lmtp, dr, letter, doctor); codes(got) != "250" {
			t.Fatal(got)
		}
		for _, f := range []string{"X-MSS-NIL: DEV935997\n", "X-MSS-CODECDA: 11502-2\n", "X-MSS-INS: O\n"} {
			if strings.Count(last(h), f) != 1 {
				t.Errorf("no %q in\n%s", f, last(h))
			}
		}
		if !strings.HasSuffix(last(h), letter) {
			t.Error("the message itself was changed")
		}
		if got := h.send(h.lmtp, dr, withXDM(t, "Bilan", "X-MSS-NIL: 3734\nX-MSS-INS: N\n", patientA), doctor); codes(got) != "250" || strings.Contains(last(h), "DEV935997") || strings.Contains(last(h), "X-MSS-INS: O") {
			t.Errorf("got %q, fields of the message's own were not kept:\n%s", got, last(h))
		}
		if got := h.send(h.lmtp, dr, withXDM(t, ddm, "", patientA), patientB+"@patient.test"); codes(got) != "550" || !strings.Contains(got[0], "autre patient") || strings.Contains(got[0], patientA) {
			t.Errorf("another patient's document: %q", got)
		}
		if got := h.send(h.lmtp, dr, withXDM(t, ddm, "X-MSS-MES: FIN\n", patientA), patientA+"@patient.test"); codes(got) != "250" || !strings.Contains(last(h), "X-MSS-MES: FIN\n") {
			t.Errorf("the patient's own: %q", got)
		}
	})
	t.Run("hidden from the check", func(t *testing.T) {
		h := start(t, "")
		right, wrong := withXDM(t, ddm, "", patientA), withXDM(t, ddm, "", patientB)
		file := wrong[strings.Index(wrong, "--b\nContent-Type: application/zip"):strings.Index(wrong, "--b--")]
		signed := strings.NewReplacer("multipart/mixed; boundary=b\n", "multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=s\n\n--s\nContent-Type: multipart/mixed; boundary=b\n",
			"--b--\n", "--b--\n--s\nContent-Type: application/pkcs7-signature\n\nAAAA\n--s--\n").Replace
		for name, letter := range map[string]string{
			"two files":         strings.Replace(right, "--b--", file+"--b--", 1),
			"another name":      strings.ReplaceAll(wrong, "IHE_XDM.zip", "dossier.zip"),
			"as a browser does": strings.ReplaceAll(wrong, "IHE_XDM.zip", "\"IHE_XDM (1).zip\""),
			"no archive's name": strings.ReplaceAll(strings.ReplaceAll(wrong, "IHE_XDM.zip", "dossier.dat"), "application/zip", "application/octet-stream"),
			"two names":         strings.Replace(wrong, "filename=IHE_XDM.zip", "filename=a.pdf", 1),
			"a long name":       strings.Replace(wrong, "filename=IHE_XDM.zip", "filename*=utf-8''%49HE%5FXDM.zip", 1),
			"signed":            signed(wrong),
			"attached":          strings.Replace(wrong, "Content-Type: multipart/mixed; boundary=b\n", "Content-Type: message/rfc822\n\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n", 1),
			"cannot be read":    strings.Replace(wrong, "UEsDB", "UE*DB", 1),
			"cut":               wrong[:strings.Index(wrong, "UEsDB")+200] + "\n--b--\n",
			"two, another name": strings.ReplaceAll(strings.Replace(right, "--b--", file+"--b--", 1), "IHE_XDM.zip", "a.zip"),
		} {
			if got := h.send(h.lmtp, dr, letter, patientA+"@patient.test"); codes(got) != "550" || strings.Contains(got[0], patientB) {
				t.Errorf("%s: %q", name, got)
			}
		}
		if n := len(h.peer.Messages()); n != 0 {
			t.Errorf("%d messages left", n)
		}
		for name, letter := range map[string]string{"another name": strings.ReplaceAll(right, "IHE_XDM.zip", "dossier.zip"), "signed": signed(right)} {
			if got := h.send(h.lmtp, dr, letter, patientA+"@patient.test"); codes(got) != "250" {
				t.Errorf("the patient's own, %s: %q", name, got)
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		h := start(t, "check: refuse")
		for name, letter := range map[string]string{"subject": withXDM(t, "Bilan", "", patientA), "codes": withXDM(t, ddm, "X-MSS-CODECDA: 34112-3\n", patientA),
			"unreadable": strings.Replace(withXDM(t, ddm, "", patientA), "UEsDB", "UEsDA", -1)} {
			if got := h.send(h.lmtp, dr, letter, doctor); codes(got) != "550" || !strings.Contains(got[0], "IHE_XDM") {
				t.Errorf("%s: %q", name, got)
			}
		}
		if n := len(h.peer.Messages()); n != 0 {
			t.Errorf("%d messages left", n)
		}
		if got := h.send(h.lmtp, dr, withXDM(t, ddm, "X-MSS-CODECDA: 11502-2\n", patientA), doctor); codes(got) != "250" {
			t.Error(got)
		}
	})
	t.Run("from outside", func(t *testing.T) {
		h := start(t, "")
		for from, keeps := range map[string]bool{"x@internet.test": false, "": false, "dr@clinic.test": true} {
			if got := h.send(h.lmtp, from, "X-MSS-INS: O\nx-mss-nil : 1\n"+hello, "dr@clinic.test"); codes(got) != "250" {
				t.Fatal(got)
			}
			ms := h.clinic.Messages()
			if has := strings.Contains(strings.ToUpper(string(ms[len(ms)-1].Data)), "X-MSS-"); has != keeps {
				t.Errorf("from %q: X-MSS fields are there: %t", from, has)
			}
		}
	})
}
