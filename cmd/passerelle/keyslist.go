package main

import (
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"passerelle/gateway"
)

type keysListCmd struct {
	keysFlag
	Word     string `arg:"" optional:"" help:"Part of an address or name, or the beginning of a fingerprint."`
	Kind     string `enum:"smime,openpgp," default:"" help:"Only this kind: smime, openpgp."`
	Expiring string `placeholder:"TIME" help:"Only those in use that end within it, with none that lasts longer in their place: 30d."`
	JSON     bool   `name:"json" help:"As JSON."`
}

func (keysListCmd) Help() string {
	return "USE says whether mail may be sealed to the key now, or why not; of several good ones under an address the first is taken. The keys of the clinic's own list and of encrypt.keys stand in their files, not here.\n\n" +
		"Examples:\n  passerelle keys list --expiring 30d\n  passerelle keys list @cabinet.example"
}

func (c keysListCmd) Run(e *env) error {
	keys, err := c.open(e)
	if err != nil {
		return err
	}
	defer keys.Close()
	var list []gateway.Key
	if c.Expiring != "" {
		within, err := span(c.Expiring)
		if err != nil {
			return err
		}
		list, err = keys.Expiring(e.ctx, time.Now(), within)
		if err != nil {
			return err
		}
	} else if list, err = keys.All(e.ctx); err != nil {
		return err
	}
	if c.Word != "" {
		list = gateway.Named(list, c.Word)
	}
	if c.Kind != "" {
		list = slices.DeleteFunc(list, func(k gateway.Key) bool { return string(k.Kind) != c.Kind })
	}
	if c.JSON {
		views := make([]any, len(list))
		for i := range list {
			views[i] = keyView(keys, &list[i])
		}
		return printJSON(e, views)
	}
	if len(list) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ADDRESS\tKIND\tKEY\tTRUST\tSOURCE\tUNTIL\tUSE")
	for i := range list {
		k := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%.16s\t%s\t%s\t%s\t%s\n", printable(k.Address), k.Kind, k.Fingerprint, k.Trust, k.Source, until(k), keys.Use(k, time.Now()))
	}
	return w.Flush()
}

// keyView is a key as JSON; times are RFC 3339, absent where there is none.
func keyView(keys *gateway.Keys, k *gateway.Key) any {
	return struct {
		Address     string    `json:"address"`
		Kind        string    `json:"kind"`
		Fingerprint string    `json:"fingerprint"`
		Name        string    `json:"name,omitempty"`
		Source      string    `json:"source"`
		Trust       string    `json:"trust"`
		Why         string    `json:"why,omitempty"`
		Fixed       bool      `json:"fixed"`
		Use         string    `json:"use"`
		Added       time.Time `json:"added"`
		Seen        time.Time `json:"seen"`
		Checked     time.Time `json:"checked,omitzero"`
		NotBefore   time.Time `json:"not_before"`
		NotAfter    time.Time `json:"not_after,omitzero"`
		Until       time.Time `json:"until,omitzero"`
		Revoked     string    `json:"revoked,omitempty"`
	}{k.Address, string(k.Kind), k.Fingerprint, k.Name, string(k.Source), string(k.Trust), k.Why, k.Fixed, keys.Use(k, time.Now()), k.Added, k.Seen, k.Checked,
		k.NotBefore, k.NotAfter, k.Until, k.Revoked}
}

type keysShowCmd struct {
	keysFlag
	Key  string `arg:"" help:"The beginning of a fingerprint (8 digits or more), or an address."`
	JSON bool   `name:"json" help:"As JSON."`
}

func (keysShowCmd) Help() string {
	return "Example: passerelle keys show 3fa2c41b"
}

func (c keysShowCmd) Run(e *env) error {
	keys, err := c.open(e)
	if err != nil {
		return err
	}
	defer keys.Close()
	list, err := keys.Of(e.ctx, c.Key)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errNoKey
	}
	if c.JSON {
		views := make([]any, len(list))
		for i := range list {
			views[i] = keyView(keys, &list[i])
		}
		return printJSON(e, views)
	}
	for i := range list {
		if i > 0 {
			fmt.Fprintln(e.stdout)
		}
		if err := printKey(e, keys, &list[i]); err != nil {
			return err
		}
	}
	return nil
}

func printKey(e *env, keys *gateway.Keys, k *gateway.Key) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	row := func(name, v string) {
		if v != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, printable(v))
		}
	}
	on := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Format(time.RFC3339)
	}
	row("address", k.Address)
	row("kind", string(k.Kind))
	row("fingerprint", digits(k.Fingerprint))
	row("name", k.Name)
	row("use", keys.Use(k, time.Now()))
	row("trust", string(k.Trust)+yes(k.Fixed, ", by the operator"))
	row("source", string(k.Source)+ifAny(": ", k.Why))
	row("valid", k.NotBefore.Format(time.DateOnly)+" to "+until(k)+yes(!k.Until.IsZero(), " (ended by the operator)"))
	row("revoked", k.Revoked)
	row("added", on(k.Added))
	row("seen", on(k.Seen))
	row("checked", on(k.Checked))
	return w.Flush()
}
