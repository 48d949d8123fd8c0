package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/message"
	"passerelle/gateway/trust"
)

// What the subcommands of the directory ask for and are given.
type (
	DirectoryQuery    = directory.Query
	DirectoryAnswer   = directory.Answer
	Directory         = directory.Directory
	DirectoryStatus   = directory.Status
	DirectoryChange   = directory.Change
	DirectoryDiff     = directory.Difference
	DirectoryProgress = func(done, total int64, lines int)
	DirectoryFetched  = directory.Progress
)

var (
	// ErrNothingAsked: a search for nothing.
	ErrNothingAsked = directory.ErrNothingAsked
	// ErrNoFetch: a refresh without an address to refresh from.
	ErrNoFetch = directory.ErrNoFetch
)

// ImportDirectory reads an extraction file into the mirror of a state folder; a gateway that serves from it picks the new mirror up
// by itself. progress may be nil.
func ImportDirectory(ctx context.Context, stateDir, file string, force bool, progress DirectoryProgress) (directory.Stats, error) {
	if err := ownedByUs(stateDir); err != nil {
		return directory.Stats{}, err
	}
	return directory.Import(ctx, stateDir, file, directory.Options{Progress: progress, Force: force})
}

// DiffDirectory compares the mirror of a state folder, or oldFile where it is not "", with an extraction file.
func DiffDirectory(ctx context.Context, stateDir, oldFile, newFile string, shrink float64, progress DirectoryProgress, each func(DirectoryChange) error) (DirectoryDiff, error) {
	return directory.Diff(ctx, stateDir, oldFile, newFile, directory.Options{Progress: progress, MaxShrink: shrink}, each)
}

// OpenDirectory opens the directory beside a running gateway: the mirror of a state folder where cfg is nil, else all that cfg names. Nothing is
// imported.
func OpenDirectory(ctx context.Context, stateDir string, cfg *config.Config) (*Directory, error) {
	d := directory.Config{StateDir: stateDir, ReadOnly: true, Unconfigured: true}
	if cfg != nil {
		var err error
		if d, err = besideGateway(cfg); err != nil {
			return nil, err
		}
	}
	return directory.Open(ctx, d)
}

// besideGateway is the directory of a config for a look: it imports nothing and keeps nothing of what remote sources say.
func besideGateway(cfg *config.Config) (c directory.Config, err error) {
	g := &Gateway{lasting: &lasting{}, log: slog.New(slog.DiscardHandler), now: time.Now, policy: cfg.Policy}
	if g.set, err = newSettings(cfg, [32]byte{}); err != nil {
		return c, err
	}
	if inTrust(cfg) {
		if g.space, err = trust.New(trustConfig(cfg, nil, g.now, g.log)); err != nil {
			return c, fmt.Errorf("trust space: %w", err)
		}
	}
	c = g.directoryConfig(cfg)
	c.ExtractionFile, c.ReadOnly = "", true
	return c, nil
}

// RefreshDirectory asks the source of directory.fetch for a new extraction now and takes it; a gateway that serves from the state folder picks it
// up by itself. It gives the state after it, and whether there was another file. progress may be nil.
func RefreshDirectory(ctx context.Context, cfg *config.Config, progress func(DirectoryFetched)) (_ DirectoryStatus, another bool, err error) {
	if err := ownedByUs(cfg.StateDir); err != nil {
		return DirectoryStatus{}, false, err
	}
	c, err := besideGateway(cfg)
	if err != nil {
		return DirectoryStatus{}, false, err
	}
	c.Fetch.Progress = progress
	d, err := directory.Open(ctx, c)
	if err != nil {
		return DirectoryStatus{}, false, err
	}
	defer d.Close()
	before := d.Status().ImportedAt
	err = d.Refresh(ctx)
	if errors.Is(err, directory.ErrNoFetch) {
		return DirectoryStatus{}, false, ErrNoFetch
	}
	after := d.Status()
	return after, !after.ImportedAt.Equal(before), err
}

// CheckSources asks the directory's sources over the network one question each, about nobody, and says what came of it: answers are for the
// operator to read, warnings for him to heed. It waits until ctx ends, no longer.
func (g *Gateway) CheckSources(ctx context.Context, cfg *config.Config) (answers, warnings []string) {
	domains := slices.Sorted(maps.Keys(set(slices.AppendSeq(slices.Clone(cfg.Directory.LDAP.Domains), maps.Keys(cfg.Trust.Domains)))))
	for _, p := range g.directory.Probe(ctx, domains) {
		key := "directory." + p.Name
		took, so := p.Took.Round(time.Millisecond), "its records are not shown"
		if p.Verifies {
			so = "mail to whom it must tell of waits"
		}
		switch {
		case errors.Is(p.Err, directory.ErrNobody):
			warnings = append(warnings, key+" is asked about nobody: no domain of trust.domains"+map[string]string{"ldap": ", none in directory.ldap.domains"}[p.Name])
		case errors.Is(p.Err, context.DeadlineExceeded):
			warnings = append(warnings, fmt.Sprintf("%s could not be asked: no answer within %s; %s", key, took, so))
		case p.Err != nil:
			warnings = append(warnings, fmt.Sprintf("%s could not be asked: %v; %s", key, p.Err, so))
		case p.Slow:
			warnings = append(warnings, fmt.Sprintf("%s answered in %s: mail waits %s.timeout for it and goes on without it (ask: mail)", key, took, key))
		default:
			answers = append(answers, fmt.Sprintf("%s answers, in %s", key, took))
		}
	}
	return answers, warnings
}

// LookUp asks a directory about an address as it is typed.
func LookUp(ctx context.Context, d *directory.Directory, address string) (DirectoryAnswer, error) {
	a, err := message.ParseAddress(address, true)
	if err != nil {
		return DirectoryAnswer{}, err
	}
	return d.Ask(ctx, a), nil
}

// ImportList makes a clean list of a spreadsheet's export, and writes it to out unless that is "". With a sealer no agreed phrase stays in clear;
// poor says of how many lines the phrase is a poor one.
func ImportList(file string, ignore []string, out string, sealer *SecretSealer) (clean []byte, entries, poor int, err error) {
	var seal func(address, phrase string) (string, error)
	if sealer != nil {
		seal = func(address, phrase string) (string, error) {
			text, weakness, err := sealer.Seal(address, phrase)
			if weakness != "" {
				poor++
			}
			return text, err
		}
	}
	if clean, entries, err = directory.ImportList(file, ignore, seal); err == nil && out != "" {
		err = directory.WriteList(out, clean)
	}
	return clean, entries, poor, err
}
