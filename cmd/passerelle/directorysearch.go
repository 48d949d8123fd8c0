package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"passerelle/gateway"
)

type directorySearchCmd struct {
	stateFlag
	Words      []string `arg:"" optional:"" help:"What you know, in any order: name, first name, town, postal code or department, speciality, RPPS, address or a part of it. Accents and capitals do not matter, words may be cut short."`
	Place      string   `placeholder:"WORDS" help:"Town, postal code, department: searched nowhere else."`
	Speciality string   `placeholder:"WORDS" help:"Profession, speciality, service: searched nowhere else."`
	RPPS       string   `name:"rpps" placeholder:"DIGITS" help:"RPPS number or its beginning."`
	Limit      int      `short:"n" default:"20" placeholder:"N" help:"Mailboxes shown, 100 at most (default: ${default})."`
	JSON       bool     `name:"json" help:"As JSON: a list of mailboxes with all their places."`
}

func (directorySearchCmd) Help() string {
	return "The best match comes first. Where nothing matches, words with one wrong letter are tried. A word that begins with a dash goes behind --.\n\n" +
		"Examples:\n  passerelle directory search dupont cardio lyon\n  passerelle directory search \"Dr Le Goff\" --place 29\n" +
		"  passerelle directory search --rpps 10001234566 --json"
}

func (c directorySearchCmd) Run(e *env) error {
	if c.Limit < 1 || c.Limit > 100 {
		return &usageError{fmt.Errorf("--limit %d: want 1 to 100", c.Limit)}
	}
	d, _, err := c.open(e)
	if err != nil {
		return err
	}
	defer d.Close()
	start := time.Now()
	found, err := d.Search(e.ctx, gateway.DirectoryQuery{Text: strings.Join(c.Words, " "), Place: c.Place, Speciality: c.Speciality, RPPS: c.RPPS, Limit: c.Limit})
	took := time.Since(start)
	switch {
	case errors.Is(err, gateway.ErrNothingAsked):
		return &usageError{err}
	case err != nil:
		return err
	}
	if c.JSON {
		if err := printJSON(e, recordViews(found)); err != nil {
			return err
		}
	} else {
		printFound(e, found, took)
	}
	if s := d.Status(); s.Fault != "" {
		fmt.Fprintln(e.stderr, "warning:", s.Fault)
	}
	switch {
	case len(found) == 0:
		return errors.New("nothing found: try fewer words, or their beginnings")
	case len(found) == c.Limit && !c.JSON:
		fmt.Fprintf(e.stderr, "the first %d: add a word, or --limit\n", c.Limit)
	}
	return nil
}

// printFound writes a table that fits a terminal of 100 columns; an address that does not fit has a line of its own, since half of it is
// of no use.
func printFound(e *env, found []gateway.Record, took time.Duration) {
	if len(found) == 0 {
		return
	}
	const name, what, place, address = 22, 16, 17, lineWidth - 22 - 16 - 17 - 6
	line := func(a, b, c, d string) {
		cells := pad(a, name) + "  " + pad(b, what) + "  " + pad(c, place)
		if width(d) > address {
			fmt.Fprintln(e.stdout, strings.TrimRight(cells, " ")+"\n"+strings.Repeat(" ", max(0, min(name+2, lineWidth-width(d))))+d)
			return
		}
		fmt.Fprintln(e.stdout, strings.TrimRight(cells+"  "+d, " "))
	}
	line("NAME", "SPECIALITY", "PLACE", "ADDRESS")
	for _, r := range found {
		line(r.Name(), specialityOf(r.Speciality, r.Profession, r.Service), placeOf(r.PostalCode, r.City), r.Address)
		for _, p := range r.Places {
			if p.PostalCode != r.PostalCode || p.City != r.City || p.Speciality != r.Speciality {
				line("", specialityOf(p.Speciality, p.Profession, p.Service), placeOf(p.PostalCode, p.City), "")
			}
		}
	}
	newest := time.Time{}
	for _, r := range found {
		if r.AsOf.After(newest) {
			newest = r.AsOf
		}
	}
	fmt.Fprintf(e.stderr, "%s of %s, searched in %s\n", found[0].Source, newest.Format(time.DateOnly), took.Round(100*time.Microsecond))
}

func specialityOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
