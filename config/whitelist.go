package config

import (
	"strings"
	"time"
)

// WhiteList is the signed list of the trust space's domains and of the certificates that may speak for them.
type WhiteList struct {
	// URL of the list; empty is off. https alone.
	URL string `yaml:"url"`
	// Every is the time from one look to the next; after a failure it is tried again from a minute on, ever more slowly.
	Every Duration `yaml:"every"`
	// CA is a PEM file with the only authorities that are believed about the host (IGC-Santé); empty: the system's.
	CA string `yaml:"ca"`
	// Roots are PEM files with the authorities of the list's signer; empty: trust.ca.
	Roots []string `yaml:"roots"`
	// Signer is who signs the list. Its key changes every few years, these do not.
	Signer WhiteListSigner `yaml:"signer"`
	// MaxAge makes mail for the list's domains wait once the list, by its own date, is older.
	MaxAge Duration `yaml:"max_age"`
	// AlarmAge is the age of the list at which the operator is told: an alarm, nothing else.
	AlarmAge Duration `yaml:"alarm_age"`
	// Shrink is the share of domains that a new list may lack; one that lacks more waits for passerelle whitelist accept.
	Shrink Percent `yaml:"shrink"`
}

// WhiteListSigner is what the signer's certificate must say.
type WhiteListSigner struct {
	CN     string `yaml:"cn"`     // its common name
	Issuer string `yaml:"issuer"` // the common name of who issued it
	EKU    string `yaml:"eku"`    // what it is made for: emailProtection, codeSigning, clientAuth, serverAuth, any
}

func defaultWhiteList() WhiteList {
	return WhiteList{Every: Duration(time.Hour), MaxAge: Duration(3 * day), AlarmAge: Duration(day), Shrink: 20,
		Signer: WhiteListSigner{CN: "alb.mssante.fr", Issuer: "AC IGC-SANTE ELEMENTAIRE ORGANISATIONS", EKU: "emailProtection"}}
}

func (v *validator) whiteList() {
	const key = "trust.white_list"
	w := v.c.Trust.WhiteList
	if w.URL != "" {
		v.weburl(key+".url", w.URL, false)
		if strings.HasPrefix(strings.ToLower(w.URL), "http:") && v.ok(key+".url") {
			v.fault(key+".url", "must begin with https://")
		}
	}
	v.file(key+".ca", w.CA)
	for i, f := range w.Roots {
		v.file(index(key+".roots", i), f)
	}
	for _, f := range [][2]string{{"cn", w.Signer.CN}, {"issuer", w.Signer.Issuer}} {
		if k := key + ".signer." + f[0]; f[1] == "" && v.ok(k) {
			v.fault(k, "must be set: any certificate of the authority could sign a list")
		}
	}
	v.oneOf(key+".signer.eku", w.Signer.EKU, "emailProtection", "codeSigning", "clientAuth", "serverAuth", "any")
	for _, d := range []struct {
		key       string
		d, lo, hi Duration
	}{{"every", w.Every, Duration(10 * time.Minute), Duration(day)}, {"max_age", w.MaxAge, Duration(time.Hour), Duration(365 * day)}, {"alarm_age", w.AlarmAge, Duration(time.Hour), Duration(365 * day)}} {
		if k := key + "." + d.key; (d.d < d.lo || d.d > d.hi) && v.ok(k) {
			v.fault(k, "must be between %s and %s", d.lo, d.hi)
		}
	}
	if w.Shrink < 1 || w.Shrink > 90 {
		v.fault(key+".shrink", "must be between 1%% and 90%%: beyond it passerelle whitelist accept takes a single list")
	}
}
