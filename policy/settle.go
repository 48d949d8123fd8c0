package policy

// choice is what a rule wants before the laws have spoken.
type choice struct {
	rule  *Rule
	route Route
	facts string
	notes string // why the route is not the rule's own
}

func (c *choice) note(s string) { c.notes += ", " + s }

func (c *choice) refuse(why, text string) Decision { return c.end(Refuse, why, text) }

func (c *choice) end(route Route, why, text string) Decision {
	if why != "" {
		c.note(why)
	}
	return Decision{Route: route, Rule: c.rule.Name, Text: text, Notify: c.rule.Notify, Reason: reason(c.rule.Name, c.facts+c.notes, string(route))}
}

// settle holds the choice against the laws that stand above every rule (design, "What it is" and "Mail without a person behind it").
func (p *Policy) settle(f *Facts, c *choice) Decision {
	if (f.TrustDomain || f.PatientINS) && internet(c.route) {
		c.note("listed domain never by " + string(c.route))
		c.route = Trust
	}
	switch {
	case f.TrustDoubt != "" && (c.route == Trust || internet(c.route)):
		return c.end(Later, f.listWhy(), textWhiteList)
	case c.route == Trust:
		return p.trust(f, c)
	case c.route == Refuse:
		text := c.rule.Text
		if text == "" {
			text = textRefused
		}
		d := c.refuse("", text)
		d.Suggest = c.rule.KnownAs != nil && *c.rule.KnownAs
		return d
	case c.route == Local:
		return c.end(Local, "", "")
	case f.Marked:
		return c.refuse("came from the trust space, never by "+string(c.route), textMarked)
	case f.Enclosed: // it goes on under a key, or not at all: neither clear, nor a deposit, nor a passphrase
		form := ""
		if c.route == Encrypt && (f.Null || !f.Auto && !f.List) {
			form = p.keyForm(f, c)
		}
		if form == "" {
			return c.refuse("came encrypted, never by "+string(c.route)+" without a key", textEnclosed)
		}
		return p.sealed(f, c, form)
	case f.Null:
		if c.route == Encrypt {
			if form := p.keyForm(f, c); form != "" { // a key needs neither a deposit nor a code
				c.note("null sender, no code needed")
				return p.sealed(f, c, form)
			}
		}
		c.note("null sender, headers and status only")
		route := c.route
		d := c.plain()
		d.Form, d.Unreduced = FormReport, route == Plain
		return d
	case (f.Auto || f.List) && !c.namesAutomatic(f):
		return c.refuse("automatic mail never by "+string(c.route), textAutomatic)
	case c.route == Plain:
		return c.plain()
	case c.route == Encrypt:
		return p.encrypt(f, c)
	}
	return c.end(Pickup, "", "")
}

// internet tells whether a route leaves over the Internet.
func internet(r Route) bool { return r == Plain || r == Encrypt || r == Pickup }

// namesAutomatic tells whether the operator routed this very kind of mail by Plain, in a rule that names it: reminders, lists for
// suppliers. Nothing less than that lets automatic mail out.
func (c *choice) namesAutomatic(f *Facts) bool {
	named := func(is bool, m *bool) bool { return !is || m != nil && *m }
	return c.route == Plain && named(f.Auto, c.rule.Auto) && named(f.List, c.rule.List)
}

func (c *choice) plain() Decision {
	d := c.end(Plain, "", "")
	d.Hop, d.VerifiedTLS = c.rule.Hop, c.rule.VerifiedTLS
	return d
}

// trust lets into the trust space what may go there; what may not is told what to do instead.
func (p *Policy) trust(f *Facts, c *choice) Decision {
	switch {
	case !f.TrustDomain && !f.PatientINS:
		return c.refuse("domain not in the white list", textNotInSpace)
	case !f.TrustSender && (!f.Null || f.SenderTrouble == SenderForeign): // a report has no sender whose domain could be one of ours
		return c.untrusted(f)
	}
	if f.SendsAs != "" {
		c.note(f.SendsAs)
	}
	switch {
	case f.PatientINS:
		return c.patient(f)
	case f.Verdict == Verified:
	case p.opt.ListedUnverified == Trust && f.Verdict == CouldNotAsk:
		c.note("domain verified, person not asked")
	case p.opt.ListedUnverified == Trust:
		c.note("domain verified, person not")
	case f.Verdict == CouldNotAsk:
		return c.end(Later, "person not asked", textLater)
	default:
		return c.refuse("person not in the directory", textUnverified)
	}
	d := c.end(Trust, "", "")
	d.Qualified = c.rule.Qualified
	return d
}

// untrusted tells a sender who may not write into the trust space why, and what to do.
func (c *choice) untrusted(f *Facts) Decision {
	if f.SendsAs != "" {
		c.note(f.SendsAs)
	}
	switch f.SenderTrouble {
	case SenderNoMailbox:
		return c.refuse("sender without a mailbox", textNoMailbox)
	case SenderRefused:
		return c.refuse("sender refused by the table of mailboxes", textNotAllowed)
	case SenderForeign:
		return c.refuse("author not of the clinic", textForeign)
	case SenderNotDelegate:
		return c.refuse("no delegation for the author", textNotDelegate)
	case SenderUnclear:
		return c.refuse("author unclear", textUnclear)
	case SenderNotFound:
		return c.refuse("sender's mailbox not in the directory", textNotFound)
	case SenderNotAsked:
		return c.end(Later, "sender's mailbox not asked", textLater)
	}
	return c.refuse("sender's domain not in the trust space", textTrustSender)
}

// patient is the law of Mon espace santé: one patient per message, a right number, an identity that the sender's application has
// qualified.
func (c *choice) patient(f *Facts) Decision {
	switch {
	case !f.INSValid:
		return c.refuse("INS not valid", textINS)
	case f.Recipients != 1:
		return c.refuse("several recipients", textOnePatient)
	case !c.rule.Qualified && !f.INSQualified:
		return c.refuse("INS not qualified", textQualified)
	}
	why := "patient, INS qualified"
	if !c.rule.Qualified {
		why += " by header or list"
	}
	d := c.end(Trust, why, "")
	d.Qualified = true
	if c.rule.Route != Encrypt && !f.Marked && !f.Enclosed && !f.Null && !f.Auto && !f.List { // what may not become a deposit does not by a fallback either
		d.Fallback = c.rule.Fallback
	}
	return d
}
