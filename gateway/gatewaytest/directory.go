package gatewaytest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

// ExtractionHeader are the 31 columns of the national extraction file, in its order.
var ExtractionHeader = []string{
	"Type de BAL", "Adresse BAL", "Type Identifiant PP", "Identifiant PP", "Identification nationale PP", "Type identifiant structure",
	"Identification Structure", "Service de rattachement", "Civilité d'exercice", "Nom d'exercice", "Prénom d'exercice",
	"Catégorie profession", "Libellé de catégorie profession", "Code Profession", "Libellé Profession", "Code savoir-faire",
	"Libellé savoir-faire", "Dématérialisation", "Raison Sociale structure BAL", "Enseigne commerciale structure BAL",
	"L2COMPLEMENTLOCALISATION", "L3COMPLEMENTDISTRIBUTION", "L4NUMEROVOIE", "L4COMPLEMENTNUMEROVOIE", "NL4TYPEVOIE", "L4LIBELLEVOIE",
	"L5LIEUDITMENTION", "L6LIGNEACHEMINEMENT", "Code postal", "Département", "Pays",
}

// Mailbox is one line of the extraction.
type Mailbox struct {
	Kind                       string // PER or ORG
	Address                    string
	RPPS                       string // persons: 11 digits
	Title, LastName, FirstName string
	Category                   string // "Civil"
	ProfessionCode, Profession string // "10", "Médecin"
	Speciality                 string
	Structure, StructureID     string // "CLINIQUE DU PARC", a FINESS number
	Service                    string
	PostalCode, City           string
	Department                 string
	Dematerialised             bool
}

// Doctor and Hospital are two lines for tests that need no more.
func Doctor(address, first, last string) Mailbox {
	return Mailbox{Kind: "PER", Address: address, RPPS: "10001234567", Title: "DR", FirstName: first, LastName: strings.ToUpper(last), Category: "Civil",
		ProfessionCode: "10", Profession: "Médecin", Speciality: "Médecine générale", Structure: "CABINET DU DR " + strings.ToUpper(last),
		PostalCode: "69003", City: "LYON", Department: "69", Dematerialised: true}
}

// Hospital is an organisation's mailbox.
func Hospital(address, name string) Mailbox {
	return Mailbox{Kind: "ORG", Address: address, Structure: name, StructureID: "690000001", Service: "Secrétariat médical",
		PostalCode: "69003", City: "LYON", Department: "69", Dematerialised: true}
}

// WriteDirectory writes an extraction file with these mailboxes.
func WriteDirectory(path string, boxes ...Mailbox) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make extraction: %w", err)
	}
	if err := WriteExtraction(f, boxes...); err != nil {
		f.Close()
		return fmt.Errorf("write extraction: %w", err)
	}
	return f.Close()
}

// WriteExtraction writes the header line and one line per mailbox, separated by |, lines ended by LF, as the national file is.
func WriteExtraction(w io.Writer, boxes ...Mailbox) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, strings.Join(ExtractionHeader, "|"))
	for _, m := range boxes {
		fmt.Fprintln(b, strings.Join(m.Columns(), "|"))
	}
	return b.Flush()
}

// Columns are the mailbox's 31 values in the order of ExtractionHeader.
func (m Mailbox) Columns() []string {
	v := map[string]string{
		"Type de BAL": m.Kind, "Adresse BAL": m.Address, "Identifiant PP": m.RPPS, "Identification Structure": m.StructureID,
		"Service de rattachement": m.Service, "Civilité d'exercice": m.Title, "Nom d'exercice": m.LastName, "Prénom d'exercice": m.FirstName,
		"Libellé de catégorie profession": m.Category, "Code Profession": m.ProfessionCode, "Libellé Profession": m.Profession,
		"Libellé savoir-faire": m.Speciality, "Raison Sociale structure BAL": m.Structure, "Code postal": m.PostalCode,
		"L6LIGNEACHEMINEMENT": strings.TrimSpace(m.PostalCode + " " + m.City), "Département": m.Department, "Dématérialisation": "N",
	}
	if m.RPPS != "" { // identifier type 8 is RPPS; the national identification is the type before the number
		v["Type Identifiant PP"], v["Identification nationale PP"] = "8", "8"+m.RPPS
	}
	if m.StructureID != "" {
		v["Type identifiant structure"] = "1"
	}
	if m.Category == "Civil" {
		v["Catégorie profession"] = "C"
	}
	if m.Dematerialised {
		v["Dématérialisation"] = "O"
	}
	out := make([]string, len(ExtractionHeader))
	for i, name := range ExtractionHeader {
		out[i] = v[name]
	}
	return out
}
