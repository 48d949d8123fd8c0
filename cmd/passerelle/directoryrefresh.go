package main

import (
	"errors"
	"fmt"
	"time"

	"passerelle/gateway"
)

type directoryRefreshCmd struct {
	configFlag
	Quiet bool `short:"q" help:"No progress."`
}

func (directoryRefreshCmd) Help() string {
	return "The gateway does this by itself every directory.fetch.every, and takes what another process has fetched. What is refused leaves the mirror in use as it is. " +
		"Run it as the user that serves (runuser -u passerelle -- passerelle ...).\n\nExample:\n  passerelle directory refresh --config /etc/passerelle/passerelle.yaml"
}

func (c directoryRefreshCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	var progress func(gateway.DirectoryFetched)
	done := func() {}
	if !c.Quiet && isTerminal(e.stderr) {
		last := time.Time{}
		progress = func(p gateway.DirectoryFetched) {
			if time.Since(last) < 200*time.Millisecond {
				return
			}
			last = time.Now()
			share := "" // a server need not say how much there is
			if p.Total > 0 {
				share = fmt.Sprintf("%3d %%  ", p.Done*100/p.Total)
			}
			fmt.Fprintf(e.stderr, "\r\033[K%s  %s%d MB%s", p.Stage, share, p.Done>>20, yes(p.Lines > 0, fmt.Sprintf("  %d lines", p.Lines)))
		}
		done = func() { fmt.Fprint(e.stderr, "\r\033[K") }
	}
	s, another, err := gateway.RefreshDirectory(e.ctx, cfg, progress)
	done()
	switch {
	case errors.Is(err, gateway.ErrNoFetch):
		return &usageError{fmt.Errorf("%s: %w; a file from elsewhere is taken by passerelle directory import", c.Config, err)}
	case err != nil:
		return err
	}
	news := "nothing new"
	if another {
		news = "imported"
	}
	fmt.Fprintf(e.stdout, "%s: %d addresses (%d PER, %d ORG), file of %s (%s old)\n", news, s.Entries, s.PER, s.ORG, s.AsOf.Format(time.DateOnly), age(s.Age))
	return nil
}
