package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"passerelle/config"
	"passerelle/gateway"
)

type doctorCmd struct {
	configFlag
	JSON    bool          `name:"json" help:"Print one JSON object."`
	Timeout time.Duration `default:"30s" placeholder:"TIME" help:"The longest that all of it may take; a single check has 10s at most (default: ${default})."`
	Domains []string      `arg:"" optional:"" name:"DOMAIN" help:"Domains of the trust space whose servers are spoken with step by step, up to EHLO under TLS."`
}

func (doctorCmd) Help() string {
	return "Run it on the gateway's machine, as its user, while it serves: it looks at certificates, the process, next hops, the directory, the disk, the clock, DNS and the " +
		"patients' page. Nothing of a message is sent and nothing is changed.\n\n" +
		"Exit codes are those of monitoring plugins: 0 all well; 1 somebody has to act soon; 2 something does not work, or the config or the command line is wrong.\n\n" +
		"Examples:\n  passerelle doctor\n  passerelle doctor --json --timeout 20s\n  passerelle doctor medecin.mssante.example"
}

// checkTime is the longest that one check may take.
const checkTime = 10 * time.Second

// Run prints what is found; the exit code is that of the worst.
func (c doctorCmd) Run(e *env) error {
	if c.Timeout <= 0 {
		return &usageError{errors.New("--timeout must be more than 0")}
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	began := time.Now()
	list, err := c.examine(ctx)
	if err != nil {
		return err
	}
	worst := gateway.Worst(list)
	if c.JSON {
		err = printFindingsJSON(e, list, worst, began)
	} else {
		err = printFindings(e.stdout, list, worst)
	}
	switch {
	case err != nil:
		return err
	case worst == gateway.Fail:
		return exitCode(2)
	case worst == gateway.Warn:
		return exitCode(1)
	}
	return nil
}

func (c doctorCmd) examine(ctx context.Context) ([]gateway.Finding, error) {
	cfg, err := c.load()
	var faults config.Faults
	if errors.As(err, &faults) { // as any other finding, so that monitoring reads it
		return []gateway.Finding{{Level: gateway.Fail, Check: "config", About: c.Config, Finding: strings.ReplaceAll(faults.Error(), "\n", "; "), Remedy: "mend the file; passerelle check names each fault"}}, nil
	}
	if err != nil {
		return nil, err
	}
	return gateway.Examine(ctx, cfg, slog.New(slog.DiscardHandler), gateway.Examination{Domains: c.Domains, Each: min(checkTime, c.Timeout)}), nil
}

// exitCode ends the command without a word more.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// printFindings begins with one line for monitoring that shows no more.
func printFindings(w io.Writer, list []gateway.Finding, worst gateway.Level) error {
	n := map[gateway.Level]int{}
	for _, f := range list {
		n[f.Level]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "passerelle doctor: %s: %d fail, %d warn, %d ok\n", worst, n[gateway.Fail], n[gateway.Warn], n[gateway.Fine])
	for _, f := range list {
		fmt.Fprintf(&b, "%-4s  %s: %s\n", f.Level, strings.Join(nonEmpty(f.Check, f.About, f.Step), " "), printable(f.Finding))
		if f.Remedy != "" {
			fmt.Fprintf(&b, "      > %s\n", f.Remedy)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printFindingsJSON: fields are added in later versions, none is renamed or taken away.
func printFindingsJSON(e *env, list []gateway.Finding, worst gateway.Level, began time.Time) error {
	return printJSON(e, struct {
		Result   gateway.Level     `json:"result"`
		At       time.Time         `json:"at"`
		Seconds  float64           `json:"seconds"`
		Findings []gateway.Finding `json:"findings"`
	}{worst, began.UTC().Truncate(time.Second), time.Since(began).Round(time.Millisecond).Seconds(), list})
}
