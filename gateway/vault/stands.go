package vault

import (
	"fmt"
	"strings"
	"time"
)

// Stands says in a person's words how a deposit stands; lang is "fr" or "en".
func (v *Vault) Stands(d Status, lang string) string {
	if lang == "en" {
		return v.standsEN(d)
	}
	return v.standsFR(d)
}

// holdEnd is when a held deposit ends where nobody gives the number.
func (d Status) holdEnd() time.Time {
	if end := d.Created.Add(HoldLife); end.Before(d.Expires) {
		return end
	}
	return d.Expires
}

var levelsFR = map[string]string{"sms": "code par SMS", "sender": "code donné par téléphone", "secret": "phrase convenue", "email": "code par courriel", "oidc": "identité vérifiée"}
var levelsEN = map[string]string{"sms": "code by SMS", "sender": "code told by telephone", "secret": "agreed phrase", "email": "code by e-mail", "oidc": "identity verified"}

// LevelFR says in French how an opening was proved.
func LevelFR(how string) string {
	if s := level(levelsFR, how); s != "" {
		return s
	}
	return how
}

// level says how an opening was proved, with the provider's name in the words of the config.
func level(words map[string]string, level string) string {
	kind, provider, named := strings.Cut(level, "/")
	if named {
		return words[kind] + ", " + provider
	}
	return words[kind]
}

func (v *Vault) standsFR(d Status) string {
	at := func(t time.Time) string { return DateFR(v.Local(t)) }
	var s string
	switch {
	case d.State == Held:
		return "RETENU : numéro de téléphone inconnu, à compléter avant le " + at(d.holdEnd()) + ", sinon le message est détruit"
	case !d.Opened.IsZero():
		s = "ouvert le " + at(d.Opened) + " (" + level(levelsFR, d.Level) + ")"
	case d.State == Expired:
		return "expiré sans être ouvert, le " + at(d.Ended)
	case d.State == Destroyed:
		return "NON REMIS : sans numéro de téléphone, le message a été détruit le " + at(d.Ended)
	case d.State == Revoked:
		return "retiré sans avoir été ouvert, le " + at(d.Ended)
	case !d.CodeAt.IsZero() && d.MaskedPhone != "":
		s = "en attente, code envoyé au " + d.MaskedPhone + " le " + at(d.CodeAt)
	case d.Mode == BySMS:
		s = "en attente, le code ira au " + d.MaskedPhone
	case d.Mode == BySecret:
		s = "en attente, s'ouvre avec la phrase convenue"
	case d.Mode == ByEmail:
		s = "en attente, le code ira par courriel à la même adresse"
	case d.Mode == ByOIDC:
		s = "en attente, s'ouvre avec une identité vérifiée"
	default:
		s = "en attente, code à donner par téléphone"
	}
	if d.State == Waiting {
		s += ", jusqu'au " + at(d.Expires)
	}
	if d.Answers > 0 {
		s += fmt.Sprintf(", %d réponse(s)", d.Answers)
	}
	return s
}

func (v *Vault) standsEN(d Status) string {
	at := func(t time.Time) string { return DateEN(v.Local(t)) }
	var s string
	switch {
	case d.State == Held:
		return "HELD: telephone number not known, to be completed before " + at(d.holdEnd()) + ", or the message is destroyed"
	case !d.Opened.IsZero():
		s = "opened on " + at(d.Opened) + " (" + level(levelsEN, d.Level) + ")"
	case d.State == Expired:
		return "expired unopened on " + at(d.Ended)
	case d.State == Destroyed:
		return "NOT DELIVERED: without a telephone number the message was destroyed on " + at(d.Ended)
	case d.State == Revoked:
		return "withdrawn unopened on " + at(d.Ended)
	case !d.CodeAt.IsZero() && d.MaskedPhone != "":
		s = "waiting, code sent to " + d.MaskedPhone + " on " + at(d.CodeAt)
	case d.Mode == BySMS:
		s = "waiting, the code will go to " + d.MaskedPhone
	case d.Mode == BySecret:
		s = "waiting, opens with the agreed phrase"
	case d.Mode == ByEmail:
		s = "waiting, the code will go by e-mail to the same address"
	case d.Mode == ByOIDC:
		s = "waiting, opens with a verified identity"
	default:
		s = "waiting, code to be told by telephone"
	}
	if d.State == Waiting {
		s += ", until " + at(d.Expires)
	}
	if d.Answers > 0 {
		s += fmt.Sprintf(", %d answer(s)", d.Answers)
	}
	return s
}
