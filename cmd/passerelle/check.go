package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"passerelle/config"
	"passerelle/gateway"
)

type checkCmd struct {
	configFlag
	Wait time.Duration `default:"5s" placeholder:"TIME" help:"How long to ask the hops and the directory's LDAP and FHIR: does a hop lead back to this gateway, does a partner show a good certificate, does a source answer, does the MSSante operator let us in, to send and to collect (runs token_command; default: ${default}; 0s: do not connect)."`
}

func (checkCmd) Help() string {
	return "Run it as the user that serves: it looks whether files are there and can be read. It may run beside the gateway.\n\n" +
		"Example:\n  passerelle check --config config/example.yaml"
}

// Run checks in a scratch state folder: the running gateway holds the real one.
func (c checkCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	g, err := openScratch(e.ctx, cfg)
	if err != nil {
		return err
	}
	defer g.Close()
	if c.Wait > 0 {
		ctx, cancel := context.WithTimeout(e.ctx, c.Wait)
		defer cancel()
		if err := g.CheckHops(ctx, cfg); err != nil {
			return err
		}
	}
	warnings := append(waits(cfg), readable(cfg)...)
	ofKeys, err := gateway.CheckKeys(cfg, time.Now())
	warnings = append(warnings, ofKeys...)
	if errors.Is(err, fs.ErrPermission) { // the service alone may read them
		warnings = append(warnings, err.Error())
	} else if err != nil {
		return err
	}
	warnings = append(warnings, g.CheckKeys(e.ctx)...)
	warnings = append(warnings, g.CheckSecrets()...)
	list := g.WhiteList()
	warnings = append(warnings, listWarnings(list)...)
	if list != nil {
		fmt.Fprintln(e.stdout, "white list:", listLine(list))
	}
	if c.Wait > 0 {
		ctx, cancel := context.WithTimeout(e.ctx, c.Wait)
		defer cancel()
		warnings = append(warnings, g.CheckPartners(ctx)...)
		warnings = append(warnings, g.CheckMailboxes(ctx, cfg)...)
		asked, cancel := context.WithTimeout(e.ctx, c.Wait)
		defer cancel()
		answers, faults := g.CheckSources(asked, cfg)
		for _, a := range answers {
			fmt.Fprintln(e.stdout, a)
		}
		warnings = append(warnings, faults...)
		looked, cancel := context.WithTimeout(e.ctx, c.Wait)
		defer cancel()
		if never, away := gateway.CheckShared(looked, cfg); never != nil {
			return never
		} else if away != nil { // a reload does not wait for it
			warnings = append(warnings, fmt.Sprintf("patients' mail waits: %v", away))
		}
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Wait)
	defer cancel()
	shown, no := g.CheckOperator(ctx, cfg, c.Wait > 0)
	warnings = append(warnings, no...)
	for _, s := range shown {
		fmt.Fprintln(e.stdout, s)
	}
	records, err := gateway.DKIMRecords(cfg)
	if err != nil {
		return err
	}
	for _, r := range records {
		fmt.Fprintln(e.stdout, "publish in DNS:", r)
	}
	for _, b := range cfg.Collect {
		if b.Addr != "" {
			fmt.Fprintf(e.stdout, "collects %s, folder %s, at %s: for %s, then %s\n", b.Mailbox, b.Folder, b.Addr, b.DeliverTo, b.After)
		}
	}
	for _, w := range warnings {
		fmt.Fprintln(e.stderr, "warning:", w)
	}
	wrong := g.Verify(e.ctx, cfg.Expect, sampleMessage)
	for _, m := range wrong {
		fmt.Fprintln(e.stderr, m)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d of %d expect pairs do not hold", len(wrong), len(cfg.Expect))
	}
	fmt.Fprintf(e.stdout, "%s: no faults; %d rules, %d expect pairs hold; mode %s\n", c.Config, len(cfg.Rules), len(cfg.Expect), cfg.Mode)
	return nil
}

// waits names the rules whose mail can wait for ever: verified TLS over a hop that was not set up to verify, as a Postfix on loopback.
func waits(cfg *config.Config) (out []string) {
	wait := "waits"
	if cfg.Mode == "observe" {
		wait = "would wait"
	}
	for _, r := range cfg.Rules {
		name := r.Hop
		if name == "" {
			name = "internet"
		}
		if hop := cfg.Hops[name]; r.VerifiedTLS && hop.TLS != "verify" {
			out = append(out, fmt.Sprintf("rule %q wants verified TLS over hops.%s (tls: %s): its mail %s unless %s shows a certificate that verifies", r.Name, name, hop.TLS, wait, hop.Addr))
		}
	}
	return out
}

// readable names the DKIM keys that others on this machine may read.
func readable(cfg *config.Config) (out []string) {
	for i, k := range cfg.DKIM {
		if f, err := os.Stat(k.Key); err == nil && f.Mode().Perm()&0o004 != 0 {
			out = append(out, fmt.Sprintf("dkim[%d].key: everybody may read %s (mode %04o): chmod 600", i, k.Key, f.Mode().Perm()))
		}
	}
	return out
}

// openScratch opens the gateway's rooms beside a running gateway: look-ups read the real mirror, nothing is written.
func openScratch(ctx context.Context, cfg *config.Config) (*gateway.Gateway, error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	return gateway.OpenReadOnly(ctx, cfg, quiet)
}

// sampleMessage is what expect pairs and explain decide about where the operator gave no message.
func sampleMessage(from, to string) []byte {
	return []byte("From: <" + from + ">\r\nTo: <" + to + ">\r\nSubject: essai\r\nMessage-ID: <explain@passerelle.invalid>\r\n\r\nessai\r\n")
}
