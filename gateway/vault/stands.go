package vault

import (
	"strconv"
	"strings"
	"time"
)

// Stands says in a person's words how a deposit stands; lang is "fr" or "en".
func (v *Vault) Stands(d Status, lang string) string {
	date := DateFR
	if lang == "en" {
		date = DateEN
	} else {
		lang = "fr"
	}
	say := func(key string, at time.Time) string {
		return fill(v.cfg.sentence(lang, "stands."+key), map[string]string{"date": date(v.Local(at)), "phone": d.MaskedPhone, "proof": v.Level(d.Level, lang), "number": strconv.Itoa(d.Answers)},
			func(v string) string { return v })
	}
	var s string
	switch {
	case d.State == Held:
		return say("held", d.holdEnd())
	case !d.Opened.IsZero():
		s = say("opened", d.Opened)
	case d.State == Expired, d.State == Destroyed, d.State == Revoked:
		return say(string(d.State), d.Ended)
	case d.Mode == BySMS && !d.CodeAt.IsZero():
		s = say("sent", d.CodeAt)
	case d.Mode == BySMS, d.Mode == BySecret, d.Mode == ByEmail, d.Mode == ByOIDC:
		s = say(string(d.Mode), time.Time{})
	case d.MaskedPhone != "":
		s = say("call", time.Time{})
	default:
		s = say("told", time.Time{})
	}
	if d.State == Waiting {
		s += ", " + say("until", d.Expires)
	}
	if d.Answers > 0 {
		s += ", " + say("answers", time.Time{})
	}
	if !d.Opened.IsZero() && !d.Ended.IsZero() {
		s += ", " + say("ended."+string(d.State), d.Ended)
	}
	return s
}

// holdEnd is when a held deposit ends where nobody gives the number.
func (d Status) holdEnd() time.Time {
	if end := d.Created.Add(HoldLife); end.Before(d.Expires) {
		return end
	}
	return d.Expires
}

// Level says how an opening was proved, with an OpenID provider's name in the words of the config; lang is "fr" or "en".
func (v *Vault) Level(how, lang string) string {
	kind, provider, named := strings.Cut(how, "/")
	s := v.cfg.sentence(lang, "proof."+kind)
	switch {
	case s == "":
		return how
	case named:
		return s + ", " + provider
	}
	return s
}
