// Command bench is what run.sh needs beside the load scripts, and the long tests that a Go test must not be: a counting sink that
// speaks TLS 1.3, keys and a directory made on the spot, and the runs soak, memory and kills. It knows the gateway as a binary alone.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const usage = `bench keys DIR              certificates of a trust space below DIR, and the DN of the peer to stdout
bench directory N FILE       an extraction file with N mailboxes
bench corpus DIR             the corpus of deploy/corpus_test.go as .eml files
bench sink ADDR              counts; as smtp-sink does where it is called by that name
bench soak|memory|kills|vault  see the flags of each
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "smtp-sink" {
		args = append([]string{"sink"}, args...)
	}
	if err := run(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return flag.ErrHelp
	}
	f := flag.NewFlagSet("bench "+args[0], flag.ContinueOnError)
	do, ok := map[string]func(context.Context, *flag.FlagSet, []string) error{
		"keys": keys, "directory": directory, "corpus": corpus, "sink": sinkCommand, "soak": soak, "memory": memory, "kills": kills, "vault": vaultCommand,
	}[args[0]]
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		return fmt.Errorf("no command %q", args[0])
	}
	return do(ctx, f, args[1:])
}
