package gateway

import (
	"slices"

	"passerelle/gateway/message"
	"passerelle/policy"
)

// findTwins finds the recipients whom a link or an alias led to a mailbox that an earlier recipient of the message has too, by that one: he
// was written to at both his addresses, or at two that are linked with one. One copy serves both, and each has his own reply and row. Who
// was written to twice in the same words is none: that is what the client asked for.
func (m *mail) findTwins(ways []way) {
	first := map[string]int{}
	for i := range ways {
		if ways[i].done || ways[i].fault != nil {
			continue
		}
		key := m.env.Recipients[i].Key()
		k, there := first[key]
		if !there {
			first[key] = i
			continue
		}
		if (ways[k].to != nil || ways[i].to != nil) && sameWay(ways[k].decision, ways[i].decision) {
			if m.twins == nil {
				m.twins = map[int]int{}
			}
			m.twins[i] = k
		}
	}
}

// sameWay tells whether two decisions make the same copy and the same errands.
func sameWay(a, b policy.Decision) bool {
	return a.Route == b.Route && a.Form == b.Form && a.Scope == b.Scope && a.Fallback == b.Fallback && a.Text == b.Text && a.Hop == b.Hop && a.VerifiedTLS == b.VerifiedTLS && a.Unreduced == b.Unreduced && a.Notify == b.Notify
}

// envelope gives the recipients of a group's letter, each mailbox once, and the place in it of each of the group.
func (m *mail) envelope(ways []way, group []int) (rcpts []message.Recipient, place []int) {
	place = make([]int, len(group))
	for k, i := range group {
		r := m.env.Recipients[i]
		switch {
		case ways[i].sealed: // the notice is ours, to our own people: a stranger's NOTIFY=NEVER must not hide that it was lost
			r.Notify, r.ORcpt = nil, ""
		case ways[i].deposit != "":
			r.Notify = noticeNotify(r.Notify)
		}
		if first, twin := m.twins[i]; twin {
			if at := slices.Index(group[:k], first); at >= 0 {
				place[k] = place[at]
				rcpts[place[k]].Notify = bothNotify(rcpts[place[k]].Notify, r.Notify)
				continue
			}
		}
		place[k] = len(rcpts)
		rcpts = append(rcpts, r)
	}
	return rcpts, place
}

// share gives the rest of a group, twins of the first, what came of the one copy.
func share(ways []way, group []int) {
	of := &ways[group[0]]
	for _, i := range group[1:] {
		w := &ways[i]
		w.hop, w.result, w.fault, w.deposit, w.clear = of.hop, of.result, of.fault, of.deposit, of.clear
		if w.decision.Route != of.decision.Route { // the form did not carry the message (instead)
			w.decision.Route, w.decision.Form, w.decision.Scope = of.decision.Route, of.decision.Form, of.decision.Scope
			w.decision.Reason += of.instead
		}
	}
}

// bothNotify asks of one copy for two recipients what either asked for (RFC 3461 section 4.1). Nothing said is to hear of failure and delay.
func bothNotify(a, b []string) []string {
	if slices.Equal(a, b) {
		return a
	}
	var out []string
	for _, asked := range [][]string{a, b} {
		if len(asked) == 0 {
			asked = []string{"FAILURE", "DELAY"}
		}
		for _, s := range asked {
			if s != "NEVER" && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
