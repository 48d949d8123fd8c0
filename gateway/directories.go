package gateway

import (
	"context"

	"passerelle/gateway/directory"
	"passerelle/gateway/message"
)

// ImportDirectory reads an extraction file into the mirror of a state folder; a gateway that serves from it picks the new mirror up
// by itself. progress may be nil.
func ImportDirectory(ctx context.Context, stateDir, file string, force bool, progress func(done, total int64, lines int)) (directory.Stats, error) {
	return directory.Import(ctx, stateDir, file, directory.Options{Progress: progress, Force: force})
}

// LookUp asks the mirror of a state folder about one address.
func LookUp(ctx context.Context, stateDir, address string) (directory.Answer, error) {
	a, err := message.ParseAddress(address, true)
	if err != nil {
		return directory.Answer{}, err
	}
	d, err := directory.Open(ctx, directory.Config{StateDir: stateDir})
	if err != nil {
		return directory.Answer{}, err
	}
	defer d.Close()
	return d.Ask(ctx, a), nil
}

// DirectoryStatus tells age and size of the mirror of a state folder.
func DirectoryStatus(ctx context.Context, stateDir string) (directory.Status, error) {
	d, err := directory.Open(ctx, directory.Config{StateDir: stateDir})
	if err != nil {
		return directory.Status{}, err
	}
	defer d.Close()
	return d.Status(), nil
}
