package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"passerelle/config"
	"passerelle/gateway/directory"
	"passerelle/gateway/message"
)

// What the subcommands of the directory ask for and are given.
type (
	DirectoryQuery    = directory.Query
	DirectoryRecord   = directory.Record
	DirectoryAnswer   = directory.Answer
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
	return directory.Import(ctx, stateDir, file, directory.Options{Progress: progress, Force: force})
}

// DiffDirectory compares the mirror of a state folder, or oldFile where it is not "", with an extraction file.
func DiffDirectory(ctx context.Context, stateDir, oldFile, newFile string, shrink float64, progress DirectoryProgress, each func(DirectoryChange) error) (DirectoryDiff, error) {
	return directory.Diff(ctx, stateDir, oldFile, newFile, directory.Options{Progress: progress, MaxShrink: shrink}, each)
}

// OpenDirectory opens the directory beside a running gateway: the mirror of a state folder where cfg is nil, else all that cfg names. Nothing is
// imported.
func OpenDirectory(ctx context.Context, stateDir string, cfg *config.Config) (*directory.Directory, error) {
	d := directory.Config{StateDir: stateDir}
	if cfg != nil {
		d = directoryConfig(cfg, time.Now, slog.New(slog.NewTextHandler(io.Discard, nil)))
		d.ExtractionFile = ""
	}
	return directory.Open(ctx, d)
}

// RefreshDirectory asks the source of directory.fetch for a new extraction now and takes it; a gateway that serves from the state folder picks it
// up by itself. It gives the state after it, and whether there was another file. progress may be nil.
func RefreshDirectory(ctx context.Context, cfg *config.Config, progress func(DirectoryFetched)) (_ DirectoryStatus, another bool, err error) {
	c := directoryConfig(cfg, time.Now, slog.New(slog.NewTextHandler(io.Discard, nil)))
	c.ExtractionFile, c.Fetch.Progress = "", progress
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

// LookUp asks a directory about an address as it is typed.
func LookUp(ctx context.Context, d *directory.Directory, address string) (DirectoryAnswer, error) {
	a, err := message.ParseAddress(address, true)
	if err != nil {
		return DirectoryAnswer{}, err
	}
	return d.Ask(ctx, a), nil
}
