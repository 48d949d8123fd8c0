package demo

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/gateway/gatewaytest"
)

// world is everybody around the gateway.
type world struct {
	peer, internet, clinic *gatewaytest.NextHop
	sms                    *gatewaytest.SMS
	key                    *openpgp.Entity // of the colleague
	config                 string
	lmtpAddr, metricsAddr  string
	portalAddr             string
	link                   string // a pickup link left for the reader
	attachment             []byte
}

const (
	sender    = "dr.martin@clinique.example"
	doctor    = "anne.durand@medecin.mssante.example"
	hospital  = "secretariat.cardiologie@ch.mssante.example"
	patientMS = "279035121518989@patient.mssante.example"
	colleague = "p.leroy@cabinet-leroy.example"
	zipper    = "contact@labo-rivoli.example"
	patient   = "mme.petit@courrier.example"
	stranger  = "jean.refus@courrier.example"
)

func newWorld(dir string) (w *world, err error) {
	w = &world{attachment: bytes.Repeat([]byte("%PDF-1.4 compte rendu, piece jointe de la demonstration\n"), 400)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	ca, err := gatewaytest.NewCA("AC de demonstration de l'espace de confiance")
	if err != nil {
		return nil, err
	}
	peer, err := ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"CH EXEMPLE"}, CommonName: "mss.ch.example"}, "mss.ch.example")
	if err != nil {
		return nil, err
	}
	own, err := ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"CLINIQUE EXEMPLE"}, CommonName: "mss.clinique.example"}, "mss.clinique.example")
	if err != nil {
		return nil, err
	}
	tlsDir := filepath.Join(dir, "tls")
	if err := ca.WriteDir(tlsDir, own); err != nil {
		return nil, err
	}
	if w.peer, err = gatewaytest.StartNextHop(gatewaytest.Options{Hostname: "mss.ch.example", TLS: ca.ServerTLS(peer, true), RequireTLS: true, RequireClientCert: true}); err != nil {
		return nil, err
	}
	if w.internet, err = gatewaytest.StartNextHop(gatewaytest.Options{Hostname: "relais.fai.example"}); err != nil {
		return nil, err
	}
	if w.clinic, err = gatewaytest.StartNextHop(gatewaytest.Options{Hostname: "postfix.clinique.example"}); err != nil {
		return nil, err
	}
	w.sms = gatewaytest.StartSMS()
	if err := gatewaytest.WriteDirectory(filepath.Join(dir, "extraction.txt"), gatewaytest.Doctor(doctor, "Anne", "Durand"), gatewaytest.Hospital(hospital, "CH EXEMPLE")); err != nil {
		return nil, err
	}
	if err := w.writeKey(filepath.Join(dir, "leroy.asc")); err != nil {
		return nil, err
	}
	list := fmt.Sprintf(ownList, colleague, zipper, patient, stranger)
	if err := os.WriteFile(filepath.Join(dir, "correspondants.yaml"), []byte(list), 0o600); err != nil {
		return nil, err
	}
	ports, err := freeAddrs(4)
	if err != nil {
		return nil, err
	}
	w.lmtpAddr, w.portalAddr, w.metricsAddr = ports[0], ports[1], ports[2]
	w.config = strings.NewReplacer("{lmtp}", w.lmtpAddr, "{portal}", w.portalAddr, "{metrics}", w.metricsAddr, "{dir}", dir, "{tls}", tlsDir,
		"{clinic}", w.clinic.Addr(), "{internet}", w.internet.Addr(), "{peer}", w.peer.Addr(), "{sms}", w.sms.URL()).Replace(configText)
	return w, nil
}

// writeKey makes the colleague's OpenPGP key; only its public half reaches the gateway.
func (w *world) writeKey(path string) error {
	e, err := openpgp.NewEntity("P. Leroy", "", colleague, nil)
	if err != nil {
		return err
	}
	w.key = e
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	a, err := armor.Encode(f, "PGP PUBLIC KEY BLOCK", nil)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(e.Serialize(a), a.Close(), f.Close())
}

func (w *world) close() {
	for _, h := range []*gatewaytest.NextHop{w.peer, w.internet, w.clinic} {
		if h != nil {
			h.Close()
		}
	}
	if w.sms != nil {
		w.sms.Close()
	}
}

// printTexts shows what the SMS provider is given until ctx ends.
func (w *world) printTexts(ctx context.Context, out io.Writer) {
	for n := len(w.sms.Messages()); ; n++ {
		texts, err := w.sms.Wait(ctx, n+1)
		if err != nil {
			return
		}
		fmt.Fprintf(out, "SMS to %s: %s\n", texts[n].To, texts[n].Text)
	}
}

func freeAddrs(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

const ownList = `# the clinic's own list of correspondents
- address: %s
  name: Cabinet Leroy
  person: professional
  openpgp: leroy.asc
- address: %s
  name: Laboratoire Rivoli
  person: professional
  form: zip
  prefer: encrypt
  phone: "06 12 34 56 78"
- address: %s
  name: Mme Petit
  person: patient
  phone: "06 98 76 54 32"
- address: %s
  name: M. Refus
  person: patient
  opposed: true
`

const configText = `mode: enforce
hostname: passerelle.clinique.example
state_dir: {dir}/state
clinic:
  name: Clinique Exemple
  phone: "+33 4 00 00 00 00"
  domains: [clinique.example]
listen:
  lmtp: {addr: "{lmtp}"}
  smtp: {addr: ""}
  portal: {addr: "{portal}"}
  metrics: {addr: "{metrics}"}
hops:
  clinic: {addr: "{clinic}", tls: none}
  internet: {addr: "{internet}", tls: opportunistic}
trust:
  domains:
    medecin.mssante.example: ["CN=mss.ch.example,O=CH EXEMPLE,C=FR"]
    ch.mssante.example: ["CN=mss.ch.example,O=CH EXEMPLE,C=FR"]
    patient.mssante.example: ["CN=mss.ch.example,O=CH EXEMPLE,C=FR"]
  hosts:
    medecin.mssante.example: "{peer}"
    ch.mssante.example: "{peer}"
    patient.mssante.example: "{peer}"
  own_domains: [clinique.example]
  tls_dir: {tls}
  patient_domain: patient.mssante.example
directory:
  extraction: {dir}/extraction.txt
  list: {dir}/correspondants.yaml
pickup:
  url: http://{portal}
sms:
  url: {sms}
rules:
  - name: patients of Mon espace sante
    patient: true
    route: trust
    qualified: true
  - name: professionals in the directory
    verdict: [verified]
    route: trust
  - name: as the correspondent prefers
    has: [preferred]
    preferred: true
  - name: correspondents with a key
    has: [openpgp]
    route: encrypt
    form: openpgp
  - name: everyone else
    route: pickup
`
