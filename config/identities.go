package config

import (
	"slices"
	"strings"
)

// Identities say who of the clinic writes as which mailbox of the trust space, and who in whose name (docs/identities.md).
type Identities struct {
	// Table is a CSV file of addresses and their mailboxes, read again when it changes.
	Table string `yaml:"table"`
	// Mailboxes maps addresses of the clinic to mailboxes; "-" refuses the address. A line of the table wins.
	Mailboxes map[string]string `yaml:"mailboxes"`
	// Delegates maps an address to those who may write in its name, beside those of the table.
	Delegates map[string][]string `yaml:"delegates"`
	// Pattern makes a mailbox of a local part: "{local}@clinique.mssante.example", for who has no line.
	Pattern string `yaml:"pattern"`
	// Domains are those of the clinic that the pattern holds for; the same local part is the same person in all. Empty: the first of
	// clinic.domains. Inbound mail goes to the first.
	Domains []string `yaml:"domains"`
	// Verify is off, pattern (what the pattern gives must stand in the directory or the clinic's list) or all.
	Verify string `yaml:"verify"`
	// Login is a header field in which the clinic's server says who was logged in.
	Login string `yaml:"login"`
	// Reports is the mailbox of reports without an author; "" is postmaster@<first own domain>.
	Reports string `yaml:"reports"`
	// Hostname is our name in the trust space; "" is the first own domain.
	Hostname string `yaml:"hostname"`
	// Hide are further names of the inside that no header may show.
	Hide []string `yaml:"hide"`
}

// On tells whether anybody is mapped.
func (i Identities) On() bool { return i.Table != "" || len(i.Mailboxes) > 0 || i.Pattern != "" }

func (v *validator) identities() {
	const key = "trust.identities"
	i := v.c.Trust.Identities
	v.oneOf(key+".verify", i.Verify, "off", "pattern", "all")
	for k, name := range i.Hide {
		if at := index(key+".hide", k); !isHost(name) && v.ok(at) {
			v.fault(at, "%q is no host or domain name", name)
		}
	}
	if i.Login != "" && (strings.ContainsFunc(i.Login, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) || slices.Contains([]string{"from", "sender", "reply-to"}, strings.ToLower(i.Login))) {
		v.fault(key+".login", "%q is no name of a header field that only the clinic's server sets", i.Login)
	}
	if !i.On() {
		for name, set := range map[string]bool{"delegates": len(i.Delegates) > 0, "domains": len(i.Domains) > 0, "login": i.Login != ""} {
			if set {
				v.fault(key+"."+name, "needs table, mailboxes or pattern beside it")
			}
		}
		return
	}
	if len(v.c.Trust.OwnDomains) == 0 && v.ok("trust.own_domains") {
		v.fault("trust.own_domains", "must name the domains of the mailboxes of trust.identities")
	}
	v.file(key+".table", i.Table)
	for _, a := range sortedKeys(i.Mailboxes) {
		at := join(key+".mailboxes", a)
		v.ours(at, a, "clinic.domains", v.c.Clinic.Domains)
		if m := i.Mailboxes[a]; m != "" && m != "-" {
			v.ours(at, m, "trust.own_domains", v.c.Trust.OwnDomains)
		}
	}
	for _, a := range sortedKeys(i.Delegates) {
		at := join(key+".delegates", a)
		v.ours(at, a, "clinic.domains", v.c.Clinic.Domains)
		for k, who := range i.Delegates[a] {
			v.address(index(at, k), who)
		}
	}
	if i.Pattern != "" {
		if strings.Count(i.Pattern, "{local}") != 1 || strings.ContainsAny(strings.Replace(i.Pattern, "{local}", "", 1), "{}") {
			v.fault(key+".pattern", "%q must hold {local} once", i.Pattern)
		} else {
			v.ours(key+".pattern", strings.Replace(i.Pattern, "{local}", "x", 1), "trust.own_domains", v.c.Trust.OwnDomains)
		}
	}
	for k, d := range i.Domains {
		at := index(key+".domains", k)
		v.domain(at, d)
		if !slices.ContainsFunc(v.c.Clinic.Domains, func(c string) bool { return label(c) == label(d) }) && v.ok(at) {
			v.fault(at, "%s is none of clinic.domains", d)
		}
	}
	if i.Reports != "" && (v.seen(key+".reports") || v.ok("trust.own_domains")) {
		v.ours(key+".reports", i.Reports, "trust.own_domains", v.c.Trust.OwnDomains)
	}
	if i.Hostname != "" && (v.seen(key+".hostname") || v.ok("trust.own_domains")) {
		v.domain(key+".hostname", i.Hostname)
	}
}

// ours checks an address whose domain must be one of the list.
func (v *validator) ours(key, a, list string, domains []string) {
	v.address(key, a)
	_, d, _ := strings.Cut(a, "@")
	if !slices.ContainsFunc(domains, func(c string) bool { return label(c) == label(d) }) && v.ok(key) && v.ok(list) {
		v.fault(key, "%s is in none of %s", a, list)
	}
}
