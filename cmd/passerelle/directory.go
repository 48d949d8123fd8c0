package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"passerelle/gateway"
)

type directoryCmd struct {
	Import directoryImportCmd `cmd:"" help:"Read an extraction file of the national directory (text or ZIP) into the mirror."`
	Lookup directoryLookupCmd `cmd:"" help:"Look up one address as the gateway would; exit code 1 where it is not verified."`
	Status directoryStatusCmd `cmd:"" help:"Age and size of the mirror; exit code 1 where it cannot be asked."`
}

// stateFlag works without a config: a state folder is all that the mirror needs.
type stateFlag struct {
	StateDir string `default:"/var/lib/passerelle" placeholder:"DIR" help:"The gateway's state_dir (default: ${default})." type:"path"`
}

type directoryImportCmd struct {
	stateFlag
	File  string `arg:"" type:"existingfile" help:"Extraction_Correspondance_MSSante file, .txt or .zip."`
	Force bool   `help:"Take the file even if it lost more than a fifth of the addresses."`
	Quiet bool   `short:"q" help:"No progress."`
}

func (directoryImportCmd) Help() string {
	return "A running gateway takes the new mirror by itself. A file that is cut short, has lost columns or is much smaller than the one before is refused " +
		"and the mirror in use stays. Run it as the user that serves (sudo -u passerelle).\n\n" +
		"Example: passerelle directory import --state-dir /var/lib/passerelle Extraction_Correspondance_MSSante_202611220600.txt"
}

func (c directoryImportCmd) Run(e *env) error {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return err
	}
	terminal := isTerminal(e.stderr) && !c.Quiet
	start, last := time.Now(), time.Time{}
	progress := func(done, total int64, lines int) {
		if terminal && time.Since(last) > 200*time.Millisecond {
			last = time.Now()
			fmt.Fprintf(e.stderr, "\r\033[K%3d %%  %d lines%s", done*100/max(total, 1), lines, timeLeft(time.Since(start), done, total))
		}
	}
	st, err := gateway.ImportDirectory(e.ctx, c.StateDir, c.File, c.Force, progress)
	if terminal {
		fmt.Fprint(e.stderr, "\r\033[K")
	}
	if err != nil {
		if name := "import " + filepath.Base(c.File); !strings.HasPrefix(err.Error(), name) { // most faults name the file
			err = fmt.Errorf("%s: %w", name, err)
		}
		return err
	}
	fmt.Fprintf(e.stdout, "%d lines, %d addresses (%d PER, %d ORG), %d repeated, %d malformed, file of %s, in %s\n",
		st.Lines, st.Addresses, st.PER, st.ORG, st.Duplicates, st.Malformed, st.AsOf.Format(time.DateOnly), st.Took.Round(time.Millisecond))
	return nil
}

type directoryLookupCmd struct {
	stateFlag
	Address string `arg:"" help:"Address to look up."`
}

func (c directoryLookupCmd) Run(e *env) error {
	x, err := gateway.LookUp(e.ctx, c.StateDir, c.Address)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s%s\n", x.Verdict, ifAny(": ", x.Why))
	if !x.AsOf.IsZero() {
		fmt.Fprintf(e.stdout, "%s of %s (%s old)\n", x.Source, x.AsOf.Format(time.DateOnly), age(time.Since(x.AsOf)))
	}
	for _, r := range x.Records {
		name := strings.Join(strings.Fields(strings.Join([]string{r.Title, r.FirstName, r.LastName}, " ")), " ")
		fmt.Fprintln(e.stdout, strings.Join(nonEmpty(r.Kind, name, r.Profession, r.Structure, strings.TrimSpace(r.PostalCode+" "+r.City), ifAny("id ", r.ID)), ", "))
	}
	if x.Verdict != "verified" {
		return fmt.Errorf("%s is not verified", c.Address)
	}
	return nil
}

type directoryStatusCmd struct{ stateFlag }

func (c directoryStatusCmd) Run(e *env) error {
	s, err := gateway.DirectoryStatus(e.ctx, c.StateDir)
	if err != nil {
		return err
	}
	if s.Fault != "" {
		return fmt.Errorf("mirror: %s", s.Fault)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "addresses\t%d\nPER\t%d\nORG\t%d\nfile of\t%s (%s old)\nimported\t%s\n", s.Entries, s.PER, s.ORG, s.AsOf.Format(time.DateOnly), age(s.Age), s.ImportedAt.Format(time.RFC3339))
	return w.Flush()
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
