package policy

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what was got into the .want files")

// table is a case's .yaml: the rules and what the operator set beside them.
type table struct {
	ListedUnverified Route  `yaml:"listed_unverified"`
	Starter          bool   `yaml:"starter"`
	Rules            []Rule `yaml:"rules"`
	Limits           map[string]Size
	Scope            string
}

// given is one entry of a case's .facts.
type given struct {
	Note                       string
	From                       string
	To                         string
	Verdict                    Verdict
	Why                        string
	Kind, Profession, Category string
	Structure, Person, Form    string
	Preferred                  Route
	SMIME, OpenPGP             bool
	Phone, Secret              bool
	Opposed                    bool
	TrustDomain                bool   `yaml:"trust_domain"`
	TrustDoubt                 string `yaml:"trust_doubt"`
	TrustSender                bool   `yaml:"trust_sender"`
	SenderTrouble              string `yaml:"sender_trouble"`
	SendsAs                    string `yaml:"sends_as"`
	Patient                    bool
	INSValid                   bool `yaml:"ins_valid"`
	Size                       Size
	Recipients                 int
	Header                     map[string][]string
	Attachments                []struct{ Type, Name string }
	Tag                        []string
	Sensitivity                string
	Null                       bool `yaml:"null_sender"` // the library drops a mapping whose key is null
	Auto, List, Marked         bool
	Enclosed                   bool
	Lookalike                  string
	KnownAs                    bool `yaml:"known_as"`
	Encrypted                  bool
	Whole                      string
	Sizes                      map[string]Size // of the sealed message, by form
}

func (g given) facts() Facts {
	_, fromDomain, _ := strings.Cut(g.From, "@")
	_, toDomain, _ := strings.Cut(g.To, "@")
	f := Facts{
		Sender: g.From, SenderDomain: fromDomain, Recipient: g.To, RecipientDomain: toDomain,
		Verdict: g.Verdict, VerdictWhy: g.Why, Kind: g.Kind, Profession: g.Profession, Category: g.Category, Structure: g.Structure,
		Contact: g.Person != "", Person: g.Person, Preferred: g.Preferred, Form: g.Form,
		SMIME: g.SMIME, OpenPGP: g.OpenPGP, Phone: g.Phone, Secret: g.Secret, Opposed: g.Opposed,
		TrustDomain: g.TrustDomain, TrustDoubt: g.TrustDoubt, TrustSender: g.TrustSender, SenderTrouble: g.SenderTrouble, SendsAs: g.SendsAs, PatientINS: g.Patient, INSValid: g.INSValid,
		Size: int64(g.Size), Recipients: max(g.Recipients, 1), Headers: g.Header, Tags: g.Tag, Sensitivity: g.Sensitivity,
		Null: g.Null, Auto: g.Auto, List: g.List, Marked: g.Marked, Enclosed: g.Enclosed,
		Lookalike: g.Lookalike, KnownAs: g.KnownAs, KnownAsDomain: map[bool]string{true: "medecin.mssante.example"}[g.KnownAs],
	}
	f.Encrypted, f.Whole = g.Encrypted, g.Whole
	for form, n := range g.Sizes {
		if f.Sizes == nil {
			f.Sizes = map[string]int64{}
		}
		f.Sizes[form] = int64(n)
	}
	for _, a := range g.Attachments {
		f.Attachments = append(f.Attachments, Attachment{Type: a.Type, Name: a.Name})
	}
	if f.Verdict == "" {
		f.Verdict = NotListed
	}
	return f
}

// TestCases decides the facts of each testdata/policy/NN-name.facts by the table NN-name.yaml and compares with NN-name.want.
func TestCases(t *testing.T) {
	dir := filepath.Join("..", "testdata", "policy")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) < 25 {
		t.Fatalf("found %d cases in %s: %v", len(files), dir, err)
	}
	for _, file := range files {
		base := strings.TrimSuffix(file, ".yaml")
		t.Run(filepath.Base(base), func(t *testing.T) {
			var tab table
			read(t, file, &tab)
			if tab.Starter {
				tab.Rules = Starter()
			}
			var all []given
			read(t, base+".facts", &all)
			p, err := Compile(tab.Rules, Options{ListedUnverified: tab.ListedUnverified, Limits: tab.Limits, Scope: tab.Scope, ClinicDomains: []string{"clinique.example"}})
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, g := range all {
				d := p.Explain(g.facts())
				show(&b, g, d)
				d.Tried = nil
				if diff := cmp.Diff(d, p.Decide(g.facts())); diff != "" {
					t.Errorf("%s: Explain and Decide differ:\n%s", g.Note, diff)
				}
			}
			if *update {
				if err := os.WriteFile(base+".want", []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(base + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(src, into, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// show writes a decision; what is empty is left out.
func show(b *strings.Builder, g given, d Decision) {
	fmt.Fprintf(b, "# %s\n%s\n  %s\n", g.Note, d.Route, d.Reason)
	line := func(name, value string) {
		if value != "" && value != "false" {
			fmt.Fprintf(b, "  %s: %s\n", name, value)
		}
	}
	line("text", d.Text)
	line("form", d.Form)
	if d.Scope != ScopeMessage {
		line("scope", d.Scope)
	}
	if d.Fallback == Refuse {
		line("fallback", string(d.Fallback))
	}
	line("hop", d.Hop)
	line("notify", d.Notify)
	line("verified_tls", fmt.Sprint(d.VerifiedTLS))
	line("suggest", fmt.Sprint(d.Suggest))
	line("qualified", fmt.Sprint(d.Qualified))
	for _, tr := range d.Tried {
		if !tr.Matched {
			line("tried", tr.Rule+": "+tr.Why)
		}
	}
}
