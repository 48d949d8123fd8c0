package directory

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"passerelle/gateway/message"
)

// The fields of an entry, by every name that a list may give them: without accents, in lower case, anything else than letters and digits a
// space (foldName).
var fieldNames = map[string]string{
	"address": "address", "adresse": "address", "email": "address", "e mail": "address", "mail": "address", "courriel": "address",
	"adresse mail": "address", "adresse email": "address", "adresse e mail": "address", "adresse electronique": "address", "adresse courriel": "address",
	"name": "name", "nom": "name", "nom complet": "name", "nom et prenom": "name", "nom prenom": "name", "nom de famille": "name", "raison sociale": "name", "correspondant": "name",
	"prenom": "first", "first name": "first", "prenoms": "first", "prenom s": "first",
	"birth name": "birth_name", "nom de naissance": "birth_name", "birth date": "birth_date", "date de naissance": "birth_date", "ne e le": "birth_date",
	"person": "person", "personne": "person", "type": "person", "classe": "person", "categorie": "person", "type de correspondant": "person",
	"phone": "phone", "telephone": "phone", "mobile": "phone", "portable": "phone", "tel": "phone", "telephone portable": "phone", "telephone mobile": "phone",
	"tel portable": "phone", "tel mobile": "phone", "n de telephone": "phone", "numero de telephone": "phone", "no de telephone": "phone",
	"prefer": "prefer", "route": "prefer", "voie": "prefer", "voie preferee": "prefer", "mode d envoi": "prefer",
	"form": "form", "forme": "form",
	"openpgp": "openpgp", "key": "openpgp", "cle": "openpgp", "cle pgp": "openpgp", "cle openpgp": "openpgp",
	"certificate": "certificate", "certificat": "certificate", "smime": "certificate", "s mime": "certificate",
	"secret": "secret", "mot de passe": "secret", "phrase convenue": "secret",
	"word": "word", "mot convenu": "word", "mot d accueil": "word",
	"rpps": "rpps", "n rpps": "rpps", "no rpps": "rpps", "numero rpps": "rpps", "identifiant rpps": "rpps",
	"mss": "mss", "mssante": "mss", "adresse mss": "mss", "adresse mssante": "mss", "bal mssante": "mss", "mail mssante": "mss", "email mssante": "mss",
	"alias of": "alias_of", "alias": "alias_of", "alias de": "alias_of",
	"pickup at": "pickup_at", "retrait": "pickup_at", "courriel de retrait": "pickup_at", "adresse de retrait": "pickup_at",
	"qualified": "qualified", "ins qualifie": "qualified", "ins qualifiee": "qualified", "identite qualifiee": "qualified",
	"opposed": "opposed", "oppose": "opposed", "opposition": "opposed", "ne pas ecrire": "opposed", "ne pas envoyer": "opposed", "refus": "opposed",
	"label": "label", "libelle": "label", "note": "label", "remarque": "label", "remarques": "label", "commentaire": "label", "commentaires": "label", "observations": "label",
	"lang": "lang", "langue": "lang",
}

// foldName writes a field's name as people and spreadsheets do not agree on it.
func foldName(s string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(strings.ToLower(s)) {
		switch {
		case r >= 0x300 && r < 0x370: // an accent
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		default:
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

var personNames = map[string]string{"professionnel": "professional", "fournisseur": "supplier", "partenaire": "partner"}

// fieldKey gives a field's own name; an unknown one is a fault, for a misspelt "opposed" would send what must not be sent.
func fieldKey(s string) (string, error) {
	if k, ok := fieldNames[foldName(s)]; ok {
		return k, nil
	}
	return "", fmt.Errorf("unknown field %q; known are address, name, first_name, birth_name, birth_date, person, phone, prefer, form, openpgp, certificate, secret, rpps, mss, alias_of, pickup_at, qualified, opposed, label, lang", strings.ToLower(strings.TrimSpace(s)))
}

// set takes one field of an entry.
func (c *Contact) set(field, v string) (err error) {
	if v = strings.TrimSpace(v); v == "" {
		return nil
	}
	if field != "openpgp" && field != "certificate" && (len(v) > maxField || strings.ContainsFunc(v, isControl)) {
		return fmt.Errorf("%s is longer than %d bytes or holds a control character", field, maxField)
	}
	switch field {
	case "address":
		c.Address, err = contactKey(v)
	case "name":
		c.Name = v
	case "first":
		c.first, c.FirstNames = v, v
	case "birth_name":
		c.BirthName = v
	case "birth_date":
		c.BirthDate, err = birthDate(v)
	case "person":
		if c.Person = strings.ToLower(v); personNames[c.Person] != "" {
			c.Person = personNames[c.Person]
		}
	case "phone":
		c.Phone, err = normalPhone(v)
	case "prefer":
		c.Prefer, err = oneOf(field, v, "trust", "encrypt", "pickup", "plain", "refuse")
	case "form":
		c.Form, err = oneOf(field, v, "smime", "openpgp", "zip", "pdf")
	case "openpgp":
		if strings.HasPrefix(v, "-----BEGIN ") {
			if len(v) > maxKeySize {
				return fmt.Errorf("openpgp is larger than %d bytes", maxKeySize)
			}
			c.OpenPGPKey = []byte(strings.ReplaceAll(v, "\r\n", "\n") + "\n") // as a CSV gives it, wherever it stood
			return checkKey(c.OpenPGPKey)
		}
		if len(v) > 4096 || strings.ContainsFunc(v, isControl) {
			return errors.New("openpgp is neither an armoured key nor the name of a file")
		}
		c.OpenPGPKeyFile = v
	case "certificate":
		if strings.HasPrefix(v, "-----BEGIN ") {
			c.Certificate, err = readCertificate([]byte(v))
			return err
		}
		if len(v) > 4096 || strings.ContainsFunc(v, isControl) {
			return errors.New("certificate is neither PEM nor the name of a file")
		}
		c.CertFile = v
	case "rpps":
		if c.RPPS = strings.ReplaceAll(v, " ", ""); !validRPPS(c.RPPS) {
			return errors.New("rpps is no RPPS number: eleven digits, the last a check digit") // here an operator mistyped, and mail would be shown a stranger's address
		}
	case "mss":
		if c.MSS, err = addressKey(v); err != nil {
			err = fmt.Errorf("mss: %w", err)
		}
	case "alias_of":
		if c.AliasOf, err = addressKey(v); err != nil {
			err = fmt.Errorf("alias_of: %w", err)
		}
	case "pickup_at":
		if c.PickupAt, err = addressKey(v); err != nil {
			err = fmt.Errorf("pickup_at: %w", err)
		}
	case "qualified":
		c.Qualified, err = mark(field, v)
	case "secret":
		c.Secret = Secret(v)
	case "word":
		if c.Word = v; utf8.RuneCountInString(v) > 40 || strings.ContainsFunc(v, isControl) {
			return errors.New("word is longer than 40 characters, or holds control characters")
		}
	case "opposed":
		c.Opposed, err = mark(field, v)
	case "label":
		c.Label = v
	case "lang":
		c.Lang, err = oneOf(field, v, "fr", "en")
	}
	return err
}

// birthDate gives 1962-08-24 for that and for 24/08/1962. It is compared with what a state says: what is no date is a fault.
func birthDate(s string) (string, error) {
	for _, layout := range []string{time.DateOnly, "2/1/2006", "2.1.2006", "2-1-2006"} {
		if d, err := time.Parse(layout, s); err == nil {
			return d.Format(time.DateOnly), nil
		}
	}
	return "", errors.New("birth_date is no date: 24/08/1962 or 1962-08-24")
}

func oneOf(field, v string, allowed ...string) (string, error) {
	v = strings.ToLower(v)
	for _, a := range allowed {
		if v == a {
			return v, nil
		}
	}
	return "", fmt.Errorf("%s is %q; allowed are %s", field, v, strings.Join(allowed, ", "))
}

// mark reads yes and no in two languages. What is neither is a fault, not a no.
func mark(field, v string) (bool, error) {
	switch strings.ToLower(v) {
	case "yes", "oui", "true", "vrai", "1", "x", "o", "y":
		return true, nil
	case "no", "non", "false", "faux", "0", "n":
		return false, nil
	}
	return false, fmt.Errorf("%s is %q; allowed are yes and no", field, v)
}

// contactKey gives the form in which an address, "@domain" or "*@domain" is looked up.
func contactKey(s string) (string, error) {
	s = strings.TrimSpace(s)
	if d, ok := strings.CutPrefix(strings.TrimPrefix(s, "*"), "@"); ok {
		if !utf8.ValidString(d) || strings.HasPrefix(d, "[") {
			return "", errors.New("domain is not a host name")
		}
		d, err := message.ParseDomain(d)
		if err != nil {
			return "", err
		}
		if strings.HasSuffix(d, ".") {
			return "", errRootDot
		}
		return "@" + d, nil
	}
	return addressKey(s)
}

var errRootDot = errors.New("domain ends in two dots")

// addressKey gives the form in which an address is looked up. It is stable: the key of a key is the key.
func addressKey(s string) (string, error) {
	a, err := message.ParseAddress(s, true)
	if err != nil {
		return "", err
	}
	if a.IsNull() {
		return "", errors.New("address is empty")
	}
	if strings.HasSuffix(a.Domain, ".") { // "a@b.." and its look-alikes of other scripts
		return "", errRootDot
	}
	return a.Key(), nil
}

// whole tells what an entry lacks.
func (c *Contact) whole() error {
	if c.Address == "" {
		return errors.New("the entry has no address")
	}
	if !strings.HasPrefix(c.Name+" ", c.first+" ") { // a list that was written from this one has both
		c.Name = strings.TrimSpace(c.first + " " + c.Name)
	}
	c.first = ""
	if c.OpenPGPKey != nil && c.OpenPGPKeyFile != "" {
		return errors.New("the entry has two keys")
	}
	if c.Certificate != nil && c.CertFile != "" {
		return errors.New("the entry has two certificates")
	}
	switch {
	case c.Address[0] == '@' && (c.MSS+c.AliasOf+c.RPPS+c.PickupAt != "" || c.Qualified):
		return errors.New("mss, alias_of, rpps, pickup_at and qualified are for one address, not for a domain")
	case c.PickupAt == c.Address:
		return errors.New("pickup_at is the entry's own address")
	case c.MSS != "" && c.AliasOf != "":
		return errors.New("the entry has both mss and alias_of")
	case c.MSS == c.Address:
		return errors.New("mss is the entry's own address")
	}
	return nil
}
