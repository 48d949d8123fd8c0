package directory

import (
	"context"

	"passerelle/gateway/message"
)

// KnownAs is the MSSanté mailbox of a person who was written to at another address.
type KnownAs struct {
	Address message.Address // null where none is known
	// Others are further mailboxes of the same RPPS, two at most; More: there are still others. Which one is read is not known: the sender
	// is told of all, in the order of the addresses.
	Others []message.Address
	More   bool
	// Confirmed: the operator wrote the link into the clinic's list (mss). Without it the same RPPS stands in the list and in the national
	// extraction: good enough to tell the sender, not to send elsewhere than he wrote.
	Confirmed bool
}

// maxSuggested bounds what a sender is told of one person.
const maxSuggested = 3

// All gives every mailbox that is known, at most three.
func (k KnownAs) All() []message.Address {
	if k.Address.IsNull() {
		return nil
	}
	return append([]message.Address{k.Address}, k.Others...)
}

// By says where the link comes from.
func (k KnownAs) By() string {
	switch {
	case k.Address.IsNull():
		return ""
	case k.Confirmed:
		return "the clinic's list"
	}
	return "RPPS"
}

// knownAs finds the MSSanté mailbox of the person behind an address that is none itself. A name alone never links.
func (d *Directory) knownAs(ctx context.Context, a message.Address, ans Answer) KnownAs {
	c := ans.Contact
	if c == nil || ans.Verdict == Verified || c.Address[0] == '@' {
		return KnownAs{}
	}
	if c.MSS != "" {
		to, err := message.ParseAddress(c.MSS, true)
		if err != nil || to.Key() == a.Key() {
			return KnownAs{}
		}
		return KnownAs{Address: to, Confirmed: true}
	}
	if c.RPPS == "" {
		return KnownAs{}
	}
	return d.mailboxesOf(ctx, c.RPPS, a)
}

// mailboxesOf gives the personal mailboxes of an RPPS in the extraction that is believed, but for the address itself; none where it cannot be
// asked: what is not known is not suggested, and nothing is decided by it.
func (d *Directory) mailboxesOf(ctx context.Context, rpps string, but message.Address) (k KnownAs) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m := d.mirror
	if m == nil || d.stale(m.meta.asOf) != nil {
		return KnownAs{}
	}
	addresses, known := m.rememberedPerson(rpps)
	if !known {
		var err error
		if addresses, err = m.persons(ctx, rpps); err != nil {
			return KnownAs{}
		}
		m.rememberPerson(rpps, addresses)
	}
	var all []message.Address
	for _, s := range addresses {
		if a, err := message.ParseAddress(s, true); err == nil && !a.IsNull() && a.Key() != but.Key() {
			all = append(all, a)
		}
	}
	switch n := len(all); {
	case n == 0:
		return KnownAs{}
	case n > maxSuggested:
		all, k.More = all[:maxSuggested], true
	}
	k.Address, k.Others = all[0], all[1:]
	return k
}
