package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"passerelle/config"
	"passerelle/gateway"
)

type directoryCmd struct {
	Lookup  directoryLookupCmd  `cmd:"" help:"Look up one address as the gateway would; exit code 1 where it is not verified."`
	Search  directorySearchCmd  `cmd:"" help:"Find mailboxes by name, place, speciality, RPPS or a part of the address; exit code 1 where there is none."`
	Import  directoryImportCmd  `cmd:"" help:"Read an extraction file of the national directory (text or ZIP) into the mirror."`
	Refresh directoryRefreshCmd `cmd:"" help:"Ask the source of directory.fetch for a new extraction now, and take it."`
	Status  directoryStatusCmd  `cmd:"" help:"Age, size and faults of the mirror; exit code 1 where it cannot be asked."`
	Diff    directoryDiffCmd    `cmd:"" help:"What a new extraction file would change in the mirror, or what two files tell apart; exit code 1 where an import would refuse it."`
}

const defaultStateDir = "/var/lib/passerelle"

// stateFlag works without a config: a state folder is all that the mirror needs.
type stateFlag struct {
	StateDir string `placeholder:"DIR" xor:"state" help:"The gateway's state_dir (default: /var/lib/passerelle); questions go to the mirror alone." type:"path"`
	Config   string `short:"c" placeholder:"FILE" xor:"state" help:"Config file, in the place of --state-dir; questions go to its list and all its sources too." type:"path"`
}

// load gives the state folder, and the config where one is named.
func (f stateFlag) load() (stateDir string, cfg *config.Config, err error) {
	if f.Config == "" {
		return cmp.Or(f.StateDir, defaultStateDir), nil, nil
	}
	cfg, err = configFlag{f.Config}.load()
	if err != nil {
		return "", nil, err
	}
	return cfg.StateDir, cfg, nil
}

// open opens the directory to be asked; the caller closes it.
func (f stateFlag) open(e *env) (*gateway.Directory, *config.Config, error) {
	dir, cfg, err := f.load()
	if err != nil {
		return nil, nil, err
	}
	d, err := gateway.OpenDirectory(e.ctx, dir, cfg)
	if f.Config == "" && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: name the gateway's state folder by --state-dir, or its config by --config", err)
	}
	return d, cfg, err
}

// askFlags are those of a question to the directory.
type askFlags struct {
	stateFlag
	JSON bool `name:"json" help:"As JSON; ages are in seconds."`
}

type directoryImportCmd struct {
	stateFlag
	File  string `arg:"" type:"existingfile" help:"Extraction_Correspondance_MSSante file, .txt or .zip."`
	Force bool   `help:"Take the file even if it lost more than a fifth of the addresses."`
	Quiet bool   `short:"q" help:"No progress."`

	List   bool     `help:"FILE is a spreadsheet's export (CSV) of the clinic's own correspondents: make a clean list of it."`
	Out    string   `placeholder:"LIST" help:"With --list: write it there (mode 0600); else to the output." type:"path"`
	Ignore []string `placeholder:"COLUMN" help:"With --list: a column that is none of the list's."`

	SealSecrets bool   `help:"With --list: seal the agreed phrases under the server key; a list in place (CSV) may be its own FILE."`
	KeyFile     string `placeholder:"KEY" help:"With --seal-secrets: the server key (default: key_file of --config, else server.key in the state folder)." type:"path"`
}

func (directoryImportCmd) Help() string {
	return "A running gateway takes the new mirror by itself. A file that is cut short, has lost columns or is much smaller than the one before is refused " +
		"and the mirror in use stays. Run it as the user that serves (runuser -u passerelle -- passerelle ...).\n\n" +
		"With --list nothing is written where a line is faulty; each is told with its line and column.\n\n" +
		"Examples:\n  passerelle directory import --state-dir /var/lib/passerelle Extraction_Correspondance_MSSante_202611220600.txt\n" +
		"  passerelle directory import --list --ignore Ville --out /etc/passerelle/correspondants.csv export.csv"
}

func (c directoryImportCmd) Run(e *env) error {
	if c.List {
		return c.list(e)
	}
	if c.Out != "" || len(c.Ignore) > 0 || c.SealSecrets {
		return &usageError{errors.New("--out, --ignore and --seal-secrets go with --list")}
	}
	dir, _, err := c.load()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	progress, done := newProgress(e, c.Quiet)
	st, err := gateway.ImportDirectory(e.ctx, dir, c.File, c.Force, progress)
	done()
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

// newProgress writes on one line of a terminal; done takes the line away.
func newProgress(e *env, quiet bool) (progress gateway.DirectoryProgress, done func()) {
	if quiet || !isTerminal(e.stderr) {
		return nil, func() {}
	}
	start, last := time.Now(), time.Time{}
	return func(done, total int64, lines int) {
		if time.Since(last) > 200*time.Millisecond {
			last = time.Now()
			fmt.Fprintf(e.stderr, "\r\033[K%3d %%  %d lines%s", done*100/max(total, 1), lines, timeLeft(time.Since(start), done, total))
		}
	}, func() { fmt.Fprint(e.stderr, "\r\033[K") }
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

func (c directoryImportCmd) list(e *env) error {
	var sealer *gateway.SecretSealer
	if c.SealSecrets {
		dir, cfg, err := c.load()
		if err != nil {
			return err
		}
		if cfg == nil {
			cfg = &config.Config{StateDir: dir}
		}
		if sealer, err = gateway.NewSecretSealer(c.KeyFile, cfg); err != nil {
			return err
		}
	}
	clean, n, poor, err := gateway.ImportList(c.File, c.Ignore, c.Out, sealer)
	if err != nil {
		return err
	}
	if poor > 0 {
		fmt.Fprintf(e.stderr, "warning: %d agreed phrases are poor: passerelle check says which lines\n", poor)
	}
	if c.Out == "" {
		_, err = e.stdout.Write(clean)
		return err
	}
	fmt.Fprintf(e.stdout, "%d entries\n", n)
	return nil
}
