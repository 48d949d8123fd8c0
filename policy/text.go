package policy

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// maxText keeps a reply line under RFC 5321's 512 octets with its codes and the gateway's own words.
const maxText = 400

// What senders are told: one line of ASCII French that says what to do.
const (
	textLater       = "Annuaire de sante momentanement injoignable, nouvel essai automatique, rien a faire"
	textBroken      = "Regle d'envoi momentanement inapplicable, nouvel essai automatique, prevenez l'informatique si cela dure"
	textWhiteList   = "Liste blanche MSSante absente ou trop ancienne, nouvel essai automatique, prevenez l'informatique si cela dure"
	textRefused     = "Envoi refuse par une regle de l'etablissement, adressez-vous au service informatique"
	textNoForm      = "Chiffrement obligatoire et impossible: ni certificat ni cle ni mot de passe connu pour ce destinataire, demandez-les-lui ou adressez-vous au service informatique"
	textTooLarge    = "Chiffrement obligatoire et message trop volumineux, renvoyez-le en plusieurs fois avec moins de pieces jointes ou adressez-vous au service informatique"
	textNotCarried  = "Chiffrement obligatoire et impossible sous la forme prevue pour ce message, retirez les archives et fichiers inhabituels ou adressez-vous au service informatique"
	textOpposed     = "Le destinataire s'oppose aux envois electroniques, utilisez le courrier postal ou le telephone"
	textEnclosed    = "Message recu chiffre, a transferer seulement a une adresse MSSante ou a un destinataire dont la cle est connue"
	textMarked      = "Message recu de l'espace de confiance MSSante, a transferer seulement a une adresse MSSante"
	textAutomatic   = "Envoi automatique ou de liste refuse vers cette adresse, ecrivez-lui un message personnel ou demandez une regle au service informatique"
	textNotInSpace  = "Le domaine du destinataire n'est pas dans l'espace de confiance MSSante, verifiez l'adresse ou choisissez un autre mode d'envoi"
	textTrustSender = "Destinataire MSSante: ecrivez depuis votre adresse MSSante, l'adresse d'expedition utilisee n'en fait pas partie"
	textNoMailbox   = "Destinataire MSSante: votre adresse n'a pas de boite MSSante, ecrivez depuis celle d'un service ou demandez-en une au service informatique"
	textNotAllowed  = "Destinataire MSSante: cette adresse n'est pas autorisee a y ecrire, utilisez une autre adresse ou adressez-vous au service informatique"
	textNotDelegate = "Destinataire MSSante: vous n'etes pas autorise a ecrire au nom de cet expediteur, ecrivez en votre nom ou demandez une delegation au service informatique"
	textForeign     = "Destinataire MSSante: l'expediteur (From) n'est pas de l'etablissement, transferez le message en votre nom au lieu de le rediriger"
	textUnclear     = "Destinataire MSSante: un seul auteur est admis dans le champ De (From), un seul dans Sender, renvoyez le message en un seul nom"
	textNotFound    = "Destinataire MSSante: votre boite MSSante est absente de l'annuaire de sante, signalez-le au service informatique"
	textUnverified  = "Destinataire MSSante absent de l'annuaire de sante, verifiez son adresse aupres de lui ou dans l'annuaire"
	textINS         = "Adresse Mon espace sante invalide, verifiez le matricule INS (15 chiffres) du patient"
	textOnePatient  = "Mon espace sante: un seul patient par message et aucun autre destinataire, renvoyez le message a chacun separement"
	textQualified   = "Mon espace sante: l'identite INS du patient doit etre qualifiee, envoyez depuis le logiciel metier ou a l'adresse courriel du patient (lien de retrait)"
)

// reason is one line of ASCII for the ledger and the operator: the rule, the facts that it read, the way out.
func reason(rule, facts, route string) string {
	return ascii("rule " + rule + ": " + facts + " -> " + route)
}

// maxReason bounds what strangers can write into the ledger through a directory's words.
const maxReason = 600

// ascii takes accents away, shows everything else beyond ASCII as a question mark and makes control characters spaces.
func ascii(s string) string {
	if isLine(s) && len(s) <= maxReason {
		return s
	}
	var b strings.Builder
	for _, r := range norm.NFD.String(s) {
		switch {
		case b.Len() >= maxReason:
			return b.String()
		case unicode.Is(unicode.Mn, r):
		case r < ' ' || r == 0x7f:
			b.WriteByte(' ')
		case r > 0x7f:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isLine tells whether s is one line of printable ASCII.
func isLine(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
