package config

import (
	"slices"
	"strings"
)

// Sign is how mail of the clinic's people is signed.
type Sign struct {
	SMIME SignSMIME `yaml:"smime"`
}

// SignSMIME signs with a key of keys that has the author's address (From as it leaves), or his domain.
type SignSMIME struct {
	// Routes are the ways out on which mail is signed: trust, plain, encrypt (within what is encrypted). Empty: nothing is signed.
	Routes []string `yaml:"routes"`
	// From are globs of the authors whose mail is signed; empty: everyone for whom there is a key.
	From []string `yaml:"from"`
	// Required refuses mail that could not be signed: no key for its author, or parts that cannot be read unambiguously. What must not be signed by its
	// form (signed or encrypted already, reports, invitations, health documents left alone) leaves all the same.
	Required bool `yaml:"required"`
	// XDM is leave or sign: what is done with a message that holds an IHE_XDM.ZIP. Software that reads health documents may not look below a
	// signature.
	XDM string `yaml:"xdm"`
}

func (v *validator) sign() {
	s := v.c.Sign.SMIME
	for i, r := range s.Routes {
		v.oneOf(index("sign.smime.routes", i), r, "trust", "plain", "encrypt")
	}
	for i, g := range s.From {
		if g == "" || strings.Count(g, "@") > 1 || strings.ContainsFunc(g, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			v.fault(index("sign.smime.from", i), "is no address and no pattern of one (*@clinique.mssante.example)")
		}
	}
	v.oneOf("sign.smime.xdm", s.XDM, "leave", "sign")
	if len(s.Routes) > 0 && v.ok("keys") && !slices.ContainsFunc(v.c.Keys, func(k OwnKey) bool { return !k.Off() }) {
		v.fault("sign.smime.routes", "needs a key: set keys")
	}
}
