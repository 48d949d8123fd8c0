package policy

import "slices"

// encrypt seals in the best form that the recipient opens and that may be so large. Where there is none the content waits in the vault instead,
// or the sender is told what to do, where the rule makes encryption mandatory.
func (p *Policy) encrypt(f *Facts, c *choice) Decision {
	if f.Encrypted {
		return p.sealed(f, c, FormAsIs)
	}
	large := false
	for _, form := range c.ladder(f) {
		switch {
		case !possible(f, form):
			if form == c.rule.Form || form == f.Form {
				c.note("no means for " + form)
			}
		case p.over(f, form):
			c.note(form + " would be over " + p.opt.Limits[form].String())
			large = true
		default:
			return p.sealed(f, c, form)
		}
	}
	if c.rule.Form == "" && !large {
		c.note("no certificate or key known, no other form asked for")
	}
	if c.rule.Fallback != Refuse {
		return c.end(Pickup, "", "")
	}
	text := c.rule.Text
	switch {
	case text != "":
	case large:
		text = textTooLarge
	default:
		text = textNoForm
	}
	return c.refuse("encryption mandatory", text)
}

// ladder is the forms that come into question, the best first: the one that the rule asks for alone; else the one that the recipient's entry asks
// for, and then what his own reader opens by itself. A ZIP, which Windows opens with further software alone, and a PDF are for those for whom
// rule or entry ask; neither a telephone nor an agreed secret is a wish for one.
func (c *choice) ladder(f *Facts) []string {
	if c.rule.Form != "" {
		return []string{c.rule.Form}
	}
	switch f.Form {
	case FormOpenPGP:
		return []string{FormOpenPGP, FormSMIME}
	case FormZIP, FormPDF:
		return []string{f.Form, FormSMIME, FormOpenPGP}
	}
	return []string{FormSMIME, FormOpenPGP}
}

// keyForm is the best form that needs the recipient's key alone, neither a code nor a passphrase: no machine can be told one. "" where the rule
// asks for another, or none is possible.
func (p *Policy) keyForm(f *Facts, c *choice) string {
	if f.Encrypted {
		return FormAsIs
	}
	for _, form := range c.ladder(f) {
		if (form == FormSMIME || form == FormOpenPGP) && possible(f, form) && !p.over(f, form) {
			return form
		}
	}
	return ""
}

// sealed ends in a form, and says what of the message is sealed.
func (p *Policy) sealed(f *Facts, c *choice, form string) Decision {
	scope := c.rule.Scope
	if scope == "" {
		scope = p.opt.Scope
	}
	why := "form=" + form
	switch {
	case form == FormAsIs:
		scope = ScopeMessage
		why = "encrypted end to end by its sender, form=" + form
	case scope != ScopeAttachments:
		scope = ScopeMessage
	case form == FormSMIME: // CMS in mail seals an entity, which readers look for at the root
		scope = ScopeMessage
		why += ", scope=message as " + form + " has no other"
	case f.Whole != "":
		scope = ScopeMessage
		why += ", scope=message as " + f.Whole
	default:
		why += ", scope=" + scope
	}
	d := c.end(Encrypt, why, "")
	d.Form, d.Scope = form, scope
	switch {
	case f.Null: // never a deposit, and nobody to tell
	case c.rule.Fallback != Refuse && !f.Enclosed:
		d.Fallback = Pickup
	default:
		d.Fallback, d.Text = Refuse, c.rule.Text
		if d.Text == "" {
			d.Text = textNotCarried
		}
	}
	return d
}

// over tells whether the sealed message would be larger than its form may be.
func (p *Policy) over(f *Facts, form string) bool {
	limit := int64(p.opt.Limits[form])
	return limit > 0 && f.Sizes[form] > limit
}

// possible tells whether the recipient can open that form: a certificate, a key, or a passphrase and a way to tell it.
func possible(f *Facts, form string) bool {
	switch form {
	case FormSMIME:
		return f.SMIME
	case FormOpenPGP:
		return f.OpenPGP
	}
	return slices.Contains([]string{FormZIP, FormPDF}, form) && (f.Phone || f.Secret)
}
