package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Options are what the operator set beside the rules.
type Options struct {
	// ListedUnverified is for a recipient in a listed domain whom the directory does not show: Trust (the default, noted as "domain
	// verified, person not") or Refuse. No other way exists: mail for a listed domain never takes an Internet route.
	ListedUnverified Route
	// Limits are how large a sealed message may be, by form; what is not there has none. Over it the next form of the ladder is taken.
	Limits map[string]Size
	// Scope of rules that name none: ScopeMessage (and "") or ScopeAttachments.
	Scope string
	// ClinicDomains are the clinic's own domains, A-labels in lower case; mail for them is Local before any rule.
	ClinicDomains []string
}

// Policy is a compiled table of rules. It is immutable and safe for concurrent use.
type Policy struct {
	rules  []rule
	own    map[string]bool
	opt    Options
	always bool // the table ends in a rule that holds for everything
}

// rule is a Rule whose matchers were made ready.
type rule struct {
	Rule
	plain   []matcher // read neither
	listed  []matcher // read the white list
	verdict []matcher // read the verdict
	when    *when
}

// RuleError is one fault of one rule.
type RuleError struct {
	Index int    // of the rule in the table, from 0
	Rule  string // its name, may be ""
	Field string // the YAML name of the field: "when"
	Err   error
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("rules[%d].%s: %v", e.Index, e.Field, e.Err)
}

func (e *RuleError) Unwrap() error { return e.Err }

// Compile checks and prepares the rules. Its error joins one *RuleError for each fault in the order of the table.
func Compile(rules []Rule, opt Options) (*Policy, error) {
	if opt.ListedUnverified == "" {
		opt.ListedUnverified = Trust
	}
	var errs []error
	if opt.ListedUnverified != Trust && opt.ListedUnverified != Refuse {
		errs = append(errs, fmt.Errorf("listed_unverified: %q is not trust or refuse: mail for a listed domain takes no other way", opt.ListedUnverified))
	}
	p := &Policy{own: map[string]bool{}, opt: opt}
	for _, d := range opt.ClinicDomains {
		p.own[strings.ToLower(d)] = true
	}
	names := map[string]bool{}
	for i, r := range rules {
		fault := func(field, format string, args ...any) {
			errs = append(errs, &RuleError{Index: i, Rule: r.Name, Field: field, Err: fmt.Errorf(format, args...)})
		}
		if r.Name != "" && names[r.Name] {
			fault("name", "another rule has the name %q", r.Name)
		}
		names[r.Name] = true
		check(r, fault)
		c := rule{Rule: r}
		c.plain, c.listed, c.verdict = matchers(r)
		if r.When != "" {
			w, err := compileWhen(r.When)
			if err != nil {
				fault("when", "%v", err)
			}
			c.when = w
		}
		p.always = p.always || c.unconditional()
		p.rules = append(p.rules, c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return p, nil
}

// unconditional tells whether the rule holds for everything.
func (r *rule) unconditional() bool {
	return len(r.plain) == 0 && len(r.listed) == 0 && len(r.verdict) == 0 && r.When == "" && r.Route != ""
}

// reads tells whether the rule reads the verdict in a way that an unasked directory leaves open.
func (r *rule) reads() bool {
	return len(r.verdict) > 0 || r.when != nil && r.when.reads
}

// readsList tells whether the rule reads the white list.
func (r *rule) readsList() bool {
	return len(r.listed) > 0 || r.when != nil && r.when.lists
}

var (
	routes        = []Route{Local, Trust, Encrypt, Pickup, Plain, Refuse}
	verdicts      = []Verdict{Verified, NotListed, CouldNotAsk}
	kinds         = []string{"PER", "ORG", "APP", "CAB"}
	has           = []string{"smime", "openpgp", "phone", "secret", "preferred"}
	sensitivities = []string{"personal", "private", "company-confidential"}
	forms         = []string{"", FormSMIME, FormOpenPGP, FormZIP, FormPDF}
	scopes        = []string{"", ScopeMessage, ScopeAttachments}
)

// check finds what no matcher would find: words that can never hold and settings that another route would ignore.
func check(r Rule, fault func(field, format string, args ...any)) {
	if strings.TrimSpace(r.Name) == "" {
		fault("name", "a rule must have a name: the ledger writes it")
	} else if !isLine(r.Name) || len(r.Name) > 80 {
		fault("name", "must be one line of at most 80 ASCII characters")
	}
	switch {
	case r.Route == "" && r.Preferred:
	case r.Route == "":
		fault("route", "a rule must have a route: %s", words(routes))
	case !slices.Contains(routes, r.Route):
		fault("route", "%q is no route: %s", string(r.Route), words(routes))
	}
	each(fault, "verdict", verdicts, r.Verdict)
	each(fault, "kind", kinds, upper(r.Kind))
	each(fault, "has", has, r.Has)
	each(fault, "sensitivity", sensitivities, lower(r.Sensitivity))
	if slices.Contains(r.Verdict, CouldNotAsk) && (r.Preferred || r.Route != Trust && r.Route != Refuse) {
		fault("verdict", "could-not-ask may be named with route trust or refuse only: doubt never opens")
	}
	if !slices.Contains(forms, r.Form) {
		fault("form", "%q is no form: smime, openpgp, zip or pdf", r.Form)
	}
	if !slices.Contains(scopes, r.Scope) {
		fault("scope", "%q is no scope: message or attachments", r.Scope)
	}
	if !isLine(r.Text) || len(r.Text) > maxText {
		fault("text", "must be one line of at most %d ASCII characters: it goes into an SMTP reply", maxText)
	}
	if r.SizeOver > 0 && r.SizeUnder > 0 && r.SizeOver+1 >= r.SizeUnder {
		fault("size_under", "no size is over %s and under %s", r.SizeOver, r.SizeUnder)
	}
	only(fault, "form", r.Form != "", r, Encrypt)
	only(fault, "scope", r.Scope != "", r, Encrypt)
	if !(r.Route == Encrypt && r.Fallback == Refuse) {
		only(fault, "text", r.Text != "", r, Refuse)
	}
	only(fault, "hop", r.Hop != "", r, Plain)
	only(fault, "verified_tls", r.VerifiedTLS, r, Plain)
	only(fault, "qualified", r.Qualified, r, Trust)
	switch {
	case r.Fallback == "" || r.Fallback == Pickup && r.Route == Encrypt:
	case r.Fallback == Refuse && (r.Route == Encrypt || r.Preferred):
	case r.Fallback == Refuse && slices.Contains(routes, r.Route):
		fault("fallback", "refuse has a meaning with route encrypt only")
	case r.Fallback != Pickup && r.Fallback != Refuse:
		fault("fallback", "%q is no fallback: pickup or, with route encrypt, refuse", string(r.Fallback))
	default:
		only(fault, "fallback", true, r, Trust)
	}
}

// only refuses a setting that the rule's route would ignore; a rule that asks for the preferred route may need any of them.
func only(fault func(string, string, ...any), field string, set bool, r Rule, route Route) {
	if set && !r.Preferred && r.Route != route && slices.Contains(routes, r.Route) {
		fault(field, "has a meaning with route %s only", route)
	}
}

func each[T ~string](fault func(string, string, ...any), field string, known, given []T) {
	for _, g := range given {
		if !slices.Contains(known, g) {
			fault(field, "%q is none of %s", string(g), words(known))
		}
	}
}

func words[T ~string](list []T) string {
	var s []string
	for _, w := range list {
		s = append(s, string(w))
	}
	return strings.Join(s, ", ")
}

// Reaches tells whether some facts exist for which a rule, or what comes after the last rule, may end in route. Observe mode and
// the clinic's own domains are the caller's to know.
func (p *Policy) Reaches(route Route) bool {
	for _, r := range p.rules {
		// Encryption without a key becomes a pickup, unless it is mandatory.
		becomes := r.Route == Encrypt && (route == Pickup && r.Fallback != Refuse || route == Refuse && r.Fallback == Refuse)
		if r.Route == route || becomes || r.Preferred && route != Local {
			return true
		}
		if r.unconditional() && !r.Preferred {
			return false // nothing below it is ever reached
		}
	}
	return !p.always && (route == Trust || route == Encrypt || route == Pickup)
}

// SealsAttachments tells whether some mail may be sealed in ScopeAttachments, so that Facts.Whole is read.
func (p *Policy) SealsAttachments() bool {
	return p.opt.Scope == ScopeAttachments || slices.ContainsFunc(p.rules, func(r rule) bool { return r.Scope == ScopeAttachments })
}

// Len is the number of rules.
func (p *Policy) Len() int { return len(p.rules) }
