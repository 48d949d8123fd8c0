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
