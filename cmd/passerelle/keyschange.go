package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"passerelle/gateway"
)

// changed says what a key is now, under each address that was changed.
func changed(e *env, keys *gateway.Keys, list []gateway.Key) error {
	for i := range list {
		k := &list[i]
		fmt.Fprintf(e.stdout, "%s key %.16s for %s: trust %s, until %s, %s\n", k.Kind, k.Fingerprint, printable(k.Address), k.Trust, until(k), keys.Use(k, time.Now()))
	}
	return nil
}

type keysTrustCmd struct {
	keysFlag
	keyAddress
	Key   string `arg:"" help:"The beginning of its fingerprint, 8 digits or more."`
	Trust string `arg:"" enum:"rejected,seen,discovered,verified,confirmed" help:"rejected, seen, discovered, verified or confirmed."`
	Why   string `placeholder:"TEXT" help:"On whose word."`
}

func (keysTrustCmd) Help() string {
	return "What is said here stays: nothing that is found later changes it.\n\nExamples:\n  passerelle keys trust 3fa2c41b confirmed --why \"read out by telephone\"\n  passerelle keys trust 3fa2c41b rejected"
}

func (c keysTrustCmd) Run(e *env) error {
	keys, err := c.open(e)
	if err != nil {
		return err
	}
	defer keys.Close()
	list, err := keys.Trust(e.ctx, c.Key, c.Address, gateway.KeyTrust(c.Trust), c.Why)
	if err != nil {
		return err
	}
	return changed(e, keys, list)
}

type keysExpireCmd struct {
	keysFlag
	Key   string `arg:"" help:"The beginning of its fingerprint, 8 digits or more."`
	At    string `placeholder:"DAY" help:"From that day on (2027-01-31), in the place of now."`
	Never bool   `help:"Take back what was said before: the key ends when it says itself."`
}

func (keysExpireCmd) Help() string {
	return "Examples:\n  passerelle keys expire 3fa2c41b\n  passerelle keys expire 3fa2c41b --at 2027-01-31"
}

func (c keysExpireCmd) Run(e *env) error {
	if c.Never && c.At != "" {
		return &usageError{errors.New("--never and --at say different things")}
	}
	at := time.Now()
	var err error
	switch {
	case c.Never:
		at = time.Time{}
	case c.At != "":
		if at, err = day(c.At); err != nil {
			return err
		}
	}
	keys, err := c.open(e)
	if err != nil {
		return err
	}
	defer keys.Close()
	list, err := keys.Expire(e.ctx, c.Key, at)
	if err != nil {
		return err
	}
	return changed(e, keys, list)
}

type keysExportCmd struct {
	keysFlag
	Key string `arg:"" help:"The beginning of its fingerprint, 8 digits or more."`
	Out string `placeholder:"FILE" help:"Write it there; else to the output." type:"path"`
}

func (keysExportCmd) Help() string { return "Example: passerelle keys export 3fa2c41b > cabinet.asc" }

func (c keysExportCmd) Run(e *env) error {
	keys, err := c.open(e)
	if err != nil {
		return err
	}
	defer keys.Close()
	list, err := keys.Get(e.ctx, c.Key)
	if err != nil {
		return err
	}
	text, err := list[0].Export()
	if err != nil {
		return err
	}
	if c.Out != "" {
		return os.WriteFile(c.Out, text, 0o644)
	}
	_, err = e.stdout.Write(text)
	return err
}

type keysDeleteCmd struct {
	keysFlag
	keyAddress
	Key string `arg:"" help:"The beginning of its fingerprint, 8 digits or more."`
}

func (keysDeleteCmd) Help() string { return "Example: passerelle keys delete 3fa2c41b" }

func (c keysDeleteCmd) Run(e *env) error {
	keys, err := c.open(e)
	if err != nil {
		return err
	}
	defer keys.Close()
	list, err := keys.Forget(e.ctx, c.Key, c.Address)
	if err != nil {
		return err
	}
	for i := range list {
		fmt.Fprintf(e.stdout, "deleted: %s key %.16s for %s\n", list[i].Kind, list[i].Fingerprint, printable(list[i].Address))
	}
	return nil
}
