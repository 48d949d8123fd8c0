package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
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
	// Keep is how long after its end the status of a deposit is kept, for its sender's page and `passerelle deposits`; the ledger stays.
	Keep Duration `yaml:"keep"`
	// Strict keeps no resend key: no reminders, no resent links.
	Strict bool `yaml:"strict"`
	// Code is sms or sender (told by telephone); "" is sms where a mobile is known and sms.url is set, else sender.
	Code string `yaml:"code"`
	// NoPhone says what becomes of a message for somebody whose number is not known: hold (the sender is asked for it, for 48 hours) or tell
	// (he is given the code to tell). "" is hold where codes go by SMS, else tell.
	NoPhone string `yaml:"no_phone"`
	// PhoneHeader names a field in which a sender's application gives the recipient's number; it never leaves.
	PhoneHeader string `yaml:"phone_header"`
	// IdentityHeader names a field in which a sender's application says who the recipient is; it never leaves.
	IdentityHeader string `yaml:"identity_header"`
	// EmailCode lets a code go to the mailbox that the link went to, the weakest proof: where neither number nor phrase is known, and no_phone is "",
	// and where a rule asks for it (proof: email).
	EmailCode bool `yaml:"email_code"`
	// OIDC are OpenID providers whose word opens a message, beside its code or in its place.
	OIDC []OIDC `yaml:"oidc"`
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
	// Tell is what notice and link page show beside the clinic before any code: name (of the sender, as in From), word (of the list). Who
	// reads the mailbox reads it: a specialist's name tells of an illness. Default: nothing.
	Tell []string `yaml:"tell"`
	// Database is the PostgreSQL database of deposits that several gateways share, postgres://user:password@host/name?sslmode=verify-full; "" keeps them
	// in the state folder.
	Database Secret `yaml:"database"`
	// Blobs is the S3 bucket of their payloads: s3://bucket/prefix?endpoint=https://host&region=...&key=...&secret=...[&ca=file]. With database, and only then.
	Blobs Secret `yaml:"blobs"`
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

// OIDC is one OpenID provider: FranceConnect for patients, Pro Santé Connect for professionals, or another.
type OIDC struct {
	// Name stands in the ledger and in the page's addresses: letters, digits and hyphens. Label is what people read on the button.
	Name  string `yaml:"name"`
	Label string `yaml:"label"`
	// Issuer is who signs; Discovery where its settings lie, "" for the issuer's well-known place.
	Issuer    string `yaml:"issuer"`
	Discovery string `yaml:"discovery"`
	// ClientID is what the provider calls us; "" switches the entry off.
	ClientID         string `yaml:"client_id"`
	ClientSecret     Secret `yaml:"client_secret"`
	ClientSecretFile string `yaml:"client_secret_file"`
	// Scopes are asked for beside openid; ACRValues are the levels of which the answer must be one, or a higher eidas one.
	Scopes    []string `yaml:"scopes"`
	ACRValues []string `yaml:"acr_values"`
	// Claims names the provider's claims for birth_name, first_name, birth_date and rpps.
	Claims map[string]string `yaml:"claims"`
	// For is patients, compared by birth name, first names and birth date, or professionals, compared by RPPS.
	For string `yaml:"for"`
	// Timeout bounds each request to it.
	Timeout Duration `yaml:"timeout"`
}

// off: its client_id is empty.
func (o OIDC) off() bool { return o.ClientID == "" }

// Secret gives the client's secret; its file is read now.
func (o OIDC) Secret() (string, error) {
	if o.ClientSecretFile == "" {
		return o.ClientSecret.Reveal(), nil
	}
	b, err := os.ReadFile(o.ClientSecretFile)
	if err != nil {
		return "", fmt.Errorf("client secret of %s: %w", o.Name, err)
	}
	return strings.TrimSpace(string(b)), nil
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
	return Pickup{Expiry: Duration(30 * day), Keep: Duration(400 * day), Reminders: []Duration{Duration(2 * day), Duration(5 * day)}, Report: Duration(7 * day),
		PhoneHeader: "X-Passerelle-Phone", IdentityHeader: "X-Passerelle-Identity", Receipts: slices.Clone(receipts),
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
	if p.Keep < Duration(7*day) { // a message that is tried again joins what was kept of it
		v.fault("pickup.keep", "must be 7d at least, as long as a message may be tried again")
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
	v.shared()
	if p.Report < 0 {
		v.fault("pickup.report", "must not be negative; 0s is never")
	}
	v.oidc()
	v.proofs()
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

var (
	oidcName   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)
	oidcClaims = []string{"birth_name", "first_name", "birth_date", "rpps"}
)

func (v *validator) oidc() {
	names := map[string]bool{}
	for i, o := range v.c.Pickup.OIDC {
		key := index("pickup.oidc", i)
		if o.off() && v.ok(key+".client_id") && !v.seen(key+".client_id") { // one that is there and empty, ${FC_CLIENT_ID:-}, is switched off
			v.fault(key+".client_id", "must be set: the provider gives it with the habilitation")
		}
		if o.off() {
			continue
		}
		if !oidcName.MatchString(o.Name) || names[o.Name] {
			v.fault(key+".name", "must be lower case letters, digits and hyphens, each name once")
		}
		names[o.Name] = true
		v.weburl(key+".issuer", o.Issuer, true)
		if o.Discovery != "" {
			v.weburl(key+".discovery", o.Discovery, false)
		}
		if o.ClientSecret != "" && o.ClientSecretFile != "" {
			v.fault(key+".client_secret_file", "client_secret is set too: one of the two")
		}
		v.file(key+".client_secret_file", o.ClientSecretFile)
		v.oneOf(key+".for", o.For, "patients", "professionals")
		for name := range o.Claims {
			if !slices.Contains(oidcClaims, name) {
				v.fault(key+".claims", "%q is none of %s", name, strings.Join(oidcClaims, ", "))
			}
		}
		need := oidcClaims[:3]
		if o.For == "professionals" {
			need = oidcClaims[3:]
		}
		for _, name := range need {
			if o.Claims[name] == "" {
				v.fault(key+".claims", "must name the claim for %s: it is compared", name)
			}
		}
	}
}

// proofs holds what rules ask for against what the portal can ask.
func (v *validator) proofs() {
	for i, r := range v.c.Rules {
		key := index("rules", i) + ".proof"
		switch {
		case r.Proof == "sms" && v.c.SMS.URL == "":
			v.fault(key, "sms needs sms.url")
		case r.Proof == "email" && !v.c.Pickup.EmailCode:
			v.fault(key, "email needs pickup.email_code: true; it is the weakest proof")
		case r.Proof == "oidc" && !slices.ContainsFunc(v.c.Pickup.OIDC, func(o OIDC) bool { return !o.off() }):
			v.fault(key, "oidc needs a provider in pickup.oidc")
		}
	}
}
