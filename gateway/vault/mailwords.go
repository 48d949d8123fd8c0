package vault

import (
	"html"
	htmltemplate "html/template"
	"maps"
	"strings"
	"unicode/utf8"

	"passerelle/gateway/brand"
)

// mailWords are the sentences of the vault's mails, of the SMS and of how a deposit stands. What stands in braces is all that a sentence may say
// beside itself: a clinic may change the words around it, so no notice can be made to tell of the message or its recipient; of the sender only what pickup.tell allows.
var mailWords = brand.Words{
	"fr": {
		"mail.subject": "Un message vous attend", "mail.subject.again": "Rappel : un message vous attend", "mail.subject.staff": "Un message MSSanté vous attend",
		"mail.hello":      "Bonjour,",
		"mail.sent":       "{clinic} vous a envoyé un message confidentiel.",
		"mail.sent.again": "{clinic} vous a envoyé un message confidentiel le {date}. Il n'est pas encore ouvert.",
		"mail.sent.staff": "Un message de la messagerie sécurisée de santé (MSSanté) vous attend à {clinic}.",
		"mail.from":       "Il vient de : {sender}", "mail.word": "Le mot convenu avec vous : {word}",
		"mail.open": "Pour le lire, ouvrez cette page :", "mail.button": "Lire le message",
		"mail.typed":            "Vous préférez ne pas cliquer ? Tapez vous-même l'adresse {address} et ce code d'accès : {access}",
		"mail.sms":              "Sur cette page, demandez un code : il arrive par SMS sur votre téléphone.",
		"mail.secret":           "Sur cette page, entrez la phrase convenue avec {clinic}.",
		"mail.email":            "Sur cette page, demandez un code : il arrive par courriel, à cette même adresse.",
		"mail.oidc":             "Sur cette page, identifiez-vous (par exemple avec FranceConnect).",
		"mail.mailcode.subject": "Votre code", "mail.mailcode.tell": "Votre code pour lire le message de {clinic} :",
		"mail.mailcode.care": "Il est valable 15 minutes. Ne le donnez à personne. Vous n'avez rien demandé ? Ne faites rien, et appelez {clinic}.",
		"mail.told":          "Un code vous sera donné par téléphone par {clinic}.",
		"mail.until":         "Le message vous attend jusqu'au {until} (heure de Paris).",
		"mail.doubt":         "Un doute ? N'ouvrez rien et appelez {clinic}.", "mail.doubt.phone": "Un doute ? N'ouvrez rien et appelez {clinic} au {phone}.",
		"mail.never":        "Nous ne vous demandons jamais de mot de passe ni de paiement.",
		"mail.answer.staff": "Pour répondre, écrivez à son auteur depuis votre messagerie. Cette page et cet avis n'acceptent pas de réponse.",
		"mail.code.subject": "Code à donner par téléphone",
		"mail.code.waits":   "Votre message du {date} attend son destinataire : {recipient}",
		"mail.code.tell":    "Donnez-lui ce code par téléphone :",
		"mail.code.call":    "Son numéro de téléphone : {number}",
		"mail.code.care":    "Assurez-vous de parler à la bonne personne. N'envoyez jamais ce code par courriel. Il est valable jusqu'au {until} (heure de Paris).",
		"mail.code.track":   "Suivre ou retirer ce message",
		"sms.text":          "{clinic} : votre code est {code}. Il est valable 15 minutes. Ne le donnez à personne.",
		// How a deposit stands, by its state or the proof that it waits for.
		"stands.held":   "RETENU : numéro de téléphone inconnu, à compléter avant le {date}, sinon le message est détruit",
		"stands.opened": "ouvert le {date} ({proof})", "stands.expired": "expiré sans être ouvert, le {date}", "stands.revoked": "retiré sans avoir été ouvert, le {date}",
		"stands.destroyed": "NON REMIS : sans numéro de téléphone, le message a été détruit le {date}",
		"stands.sent":      "en attente, code envoyé au {phone} le {date}", "stands.sms": "en attente, le code ira au {phone}", "stands.secret": "en attente, s'ouvre avec la phrase convenue",
		"stands.email": "en attente, le code ira par courriel à la même adresse", "stands.oidc": "en attente, s'ouvre avec une identité vérifiée",
		"stands.call": "en attente, code à donner par téléphone au {phone}",
		"stands.told": "en attente, code à donner par téléphone", "stands.until": "jusqu'au {date}", "stands.ended.revoked": "retiré le {date}", "stands.ended.expired": "expiré le {date}", "stands.answers": "{number} réponse(s)",
		"proof.sms": "code par SMS", "proof.sender": "code donné par téléphone", "proof.secret": "phrase convenue", "proof.email": "code par courriel", "proof.oidc": "identité vérifiée",
		// What a sender is told of one message; its subjects are French alone, as all mail to the clinic's staff.
		"receipt.subject.sent": "Suivi de votre message sécurisé", "receipt.sent": "Votre message attend sur la page sécurisée :",
		"receipt.subject.ask": "Numéro de téléphone à compléter", "receipt.ask": "Votre message attend un numéro de téléphone :",
		"receipt.subject.lost": "Votre message sécurisé n'a pas été remis à tous", "receipt.lost": "Votre message n'a pas été remis à tous :",
		"receipt.subject.unopened": "Votre message sécurisé n'est pas encore lu", "receipt.unopened": "Votre message n'est pas encore lu par tous :",
		"receipt.subject.opened": "Votre message sécurisé est lu", "receipt.opened": "Ce que votre message est devenu :",
		"receipt.subject.end": "Votre message sécurisé : fin du suivi", "receipt.end": "Ce que votre message est devenu :",
		"receipt.complete": "Donnez sur cette page le numéro de chaque destinataire dont le message est retenu.", "receipt.page": "Suivre, retirer, renvoyer l'avis, clore l'échange :",
	},
	"en": {
		"mail.subject": "A message is waiting for you", "mail.subject.again": "Reminder: a message is waiting for you", "mail.subject.staff": "An MSSanté message is waiting for you",
		"mail.hello":      "Hello,",
		"mail.sent":       "{clinic} has sent you a confidential message.",
		"mail.sent.again": "{clinic} sent you a confidential message on {date}. It has not been opened yet.",
		"mail.sent.staff": "A message of the secure health mail (MSSanté) is waiting for you at {clinic}.",
		"mail.from":       "It is from: {sender}", "mail.word": "The word agreed with you: {word}",
		"mail.open": "To read it, open this page:", "mail.button": "Read the message",
		"mail.typed":            "You would rather not click? Type the address {address} and this access code: {access}",
		"mail.sms":              "On that page, ask for a code: it comes to your telephone by SMS.",
		"mail.secret":           "On that page, enter the phrase agreed with {clinic}.",
		"mail.email":            "On that page, ask for a code: it comes by e-mail, to this same address.",
		"mail.oidc":             "On that page, prove who you are (for example with FranceConnect).",
		"mail.mailcode.subject": "Your code", "mail.mailcode.tell": "Your code to read the message from {clinic}:",
		"mail.mailcode.care": "It is valid for 15 minutes. Do not give it to anyone. You did not ask for it? Do nothing, and call {clinic}.",
		"mail.told":          "{clinic} will tell you a code by telephone.",
		"mail.until":         "The message waits for you until {until} (Paris time).",
		"mail.doubt":         "In doubt? Open nothing and call {clinic}.", "mail.doubt.phone": "In doubt? Open nothing and call {clinic}: {phone}.",
		"mail.never":        "We never ask for a password or a payment.",
		"mail.answer.staff": "To answer, write to its author from your own mail. This page and this notice take no answer.",
		"mail.code.subject": "Code to tell by telephone",
		"mail.code.waits":   "Your message of {date} is waiting for {recipient}",
		"mail.code.tell":    "Tell them this code by telephone:",
		"mail.code.call":    "Their telephone number: {number}",
		"mail.code.care":    "Make sure that you speak to the right person. Never send this code by e-mail. It is valid until {until} (Paris time).",
		"mail.code.track":   "Follow or withdraw this message",
		"sms.text":          "{clinic}: your code is {code}. It is valid for 15 minutes. Do not give it to anyone.",
		"stands.held":       "HELD: telephone number not known, to be completed before {date}, or the message is destroyed",
		"stands.opened":     "opened on {date} ({proof})", "stands.expired": "expired unopened on {date}", "stands.revoked": "withdrawn unopened on {date}",
		"stands.destroyed": "NOT DELIVERED: without a telephone number the message was destroyed on {date}",
		"stands.sent":      "waiting, code sent to {phone} on {date}", "stands.sms": "waiting, the code will go to {phone}", "stands.secret": "waiting, opens with the agreed phrase",
		"stands.email": "waiting, the code will go by e-mail to the same address", "stands.oidc": "waiting, opens with a verified identity",
		"stands.call": "waiting, code to be told by telephone: {phone}",
		"stands.told": "waiting, code to be told by telephone", "stands.until": "until {date}", "stands.ended.revoked": "withdrawn on {date}", "stands.ended.expired": "expired on {date}", "stands.answers": "{number} answer(s)",
		"proof.sms": "code by SMS", "proof.sender": "code told by telephone", "proof.secret": "agreed phrase", "proof.email": "code by e-mail", "proof.oidc": "identity verified",
		"receipt.sent": "Your message waits on the secure page:", "receipt.ask": "Your message waits for a telephone number:", "receipt.lost": "Your message was not delivered to everybody:",
		"receipt.unopened": "Your message was not read by everybody yet:", "receipt.opened": "What became of your message:", "receipt.end": "What became of your message:",
		"receipt.complete": "Give on this page the number of each recipient whose message is held.", "receipt.page": "Follow, withdraw, send the notice again, close the exchange:",
	},
}

// Words are the sentences that a brand may replace.
func Words() brand.Words {
	out := brand.Words{}
	for lang, texts := range mailWords {
		out[lang] = maps.Clone(texts)
	}
	return out
}

// sentence is a clinic's own, or ours.
func (c *Config) sentence(lang, key string) string {
	if s, ok := c.Brand.Text(lang, key); ok {
		return s
	}
	return mailWords[lang][key]
}

// fill puts values into a sentence, in one pass: what a value says is never filled in again.
func fill(sentence string, values map[string]string, as func(string) string) string {
	var pairs []string
	for name, v := range values {
		pairs = append(pairs, "{"+name+"}", as(v))
	}
	return strings.NewReplacer(pairs...).Replace(sentence)
}

// Text gives a sentence for the plain part, in lines of 76 characters; a value is never broken, so that a code can be copied.
func (p mailPart) Text(key string) string {
	const glue = "\x00"
	s := fill(p.sentence(key), p.values, func(v string) string { return strings.ReplaceAll(v, " ", glue) })
	var b strings.Builder
	n := 0
	for i, w := range strings.Fields(s) {
		l := utf8.RuneCountInString(w)
		switch {
		case i > 0 && n+1+l > 76:
			b.WriteByte('\n')
			n = 0
		case i > 0:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(w)
		n += l
	}
	return strings.ReplaceAll(b.String(), glue, " ")
}

// HTML gives the same sentence with its values marked. Sentence and values are escaped here, which is why the template need not.
func (p mailPart) HTML(key string) htmltemplate.HTML {
	return htmltemplate.HTML(fill(html.EscapeString(p.sentence(key)), p.values, func(v string) string {
		return `<strong style="white-space:nowrap">` + html.EscapeString(v) + `</strong>`
	}))
}
