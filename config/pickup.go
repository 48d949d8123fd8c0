package config

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

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
	Brand    Brand    `yaml:"brand"`
	// Proxies are the reverse proxies in front of the portal, beside those on this machine: prefixes or single addresses whose
	// X-Forwarded-For is believed.
	Proxies []string `yaml:"proxies"`
	// Answer bounds what a patient answers on the page.
	Answer PickupAnswer `yaml:"answer"`
	// Clamd searches the files of answers for viruses.
	Clamd Clamd `yaml:"clamd"`
	// ReplyTo is an address of the clinic that its Postfix routes to listen.lmtp. A patient who answers the notice by mail writes there: he
	// gets the link again, the sender hears of it, what he wrote goes nowhere. "": notices have no Reply-To.
	ReplyTo string `yaml:"reply_to"`
}

// PickupAnswer bounds answers. The clinic's Postfix must take one: size and a third for its encoding, in message_size_limit.
type PickupAnswer struct {
	// Size is of all files together.
	Size Size `yaml:"size"`
	// Files is how many one answer may have.
	Files int `yaml:"files"`
	// Daily is how many answers one deposit takes in a day.
	Daily int `yaml:"daily"`
}

// Clamd is ClamAV's daemon.
type Clamd struct {
	// Addr is host:port or the path of a Unix socket; "" searches nothing. What is searched leaves this machine over TCP in clear: loopback.
	Addr string `yaml:"addr"`
	// Unreachable is refuse (the answer waits with the patient) or accept (it goes on, and says that it was not searched).
	Unreachable string `yaml:"unreachable"`
	// Timeout bounds one file.
	Timeout Duration `yaml:"timeout"`
}

// The summaries that pickup.receipts names.
const (
	ReceiptSent     = "sent"
	ReceiptUnopened = "unopened"
	ReceiptEnd      = "end"
)

var receipts = []string{ReceiptSent, ReceiptUnopened, ReceiptEnd}

func defaultPickup() Pickup {
	return Pickup{Expiry: Duration(30 * day), Reminders: []Duration{Duration(2 * day), Duration(5 * day)}, Report: Duration(7 * day),
		PhoneHeader: "X-Passerelle-Phone", Receipts: slices.Clone(receipts),
		Answer: PickupAnswer{Size: 20 << 20, Files: 10, Daily: 20}, Clamd: Clamd{Unreachable: "refuse", Timeout: Duration(time.Minute)}}
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
	v.brand()
	v.networks("pickup.proxies", p.Proxies)
	v.oneOf("pickup.no_phone", p.NoPhone, "", "hold", "tell")
	if p.Code == "sender" && p.NoPhone == "hold" { // a number that came late would take the code by SMS
		v.fault("pickup.no_phone", "hold is for codes by SMS, pickup.code is sender")
	}
	if len(p.Reminders) > maxReminders {
		v.fault("pickup.reminders", "must be %d at most", maxReminders)
	}
	for i, d := range p.Reminders {
		if d <= 0 || i > 0 && d <= p.Reminders[i-1] {
			v.fault("pickup.reminders", "must be ages above zero, each later than the one before")
			break
		}
	}
	v.answers()
	if p.Report < 0 {
		v.fault("pickup.report", "must not be negative; 0s is never")
	}
	for _, r := range p.Receipts {
		if !slices.Contains(receipts, r) {
			v.fault("pickup.receipts", "%q is none of sent, unopened, end", r)
		}
	}
}

func (v *validator) answers() {
	p := v.c.Pickup
	if a := p.Answer; a.Size <= 0 || a.Files <= 0 || a.Daily <= 0 {
		v.fault("pickup.answer", "size, files and daily must be above zero")
	}
	v.oneOf("pickup.clamd.unreachable", p.Clamd.Unreachable, "refuse", "accept")
	if p.Clamd.Timeout <= 0 {
		v.fault("pickup.clamd.timeout", "must be above zero")
	}
	if a := p.Clamd.Addr; a != "" && !filepath.IsAbs(a) {
		if ap, err := netip.ParseAddrPort(a); err != nil || !ap.Addr().IsLoopback() {
			v.fault("pickup.clamd.addr", "%q is neither the path of a socket nor an address and port of this machine, such as 127.0.0.1:3310: files travel in clear", a)
		}
	}
	if p.ReplyTo != "" {
		v.address("pickup.reply_to", p.ReplyTo)
		_, domain, _ := strings.Cut(p.ReplyTo, "@")
		if !slices.ContainsFunc(v.c.Clinic.Domains, func(d string) bool { return strings.EqualFold(d, domain) }) {
			v.fault("pickup.reply_to", "must be in one of clinic.domains")
		}
		if strings.EqualFold(p.ReplyTo, v.c.Clinic.Postmaster) {
			v.fault("pickup.reply_to", "must not be clinic.postmaster: what comes there is read by nobody")
		}
	}
}
