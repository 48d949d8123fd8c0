package main

import (
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"passerelle/gateway"
)

type whitelistCmd struct {
	Status  whitelistStatusCmd  `cmd:"" help:"Date, age, size, signer and faults of the white list; exit code 1 where mail of the trust space waits for it."`
	Refresh whitelistRefreshCmd `cmd:"" help:"Look for a newer list now, and take it."`
	Accept  whitelistAcceptCmd  `cmd:"" help:"Take the list that waits because it lost many domains; shows what it adds and removes."`
	Show    whitelistShowCmd    `cmd:"" help:"Who may speak for a domain; exit code 1 where it is not listed."`
}

// open reads the kept list; faults of it stand in its status.
func (f configFlag) whiteList(e *env) (*gateway.WhiteList, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, err
	}
	return gateway.OpenWhiteList(cfg, slog.New(slog.DiscardHandler))
}

type whitelistStatusCmd struct {
	configFlag
	JSON bool `name:"json" help:"As JSON, ages in seconds."`
}

func (whitelistStatusCmd) Help() string {
	return "The list that is kept in state_dir is verified again. Run it as the user that serves.\n\nExample: passerelle whitelist status"
}

func (c whitelistStatusCmd) Run(e *env) error {
	w, err := c.whiteList(e)
	if err != nil {
		return err
	}
	s := w.Status()
	if s == nil {
		return gateway.ErrNoWhiteList
	}
	if c.JSON {
		err = printJSON(e, whitelistView(s))
	} else {
		err = printWhitelist(e, s)
	}
	if err == nil && s.Doubt != "" {
		err = errors.New(s.Doubt)
	}
	return err
}

func printWhitelist(e *env, s *gateway.WhiteListStatus) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	row := func(k, format string, args ...any) { fmt.Fprintf(w, k+"\t"+format+"\n", args...) }
	row("source", "%s", s.Source)
	if !s.Date.IsZero() {
		row("list of", "%s (%s old%s)", s.Date.Format(time.RFC3339), age(s.Age), yes(s.Alarm, ", older than alarm_age"))
		row("domains", "%d", s.Domains)
		row("names", "%d", s.Names)
		if s.Skipped > 0 {
			row("skipped", "%d entries cannot be read", s.Skipped)
		}
		row("signer", "%s, until %s", s.Signer, s.SignerUntil.Format(time.DateOnly))
	}
	if !s.Checked.IsZero() {
		row("asked", "%s", s.Checked.Format(time.RFC3339))
	}
	if !s.Next.IsZero() {
		row("next", "%s", s.Next.Format(time.RFC3339))
	}
	if s.Fault != "" {
		row("fault", "%s", s.Fault)
	}
	if n := s.Waiting; n != nil {
		row("waiting", "a list of %s with %d domains: %d more, %d fewer; passerelle whitelist accept", n.Date.Format(time.RFC3339), n.Domains, n.Added, n.Lost)
	}
	return w.Flush()
}

func whitelistView(s *gateway.WhiteListStatus) any {
	return struct {
		Source  string    `json:"source"`
		Date    time.Time `json:"date,omitzero"`
		Age     float64   `json:"age_seconds,omitempty"`
		Domains int       `json:"domains"`
		Names   int       `json:"names"`
		Skipped int       `json:"skipped"`
		Signer  string    `json:"signer,omitempty"`
		Until   time.Time `json:"signer_until,omitzero"`
		Doubt   string    `json:"doubt,omitempty"`
		Alarm   bool      `json:"alarm"`
		Checked time.Time `json:"checked,omitzero"`
		Next    time.Time `json:"next,omitzero"`
		Fault   string    `json:"fault,omitempty"`
		Waiting any       `json:"waiting,omitempty"`
	}{s.Source, s.Date, s.Age.Seconds(), s.Domains, s.Names, s.Skipped, s.Signer, s.SignerUntil, s.Doubt, s.Alarm, s.Checked, s.Next, s.Fault, waitingView(s)}
}

func waitingView(s *gateway.WhiteListStatus) any {
	if s.Waiting == nil {
		return nil
	}
	return s.Waiting
}

type whitelistRefreshCmd struct{ configFlag }

func (whitelistRefreshCmd) Help() string {
	return "A running gateway takes the new list by itself. Whatever is wrong with a new list leaves the one in force as it is.\n\nExample: passerelle whitelist refresh"
}

func (c whitelistRefreshCmd) Run(e *env) error {
	w, err := c.whiteList(e)
	if err != nil {
		return err
	}
	result, err := w.Refresh(e.ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, result)
	return printWhitelist(e, w.Status())
}

type whitelistAcceptCmd struct {
	configFlag
	Look bool `help:"Show what it adds and removes, and take nothing."`
}

func (whitelistAcceptCmd) Help() string {
	return "A list that lost more domains than trust.white_list.shrink waits: mail for them would leave the trust space. Ask the ANS, or your operator, before you take it.\n\n" +
		"Example: passerelle whitelist accept --look\nExample: passerelle whitelist accept"
}

func (c whitelistAcceptCmd) Run(e *env) error {
	w, err := c.whiteList(e)
	if err != nil {
		return err
	}
	date, added, lost, err := w.Waiting()
	if err != nil {
		return err
	}
	for _, d := range lost {
		fmt.Fprintln(e.stdout, "-", d)
	}
	for _, d := range added {
		fmt.Fprintln(e.stdout, "+", d)
	}
	if c.Look {
		return nil
	}
	if err := w.Accept(e.ctx, date); err != nil {
		return err
	}
	s := w.Status()
	fmt.Fprintf(e.stdout, "taken: the list of %s, %d domains, %d added, %d removed\n", s.Date.Format(time.RFC3339), s.Domains, len(added), len(lost))
	return nil
}

type whitelistShowCmd struct {
	configFlag
	Domain string `arg:"" help:"A mail domain."`
}

func (whitelistShowCmd) Help() string {
	return "Example: passerelle whitelist show medecin.mssante.fr"
}

func (c whitelistShowCmd) Run(e *env) error {
	w, err := c.whiteList(e)
	if err != nil {
		return err
	}
	names, listed, err := w.Show(c.Domain)
	for _, n := range names {
		fmt.Fprintf(e.stdout, "%s\t(%s)\n", n[0], n[1])
	}
	switch {
	case err != nil:
		return err
	case !listed:
		return fmt.Errorf("%s is not listed", c.Domain)
	case len(names) == 0:
		return fmt.Errorf("%s is listed without a name that can be read: nobody may speak for it", c.Domain)
	}
	return nil
}

// listLine is the list in one line, "" where none is configured.
func listLine(s *gateway.WhiteListStatus) string {
	switch {
	case s == nil:
		return ""
	case s.Date.IsZero():
		return s.Source + ": " + s.Doubt
	}
	return fmt.Sprintf("%d domains, of %s (%s old), from %s", s.Domains, s.Date.Format(time.RFC3339), age(s.Age), s.Source)
}

// listWarnings is what the operator should do something about.
func listWarnings(s *gateway.WhiteListStatus) (out []string) {
	if s == nil {
		return nil
	}
	if s.Doubt != "" {
		out = append(out, "mail of the trust space waits: "+s.Doubt)
	} else if s.Alarm {
		out = append(out, fmt.Sprintf("the white list is %s old", age(s.Age)))
	}
	if s.Fault != "" {
		out = append(out, s.Fault)
	}
	if s.Waiting != nil {
		out = append(out, fmt.Sprintf("a white list that lost %d domains waits: passerelle whitelist accept", s.Waiting.Lost))
	}
	return out
}
