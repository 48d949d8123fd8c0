package config

import (
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// normalize writes every domain in the form in which addresses are compared: an A-label in lower case. It runs behind the checks, so
// that a fault shows what the operator wrote.
func (c *Config) normalize() {
	for _, list := range [][]string{c.Clinic.Domains, c.Recipients.Domains, c.Trust.OwnDomains, c.Trust.Identities.Domains} {
		for i := range list {
			list[i] = label(list[i])
		}
	}
	for _, h := range c.Hops {
		for i := range h.Domains {
			h.Domains[i] = labelBelow(h.Domains[i])
		}
	}
	for i := range c.DKIM {
		c.DKIM[i].Domain = label(c.DKIM[i].Domain)
	}
	c.Pickup.OIDC = slices.DeleteFunc(c.Pickup.OIDC, OIDC.off)
	c.Trust.PatientDomain = label(c.Trust.PatientDomain)
	c.Trust.Domains = labels(c.Trust.Domains, label)
	c.Trust.Hosts = labels(c.Trust.Hosts, label)
	c.Trust.Limits = labels(c.Trust.Limits, label)
	c.Encrypt.Keys = labels(c.Encrypt.Keys, mailboxLabel)
	c.Trust.Submission.Mailboxes = labels(c.Trust.Submission.Mailboxes, mailboxLabel)
}

func labels[V any](m map[string]V, name func(string) string) map[string]V {
	out := make(map[string]V, len(m))
	for k, v := range m {
		out[name(k)] = v
	}
	return out
}

// labelBelow is label for a domain or, with *. before it, for all below one.
func labelBelow(d string) string {
	if below, ok := strings.CutPrefix(d, "*."); ok {
		return "*." + label(below)
	}
	return label(d)
}

// mailboxLabel writes an address, or @domain, as it is compared.
func mailboxLabel(who string) string {
	at := strings.LastIndexByte(who, '@')
	return strings.ToLower(who[:at+1]) + label(who[at+1:])
}

// label is called on domains that were found valid.
func label(d string) string {
	a, err := idna.Lookup.ToASCII(d)
	if err != nil {
		return strings.ToLower(d)
	}
	return a
}
