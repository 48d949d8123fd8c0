package main

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"passerelle": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }})
}

// TestScripts runs testdata/script against the real binary: what an operator types, and what he reads.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "../../testdata/script", RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE") != ""})
}
