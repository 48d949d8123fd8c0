package policy

import (
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
)

const (
	whenMemory = 100_000 // of expr's own units; 1e5 values made in one evaluation are far beyond any honest rule
	whenNodes  = 500
)

// env is what an expression may read. Names are those of the matchers; types are plain strings, because the expression language
// compares named types by reflection and finds them unequal.
type env struct {
	Sender       string              `expr:"sender"`
	SenderDomain string              `expr:"sender_domain"`
	Recipient    string              `expr:"recipient"`
	Domain       string              `expr:"domain"`
	Verdict      string              `expr:"verdict"`
	Kind         string              `expr:"kind"`
	Profession   string              `expr:"profession"`
	Category     string              `expr:"category"`
	Structure    string              `expr:"structure"`
	Person       string              `expr:"person"`
	SMIME        bool                `expr:"smime"`
	OpenPGP      bool                `expr:"openpgp"`
	Phone        bool                `expr:"phone"`
	Secret       bool                `expr:"secret"`
	Preferred    string              `expr:"preferred"`
	Opposed      bool                `expr:"opposed"`
	TrustDomain  bool                `expr:"trust_domain"`
	TrustSender  bool                `expr:"trust_sender"`
	Patient      bool                `expr:"patient"`
	Lookalike    string              `expr:"lookalike"`
	KnownAs      bool                `expr:"known_as"`
	Size         int64               `expr:"size"`
	Recipients   int                 `expr:"recipients"`
	Header       map[string][]string `expr:"header"`
	Attachments  []Attachment        `expr:"attachments"`
	Calendar     bool                `expr:"calendar"`
	Tag          []string            `expr:"tag"`
	Sensitivity  string              `expr:"sensitivity"`
	Null         bool                `expr:"null"`
	Auto         bool                `expr:"auto"`
	List         bool                `expr:"list"`
	Marked       bool                `expr:"marked"`
	Encrypted    bool                `expr:"encrypted"`
}

// readsVerdict are the names whose values come from the directory. $env is all names at once.
var readsVerdict = map[string]bool{"verdict": true, "kind": true, "profession": true, "category": true, "structure": true, "$env": true}

// when is one compiled expression.
type when struct {
	program *vm.Program
	reads   bool // it mentions what the directory says
	lists   bool // it mentions what the white list says
	names   []string
}

// compileWhen parses and type-checks an expression; its error shows line, column and a caret. The clock is taken away: the same facts
// must always give the same decision.
func compileWhen(src string) (*when, error) {
	program, err := expr.Compile(src, expr.Env(&env{}), expr.AsBool(), expr.MaxNodes(whenNodes), expr.DisableBuiltin("now"))
	if err != nil {
		return nil, fmt.Errorf("%s", strings.TrimSpace(err.Error()))
	}
	w := &when{program: program}
	// The optimizer may have folded names away; what the operator wrote is what counts, so the source is walked again.
	tree, err := parser.Parse(src)
	if err != nil {
		return nil, err
	}
	ast.Walk(&tree.Node, w)
	return w, nil
}

// Visit collects the names that the expression mentions (ast.Visitor).
func (w *when) Visit(n *ast.Node) {
	if id, ok := (*n).(*ast.IdentifierNode); ok {
		w.reads = w.reads || readsVerdict[id.Value]
		w.lists = w.lists || id.Value == "trust_domain" || id.Value == "$env"
		w.names = append(w.names, id.Value)
	}
}

// holds evaluates the expression. An error (memory budget, an index out of range) is no "no": the caller must not decide.
func (w *when) holds(f *Facts) (bool, error) {
	e := env{
		Sender: f.Sender, SenderDomain: f.SenderDomain, Recipient: f.Recipient, Domain: f.RecipientDomain,
		Verdict: string(f.Verdict), Kind: f.Kind, Profession: f.Profession, Category: f.Category, Structure: f.Structure,
		Person: f.Person, SMIME: f.SMIME, OpenPGP: f.OpenPGP, Phone: f.Phone, Secret: f.Secret, Preferred: string(f.Preferred), Opposed: f.Opposed,
		TrustDomain: f.TrustDomain, TrustSender: f.TrustSender, Patient: f.PatientINS,
		Lookalike: f.Lookalike, KnownAs: f.KnownAs,
		Size: f.Size, Recipients: f.Recipients, Header: f.Headers, Attachments: f.Attachments, Calendar: f.Calendar, Tag: f.Tags,
		Sensitivity: f.Sensitivity, Null: f.Null, Auto: f.Auto, List: f.List, Marked: f.Marked && !f.BrokenMark, Encrypted: f.Encrypted,
	}
	machine := vm.VM{MemoryBudget: whenMemory}
	out, err := machine.Run(w.program, &e)
	if err != nil {
		return false, err
	}
	b, ok := out.(bool)
	if !ok {
		return false, fmt.Errorf("gave %T, not a bool", out)
	}
	return b, nil
}
