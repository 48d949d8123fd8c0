package directory

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ImportList reads a spreadsheet's export (CSV) and gives it as a clean list: UTF-8, semicolons, the fields' own names, addresses and phones
// in the form in which they are compared. A faulty line is a fault with its line and column, and nothing is given: half a list would lack
// somebody's "do not send". A column that is none of ours must be named in ignore, for a misspelt one would be lost the same way. Files that
// it names (keys, certificates) are not read. seal, where it is not nil, gives the agreed phrases that stand in clear as they are to be written.
func ImportList(path string, ignore []string, seal func(address, phrase string) (string, error)) (clean []byte, entries int, err error) {
	text, err := readBounded(path, maxListSize)
	if err != nil {
		return nil, 0, err
	}
	file := filepath.Base(path)
	if bytes.HasPrefix(text, []byte("PK\x03\x04")) || bytes.HasPrefix(text, []byte("\xd0\xcf\x11\xe0")) {
		return nil, 0, fmt.Errorf("%s is a workbook: save the sheet as CSV (\"CSV UTF-8\") and import that", file)
	}
	cs, faults := parseCSV(file, text, ignore...)
	byAddress := make(map[string]*Contact, len(cs))
	for _, c := range cs {
		if other, twice := byAddress[c.Address]; twice {
			faults = append(faults, Fault{File: file, Line: c.Line, Text: fmt.Sprintf("address stands in line %d already", other.Line)})
			continue
		}
		byAddress[c.Address] = c
		if seal == nil || c.Secret == "" || strings.HasPrefix(string(c.Secret), sealedMark) {
			continue
		}
		sealed, err := seal(c.Address, string(c.Secret))
		if err != nil {
			faults = append(faults, Fault{File: file, Line: c.Line, Text: "secret: " + err.Error()})
		}
		c.Secret = Secret(sealed)
	}
	aliases := make(map[*Contact]string, len(cs))
	for _, c := range cs {
		aliases[c] = c.AliasOf
	}
	faults = append(faults, resolveAliases(byAddress)...)
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b Fault) int { return a.Line - b.Line })
		return nil, 0, &ListError{faults}
	}
	for c, as := range aliases { // as the operator wrote it, not where it ends
		c.AliasOf = as
	}
	clean, err = writeCSV(cs)
	return clean, len(cs), err
}

func oui(b bool) string {
	if b {
		return "oui"
	}
	return ""
}

// firstNames are written apart where they are compared; else the name holds them.
func firstNames(c *Contact) string {
	if c.BirthName == "" {
		return ""
	}
	return c.FirstNames
}

// writeCSV writes entries as parseCSV reads them, with the columns that any of them fills.
func writeCSV(cs []*Contact) ([]byte, error) {
	columns := []struct {
		name string
		of   func(*Contact) string
	}{
		{"address", func(c *Contact) string { return c.Address }}, {"name", func(c *Contact) string { return c.Name }}, {"person", func(c *Contact) string { return c.Person }},
		{"phone", func(c *Contact) string { return c.Phone }}, {"prefer", func(c *Contact) string { return c.Prefer }}, {"form", func(c *Contact) string { return c.Form }},
		{"openpgp", func(c *Contact) string { return c.OpenPGPKeyFile + string(c.OpenPGPKey) }}, {"certificate", func(c *Contact) string { return c.CertFile + certPEM(c) }},
		{"secret", func(c *Contact) string { return string(c.Secret) }}, {"word", func(c *Contact) string { return c.Word }}, {"first_name", firstNames}, {"birth_name", func(c *Contact) string { return c.BirthName }},
		{"birth_date", func(c *Contact) string { return c.BirthDate }}, {"rpps", func(c *Contact) string { return c.RPPS }}, {"mss", func(c *Contact) string { return c.MSS }},
		{"alias_of", func(c *Contact) string { return c.AliasOf }}, {"pickup_at", func(c *Contact) string { return c.PickupAt }},
		{"qualified", func(c *Contact) string { return oui(c.Qualified) }}, {"opposed", func(c *Contact) string { return oui(c.Opposed) }}, {"label", func(c *Contact) string { return c.Label }}, {"lang", func(c *Contact) string { return c.Lang }},
	}
	used := columns[:1:1]
	for _, col := range columns[1:] {
		if slices.ContainsFunc(cs, func(c *Contact) bool { return col.of(c) != "" }) {
			used = append(used, col)
		}
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Comma = ';'
	row := make([]string, len(used))
	for i, col := range used {
		row[i] = col.name
	}
	if err := w.Write(row); err != nil {
		return nil, err
	}
	for _, c := range cs {
		for i, col := range used {
			row[i] = col.of(c)
		}
		if err := w.Write(row); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

// WriteList puts a clean list in a file's place, readable by its owner alone: it may hold agreed secrets.
func WriteList(path string, clean []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(clean)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	if err := giveToOwner(f.Name(), filepath.Dir(path)); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return syncDir(filepath.Dir(path))
}
