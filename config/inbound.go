package config

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

func (v *validator) inbound() {
	in := v.c.Inbound
	if utf8.RuneCountInString(in.SubjectMark) > 30 || !utf8.ValidString(in.SubjectMark) || strings.ContainsFunc(in.SubjectMark, unicode.IsControl) ||
		strings.TrimSpace(in.SubjectMark) != in.SubjectMark {
		v.fault("inbound.subject_mark", "must be one line of at most 30 characters, without blanks around it")
	}
	v.oneOf("inbound.decrypt.mode", in.Decrypt.Mode, "auto", "off")
	v.file("inbound.decrypt.ca", in.Decrypt.CA)
	for _, box := range slices.Sorted(maps.Keys(in.Mailboxes)) {
		key, how := join("inbound.mailboxes", box), in.Mailboxes[box]
		v.oneOf(key, how, InboundDeliver, InboundVault)
		if strings.Contains(box, "*") {
			if strings.Count(box, "@") != 1 || strings.ContainsFunc(box, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
				v.fault(key, "is no address and no pattern of one (*@clinique.mssante.example)")
			}
		} else {
			v.address(key, box)
		}
		if how != InboundVault {
			continue
		}
		if v.c.Pickup.URL == "" {
			v.fault(key, "vault needs the portal: set pickup.url")
		}
		if v.c.Listen.Portal.Addr == "" && !v.broken["listen"] && v.ok("listen.portal.addr") {
			v.fault("listen.portal.addr", "must be set: %s is kept for the portal", box)
		}
		if v.c.Directory.List == "" {
			v.fault(key, "vault needs the clinic's list, which has the mobile or the secret of who opens the mailbox: set directory.list")
		}
	}
}

// seals tells whether any mailbox is kept for the portal.
func (in Inbound) seals() bool {
	for _, how := range in.Mailboxes {
		if how == InboundVault {
			return true
		}
	}
	return false
}
