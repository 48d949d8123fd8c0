// Command passerelle is the gateway between a clinic's mail server and the outside world: it asks the health directory who each
// recipient is, and lets every copy leave by exactly one safe way.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // patients read times of Europe/Paris, also where the machine has no zone files

	"github.com/alecthomas/kong"

	"passerelle/config"
)

// version is set by the linker (Makefile).
var version = "dev"

// commands is the command line: one field and one file per subcommand.
type commands struct {
	Serve     serveCmd     `cmd:"" help:"Run the gateway until SIGTERM or Ctrl-C; the log goes to stderr as JSON."`
	Check     checkCmd     `cmd:"" help:"Check a config file: all its faults at once, then its expect pairs. Nothing listens, nothing is sent."`
	Doctor    doctorCmd    `cmd:"" help:"Say whether all is well around the running gateway: certificates, hops, peers, directory, disk, clock; for people and monitoring."`
	Explain   explainCmd   `cmd:"" help:"Say which way a mail would take, and why: rules tried, directory record, what the recipient would see. Nothing is sent."`
	Trace     traceCmd     `cmd:"" help:"Say which way a mail took, and why, as the ledger has it; exit code 1 where nothing is noted."`
	Demo      demoCmd      `cmd:"" help:"Show the main job on this machine: real sockets on loopback, eight messages, every arrival checked. Needs no config."`
	Directory directoryCmd `cmd:"" help:"The local mirror of the national directory (Annuaire Sante): look up, search, import, compare. Needs no config."`
	Whitelist whitelistCmd `cmd:"" help:"The signed white list of the MSSante trust space: status, refresh, accept, show."`
	Deposits  depositsCmd  `cmd:"" help:"What waits for patients: list, show, revoke, send the notice again, extend, unblock a sender."`
	Preview   previewCmd   `cmd:"" help:"Every page and mail that patients and senders get, in the clinic's look, with made-up data."`
	Keys      keysCmd      `cmd:"" help:"The keys of correspondents outside the trust space: import, list, show, trust, expire, export, delete."`
	Secret    secretCmd    `cmd:"" help:"Phrases agreed with correspondents: seal one for the clinic's list."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
}

// env is what subcommands need of the outside; tests give their own.
type env struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		slackTimers()
	}
	os.Exit(run(untilSignal(), os.Args[1:], os.Stdout, os.Stderr))
}

// untilSignal gives a context that SIGTERM or Ctrl-C ends; a second signal ends the process at once, as if nobody had asked for the first.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2) // the second may follow at the first's heels
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		second := <-signals
		signal.Reset(second)
		syscall.Kill(os.Getpid(), second.(syscall.Signal))
	}()
	return ctx
}

// run is main without the process: exit codes are 0 done, 1 it failed, 2 the command line or the config is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cmd commands
	exit := -1
	parser, err := kong.New(&cmd, kong.Name("passerelle"), kong.UsageOnError(), kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }),
		kong.Description("The gateway that lets a clinic keep its mail server and stop leaking health data.\n\n"+
			"Start with `passerelle demo`, then `passerelle check --config FILE` and `passerelle serve --config FILE`.\n\n"+
			"Exit codes: 0 done; 1 it failed, or what was asked does not hold (an expect pair, a look-up); 2 the command line or the config file is wrong. Of doctor: 0 well, 1 warnings, 2 failures."))
	if err != nil {
		fmt.Fprintln(stderr, "passerelle:", err)
		return 1
	}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help":
		args = append(args[1:len(args):len(args)], "--help")
	case args[0] == "--version":
		args = append([]string{"version"}, args[1:]...)
	}
	k, err := parser.Parse(args)
	if exit >= 0 { // --help was printed
		return exit
	}
	if err != nil {
		fmt.Fprintf(stderr, "passerelle: %s\nTry: passerelle %s--help\n", printable(err.Error()), asked(err))
		return 2
	}
	if err := k.Run(&env{ctx, stdout, stderr}); err != nil {
		return tell(stderr, err)
	}
	return 0
}

// tell prints an error and gives its exit code.
func tell(stderr io.Writer, err error) int {
	var faults config.Faults
	var unread *configError
	var code exitCode
	switch {
	case errors.As(err, &code): // all was said
		return int(code)
	case errors.As(err, &faults): // each line begins with its place
		fmt.Fprintln(stderr, printable(err.Error()))
		return 2
	case errors.As(err, &unread):
		hint := "Name the file: --config FILE, or PASSERELLE_CONFIG in the environment"
		if errors.Is(err, fs.ErrPermission) {
			hint = "Run it as root or as the user that serves: runuser -u passerelle -- passerelle ..."
		}
		fmt.Fprintf(stderr, "passerelle: %s\n%s\n", printable(err.Error()), hint)
		return 2
	}
	fmt.Fprintln(stderr, "passerelle:", printable(err.Error()))
	if usage := new(usageError); errors.As(err, &usage) {
		return 2
	}
	return 1
}

// asked is the subcommand that a fault of the command line is about, with a space behind it, so that the hint leads to its help.
func asked(err error) string {
	var p *kong.ParseError
	if errors.As(err, &p) && p.Context != nil && p.Context.Command() != "" {
		return strings.TrimSpace(strings.Split(p.Context.Command(), "<")[0]) + " "
	}
	return ""
}

// configError: the config file could not be read at all.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// configFlag is the --config of every subcommand that needs one.
type configFlag struct {
	Config string `short:"c" default:"/etc/passerelle/passerelle.yaml" env:"PASSERELLE_CONFIG" placeholder:"FILE" help:"Config file (default: ${default})." type:"path"`
}

func (f configFlag) load() (*config.Config, error) {
	cfg, err := config.Load(f.Config, os.LookupEnv)
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		err = &configError{err}
	}
	return cfg, err
}

func newLogger(level slog.Leveler, w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

func logLevel(cfg *config.Config) (level slog.Level) {
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return slog.LevelInfo
	}
	return level
}

type versionCmd struct{}

func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintln(e.stdout, "passerelle", version)
	return err
}
