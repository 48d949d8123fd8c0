package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"passerelle/gateway"
)

// lineWidth is what a table for a terminal may take.
const lineWidth = 100

func printJSON(e *env, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	var out strings.Builder
	for _, r := range b.String() {
		if r != '\n' && steers(r) { // JSON lets it stand in a text
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	_, err := io.WriteString(e.stdout, out.String())
	return err
}

// printable takes out of a text of strangers (a server's words, an argument pasted from a mail) what would steer the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && steers(r) {
			return '?'
		}
		return r
	}, s)
}

// printableLine is printable where a line of a stranger's own making would be taken for one of ours.
func printableLine(s string) string {
	return strings.NewReplacer("\n", "?", "\t", "?").Replace(printable(s))
}

// steers tells what a terminal obeys, or turns the direction of the text behind it.
func steers(r rune) bool {
	return unicode.IsControl(r) || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// usageError: the command line asks for something that there is not.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// recordView is a record as JSON; its names stay.
type recordView struct {
	Address        string      `json:"address"`
	Kind           string      `json:"kind"`
	Title          string      `json:"title,omitempty"`
	FirstName      string      `json:"first_name,omitempty"`
	LastName       string      `json:"last_name,omitempty"`
	IDType         string      `json:"id_type,omitempty"`
	ID             string      `json:"id,omitempty"`
	Category       string      `json:"category,omitempty"`
	Dematerialised *bool       `json:"dematerialised,omitempty"`
	RedList        bool        `json:"red_list,omitempty"`
	Inactive       bool        `json:"inactive,omitempty"`
	Flags          []string    `json:"flags,omitempty"`
	Source         string      `json:"source"`
	AsOf           time.Time   `json:"as_of"`
	Places         []placeView `json:"places"`
}

type placeView struct {
	Structure   string `json:"structure,omitempty"`
	StructureID string `json:"structure_id,omitempty"`
	Service     string `json:"service,omitempty"`
	Profession  string `json:"profession,omitempty"`
	Speciality  string `json:"speciality,omitempty"`
	City        string `json:"city,omitempty"`
	PostalCode  string `json:"postal_code,omitempty"`
	Department  string `json:"department,omitempty"`
}

func recordViews(list []gateway.Record) []recordView {
	out := []recordView{} // an empty list, not null
	for _, r := range list {
		v := recordView{Address: r.Address, Kind: r.Kind, Title: r.Title, FirstName: r.FirstName, LastName: r.LastName, IDType: r.IDType, ID: r.ID, Category: r.Category,
			Dematerialised: r.Dematerialised, RedList: r.RedList, Inactive: r.Inactive, Flags: r.Flags, Source: r.Source, AsOf: r.AsOf}
		for _, p := range r.Places {
			v.Places = append(v.Places, placeView(p))
		}
		if v.Places == nil {
			v.Places = []placeView{{r.Structure, r.StructureID, r.Service, r.Profession, r.Speciality, r.City, r.PostalCode, r.Department}}
		}
		out = append(out, v)
	}
	return out
}

func personOf(r gateway.Record) string {
	return strings.Join(strings.Fields(r.Title+" "+r.FirstName+" "+r.LastName), " ")
}

func placeOf(postal, city string) string { return strings.TrimSpace(postal + " " + city) }

func width(s string) int { return utf8.RuneCountInString(s) }

// pad gives s in n columns; what is longer ends in an ellipsis.
func pad(s string, n int) string {
	if w := width(s); w <= n {
		return s + strings.Repeat(" ", n-w)
	}
	return string([]rune(s)[:n-1]) + "…"
}

// wrap breaks a line at its spaces, with the rest set in; what would steer the terminal is taken out.
func wrap(s string) string {
	s = printable(s)
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(s) {
		switch {
		case i == 0:
		case at+1+width(word) > lineWidth:
			b.WriteString("\n    ")
			at = 4
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += width(word)
	}
	return b.String()
}
