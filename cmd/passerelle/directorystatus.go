package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"passerelle/gateway"
)

type directoryStatusCmd struct{ askFlags }

func (directoryStatusCmd) Help() string {
	return "With --config it tells of the clinic's list and of every source too.\n\n" +
		"Example:\n  passerelle directory status --config /etc/passerelle/passerelle.yaml"
}

func (c directoryStatusCmd) Run(e *env) error {
	d, cfg, err := c.open(e)
	if err != nil {
		return err
	}
	defer d.Close()
	s := d.Status()
	if c.JSON {
		err = printJSON(e, statusView(s))
	} else {
		err = printStatus(e, s, cfg != nil)
	}
	if err == nil && s.Fault != "" {
		err = errors.New("the directory cannot be asked: " + s.Fault)
	}
	return err
}

func printStatus(e *env, s gateway.DirectoryStatus, configured bool) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	row := func(k, format string, args ...any) { fmt.Fprintf(w, k+"\t"+format+"\n", args...) }
	if !s.AsOf.IsZero() {
		row("addresses", "%d", s.Entries)
		row("PER", "%d", s.PER)
		row("ORG", "%d", s.ORG)
		row("lines", "%d", s.Lines)
		row("file", "%s", s.File)
		row("file of", "%s (%s old)", s.AsOf.Format(time.DateOnly), age(s.Age))
		row("imported", "%s", s.ImportedAt.Format(time.RFC3339))
		row("search", "%s", map[bool]string{true: "yes", false: "no: made by an older version, import the file again"}[s.Searchable])
	}
	if configured {
		row("own list", "%d entries", s.Contacts)
	}
	if !s.FetchChecked.IsZero() {
		row("asked", "%s", s.FetchChecked.Format(time.RFC3339))
	}
	if !s.FetchNext.IsZero() {
		row("next", "%s", s.FetchNext.Format(time.RFC3339))
	}
	for _, f := range []struct{ of, why string }{{"fault", s.Fault}, {"import fault", s.ImportFault}, {"fetch fault", s.FetchFault}, {"list fault", s.ListFault}} {
		if f.why != "" {
			row(f.of, "%s", printable(f.why))
		}
	}
	return w.Flush()
}

func statusView(s gateway.DirectoryStatus) any {
	return struct {
		AsOf        time.Time `json:"as_of,omitzero"`
		Age         float64   `json:"age_seconds,omitempty"`
		ImportedAt  time.Time `json:"imported_at,omitzero"`
		File        string    `json:"file,omitempty"`
		Addresses   int       `json:"addresses"`
		PER         int       `json:"per"`
		ORG         int       `json:"org"`
		Lines       int       `json:"lines"`
		Searchable  bool      `json:"searchable"`
		Contacts    int       `json:"own_list"`
		Fault       string    `json:"fault,omitempty"`
		ImportFault string    `json:"import_fault,omitempty"`
		ListFault   string    `json:"list_fault,omitempty"`
		FetchFault  string    `json:"fetch_fault,omitempty"`
		Fetched     time.Time `json:"fetch_checked,omitzero"`
		FetchNext   time.Time `json:"fetch_next,omitzero"`
	}{s.AsOf, s.Age.Seconds(), s.ImportedAt, s.File, s.Entries, s.PER, s.ORG, s.Lines, s.Searchable, s.Contacts, s.Fault, s.ImportFault, s.ListFault, s.FetchFault, s.FetchChecked, s.FetchNext}
}
