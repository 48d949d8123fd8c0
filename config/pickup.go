package config

import (
	"slices"

	"passerelle/policy"
)

// Pickup is the patient's page.
type Pickup struct {
	// URL is what patients see: https://courrier.clinic.example. http is for loopback alone.
	URL string `yaml:"url"`
	// Expiry is how long a deposit waits.
	Expiry Duration `yaml:"expiry"`
	// Strict keeps no resend key: no reminders, no resent links.
	Strict bool `yaml:"strict"`
	// Code is sms or sender (told by telephone); "" is sms where a mobile is known and sms.url is set, else sender.
	Code string `yaml:"code"`
	// NoPhone says what becomes of a message for somebody whose number is not known: hold (the sender is asked for it, for 48 hours) or tell
	// (he is given the code to tell). "" is hold where codes go by SMS, else tell.
	NoPhone string `yaml:"no_phone"`
	// PhoneHeader names a field in which a sender's application gives the recipient's number; it never leaves.
	PhoneHeader string `yaml:"phone_header"`
	// Reminders are the ages at which a message that nobody opened is told of again.
	Reminders []Duration `yaml:"reminders"`
	// Report is the age at which the sender hears that his message is not opened; 0s for never.
	Report Duration `yaml:"report"`
	// Receipts are the summaries that a sender gets, each at most once for a message: sent, unopened, end.
	Receipts []string `yaml:"receipts"`
	// Tell is what notice and link page show beside the clinic before any code: name (of the sender, as in From), word (of the list). Who
	// reads the mailbox reads it: a specialist's name tells of an illness. Default: nothing.
	Tell []string `yaml:"tell"`
}

// What pickup.tell names.
const (
	TellName = "name"
	TellWord = "word"
)

// The summaries that pickup.receipts names.
const (
	ReceiptSent     = "sent"
	ReceiptUnopened = "unopened"
	ReceiptEnd      = "end"
)

var receipts = []string{ReceiptSent, ReceiptUnopened, ReceiptEnd}

func defaultPickup() Pickup {
	return Pickup{Expiry: Duration(30 * day), Reminders: []Duration{Duration(2 * day), Duration(5 * day)}, Report: Duration(7 * day),
		PhoneHeader: "X-Passerelle-Phone", Receipts: slices.Clone(receipts)}
}

// maxReminders bounds what one patient is sent of one message.
const maxReminders = 10

func (v *validator) pickup() {
	p := v.c.Pickup
	v.oneOf("pickup.code", p.Code, "", "sms", "sender")
	if p.Code == "sms" && v.c.SMS.URL == "" {
		v.fault("pickup.code", "sms needs sms.url")
	}
	if p.URL != "" {
		v.weburl("pickup.url", p.URL, true)
	} else if v.ok("pickup.url") && v.reaches(policy.Pickup) {
		v.fault("pickup.url", "must be set: %s", v.why(policy.Pickup))
	}
	if v.c.Listen.Portal.Addr == "" && !v.broken["listen"] && v.ok("listen.portal.addr") && v.reaches(policy.Pickup) {
		v.fault("listen.portal.addr", "must be set: %s", v.why(policy.Pickup))
	}
	v.oneOf("pickup.no_phone", p.NoPhone, "", "hold", "tell")
	if len(p.Reminders) > maxReminders {
		v.fault("pickup.reminders", "must be %d at most", maxReminders)
	}
	for i, d := range p.Reminders {
		if d <= 0 || i > 0 && d <= p.Reminders[i-1] {
			v.fault("pickup.reminders", "must be ages above zero, each later than the one before")
			break
		}
	}
	if p.Report < 0 {
		v.fault("pickup.report", "must not be negative; 0s is never")
	}
	for _, what := range p.Tell {
		if what != TellName && what != TellWord {
			v.fault("pickup.tell", "%q is none of name, word", what)
		}
	}
	for _, r := range p.Receipts {
		if !slices.Contains(receipts, r) {
			v.fault("pickup.receipts", "%q is none of sent, unopened, end", r)
		}
	}
}
