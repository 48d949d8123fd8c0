package policy

import "fmt"

// Mismatch is an expectation that the rules do not meet.
type Mismatch struct {
	Index       int // of the expectation, from 0
	Expectation Expectation
	Got         Decision // with Tried
	Err         error    // the facts could not be had
}

func (m Mismatch) String() string {
	e := m.Expectation
	if m.Err != nil {
		return fmt.Sprintf("expect[%d]: from %s to %s: %v", m.Index, e.From, e.To, m.Err)
	}
	return fmt.Sprintf("expect[%d]: from %s to %s: want %s, got %s (%s)", m.Index, e.From, e.To, e.want(), m.Got.Route, m.Got.Reason)
}

func (e Expectation) want() string {
	s := string(e.Route)
	if e.Form != "" {
		s += " form " + e.Form
	}
	if e.Rule != "" {
		s += " by rule " + e.Rule
	}
	return s
}

// Verify holds the policy against the operator's own expectations. facts gives what is known of a message from one address to
// another, as the gateway would ask it.
func Verify(p *Policy, expect []Expectation, facts func(from, to string) (Facts, error)) []Mismatch {
	var out []Mismatch
	for i, e := range expect {
		f, err := facts(e.From, e.To)
		if err != nil {
			out = append(out, Mismatch{Index: i, Expectation: e, Err: err})
			continue
		}
		d := p.Explain(f)
		if d.Route != e.Route || e.Form != "" && d.Form != e.Form || e.Rule != "" && d.Rule != e.Rule {
			out = append(out, Mismatch{Index: i, Expectation: e, Got: d})
		}
	}
	return out
}
