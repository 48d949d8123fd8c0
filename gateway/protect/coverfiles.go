package protect

// What says how to open files whose message stays readable (Options.TextOutside).

const coverZIPFilesFrench = `CLINIC vous a envoyé les documents de ce message dans la pièce jointe
« documents.zip », chiffrée en AES-256.

Le mot de passe vous parvient séparément, jamais dans ce message.

Pour l'ouvrir :
- Windows : enregistrez la pièce jointe et ouvrez-la avec 7-Zip
  (gratuit, www.7-zip.org). L'Explorateur de Windows seul ne sait pas
  l'ouvrir.
- macOS : ouvrez-la avec Keka ou The Unarchiver (gratuits).
- Android : ouvrez-la avec ZArchiver ou RAR (gratuits).
- iPhone, iPad : ouvrez-la avec iZip ou Documents (gratuits).
« contenu.txt » donne les vrais noms des documents.
`

const coverZIPFilesEnglish = `CLINIC has sent you the documents of this message in the attachment
"documents.zip", encrypted with AES-256.

The password reaches you separately, never in this message.

To open it:
- Windows: save the attachment and open it with 7-Zip (free,
  www.7-zip.org). Windows Explorer alone cannot open it.
- macOS: open it with Keka or The Unarchiver (free).
- Android: open it with ZArchiver or RAR (free).
- iPhone, iPad: open it with iZip or Documents (free).
"contenu.txt" gives the real names of the documents.
`

const coverPGPFilesFrench = `CLINIC vous a envoyé les documents de ce message en pièces jointes
« .pgp », chiffrées avec votre clé OpenPGP.

Pour les ouvrir, avec votre clé privée :
- Windows : enregistrez-les et ouvrez-les avec Kleopatra (Gpg4win,
  gratuit, www.gpg4win.org), ou dans Thunderbird par « Déchiffrer et
  ouvrir ».
- macOS : ouvrez-les avec GPG Suite, ou dans Thunderbird.
- Android : ouvrez-les avec OpenKeychain (gratuit).
- iPhone, iPad : ouvrez-les avec PGPro (gratuit).
« contenu.txt.pgp » donne les vrais noms des documents.
`

const coverPGPFilesEnglish = `CLINIC has sent you the documents of this message as attachments
".pgp", encrypted with your OpenPGP key.

To open them, with your private key:
- Windows: save them and open them with Kleopatra (Gpg4win, free,
  www.gpg4win.org), or in Thunderbird by "Decrypt and open".
- macOS: open them with GPG Suite, or in Thunderbird.
- Android: open them with OpenKeychain (free).
- iPhone, iPad: open them with PGPro (free).
"contenu.txt.pgp" gives the real names of the documents.
`

const coverPDFFilesFrench = `CLINIC vous a envoyé les documents de ce message en pièces jointes PDF,
chiffrées en AES-256. « message.pdf » les nomme et en contient.

Le mot de passe vous parvient séparément, jamais dans ce message. Il
est le même pour toutes.

Pour les ouvrir :
- Windows : enregistrez-les et ouvrez-les avec Adobe Acrobat Reader
  (gratuit, get.adobe.com/fr/reader).
- macOS : ouvrez-les avec Aperçu, ou avec Adobe Acrobat Reader.
- iPhone, iPad : touchez-les, ou ouvrez-les dans Fichiers.
- Android : ouvrez-les avec Adobe Acrobat Reader (gratuit).
Seuls Adobe Acrobat Reader (panneau « Pièces jointes », le trombone) et
Firefox montrent les documents à l'intérieur de « message.pdf ».
`

const coverPDFFilesEnglish = `CLINIC has sent you the documents of this message as PDF attachments,
encrypted with AES-256. "message.pdf" names them and holds some.

The password reaches you separately, never in this message. It is the
same for all.

To open them:
- Windows: save them and open them with Adobe Acrobat Reader (free,
  get.adobe.com/reader).
- macOS: open them with Preview, or with Adobe Acrobat Reader.
- iPhone, iPad: tap them, or open them in Files.
- Android: open them with Adobe Acrobat Reader (free).
Only Adobe Acrobat Reader (panel "Attachments", the paper clip) and
Firefox show the documents inside "message.pdf".
`
