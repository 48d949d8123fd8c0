//go:build profile

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// A program built by `make profile` writes where its time goes into the folder PASSERELLE_PROFILE, every five seconds into a new file. The
// compiler takes their sum as default.pgo (https://go.dev/doc/pgo).
var _ = profile(os.Getenv("PASSERELLE_PROFILE"))

func profile(dir string) error {
	next := func(name string) error {
		f, err := os.CreateTemp(dir, ".profile")
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		time.Sleep(5 * time.Second)
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			return err
		}
		return os.Rename(f.Name(), filepath.Join(dir, name)) // whole ones alone
	}
	go func() {
		for i := 0; ; i++ {
			if err := next(fmt.Sprintf("%d.%d", os.Getpid(), i)); err != nil {
				panic(fmt.Errorf("profile: %w", err))
			}
		}
	}()
	return nil
}
