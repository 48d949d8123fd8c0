package trust

import (
	"archive/zip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"

	"passerelle/gateway/message"
)

// XDMName is the file in which health documents travel (Référentiel #2, ECO.2.1.1), in any case of letters.
const XDMName = "IHE_XDM.ZIP"

// XDM is what an IHE_XDM.ZIP (IHE ITI TF-2 section 3.32) says of its patient and its documents.
type XDM struct {
	// Patients are the INS of METADATA.XML and of the documents, each once: 13 or 15 characters as they stand there.
	Patients []string
	// Codes are the ClinicalDocument/code of its CDA documents, each once, in their order.
	Codes []string
	// Qualified: every CDA document has an INS with its OID and the four traits (names, sex, date of birth). False without any.
	Qualified bool

	tokens int // read so far
}

// Limits of what is read of a file that a stranger made.
const (
	maxXDMEntries   = 2000
	maxXDMDirectory = 1 << 20   // octets that are read to list the archive
	maxXDMFile      = 64 << 20  // octets of one document behind its compression
	maxXDMTotal     = 128 << 20 // of all that are read
	maxXMLDepth     = 100
	maxXMLToken     = 1 << 20   // octets of one tag or text: the decoder holds it whole, twice
	maxXMLTokens    = 2_000_000 // of all documents together
	maxPatients     = 20
	maxCodes        = 200
)

// errXDMLimit: the file is larger or deeper than is read.
var errXDMLimit = errors.New("XDM: over the limits")

// insOIDs name an INS: NIR, NIA, and those of tests and demonstrations.
var insOIDs = []string{"1.2.250.1.213.1.4.8", "1.2.250.1.213.1.4.9", "1.2.250.1.213.1.4.10", "1.2.250.1.213.1.4.11"}

// Patient ids in METADATA.XML: of the submission set and of a document entry (IHE ITI TF-3 section 4.2.3).
var patientSchemes = []string{"urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446", "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"}

// ReadXDM reads the metadata and the heads of the CDA documents. Nothing is written anywhere, no name of the archive is followed, and no
// document type or entity is expanded. An archive without METADATA.XML is an error.
func ReadXDM(r io.ReaderAt, size int64) (*XDM, error) {
	z, err := listXDM(r, size)
	if err != nil {
		return nil, err
	}
	x, left := &XDM{}, int64(maxXDMTotal)
	metadata, documents, qualified := 0, 0, 0
	for _, f := range z.File {
		name := strings.ToUpper(strings.ReplaceAll(f.Name, `\`, "/"))
		if path.Ext(name) != ".XML" {
			continue
		}
		in, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("XDM: %w", err)
		}
		limited := &xdmReader{in, min(left, maxXDMFile)}
		before := limited.left
		if path.Base(name) == "METADATA.XML" {
			metadata++
			err = x.metadata(limited)
		} else {
			var is, whole bool
			is, whole, err = x.document(limited)
			documents += b2i(is)
			qualified += b2i(whole)
		}
		in.Close()
		left -= before - limited.left
		if err != nil {
			return nil, err
		}
	}
	if metadata == 0 {
		return nil, errors.New("XDM: no METADATA.XML in it")
	}
	x.Qualified = documents > 0 && qualified == documents
	return x, nil
}

// listXDM reads the directory of the archive.
func listXDM(r io.ReaderAt, size int64) (*zip.Reader, error) {
	directory := &directoryReader{ReaderAt: r, left: maxXDMDirectory}
	z, err := zip.NewReader(directory, size)
	if errors.Is(directory.err, errXDMLimit) {
		return nil, errXDMLimit
	}
	directory.left = math.MaxInt64
	if err != nil {
		return nil, fmt.Errorf("XDM: %w", err)
	}
	if len(z.File) > maxXDMEntries {
		return nil, errXDMLimit
	}
	return z, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// directoryReader bounds what listing an archive reads: zip.NewReader keeps every entry of a directory, whatever its length says.
type directoryReader struct {
	io.ReaderAt
	left int64
	err  error
}

func (d *directoryReader) ReadAt(p []byte, off int64) (int, error) {
	if d.left -= int64(len(p)); d.left < 0 {
		d.err = errXDMLimit
		return 0, d.err
	}
	return d.ReaderAt.ReadAt(p, off)
}

// xdmReader ends with an error, not with a short file, at its limit.
type xdmReader struct {
	r    io.Reader
	left int64
}

func (l *xdmReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errXDMLimit
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// walk calls open at each element with the names on the way to it, and text with what stands directly in it. open ends the walk early.
func (x *XDM) walk(r io.Reader, open func(way []string, e xml.StartElement) (done bool), text func(way []string, s string)) error {
	piece := &xdmReader{r, maxXMLToken}
	d := xml.NewDecoder(piece)
	d.CharsetReader = message.CharsetReader
	var way []string
	for ; x.tokens < maxXMLTokens; x.tokens++ {
		piece.left = maxXMLToken
		t, err := d.RawToken() // without it names would be looked up in chains of namespaces that a stranger makes long
		syntax := (*xml.SyntaxError)(nil)
		switch {
		case err == io.EOF && len(way) == 0:
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case errors.As(err, &syntax): // its message may hold a word of the document, a patient's name
			return fmt.Errorf("XDM: XML syntax error on line %d", syntax.Line)
		case err != nil:
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if len(way) == maxXMLDepth {
				return errXDMLimit
			}
			way = append(way, t.Name.Local)
			if open(way, t) {
				return nil
			}
		case xml.EndElement:
			if len(way) == 0 || way[len(way)-1] != t.Name.Local {
				return errors.New("XDM: an end without its beginning")
			}
			way = way[:len(way)-1]
		case xml.CharData:
			if text != nil {
				text(way, string(t))
			}
		case xml.Directive:
			return errors.New("XDM: a document type is not read")
		}
	}
	return errXDMLimit
}

func (x *XDM) metadata(r io.Reader) error {
	return x.limits(x.walk(r, func(_ []string, e xml.StartElement) bool {
		if e.Name.Local == "ExternalIdentifier" && slices.Contains(patientSchemes, attribute(e, "identificationScheme")) {
			x.cx(attribute(e, "value"))
		}
		return false
	}, nil))
}

// cx reads a patient id as HL7 writes it: 279035121518989^^^&1.2.250.1.213.1.4.8&ISO^NH. Others than INS say nothing here.
func (x *XDM) cx(v string) {
	f := strings.Split(v, "^")
	if len(f) < 4 {
		return
	}
	if authority := strings.Split(f[3], "&"); len(authority) > 1 && slices.Contains(insOIDs, authority[1]) {
		x.patient(f[0])
	}
}

func (x *XDM) patient(ins string) {
	if ins = strings.ToUpper(strings.TrimSpace(ins)); ins != "" && !slices.ContainsFunc(x.Patients, func(p string) bool { return SameINS(p, ins) }) {
		x.Patients = append(x.Patients, ins)
	}
}

func (x *XDM) limits(err error) error {
	if err == nil && (len(x.Patients) > maxPatients || len(x.Codes) > maxCodes) {
		return errXDMLimit
	}
	return err
}

// document reads the head of a CDA document (HL7 CDA R2): is it one, and does it name its patient by INS and the four traits?
func (x *XDM) document(r io.Reader) (is, whole bool, err error) {
	var ins, sex, birth bool
	var family, given strings.Builder
	err = x.walk(r, func(way []string, e xml.StartElement) bool {
		is = is || len(way) == 1 && e.Name.Local == "ClinicalDocument"
		if !is {
			return true // another kind of XML: nothing to read
		}
		switch strings.Join(way[1:], "/") {
		case "component":
			return true // the body follows
		case "code":
			if c := attribute(e, "code"); c != "" && !slices.Contains(x.Codes, c) {
				x.Codes = append(x.Codes, c)
			}
		case "recordTarget/patientRole/id":
			if id := attribute(e, "extension"); slices.Contains(insOIDs, attribute(e, "root")) && id != "" {
				ins = true
				x.patient(id)
			}
		case "recordTarget/patientRole/patient/administrativeGenderCode":
			sex = attribute(e, "code") != ""
		case "recordTarget/patientRole/patient/birthTime":
			birth = attribute(e, "value") != ""
		}
		return false
	}, func(way []string, s string) {
		switch strings.Join(way[min(1, len(way)):], "/") {
		case "recordTarget/patientRole/patient/name/family":
			family.WriteString(strings.TrimSpace(s))
		case "recordTarget/patientRole/patient/name/given":
			given.WriteString(strings.TrimSpace(s))
		}
	})
	return is, is && ins && sex && birth && family.Len() > 0 && given.Len() > 0, x.limits(err)
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// HoldsXDM tells whether a file is an archive of health documents, whatever its name. Where its directory cannot be read it is none.
func HoldsXDM(r io.ReaderAt, size int64) bool {
	z, err := zip.NewReader(&directoryReader{ReaderAt: r, left: maxXDMDirectory}, size)
	return err == nil && slices.ContainsFunc(z.File, func(f *zip.File) bool {
		return path.Base(strings.ToUpper(strings.ReplaceAll(f.Name, `\`, "/"))) == "METADATA.XML"
	})
}

// SameINS tells whether two INS mean one person: 13 characters, with or without their key behind.
func SameINS(a, b string) bool {
	a, b = strings.ToUpper(a), strings.ToUpper(b)
	return len(a) >= 13 && len(b) >= 13 && a[:13] == b[:13]
}

// xdmSubject is ECO.2.1.3: XDM/1.0/DDM+label NAME first-name, and the date of birth where it is known.
var xdmSubject = regexp.MustCompile(`^(\[Annule et remplace\] ?)?XDM/1\.0/DDM\+\S.*\s\S+\s\S+(\s\d{2}/\d{2}/\d{4})?$`)

// Check holds what a message says against the documents in it, and gives what does not fit in words for the operator; no name or number of
// the patient is among them. recipientINS is the patient that it goes to, "" where it goes to somebody else.
func (x *XDM) Check(h message.Header, recipientINS string) (faults []string, wrongPatient bool) {
	for _, p := range x.Patients {
		wrongPatient = wrongPatient || recipientINS != "" && !SameINS(p, recipientINS)
	}
	if len(x.Patients) > 1 {
		faults = append(faults, "the documents name several patients")
	}
	if want := h.Values("X-MSS-CODECDA"); len(want) > 0 {
		said := strings.FieldsFunc(strings.Join(want, ","), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
		slices.Sort(said)
		has := slices.Sorted(slices.Values(x.Codes))
		if !slices.Equal(slices.Compact(said), has) {
			faults = append(faults, "X-MSS-CODECDA differs from the codes of the documents")
		}
	}
	switch ins := h.Values("X-MSS-INS"); {
	case len(ins) == 0:
	case len(x.Codes) == 0:
		faults = append(faults, "X-MSS-INS without a CDA document")
	case len(ins) > 1 || ins[0] != "O" && ins[0] != "N":
		faults = append(faults, "X-MSS-INS is neither O nor N")
	case ins[0] == "O" && !x.Qualified:
		faults = append(faults, "X-MSS-INS is O, but a document lacks the INS or a trait")
	}
	if !xdmSubject.MatchString(h.Text("Subject")) {
		faults = append(faults, "the subject does not follow XDM/1.0/DDM+label NAME first-name")
	}
	return faults, wrongPatient
}
