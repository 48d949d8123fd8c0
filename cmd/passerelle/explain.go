package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"passerelle/gateway"
)

type explainCmd struct {
	configFlag
	From    string `required:"" placeholder:"ADDRESS" help:"Sender, as in MAIL FROM; \"<>\" for none."`
	To      string `required:"" placeholder:"ADDRESS" help:"Recipient, as in RCPT TO."`
	Message string `type:"existingfile" placeholder:"FILE" help:"A message as a mail client saves it (.eml): rules on attachments, size, header or subject need it. Without it a short text is taken."`
}

func (explainCmd) Help() string {
	return "It asks the mirror, the clinic's list and the rules as the gateway does, sends nothing and notes nothing. It may run beside the gateway.\n\n" +
		"Example:\n  passerelle explain --from dr@clinique.example --to mme.petit@courrier.example --message lettre.eml"
}

func (c explainCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	raw := sampleMessage(c.From, c.To)
	if c.Message != "" {
		if raw, err = os.ReadFile(c.Message); err != nil {
			return err
		}
		if int64(len(raw)) > int64(cfg.Limits.Message) {
			return fmt.Errorf("%s is larger than limits.message", c.Message)
		}
		raw = crlf(raw)
	}
	g, err := openScratch(e.ctx, cfg)
	if err != nil {
		return err
	}
	defer g.Close()
	x, err := g.Explain(e.ctx, c.From, c.To, raw)
	if wrong := (*gateway.AddressError)(nil); errors.As(err, &wrong) {
		return &usageError{err}
	}
	if err != nil {
		return err
	}
	printExplanation(e, x)
	return nil
}

func printExplanation(e *env, x *gateway.Explanation) {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	row := func(k, v string) {
		if v != "" {
			fmt.Fprintf(w, "%s\t%s\n", k, printable(v))
		}
	}
	row("from", x.From)
	row("to", x.To)
	row("directory", string(x.Facts.Verdict)+ifAny(": ", x.Facts.VerdictWhy))
	if !x.Answer.AsOf.IsZero() {
		row("source", fmt.Sprintf("%s of %s (%s old)", x.Answer.Source, x.Answer.AsOf.Format(time.DateOnly), age(time.Since(x.Answer.AsOf))))
	}
	if len(x.Answer.Sources) > 1 {
		for _, s := range x.Answer.Sources {
			row("asked", strings.Join(nonEmpty(s.Name+": "+s.Verdict, dated(s.AsOf), s.Why, yes(!s.Verifies, "does not verify")), ", "))
		}
	}
	for _, r := range x.Answer.Records {
		row("record", recordLine(r))
	}
	for _, c := range x.Answer.Contradictions {
		row("contradiction", c)
	}
	row("looks like", ifAny("the domain is near ", x.Facts.Lookalike))
	if x.Facts.KnownAs && x.Instead == "" {
		row("known as", knownAs(x.Answer))
	}
	row("goes to", ifAny("", x.Instead))
	if c := x.Answer.Contact; c != nil {
		row("own list", strings.Join(nonEmpty(c.Name, c.Person, ifAny("prefers ", c.Prefer), yes(len(c.OpenPGPKey) > 0, "OpenPGP key"), yes(c.Phone != "", "mobile phone"), yes(c.Opposed, "OPPOSED"), certificate(c), c.Label), ", "))
	}
	for _, k := range x.Keys {
		row("keyring", k)
	}
	row("trust space", yes(x.Facts.TrustDomain, "the recipient's domain is listed"))
	row("white list", listLine(x.WhiteList))
	row("doubt", x.Facts.TrustDoubt)
	if x.Facts.SenderTrouble == "" {
		row("writes", x.Facts.SendsAs)
	} else {
		row("may not write", x.Facts.SenderTrouble+ifAny(", ", x.Facts.SendsAs))
	}
	for i, t := range x.Decision.Tried {
		mark := "no "
		if t.Matched {
			mark = "YES"
		}
		row(fmt.Sprintf("rule %d", i+1), fmt.Sprintf("%s %s  %s", mark, t.Rule, t.Why))
	}
	row("way", string(x.Decision.Route)+ifAny(" as ", x.Decision.Form))
	row("why", x.Decision.Reason)
	row("next hop", x.Hop)
	row("recipient sees", x.Sees)
	if x.Observe {
		row("mode", "observe: noted as above, sent unchanged")
	}
}

// recordLine writes a directory record for the operator.
func recordLine(r gateway.Record) string {
	name := strings.Join(strings.Fields(strings.Join([]string{r.Title, r.FirstName, r.LastName}, " ")), " ")
	paperless := ""
	if r.Dematerialised != nil {
		paperless = "paperless: " + map[bool]string{true: "yes", false: "no"}[*r.Dematerialised]
	}
	return strings.Join(nonEmpty(r.Kind, name, r.Profession, r.Structure, strings.TrimSpace(r.PostalCode+" "+r.City), ifAny("id ", r.ID), paperless,
		yes(r.RedList, "red list"), yes(r.Inactive, "INACTIVE"), strings.Join(r.Flags, ", "), ifAny("by ", strings.Join(nonEmpty(append([]string{r.Source}, r.Also...)...), "+"))), ", ")
}

// knownAs names every mailbox that a person is known under, and by whom.
func knownAs(a gateway.DirectoryAnswer) string {
	var all []string
	for _, k := range a.KnownAs.All() {
		all = append(all, k.String())
	}
	return strings.Join(all, ", ") + yes(a.KnownAs.More, " and others") + " (" + a.KnownAs.By() + ")"
}

func dated(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (%s old)", t.Format(time.DateOnly), age(time.Since(t)))
}

func certificate(c *gateway.Contact) string {
	if c.Certificate == nil {
		return ""
	}
	if fault := gateway.CertificateFault(c, time.Now()); fault != "" {
		return "NOT USED: " + fault
	}
	return "certificate until " + c.Certificate.NotAfter.Format(time.DateOnly)
}

func age(d time.Duration) string {
	if d > 48*time.Hour {
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	if d >= time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d minutes", int(d.Minutes()))
}

func ifAny(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func yes(b bool, s string) string {
	if b {
		return s
	}
	return ""
}

func nonEmpty(list ...string) []string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// crlf gives a file saved by a mail client the line ends of the wire.
func crlf(raw []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}
