package main

import (
	"fmt"
	"strings"
	"time"

	"passerelle/gateway"
)

type directoryLookupCmd struct {
	askFlags
	Address string `arg:"" help:"Address to look up, whole: a part of it is for search."`
}

func (directoryLookupCmd) Help() string {
	return "The verdict is verified, not-listed or could-not-ask; what the clinic's own list says is shown beside it with --config, and never verifies anybody.\n\n" +
		"Example:\n  passerelle directory lookup --config /etc/passerelle/passerelle.yaml jean.dupont@medecin.mssante.fr"
}

func (c directoryLookupCmd) Run(e *env) error {
	d, _, err := c.open(e)
	if err != nil {
		return err
	}
	defer d.Close()
	ans, err := gateway.LookUp(e.ctx, d, c.Address)
	if err != nil {
		return &usageError{fmt.Errorf("%s: %w; a part of an address, or a name, is for passerelle directory search", c.Address, err)}
	}
	if c.JSON {
		err = printJSON(e, answerView(c.Address, ans))
	} else {
		printAnswer(e, ans)
	}
	if err == nil && ans.Verdict != "verified" {
		err = fmt.Errorf("%s is not verified", c.Address)
	}
	return err
}

func printAnswer(e *env, ans gateway.DirectoryAnswer) {
	fmt.Fprintln(e.stdout, wrap(ans.Verdict+ifAny(": ", ans.Why)))
	if !ans.AsOf.IsZero() {
		fmt.Fprintf(e.stdout, "%s of %s (%s old)\n", ans.Source, ans.AsOf.Format(time.DateOnly), age(time.Since(ans.AsOf)))
	}
	if len(ans.Sources) > 1 {
		for _, s := range ans.Sources {
			fmt.Fprintln(e.stdout, wrap(strings.Join(nonEmpty("asked "+s.Name+": "+s.Verdict, dated(s.AsOf), s.Why, yes(!s.Verifies, "does not verify")), ", ")))
		}
	}
	for _, r := range ans.Records {
		fmt.Fprintln(e.stdout, wrap(strings.Join(nonEmpty(r.Kind, personOf(r), r.Profession, r.Speciality, r.Structure, r.Service, placeOf(r.PostalCode, r.City),
			identifier(r.IDType, r.ID), paperless(r.Dematerialised), yes(r.RedList, "ON THE RED LIST"), yes(r.Inactive, "ENDED"), strings.Join(r.Flags, ", "),
			yes(len(ans.Sources) > 1, "by "+strings.Join(append([]string{r.Source}, r.Also...), "+"))), ", ")))
	}
	for _, c := range ans.Contradictions {
		fmt.Fprintln(e.stdout, wrap("contradiction: "+c))
	}
	if ans.Lookalike != "" {
		fmt.Fprintln(e.stdout, "the domain looks like "+ans.Lookalike)
	}
	if !ans.KnownAs.Address.IsNull() {
		fmt.Fprintln(e.stdout, wrap("known as "+knownAs(ans)))
	}
	if c := ans.Contact; c != nil {
		fmt.Fprintln(e.stdout, wrap("own list: "+strings.Join(nonEmpty(c.Name, c.Person, ifAny("prefers ", c.Prefer), yes(len(c.OpenPGPKey) > 0, "OpenPGP key"),
			yes(c.Phone != "", "phone"), yes(c.Secret != "", "agreed secret"), yes(c.Opposed, "OPPOSED"), certificate(c), c.Label), ", ")))
	}
}

// identifier is an identifier with its type; the type of one that the source does not name is left out.
func identifier(kind, id string) string {
	if id == "" {
		return ""
	}
	return strings.TrimSpace(kind + " " + id)
}

func paperless(demat *bool) string {
	if demat == nil {
		return ""
	}
	return "paperless: " + map[bool]string{true: "yes", false: "no"}[*demat]
}

func answerView(address string, ans gateway.DirectoryAnswer) any {
	type contact struct {
		Name    string `json:"name,omitempty"`
		Person  string `json:"person,omitempty"`
		Prefer  string `json:"prefer,omitempty"`
		Form    string `json:"form,omitempty"`
		SMIME   bool   `json:"smime_certificate"`
		OpenPGP bool   `json:"openpgp_key"`
		Phone   bool   `json:"phone"`
		Secret  bool   `json:"secret"`
		Opposed bool   `json:"opposed"`
		Label   string `json:"label,omitempty"`
		Lang    string `json:"lang,omitempty"`
	}
	type source struct {
		Name     string    `json:"name"`
		Verdict  string    `json:"verdict"`
		AsOf     time.Time `json:"as_of,omitzero"`
		Why      string    `json:"why,omitempty"`
		Verifies bool      `json:"verifies"`
	}
	sources := []source{}
	for _, s := range ans.Sources {
		sources = append(sources, source{s.Name, s.Verdict, s.AsOf, s.Why, s.Verifies})
	}
	view := struct {
		Address string       `json:"address"`
		Verdict string       `json:"verdict"`
		Why     string       `json:"why,omitempty"`
		Source  string       `json:"source,omitempty"`
		AsOf    time.Time    `json:"as_of,omitzero"`
		Records []recordView `json:"records"`
		Contact *contact     `json:"own_list,omitempty"`

		Sources        []source `json:"sources"`
		Contradictions []string `json:"contradictions,omitempty"`
		Lookalike      string   `json:"looks_like,omitempty"`
		KnownAs        []string `json:"known_as,omitempty"`
		KnownBy        string   `json:"known_by,omitempty"`
	}{Address: address, Verdict: ans.Verdict, Why: ans.Why, Source: ans.Source, AsOf: ans.AsOf, Records: recordViews(ans.Records),
		Sources: sources, Contradictions: ans.Contradictions, Lookalike: ans.Lookalike, KnownBy: ans.KnownAs.By()}
	for _, k := range ans.KnownAs.All() {
		view.KnownAs = append(view.KnownAs, k.String())
	}
	if c := ans.Contact; c != nil { // the phone and the secret themselves are nobody's business here
		view.Contact = &contact{c.Name, c.Person, c.Prefer, c.Form, c.Certificate != nil && gateway.CertificateFault(c, time.Now()) == "", len(c.OpenPGPKey) > 0, c.Phone != "", c.Secret != "", c.Opposed, c.Label, c.Lang}
	}
	return view
}
