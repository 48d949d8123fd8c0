package directory

import (
	"context"

	"passerelle/gateway/message"
)

// KnownAs is the MSSanté mailbox of a person who was written to at another address.
type KnownAs struct {
	Address message.Address // null where none is known
	// Confirmed: the operator wrote the link into the clinic's list (mss). Without it the same RPPS stands in the list and in the national
	// extraction: good enough to tell the sender, not to send elsewhere than he wrote.
	Confirmed bool
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
		return KnownAs{to, true}
	}
	if c.RPPS == "" {
		return KnownAs{}
	}
	if to, ok := d.mailboxOf(ctx, c.RPPS); ok && to.Key() != a.Key() {
		return KnownAs{Address: to}
	}
	return KnownAs{}
}

// mailboxOf gives a personal mailbox of an RPPS in the extraction that is believed; none where it cannot be asked: what is not known is
// not suggested, and nothing is decided by it.
func (d *Directory) mailboxOf(ctx context.Context, rpps string) (message.Address, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m := d.mirror
	if m == nil || d.stale(m.meta.asOf) != nil {
		return message.Address{}, false
	}
	address, known := m.rememberedPerson(rpps)
	if !known {
		var err error
		if address, err = m.person(ctx, rpps); err != nil {
			return message.Address{}, false
		}
		m.rememberPerson(rpps, address)
	}
	a, err := message.ParseAddress(address, true)
	return a, err == nil && !a.IsNull()
}
