package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"passerelle/gateway"
)

type directoryDiffCmd struct {
	stateFlag
	Files  []string `arg:"" type:"existingfile" help:"The new extraction file, compared with the mirror in use; or an old one and a new one."`
	List   bool     `help:"Each mailbox: + added, - removed, ~ changed."`
	JSON   bool     `name:"json" help:"As JSON."`
	Shrink float64  `default:"-1" placeholder:"SHARE" help:"Share of the mailboxes or lines that an import may lose (default: 0.2, or directory.fetch.shrink of the config)."`
	Quiet  bool     `short:"q" help:"No progress."`
}

func (directoryDiffCmd) Help() string {
	return "Nothing is changed. The files are read into a folder of TMPDIR, which takes up to half a gigabyte while it runs.\n\n" +
		"Example:\n  passerelle directory diff --list Extraction_Correspondance_MSSante_202611230600.zip"
}

func (c directoryDiffCmd) Run(e *env) error {
	if len(c.Files) > 2 {
		return &usageError{errors.New("diff compares the mirror with one file, or two files")}
	}
	old := ""
	if len(c.Files) == 2 {
		old = c.Files[0]
	}
	dir, cfg, err := c.load()
	if err != nil {
		return err
	}
	switch {
	case c.Shrink == -1 && cfg != nil:
		c.Shrink = cfg.Directory.Fetch.Shrink.Share()
	case c.Shrink == -1:
		c.Shrink = 0.2
	case c.Shrink <= 0 || c.Shrink >= 1:
		return &usageError{fmt.Errorf("--shrink %g: want a share between 0 and 1", c.Shrink)}
	}
	type change struct {
		What    string   `json:"what"`
		Address string   `json:"address"`
		Kind    string   `json:"kind"`
		Fields  []string `json:"fields,omitempty"`
	}
	var changes []change
	progress, done := newProgress(e, c.Quiet)
	diff, err := gateway.DiffDirectory(e.ctx, dir, old, c.Files[len(c.Files)-1], c.Shrink, progress, func(ch gateway.DirectoryChange) error {
		switch {
		case !c.List:
		case c.JSON:
			changes = append(changes, change{ch.What, ch.Address, ch.Kind, ch.Fields})
		default:
			_, err := fmt.Fprintf(e.stdout, "%s %s %s%s\n", map[string]string{"added": "+", "removed": "-", "changed": "~"}[ch.What], ch.Kind, ch.Address, ifAny("  ", strings.Join(ch.Fields, "; ")))
			return err
		}
		return nil
	})
	done()
	if err != nil {
		return err
	}
	if c.JSON {
		type side struct {
			File      string    `json:"file"`
			AsOf      time.Time `json:"as_of"`
			Lines     int       `json:"lines"`
			Addresses int       `json:"addresses"`
			PER       int       `json:"per"`
			ORG       int       `json:"org"`
		}
		err = printJSON(e, struct {
			Old     side     `json:"old"`
			New     side     `json:"new"`
			Added   int      `json:"added"`
			Removed int      `json:"removed"`
			Changed int      `json:"changed"`
			Same    int      `json:"same"`
			Refused string   `json:"refused,omitempty"`
			Changes []change `json:"changes,omitempty"`
		}{side{diff.OldName, diff.Old.AsOf, diff.Old.Lines, diff.Old.Addresses, diff.Old.PER, diff.Old.ORG},
			side{diff.NewName, diff.New.AsOf, diff.New.Lines, diff.New.Addresses, diff.New.PER, diff.New.ORG},
			diff.Added, diff.Removed, diff.Changed, diff.Same, diff.Refused, changes})
	} else {
		err = printDiff(e, diff)
	}
	if err == nil && diff.Refused != "" {
		err = errors.New("an import would refuse the new file: " + diff.Refused)
	}
	return err
}

func printDiff(e *env, d gateway.DirectoryDiff) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\told\tnew\nfile of\t%s\t%s\n", d.Old.AsOf.Format(time.DateOnly), d.New.AsOf.Format(time.DateOnly))
	for _, r := range []struct {
		name     string
		old, new int
	}{{"lines", d.Old.Lines, d.New.Lines}, {"addresses", d.Old.Addresses, d.New.Addresses}, {"PER", d.Old.PER, d.New.PER}, {"ORG", d.Old.ORG, d.New.ORG}} {
		fmt.Fprintf(w, "%s\t%d\t%d\n", r.name, r.old, r.new)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(e.stdout, "%d added, %d removed, %d changed, %d the same\n", d.Added, d.Removed, d.Changed, d.Same)
	return err
}
