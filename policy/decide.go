package policy

import (
	"slices"
	"strings"
)

// Names of what decides where no rule does.
const (
	ruleOwn     = "(own domain)"
	ruleOpposed = "(opposed)"
	ruleDefault = "(default)"
)

// Decide gives the way out for one recipient. It is the fast form: Tried stays empty.
func (p *Policy) Decide(f Facts) Decision { return p.decide(&f, nil) }

// Explain decides like Decide and lists every rule that was tried, in order, up to the one that held.
func (p *Policy) Explain(f Facts) Decision {
	var tried []Trial
	d := p.decide(&f, &tried)
	d.Tried = tried
	return d
}

// decide tells the story: own mail first, who opposes, the table, what comes after it, and then the laws that no rule can break.
func (p *Policy) decide(f *Facts, tried *[]Trial) Decision {
	f.settleVerdict()
	if p.own[strings.ToLower(f.RecipientDomain)] {
		return Decision{Route: Local, Rule: ruleOwn, Reason: reason(ruleOwn, "domain="+f.RecipientDomain, "local")}
	}
	if f.Opposed {
		return Decision{Route: Refuse, Rule: ruleOpposed, Text: textOpposed, Reason: reason(ruleOpposed, "opposed=yes", "refuse")}
	}
	for i := range p.rules {
		r := &p.rules[i]
		res := r.try(f)
		if tried != nil {
			*tried = append(*tried, Trial{Rule: r.Name, Matched: res.answer == yes, Why: res.explain(r, f)})
		}
		switch res.answer {
		case no:
			continue
		case unknown:
			text := textLater
			switch {
			case res.err != nil:
				text = textBroken
			case f.listUnknown():
				text = textWhiteList
			}
			return Decision{Route: Later, Rule: r.Name, Text: text, Reason: reason(r.Name, res.explain(r, f), "later")}
		}
		route := r.Route
		if r.Preferred && slices.Contains(routes, f.Preferred) && f.Preferred != Local {
			route = f.Preferred
		}
		return p.settle(f, &choice{rule: &r.Rule, route: route, facts: r.facts(f)})
	}
	return p.beyond(f)
}

// beyond is the safe default behind the last rule: verified people by trust, holders of a certificate or key encrypted, everyone else by pickup.
func (p *Policy) beyond(f *Facts) Decision {
	c := &choice{rule: &Rule{Name: ruleDefault}, route: Pickup, facts: "verdict=" + string(f.Verdict)}
	switch {
	case f.listUnknown():
		return Decision{Route: Later, Rule: ruleDefault, Text: textWhiteList, Reason: reason(ruleDefault, f.listWhy(), "later")}
	case f.Verdict == CouldNotAsk:
		return Decision{Route: Later, Rule: ruleDefault, Text: textLater, Reason: reason(ruleDefault, c.facts+" "+f.VerdictWhy, "later")}
	case f.TrustDomain || f.PatientINS:
		c.route = Trust
	case f.Encrypted:
		c.route = Encrypt
	case f.SMIME:
		c.route, c.facts = Encrypt, c.facts+", has=smime"
	case f.OpenPGP:
		c.route, c.facts = Encrypt, c.facts+", has=openpgp"
	}
	return p.settle(f, c)
}

// settleVerdict removes a doubt that changes nothing: the directory's people all live in domains of the white list, so that for a
// recipient elsewhere, and for a patient, an unasked directory says what an asked one would: not listed. An empty verdict is a
// directory that said nothing.
func (f *Facts) settleVerdict() {
	if f.Verdict != Verified && f.Verdict != NotListed {
		f.Verdict = CouldNotAsk
	}
	switch {
	case f.PatientINS && f.Verdict == CouldNotAsk:
		f.Verdict = NotListed
	case f.listUnknown() && f.Verdict != Verified: // who is not in the directory may have been left unasked
		f.Verdict, f.VerdictWhy = CouldNotAsk, f.TrustDoubt
	case f.Verdict == CouldNotAsk && !f.TrustDomain:
		f.Verdict = NotListed
	}
}

// listUnknown tells whether the recipient's domain may be listed and nobody knows.
func (f *Facts) listUnknown() bool { return f.TrustDoubt != "" && !f.TrustDomain }

func (f *Facts) listWhy() string { return "trust_domain=" + string(CouldNotAsk) + " " + f.TrustDoubt }

type answer int

const (
	no answer = iota
	yes
	unknown
)

// result is what trying a rule gave; failed is the matcher that excluded it, nil for the expression.
type result struct {
	answer answer
	failed *matcher
	err    error
}

// try holds the rule against the facts. Matchers that read neither the white list nor the verdict go first: where one of them excludes the rule, it would not
// have held whatever the directory says, and nothing waits.
func (r *rule) try(f *Facts) result {
	for i := range r.plain {
		if m := &r.plain[i]; !m.holds(f) {
			return result{failed: m}
		}
	}
	if f.listUnknown() && r.readsList() {
		if r.when != nil && !r.when.reads && !r.when.lists {
			if ok, err := r.when.holds(f); err == nil && !ok {
				return result{}
			}
		}
		return result{answer: unknown}
	}
	for i := range r.listed {
		if m := &r.listed[i]; !m.holds(f) {
			return result{failed: m}
		}
	}
	if f.Verdict == CouldNotAsk {
		named := slices.Contains(r.Rule.Verdict, CouldNotAsk) && len(r.verdict) == 1
		if r.reads() && !(named && (r.when == nil || !r.when.reads)) {
			// An expression that reads no verdict may still exclude the rule.
			if r.when != nil && !r.when.reads {
				if ok, err := r.when.holds(f); err == nil && !ok {
					return result{}
				}
			}
			return result{answer: unknown}
		}
	}
	for i := range r.verdict {
		if m := &r.verdict[i]; !m.holds(f) {
			return result{failed: m}
		}
	}
	if r.when != nil {
		ok, err := r.when.holds(f)
		switch {
		case err != nil:
			return result{answer: unknown, err: err}
		case !ok:
			return result{}
		}
	}
	return result{answer: yes}
}

// explain says in a few words why the rule held, did not, or could not be told.
func (res result) explain(r *rule, f *Facts) string {
	switch {
	case res.answer == yes:
		return r.facts(f)
	case res.err != nil:
		return "when: " + firstLine(res.err.Error())
	case res.answer == unknown && f.listUnknown():
		return f.listWhy()
	case res.answer == unknown:
		return strings.TrimSpace("verdict=" + string(CouldNotAsk) + " " + f.VerdictWhy)
	case res.failed != nil:
		return res.failed.field + "=" + res.failed.say(f) + ": no"
	}
	return "when: no"
}

// facts lists what the rule read.
func (r *rule) facts(f *Facts) string {
	var b strings.Builder
	for _, list := range [3][]matcher{r.plain, r.listed, r.verdict} {
		for i := range list {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			b.WriteString(list[i].field)
			b.WriteByte('=')
			b.WriteString(list[i].say(f))
		}
	}
	if r.when != nil {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString("when=yes")
	}
	if b.Len() == 0 {
		return "always"
	}
	return b.String()
}
