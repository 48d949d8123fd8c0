package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"passerelle/config"
	"passerelle/gateway"
)

type traceCmd struct {
	configFlag
	About string          `arg:"" optional:"" help:"An address (sender or recipient), an id of the log, a Message-ID in its angle brackets, or a deposit; without it the last of all."`
	Since config.Duration `name:"since" help:"Only what was tried within: 7d, 12h."`
	Limit int             `name:"limit" short:"n" default:"20" help:"At most so many, the newest first; 10000 at most."`
	Rules bool            `name:"rules" help:"Count what each rule did, in the place of the mails: what it would have done, in mode observe."`
	JSON  bool            `name:"json" help:"As JSON, with all that the ledger holds."`
}

func (traceCmd) Help() string {
	return "It reads the ledger, beside the running gateway or without it, and changes nothing. Run it as the user that serves: runuser -u passerelle -- passerelle trace ...\n\n" +
		"What WOULD happen to a mail is told by passerelle explain.\n\nExamples:\n  passerelle trace mme.petit@courrier.example --since 7d\n  passerelle trace --rules --since 7d"
}

func (c traceCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if c.Limit < 1 {
		return &usageError{fmt.Errorf("--limit must be more than 0")}
	}
	if c.Rules {
		return c.rules(e, cfg)
	}
	f := gateway.LedgerFilter{About: c.About, Limit: c.Limit}
	if c.Since > 0 {
		f.Since = time.Now().Add(-time.Duration(c.Since))
	}
	list, err := gateway.Trace(e.ctx, cfg, f)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := printJSON(e, traceViews(list)); err != nil {
			return err
		}
	} else {
		for i, x := range list {
			if i > 0 {
				fmt.Fprintln(e.stdout)
			}
			printEntry(e, x)
		}
	}
	if len(list) == 0 {
		return fmt.Errorf("nothing is noted: no such mail came to the gateway (mail inside the clinic does not pass it; mailq and the log of the mail server tell of mail on its way here)")
	}
	return nil
}

// rules prints a table of what each rule did.
func (c traceCmd) rules(e *env, cfg *config.Config) error {
	if c.About != "" || c.JSON {
		return &usageError{errors.New("--rules counts all mail, as a table: without an address and --json")}
	}
	since := time.Time{}
	if c.Since > 0 {
		since = time.Now().Add(-time.Duration(c.Since))
	}
	list, err := gateway.TraceRules(e.ctx, cfg, since)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RULE\tWAY\tOUTCOME\tRECIPIENTS\tLAST")
	for _, r := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", printableLine(r.Rule), r.Route, r.Outcome, r.Count, r.Newest.Format(time.RFC3339))
	}
	return w.Flush()
}

// ways says in words what the routes are.
var ways = map[string]string{
	"local": "back to the clinic's own server", "trust": "into the MSSante trust space", "encrypt": "sealed for its recipient",
	"pickup": "a notice with a link, the content behind a code", "plain": "unchanged, by a rule", "refuse": "not sent, its sender is told",
}

// printEntry writes an entry in words, as somebody reads it out on the telephone.
func printEntry(e *env, x gateway.LedgerEntry) {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	row := func(k, v string) {
		if v != "" {
			fmt.Fprintf(w, "%s\t%s\n", k, printableLine(v))
		}
	}
	row("at", x.Last.Format(time.RFC3339)+yes(x.Count > 1, fmt.Sprintf(", %d tries since %s", x.Count, x.First.Format(time.RFC3339))))
	row("from", yes(x.Sender == "", "<>")+x.Sender)
	row("to", x.Recipient)
	row("outcome", string(x.Outcome)+ifAny(": ", strings.Join(nonEmpty(yes(x.Code != 0, fmt.Sprint(x.Code)), x.Enhanced, x.Text), " ")))
	row("way", x.Route+ifAny(" as ", x.Form)+ifAny(": ", ways[x.Route]))
	if !strings.Contains(x.Reason, x.Rule) {
		row("rule", x.Rule)
	}
	row("why", yes(x.Outcome == "deferred", "waits for: ")+x.Reason)
	row("directory", strings.Join(nonEmpty(x.Source, yes(!x.AsOf.IsZero(), "of "+x.AsOf.Format(time.DateOnly))), " "))
	row("next hop", strings.Join(nonEmpty(x.Hop, x.TLS, x.PeerSubject), ", "))
	row("in clear", yes(x.Clear, "yes: it left without protection that the gateway can vouch for; in mode observe the way is what would have been"))
	row("deposit", x.DepositID+yes(x.DepositID != "", " (passerelle deposits show)"))
	row("message", strings.Join(nonEmpty(x.MessageID, x.HeaderMessageID, fmt.Sprintf("%d octets", x.Size)), "  "))
}

// traceView is an entry as JSON; its names stay. They are the ledger's columns (docs/formats/ledger-row-v1.md).
type traceView struct {
	Seq             int64      `json:"seq"`
	MessageID       string     `json:"message_id"`
	Sender          string     `json:"sender"`
	Recipient       string     `json:"recipient"`
	Route           string     `json:"route"`
	Rule            string     `json:"rule"`
	Reason          string     `json:"reason"`
	Source          string     `json:"source,omitempty"`
	AsOf            *time.Time `json:"as_of,omitempty"`
	Outcome         string     `json:"outcome"`
	Code            int        `json:"code"`
	Enhanced        string     `json:"enhanced"`
	Text            string     `json:"text"`
	Hop             string     `json:"hop,omitempty"`
	PeerSubject     string     `json:"peer_subject,omitempty"`
	PeerFingerprint string     `json:"peer_fingerprint,omitempty"`
	TLS             string     `json:"tls,omitempty"`
	DepositID       string     `json:"deposit_id,omitempty"`
	Clear           bool       `json:"clear"`
	Size            int64      `json:"size"`
	Form            string     `json:"form,omitempty"`
	HeaderMessageID string     `json:"header_message_id,omitempty"`
	First           time.Time  `json:"first"`
	Last            time.Time  `json:"last"`
	Count           int        `json:"count"`
}

func traceViews(list []gateway.LedgerEntry) []traceView {
	out := make([]traceView, 0, len(list))
	for _, x := range list {
		v := traceView{Seq: x.Seq, MessageID: x.MessageID, Sender: x.Sender, Recipient: x.Recipient, Route: x.Route, Rule: x.Rule, Reason: x.Reason,
			Source: x.Source, Outcome: string(x.Outcome), Code: x.Code, Enhanced: x.Enhanced, Text: x.Text, Hop: x.Hop, PeerSubject: x.PeerSubject,
			PeerFingerprint: x.PeerFingerprint, TLS: x.TLS, DepositID: x.DepositID, Clear: x.Clear, Size: x.Size, Form: x.Form,
			HeaderMessageID: x.HeaderMessageID, First: x.First, Last: x.Last, Count: x.Count}
		if !x.AsOf.IsZero() {
			v.AsOf = &x.AsOf
		}
		out = append(out, v)
	}
	return out
}
