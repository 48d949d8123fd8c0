package protect

import "strings"

const coverFrench = `Bonjour,

CLINIC vous a envoyé un message protégé. Il se trouve, avec ses
documents, dans la pièce jointe « message.zip », chiffrée en AES-256.

Le mot de passe vous parvient séparément, jamais dans ce message.

Pour l'ouvrir :
- Windows : enregistrez la pièce jointe et ouvrez-la avec 7-Zip
  (gratuit, www.7-zip.org). L'Explorateur de Windows seul ne sait pas
  l'ouvrir.
- macOS : ouvrez-la avec Keka ou The Unarchiver (gratuits).
- Android : ouvrez-la avec ZArchiver ou RAR (gratuits).
- iPhone, iPad : ouvrez-la avec iZip ou Documents (gratuits).
Le texte est dans « message.txt » ou « message.html » ; « contenu.txt »
donne les vrais noms des documents. S'il n'y a que « message.eml »,
ouvrez-le avec votre logiciel de messagerie.
`

const coverEnglish = `Hello,

CLINIC has sent you a protected message. It is, with its documents, in
the attachment "message.zip", encrypted with AES-256.

The password reaches you separately, never in this message.

To open it:
- Windows: save the attachment and open it with 7-Zip (free,
  www.7-zip.org). Windows Explorer alone cannot open it.
- macOS: open it with Keka or The Unarchiver (free).
- Android: open it with ZArchiver or RAR (free).
- iPhone, iPad: open it with iZip or Documents (free).
The text is in "message.txt" or "message.html"; "contenu.txt" gives the
real names of the documents. Where there is only "message.eml", open it
with your mail program.
`

const pdfFrench = `Bonjour,

CLINIC vous a envoyé un message protégé. Il se trouve dans la pièce
jointe « message.pdf », chiffrée en AES-256. Les autres pièces jointes,
s'il y en a, s'ouvrent avec le même mot de passe.

Le mot de passe vous parvient séparément, jamais dans ce message.

Pour l'ouvrir :
- Windows : enregistrez la pièce jointe et ouvrez-la avec Adobe Acrobat
  Reader (gratuit, get.adobe.com/fr/reader).
- macOS : ouvrez-la avec Aperçu, ou avec Adobe Acrobat Reader.
- iPhone, iPad : touchez la pièce jointe, ou ouvrez-la dans Fichiers.
- Android : ouvrez-la avec Adobe Acrobat Reader (gratuit).
Des documents peuvent se trouver à l'intérieur de « message.pdf » : sa
dernière page les nomme. Seuls Adobe Acrobat Reader (panneau « Pièces
jointes », le trombone) et Firefox les montrent ; Aperçu, Fichiers, Edge
et Chrome ne les montrent pas.
`

const pdfEnglish = `Hello,

CLINIC has sent you a protected message. It is in the attachment
"message.pdf", encrypted with AES-256. Other attachments, if there are
any, open with the same password.

The password reaches you separately, never in this message.

To open it:
- Windows: save the attachment and open it with Adobe Acrobat Reader
  (free, get.adobe.com/reader).
- macOS: open it with Preview, or with Adobe Acrobat Reader.
- iPhone, iPad: tap the attachment, or open it in Files.
- Android: open it with Adobe Acrobat Reader (free).
Documents may lie inside "message.pdf": its last page names them. Only
Adobe Acrobat Reader (panel "Attachments", the paper clip) and Firefox
show them; Preview, Files, Edge and Chrome do not.
`

// coverText says how to open the archive and who to call.
func coverText(o Options) string { return coverOf(coverFrench, coverEnglish, o) }

// pdfCoverText says the same of a PDF.
func pdfCoverText(o Options) string { return coverOf(pdfFrench, pdfEnglish, o) }

// coverOf puts the recipient's language first.
func coverOf(fr, en string, o Options) string {
	name := o.Clinic
	if o.Phone != "" {
		fr += "\nUne question, un doute ? Appelez le " + o.Phone + callName(" (", o.Clinic) + ".\n"
		en += "\nA question, a doubt? Call " + o.Phone + callName(" (", o.Clinic) + ".\n"
	}
	if name == "" {
		fr = strings.Replace(fr, "CLINIC vous", "L'expéditeur vous", 1)
		en = strings.Replace(en, "CLINIC has", "The sender has", 1)
	}
	fr, en = strings.Replace(fr, "CLINIC", name, 1), strings.Replace(en, "CLINIC", name, 1)
	a, b := fr, en
	if strings.HasPrefix(strings.ToLower(o.Lang), "en") {
		a, b = en, fr
	}
	return strings.ReplaceAll(a+"\n--------------------\n\n"+b, "\n", "\r\n")
}

func callName(open, name string) string {
	if name == "" {
		return ""
	}
	return open + name + ")"
}
