package config

import (
	"net/netip"
	"slices"
	"time"

	"passerelle/policy"
)

// WKD is the look-up of OpenPGP keys in the Web Key Directories of recipients' own domains. It tells a domain's web server who is written to.
type WKD struct {
	Enabled bool `yaml:"enabled"`
	// Domains are those that are asked, each with those below it; all alone: every one outside of the trust space and of the clinic.
	Domains []string `yaml:"domains"`
	// Trust is what a found key is worth, held against encrypt.min_trust: seen, discovered or verified. The domain's web server vouches for it, nobody else.
	Trust string `yaml:"trust"`
	// Unreachable is what becomes of a recipient who would be sealed to with a key that could not be asked for: skip (the next form or route of the
	// rules) or wait.
	Unreachable string `yaml:"unreachable"`
	// Timeout bounds what all look-ups of a message take together.
	Timeout Duration `yaml:"timeout"`
	// CA verifies the servers in the place of the system's roots.
	CA string `yaml:"ca"`
	// Networks may be connected to although they are not of the public Internet.
	Networks []string `yaml:"networks"`
}

// SMIMERevocation is how it is learnt that a correspondent's certificate was revoked.
type SMIMERevocation struct {
	// Check asks the lists and responders that certificates name, once their chain to encrypt.smime.roots was proved.
	Check bool `yaml:"check"`
	// Unknown is what becomes of mail where nothing can be learnt: wait or accept.
	Unknown string   `yaml:"unknown"`
	Every   Duration `yaml:"every"`
	Timeout Duration `yaml:"timeout"`
	// Grace is how long a list or an answer counts beyond its end.
	Grace Duration `yaml:"grace"`
}

func defaultEncrypt() Encrypt {
	return Encrypt{Subject: "Message sécurisé", MinTrust: "verified", Harvest: "off", Scope: policy.ScopeMessage, PDF: EncryptPDF{Mode: "each"}, Unclear: "seal",
		Limits: EncryptLimits{SMIME: 25 << 20, OpenPGP: 25 << 20, ZIP: 25 << 20, PDF: 25 << 20}, // what most mail servers take
		WKD:    WKD{Trust: "discovered", Unreachable: "skip", Timeout: Duration(5 * time.Second)},
		SMIME: EncryptSMIME{Cipher: "auto",
			Revocation: SMIMERevocation{Check: true, Unknown: "wait", Every: Duration(6 * time.Hour), Timeout: Duration(5 * time.Second), Grace: Duration(4 * time.Hour)}}}
}

// keySources checks how correspondents' keys are found and believed.
func (v *validator) keySources() {
	e := v.c.Encrypt
	v.oneOf("encrypt.harvest", e.Harvest, "off", "verified")
	if e.Harvest == "verified" && len(e.SMIME.Roots) == 0 && v.ok("encrypt.harvest") {
		v.fault("encrypt.harvest", "verified needs encrypt.smime.roots: who else says whose certificate it is")
	}
	for i, f := range e.SMIME.Roots {
		v.file(index("encrypt.smime.roots", i), f)
	}
	r := e.SMIME.Revocation
	v.oneOf("encrypt.smime.revocation.unknown", r.Unknown, "wait", "accept")
	v.between("encrypt.smime.revocation.every", r.Every, time.Minute, 7*24*time.Hour)
	v.between("encrypt.smime.revocation.timeout", r.Timeout, 100*time.Millisecond, 30*time.Second)
	v.between("encrypt.smime.revocation.grace", r.Grace, 0, 7*24*time.Hour)
	v.wkd()
}

func (v *validator) wkd() {
	const key = "encrypt.wkd"
	w := v.c.Encrypt.WKD
	v.oneOf(key+".trust", w.Trust, "seen", "discovered", "verified")
	v.oneOf(key+".unreachable", w.Unreachable, "wait", "skip")
	v.between(key+".timeout", w.Timeout, 100*time.Millisecond, 30*time.Second)
	v.file(key+".ca", w.CA)
	for i, n := range w.Networks {
		if _, err := netip.ParsePrefix(n); err != nil && v.ok(index(key+".networks", i)) {
			v.fault(index(key+".networks", i), "%q is no network: 10.0.0.0/8", n)
		}
	}
	for i, d := range w.Domains {
		if at := index(key+".domains", i); d != "all" {
			v.domain(at, d)
		} else if len(w.Domains) > 1 && v.ok(at) {
			v.fault(at, "all stands alone")
		}
	}
	if !w.Enabled {
		return
	}
	if len(w.Domains) == 0 && v.ok(key+".domains") {
		v.fault(key+".domains", "must name the domains that are asked, or all")
	}
	words := []string{"seen", "discovered", "verified", "confirmed"}
	if have, least := slices.Index(words, w.Trust), slices.Index(words, v.c.Encrypt.MinTrust); have >= 0 && have < least && v.ok(key+".trust") {
		v.fault(key+".trust", "is below encrypt.min_trust (%s): what is found would never be sealed to", v.c.Encrypt.MinTrust)
	}
}

func (v *validator) between(key string, d Duration, least, most time.Duration) {
	if v.ok(key) && (d.Std() < least || d.Std() > most) {
		v.fault(key, "must be from %s to %s", least, most)
	}
}
