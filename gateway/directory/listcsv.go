package directory

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// parseCSV reads a spreadsheet's export: a header row, then one entry per row; separated by semicolons, commas or tabs; UTF-8,
// UTF-16 with a byte order mark, or else Windows-1252, which is what a French Excel writes. The columns in ignore are passed over.
func parseCSV(file string, text []byte, ignore ...string) (cs []*Contact, faults []Fault) {
	text, err := toUTF8(text)
	if err != nil {
		return nil, []Fault{{File: file, Line: 0, Text: err.Error()}}
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.Comma = separator(text)
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		if err == io.EOF {
			err = errors.New("the list is empty: its first row must name the columns")
		}
		return nil, []Fault{{File: file, Line: 1, Text: err.Error()}}
	}
	fields := make([]string, len(head))
	seen := make(map[string]bool)
	for i, h := range head {
		if slices.ContainsFunc(ignore, func(s string) bool { return foldName(s) == foldName(h) }) {
			continue
		}
		f, err := fieldKey(h)
		switch {
		case err != nil:
			_, col := r.FieldPos(i)
			faults = append(faults, Fault{File: file, Line: 1, Col: col, Text: err.Error()})
		case seen[f]:
			faults = append(faults, Fault{File: file, Line: 1, Text: fmt.Sprintf("two columns for %s", f)})
		}
		fields[i], seen[f] = f, true
	}
	if !seen["address"] {
		faults = append(faults, Fault{File: file, Line: 1, Text: "no column for address"})
	}
	if faults != nil {
		return nil, faults
	}
	for {
		rec, err := r.Read()
		if err == io.EOF {
			return cs, faults
		}
		if err != nil {
			line := 0
			if pe := new(csv.ParseError); errors.As(err, &pe) {
				line, err = pe.Line, pe.Err
			}
			return cs, append(faults, Fault{File: file, Line: line, Text: err.Error()}) // what follows cannot be told apart
		}
		line, _ := r.FieldPos(0)
		if blank(rec) {
			continue
		}
		if len(rec) != len(fields) {
			faults = append(faults, Fault{File: file, Line: line, Text: fmt.Sprintf("the row has %d columns, the first row has %d", len(rec), len(fields))})
			continue
		}
		c := &Contact{File: file, Line: line}
		good := true
		for i, v := range rec {
			if fields[i] == "" { // ignored
				continue
			}
			if err := c.set(fields[i], v); err != nil {
				at, col := r.FieldPos(i)
				faults, good = append(faults, Fault{File: file, Line: at, Col: col, Text: err.Error()}), false
			}
		}
		if !good {
			continue
		}
		if err := c.whole(); err != nil {
			faults = append(faults, Fault{File: file, Line: line, Text: err.Error()})
			continue
		}
		if cs = append(cs, c); len(cs) > maxContacts {
			return nil, []Fault{{File: file, Line: line, Text: fmt.Sprintf("the list has more than %d entries", maxContacts)}}
		}
	}
}

func blank(rec []string) bool {
	for _, v := range rec {
		if v != "" {
			return false
		}
	}
	return true
}

// separator is what the first line has most of.
func separator(text []byte) rune {
	first, _, _ := bytes.Cut(text, []byte{'\n'})
	best, n := ';', bytes.Count(first, []byte{';'})
	for _, c := range []rune{',', '\t'} {
		if m := bytes.Count(first, []byte(string(c))); m > n {
			best, n = c, m
		}
	}
	return best
}

func toUTF8(text []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		text = text[3:]
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")):
		return unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewDecoder().Bytes(text)
	}
	if utf8.Valid(text) {
		return text, nil
	}
	return charmap.Windows1252.NewDecoder().Bytes(text)
}
