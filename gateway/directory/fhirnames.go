package directory

// The service sends codes without their words; rules speak in words, as the extraction writes them.

// professionNames are of TRE_G15 (professions de santé), as in JDV_J106 of the national terminologies.
var professionNames = map[string]string{
	"10": "Médecin", "21": "Pharmacien", "26": "Audioprothésiste", "28": "Opticien-Lunetier", "31": "Assistant dentaire",
	"32": "Physicien médical", "40": "Chirurgien-Dentiste", "50": "Sage-Femme", "60": "Infirmier", "69": "Infirmier psychiatrique",
	"70": "Masseur-Kinésithérapeute", "80": "Pédicure-Podologue", "81": "Orthoprothésiste", "82": "Podo-Orthésiste",
	"83": "Orthopédiste-Orthésiste", "84": "Oculariste", "85": "Epithésiste", "86": "Technicien de laboratoire médical",
	"91": "Orthophoniste", "92": "Orthoptiste", "94": "Ergothérapeute", "95": "Diététicien", "96": "Psychomotricien", "98": "Manipulateur ERM",
}

// categoryNames are of TRE_R09 (catégorie professionnelle).
var categoryNames = map[string]string{"C": "Civil", "E": "Etudiant", "M": "Agent public"}
