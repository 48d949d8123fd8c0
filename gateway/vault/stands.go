package vault

import (
	"fmt"
	"strings"
	"time"
)

// Stands says in a person's words how a deposit stands; lang is "fr" or "en".
func (v *Vault) Stands(d Status, lang string) string {
	words, levels, date := standsFR, levelsFR, DateFR
	if lang == "en" {
		words, levels, date = standsEN, levelsEN, DateEN
	}
	at := func(t time.Time) string { return date(v.Local(t)) }
	var s string
	switch {
	case d.State == Held:
		return fmt.Sprintf(words["held"], at(d.holdEnd()))
	case !d.Opened.IsZero():
		s = fmt.Sprintf(words["opened"], at(d.Opened), level(levels, d.Level))
	case d.State == Expired, d.State == Destroyed, d.State == Revoked:
		return fmt.Sprintf(words[string(d.State)], at(d.Ended))
	case !d.CodeAt.IsZero() && d.MaskedPhone != "":
		s = fmt.Sprintf(words["sent"], d.MaskedPhone, at(d.CodeAt))
	case d.Mode == BySMS:
		s = fmt.Sprintf(words["sms"], d.MaskedPhone)
	case d.Mode == BySecret, d.Mode == ByEmail, d.Mode == ByOIDC:
		s = words[string(d.Mode)]
	default:
		s = words["told"]
	}
	if d.State == Waiting {
		s += fmt.Sprintf(words["until"], at(d.Expires))
	}
	if d.Answers > 0 {
		s += fmt.Sprintf(words["answers"], d.Answers)
	}
	return s
}

// How a deposit stands, by its state or the proof that it waits for.
var (
	standsFR = map[string]string{
		"held":   "RETENU : numéro de téléphone inconnu, à compléter avant le %s, sinon le message est détruit",
		"opened": "ouvert le %s (%s)", "expired": "expiré sans être ouvert, le %s", "revoked": "retiré sans avoir été ouvert, le %s",
		"destroyed": "NON REMIS : sans numéro de téléphone, le message a été détruit le %s",
		"sent":      "en attente, code envoyé au %s le %s", "sms": "en attente, le code ira au %s", "secret": "en attente, s'ouvre avec la phrase convenue",
		"email": "en attente, le code ira par courriel à la même adresse", "oidc": "en attente, s'ouvre avec une identité vérifiée",
		"told": "en attente, code à donner par téléphone", "until": ", jusqu'au %s", "answers": ", %d réponse(s)",
	}
	standsEN = map[string]string{
		"held":   "HELD: telephone number not known, to be completed before %s, or the message is destroyed",
		"opened": "opened on %s (%s)", "expired": "expired unopened on %s", "revoked": "withdrawn unopened on %s",
		"destroyed": "NOT DELIVERED: without a telephone number the message was destroyed on %s",
		"sent":      "waiting, code sent to %s on %s", "sms": "waiting, the code will go to %s", "secret": "waiting, opens with the agreed phrase",
		"email": "waiting, the code will go by e-mail to the same address", "oidc": "waiting, opens with a verified identity",
		"told": "waiting, code to be told by telephone", "until": ", until %s", "answers": ", %d answer(s)",
	}
)

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
