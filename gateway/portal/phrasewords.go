package portal

// phraseWords are those of the page where a passphrase is asked for again.
var phraseWords = map[string]map[string]string{
	"fr": {
		"title.phrase": "Mot de passe d’un fichier reçu", "phr.h1": "Le mot de passe de votre fichier",
		"phr.why": "Vous avez reçu par courriel un fichier protégé. Son mot de passe ne s’affiche jamais ici et ne part jamais par courriel vers vous : qui lirait votre boîte lirait aussi le fichier.",
		"phr.sms": "Nous l’envoyons encore une fois par SMS au numéro que l’établissement connaît :", "phr.sms.button": "Recevoir le mot de passe par SMS",
		"phr.sms.not": "Ce n’est plus votre numéro ? La personne qui vous a écrit peut vous le dire par téléphone.",
		"phr.sender":  "La personne qui vous a écrit vous le dit par téléphone. Elle reçoit votre demande par courriel et vous appelle.", "phr.sender.button": "Demander à l’expéditeur de m’appeler",
		"phr.agreed":   "Le mot de passe est la phrase dont vous êtes convenu avec l’établissement. Il n’est envoyé nulle part. Si vous ne l’avez plus, appelez l’établissement.",
		"phr.nobody":   "Appelez l’établissement : il n’y a personne à qui transmettre votre demande.",
		"phr.until":    "Vous pouvez le demander jusqu’au",
		"phr.done.sms": "Le SMS est parti. Il arrive dans la minute. Le mot de passe est le même qu’avant.", "phr.done.sender": "Votre demande est partie. La personne qui vous a écrit vous appellera.",
		"phr.limited": "Plusieurs demandes ont déjà été faites. Regardez vos SMS, ou appelez l’établissement. Vous pourrez demander le mot de passe encore une fois dans",
		"phr.notsent": "Le mot de passe n’a pas pu être envoyé. Essayez encore dans quelques minutes, ou appelez l’établissement.",
		"phr.gone":    "Ce lien ne mène plus à rien : il n’est pas complet, ou son délai est passé. Ouvrez-le encore une fois depuis le courriel, ou appelez l’établissement.",
	},
	"en": {
		"title.phrase": "Password of a file you received", "phr.h1": "The password of your file",
		"phr.why": "You received a protected file by e-mail. Its password is never shown here and never sent to you by e-mail: whoever read your mailbox would read the file too.",
		"phr.sms": "We send it once more by SMS to the number that the clinic knows:", "phr.sms.button": "Get the password by SMS",
		"phr.sms.not": "No longer your number? The person who wrote to you can tell it to you by telephone.",
		"phr.sender":  "The person who wrote to you tells it to you by telephone. They get your request by e-mail and call you.", "phr.sender.button": "Ask the sender to call me",
		"phr.agreed":   "The password is the phrase that you agreed with the clinic. It is sent nowhere. If you no longer have it, call the clinic.",
		"phr.nobody":   "Call the clinic: there is nobody to pass your request on to.",
		"phr.until":    "You can ask for it until",
		"phr.done.sms": "The SMS is on its way. It arrives within a minute. The password is the same as before.", "phr.done.sender": "Your request is on its way. The person who wrote to you will call you.",
		"phr.limited": "Several requests were made already. Look at your SMS, or call the clinic. You can ask for the password once more in",
		"phr.notsent": "The password could not be sent. Try again in a few minutes, or call the clinic.",
		"phr.gone":    "This link leads nowhere any more: it is not complete, or its time has passed. Open it once more from the e-mail, or call the clinic.",
	},
}
