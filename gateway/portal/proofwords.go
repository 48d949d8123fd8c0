package portal

// proofWords are the words about ways of proof beside the SMS.
var proofWords = map[string]map[string]string{
	"fr": {
		"mail.do":          "Nous envoyons un code à 6 chiffres à votre adresse de courriel.",
		"mail.button":      "Recevoir le code par courriel",
		"mail.enter":       "Entrez le code à 6 chiffres reçu par courriel.",
		"id.or":            "Ou sans code",
		"id.do":            "Prouvez votre identité : le message s’ouvre aussitôt.",
		"id.with":          "S’identifier avec",
		"sender.locked":    "Vous ne pouvez pas attendre ? Demandez un nouveau code : l’établissement vous le donnera par téléphone.",
		"fault.id.away":    "Ce service d’identité ne répond pas. Essayez encore dans quelques minutes, ou choisissez une autre façon.",
		"fault.id.again":   "Cette identification a déjà servi ou a trop duré. Recommencez.",
		"fault.id.refused": "L’identification n’a pas abouti. Rien n’est perdu : recommencez, ou choisissez une autre façon.",
		"fault.id.other":   "L’identité montrée n’est pas celle que l’établissement nous a donnée : nom de naissance, prénoms, date de naissance (ou numéro RPPS) doivent être les mêmes. Est-ce bien votre compte ? Sinon appelez l’établissement : il y a peut-être une faute dans votre dossier.",
		"fault.many":       "Trop de codes ont été demandés. Appelez l’établissement : il renverra l’avis, et tout recommence.",
		"astray":           "Cette identification n’a pas commencé ici",
		"astray.1":         "Elle a commencé dans un autre navigateur, ou il y a trop longtemps. Ouvrez encore une fois le lien du courriel, et recommencez.",
		"fault.mobile":     "Il faut ici un numéro de mobile : ce message ne s’ouvre que par un code reçu par SMS.",
	},
	"en": {
		"mail.do":          "We send a 6-digit code to your e-mail address.",
		"mail.button":      "Get the code by e-mail",
		"mail.enter":       "Enter the 6-digit code that you got by e-mail.",
		"id.or":            "Or without a code",
		"id.do":            "Prove who you are: the message opens at once.",
		"id.with":          "Sign in with",
		"sender.locked":    "You cannot wait? Ask for a new code: the clinic will tell it to you by telephone.",
		"fault.id.away":    "This identity service does not answer. Try again in a few minutes, or choose another way.",
		"fault.id.again":   "This identification was used already or took too long. Begin again.",
		"fault.id.refused": "The identification did not succeed. Nothing is lost: begin again, or choose another way.",
		"fault.id.other":   "The identity shown is not the one that the clinic gave us: birth name, first names, birth date (or RPPS number) must be the same. Is it your own account? If so call the clinic: there may be a mistake in your file.",
		"fault.many":       "Too many codes were asked for. Call the clinic: it sends the notice again, and you can start afresh.",
		"astray":           "This identification did not begin here",
		"astray.1":         "It began in another browser, or too long ago. Open the link in the e-mail once more, and begin again.",
		"fault.mobile":     "A mobile number is needed here: this message opens with a code by SMS only.",
	},
}
