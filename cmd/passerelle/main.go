// Command passerelle is the gateway between a clinic's mail server and the outside world: it asks the health directory who each
// recipient is, and lets every copy leave by exactly one safe way.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // patients read times of Europe/Paris, also where the machine has no zone files

	"github.com/alecthomas/kong"

	"passerelle/config"
)

// version is set by the linker (Makefile).
var version = "dev"

// commands is the command line: one field and one file per subcommand.
type commands struct {
	Serve     serveCmd     `cmd:"" help:"Run the gateway."`
	Check     checkCmd     `cmd:"" help:"Check a config file: all its faults at once, then its expect pairs. Nothing listens, nothing is sent."`
	Explain   explainCmd   `cmd:"" help:"Say which way a mail would take, and why: rules tried, directory record, what the recipient would see."`
	Demo      demoCmd      `cmd:"" help:"Show the main job on this machine: real sockets, eight messages, every arrival checked."`
	Directory directoryCmd `cmd:"" help:"Import and look up the local mirror of the national directory."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
}

// env is what subcommands need of the outside; tests give their own.
type env struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: exit codes are 0 done, 1 it failed, 2 the command line or the config is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cmd commands
	exit := -1
	parser, err := kong.New(&cmd, kong.Name("passerelle"), kong.UsageOnError(), kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }),
		kong.Description("The gateway that lets a clinic keep its mail server and stop leaking health data.\n\n"+
			"Start with `passerelle demo`, then `passerelle check --config FILE` and `passerelle serve --config FILE`."))
	if err != nil {
		fmt.Fprintln(stderr, "passerelle:", err)
		return 1
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if exit >= 0 { // --help was printed
		return exit
	}
	if err != nil {
		fmt.Fprintf(stderr, "passerelle: %v\nTry: passerelle --help\n", err)
		return 2
	}
	if err := k.Run(&env{ctx, stdout, stderr}); err != nil {
		var faults config.Faults
		if errors.As(err, &faults) {
			fmt.Fprintln(stderr, err)
			return 2
		}
		fmt.Fprintln(stderr, "passerelle:", err)
		return 1
	}
	return 0
}

// configFlag is the --config of every subcommand that needs one.
type configFlag struct {
	Config string `short:"c" default:"/etc/passerelle/passerelle.yaml" env:"PASSERELLE_CONFIG" help:"Config file (${default})." type:"path"`
}

func (f configFlag) load() (*config.Config, error) { return config.Load(f.Config, os.LookupEnv) }

func newLogger(cfg *config.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

type versionCmd struct{}

func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintln(e.stdout, "passerelle", version)
	return err
}
