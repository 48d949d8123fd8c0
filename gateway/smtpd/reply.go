package smtpd

import (
	"fmt"
	"strconv"
	"strings"
)

// Reply is an SMTP reply: one ASCII line of French with an RFC 3463 code. It is an error so that handlers can return it.
type Reply struct {
	Code     int
	Enhanced [3]int
	Text     string
}

func (r *Reply) Error() string {
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Text)
}

func (r *Reply) code() string { return strconv.Itoa(r.Code) }

const maxReplyText = 480 // RFC 5321 section 4.5.3.1.5: 512 octets with codes and CRLF

// line is the reply as it goes on the wire. Texts may hold words of next hops: what is not printable ASCII becomes "?".
func (r *Reply) line() string {
	if r.Code < 200 || r.Code > 599 || r.Code/100 == 3 {
		return errLater.line() // a mistake in our own code must not become a permanent error
	}
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, r.Text)
	if len(text) > maxReplyText {
		text = text[:maxReplyText]
	}
	e := r.Enhanced
	if e[0] != r.Code/100 || e[1] < 0 || e[2] < 0 {
		e = [3]int{r.Code / 100, 0, 0}
	}
	return fmt.Sprintf("%d %d.%d.%d %s\r\n", r.Code, e[0], e[1], e[2], text)
}

var (
	errLater     = &Reply{451, [3]int{4, 3, 0}, "Incident interne de la passerelle, nouvel essai plus tard"}
	errStopped   = &Reply{421, [3]int{4, 3, 2}, "Arret de la passerelle, nouvel essai plus tard"}
	errIdle      = &Reply{421, [3]int{4, 4, 2}, "Session fermee: delai depasse"}
	errSequence  = &Reply{503, [3]int{5, 5, 1}, "Commande hors sequence SMTP"}
	errUnknown   = &Reply{500, [3]int{5, 5, 2}, "Commande inconnue"}
	errLine      = &Reply{500, [3]int{5, 5, 2}, "Ligne de commande refusee"}
	errSyntax    = &Reply{501, [3]int{5, 5, 4}, "Parametre refuse"}
	errNotHere   = &Reply{502, [3]int{5, 5, 1}, "Commande non offerte"}
	errTooMany   = &Reply{421, [3]int{4, 7, 0}, "Session fermee: trop de commandes sans message"}
	errTooBig    = &Reply{552, [3]int{5, 3, 4}, "Message plus grand que la limite de la passerelle (limits.message)"}
	errBareEOL   = &Reply{554, [3]int{5, 6, 0}, "Message refuse: CR, LF ou NUL isole"}
	errNoRoom    = &Reply{452, [3]int{4, 3, 1}, "Plus de place pour ce message, nouvel essai plus tard"}
	errNeedTLS   = &Reply{530, [3]int{5, 7, 0}, "Utilisez d'abord STARTTLS"}
	errNoTLSHere = &Reply{530, [3]int{5, 7, 10}, "REQUIRETLS demande une connexion chiffree"}
	errSender    = &Reply{501, [3]int{5, 1, 7}, "Adresse de l'expediteur refusee"}
	errRecipient = &Reply{501, [3]int{5, 1, 3}, "Adresse du destinataire refusee"}
)

// ownWords gives our reply for one that the library made. 503 is what RFC 5321 section 4.3.2 wants where the library says 502.
func ownWords(verb string, code int) *Reply {
	switch {
	case code == 250 && verb == "MAIL":
		return &Reply{250, [3]int{2, 1, 0}, "Expediteur accepte"}
	case code == 250 && verb == "RCPT":
		return &Reply{250, [3]int{2, 1, 5}, "Destinataire accepte"}
	case code == 250:
		return &Reply{250, [3]int{2, 0, 0}, "Bien"}
	case code == 252:
		return &Reply{252, [3]int{2, 5, 0}, "Adresse non verifiee"}
	case code == 221:
		return &Reply{221, [3]int{2, 0, 0}, "Au revoir"}
	case code == 452:
		return &Reply{452, [3]int{4, 5, 3}, "Trop de destinataires dans un seul message (limits.recipients), les autres au prochain essai"}
	case code == 421:
		return &Reply{421, [3]int{4, 3, 0}, "Incident interne de la passerelle, nouvel essai plus tard"}
	case code == 552:
		return errTooBig
	case code == 502 && (verb == "MAIL" || verb == "RCPT" || verb == "DATA"):
		return errSequence
	case code == 502:
		return errNotHere
	case code == 500 && (verb == "MAIL" || verb == "RCPT"), code == 504:
		return &Reply{555, [3]int{5, 5, 4}, "Parametre non offert"} // RFC 5321 section 4.1.1.11
	case code == 500:
		return errNotHere
	case code/100 == 5:
		return errSyntax
	}
	return errLater
}
