package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"passerelle/config"
	"passerelle/gateway"
)

type depositsCmd struct {
	List   depositsListCmd   `cmd:"" help:"Deposits, the newest first: who waits for whom, and how it stands."`
	Show   depositsShowCmd   `cmd:"" help:"All that is known of one deposit; exit code 1 where there is none."`
	Revoke depositsRevokeCmd `cmd:"" help:"Destroy the content of a deposit for good; its sender is told."`
	Resend depositsResendCmd `cmd:"" help:"Send the notice with the link again, and end a lock by wrong codes."`
	Extend depositsExtendCmd `cmd:"" help:"Give a deposit a later end, a year from now at most."`

	Unblock depositsUnblockCmd `cmd:"" help:"Let a deposit's sender write again to the recipient who blocked him."`
}

// deposits opens them, by way of the running gateway or without it.
func (f configFlag) deposits(e *env) (*gateway.Deposits, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, err
	}
	return gateway.OpenDeposits(e.ctx, cfg, slog.New(slog.DiscardHandler))
}

const depositsHelp = "Asks the running gateway over its socket in state_dir, and works on the folder itself where none runs. Run it as the user that serves: runuser -u passerelle -- passerelle deposits ...\n\n"

type depositsListCmd struct {
	configFlag
	State     string          `name:"state" enum:",held,waiting,opened,expired,revoked,destroyed" default:"" help:"Only those: held, waiting, opened, expired, revoked, destroyed."`
	Sender    string          `name:"sender" help:"Only of this sender."`
	Recipient string          `name:"recipient" help:"Only for this recipient."`
	Since     config.Duration `name:"since" help:"Only those made within: 7d, 12h."`
	Limit     int             `name:"limit" default:"100" help:"At most so many, 10000 at most."`
	JSON      bool            `name:"json" help:"As JSON."`
}

func (depositsListCmd) Help() string {
	return depositsHelp + "Example: passerelle deposits list --state waiting --since 7d"
}

func (c depositsListCmd) Run(e *env) error {
	d, err := c.deposits(e)
	if err != nil {
		return err
	}
	defer d.Close()
	f := gateway.DepositFilter{Sender: strings.ToLower(c.Sender), Recipient: strings.ToLower(c.Recipient), Limit: c.Limit}
	f.SetState(c.State)
	if c.Since > 0 {
		f.Since = time.Now().Add(-time.Duration(c.Since))
	}
	list, err := d.List(e.ctx, f)
	if err != nil {
		return err
	}
	if c.JSON {
		if list == nil {
			list = []gateway.Deposit{}
		}
		return printJSON(e, list)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tMADE\tSTATE\tPROOF\tUNTIL\tSENDER\tRECIPIENT")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Created.Format(time.RFC3339), s.State, s.Mode, s.Expires.Format(time.DateOnly), s.Sender, s.Recipient)
	}
	return w.Flush()
}

type depositArg struct {
	configFlag
	ID string `arg:"" help:"The deposit's id, 32 hexadecimal digits, as list, log and ledger show it."`
}

type depositsShowCmd struct {
	depositArg
	JSON bool `name:"json" help:"As JSON."`
}

func (depositsShowCmd) Help() string {
	return depositsHelp + "Example: passerelle deposits show 0f3c..."
}

func (c depositsShowCmd) Run(e *env) error {
	d, err := c.deposits(e)
	if err != nil {
		return err
	}
	defer d.Close()
	s, err := d.Show(e.ctx, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e, s)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	row := func(k, format string, args ...any) { fmt.Fprintf(w, k+"\t"+format+"\n", args...) }
	at := func(k string, t time.Time) {
		if !t.IsZero() {
			row(k, "%s", t.Format(time.RFC3339))
		}
	}
	row("id", "%s", s.ID)
	row("state", "%s", s.State)
	row("sender", "%s", s.Sender)
	row("recipient", "%s", s.Recipient)
	row("proof", "%s%s", proofs[string(s.Mode)], yes(s.MaskedPhone != "", ", "+s.MaskedPhone))
	row("size", "%d octets sealed", s.Size)
	at("made", s.Created)
	at("code sent", s.CodeAt)
	row("reminders", "%d", s.Reminders)
	if s.Opened.IsZero() {
		row("opened", "never")
	} else {
		row("opened", "%s, proved by %s, %d times in all", s.Opened.Format(time.RFC3339), s.Level, s.Openings)
	}
	row("answers", "%d%s", s.Answers, yes(s.Closed, ", exchange closed"))
	if at("ended", s.Ended); s.Ended.IsZero() {
		at("until", s.Expires)
	}
	return w.Flush()
}

// proofs say what opens a deposit.
var proofs = map[string]string{"sms": "code by SMS", "sender": "code that its sender tells by telephone", "secret": "agreed phrase",
	"email": "code by e-mail", "oidc": "OpenID provider"}

type depositsRevokeCmd struct{ depositArg }

func (depositsRevokeCmd) Help() string {
	return depositsHelp + "Nothing brings the content back; state, times and the ledger's entries stay.\n\nExample: passerelle deposits revoke 0f3c..."
}

func (c depositsRevokeCmd) Run(e *env) error {
	return c.do(e, "revoked, its content is destroyed", func(d *gateway.Deposits) error { return d.Revoke(e.ctx, c.ID) })
}

type depositsResendCmd struct{ depositArg }

func (depositsResendCmd) Help() string {
	return depositsHelp + "Ends a lock by wrong codes too. Under pickup.strict and after the last reminder that is all that it does: the link is then known to its recipient alone, and no notice leaves.\n\nExample: passerelle deposits resend 0f3c..."
}

func (c depositsResendCmd) Run(e *env) error {
	return c.do(e, "its notice is sent again, and what wrong codes had locked is open", func(d *gateway.Deposits) error { return d.Resend(e.ctx, c.ID) })
}

type depositsUnblockCmd struct {
	configFlag
	ID        string `arg:"" optional:"" help:"A deposit of that sender for that recipient."`
	Sender    string `name:"sender" help:"With --recipient in the place of an id: the sender's address, or the rule's notify."`
	Recipient string `name:"recipient" help:"The address of who blocked him."`
}

func (depositsUnblockCmd) Help() string {
	return depositsHelp + "The recipient blocked the sender on the page of this or another message; ask him before. A block stays when pickup.keep has ended all that is known of their messages: then the two addresses name it.\n\n" +
		"Example: passerelle deposits unblock 0f3c...\nExample: passerelle deposits unblock --sender dr@clinique.example --recipient a.patient@example.fr"
}

func (c depositsUnblockCmd) Run(e *env) error {
	if (c.ID == "") == (c.Sender == "" || c.Recipient == "") || c.ID != "" && c.Sender+c.Recipient != "" {
		return &usageError{errors.New("unblock wants a deposit's id, or both --sender and --recipient")}
	}
	if c.ID != "" {
		return depositArg{c.configFlag, c.ID}.do(e, "its sender may write to its recipient again", func(d *gateway.Deposits) error { return d.Unblock(e.ctx, c.ID) })
	}
	d, err := c.deposits(e)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.UnblockPair(e.ctx, c.Sender, c.Recipient); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s may write to %s again\n", c.Sender, c.Recipient)
	return nil
}

type depositsExtendCmd struct {
	depositArg
	By config.Duration `name:"by" default:"30d" help:"The new end, so long from now (not from the old end): 30d, 12h."`
}

func (depositsExtendCmd) Help() string {
	return depositsHelp + "Example: passerelle deposits extend 0f3c... --by 60d"
}

func (c depositsExtendCmd) Run(e *env) error {
	if c.By <= 0 {
		return &usageError{errors.New("--by must be more than nothing")}
	}
	end := time.Now().Add(time.Duration(c.By))
	return c.do(e, "waits until "+end.UTC().Format(time.RFC3339), func(d *gateway.Deposits) error { return d.Extend(e.ctx, c.ID, end) })
}

// do does one thing and says what was done to which deposit.
func (c depositArg) do(e *env, done string, what func(*gateway.Deposits) error) error {
	d, err := c.deposits(e)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := what(d); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "deposit %s: %s\n", c.ID, done)
	return nil
}
