package protect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"

	"passerelle/crypto/lines"
	"passerelle/gateway/message"
)

// Trouble is why a protected message is not shown opened. It is a word of the protection field, of metrics and of the ledger.
type Trouble string

const (
	NoKey     Trouble = "no key"            // encrypted for none of the keys that are held for this recipient
	Altered   Trouble = "altered"           // its proof does not hold: tampered with, damaged, cut off
	Unproved  Trouble = "not authenticated" // it bears no proof at all, and what is in it could leak when it is shown (EFAIL)
	Weak      Trouble = "weak"              // a cipher or digest that proves or hides nothing any more
	TooLarge  Trouble = "too large"         // opened it would be larger than limits.message
	TooDeep   Trouble = "too deep"          // more layers than are opened
	Malformed Trouble = "malformed"         // not what it says it is
	Binary    Trouble = "binary"            // what is in it cannot travel as mail does: bare line ends, NUL
)

// words say it to who receives the message, in French and in English.
var words = map[Trouble][2]string{
	NoKey: {"il n'est chiffré pour aucune des clés que l'établissement détient pour vous",
		"it is encrypted for none of the keys that are held here for you"},
	Altered: {"son contenu chiffré a été modifié, abîmé ou coupé en route",
		"its encrypted content was changed, damaged or cut off on its way"},
	Unproved: {"rien ne prouve que son contenu chiffré est intact (ni chiffrement authentifié, ni signature), et l'afficher pourrait en faire fuir le texte",
		"nothing proves that its encrypted content is whole (neither authenticated encryption nor a signature), and to show it could leak its text"},
	Weak: {"il est chiffré par un procédé trop faible",
		"it is encrypted by a method that is too weak"},
	TooLarge: {"déchiffré, il serait trop grand",
		"decrypted it would be too large"},
	TooDeep: {"il a trop d'enveloppes chiffrées l'une dans l'autre",
		"it has too many encrypted envelopes within each other"},
	Malformed: {"son contenu chiffré est illisible",
		"its encrypted content cannot be read"},
	Binary: {"son contenu déchiffré n'a pas la forme d'un courriel",
		"its decrypted content does not have the form of mail"},
}

// remedy is what the reader can do.
func (t Trouble) remedy(attached bool) (fr, en string) {
	switch {
	case attached:
		return "Le contenu déchiffré est joint dans un fichier texte (contenu-dechiffre.eml.txt), à ouvrir dans un éditeur de texte et jamais dans un navigateur. " +
				"Demandez à l'expéditeur de signer ses messages ou d'utiliser un chiffrement authentifié (AES-GCM).",
			"The decrypted content is attached as a text file (contenu-dechiffre.eml.txt): open it in a text editor, never in a browser. " +
				"Ask the sender to sign his messages or to use authenticated encryption (AES-GCM)."
	case t == NoKey:
		return "Si votre logiciel détient une autre clé, ouvrez-y le message joint. Sinon, demandez à l'expéditeur d'utiliser votre certificat ou votre clé actuels.",
			"If your mail program holds another key, open the attached message there. Else ask the sender to use your current certificate or key."
	}
	return "Ne vous fiez pas à ce message et demandez à l'expéditeur de l'envoyer de nouveau, par un autre moyen au besoin.",
		"Do not rely on this message, and ask the sender to send it again, by other means if need be."
}

// wrap gives the message under an explanation: the whole original, byte for byte, as message/rfc822, and plain, where it is not nil, as a file
// that no reader shows by itself. Nothing is lost. h is the header as it leaves.
func wrap(ctx context.Context, h message.Header, b *message.Body, why Trouble, plain *message.Body, o Options) (body *message.Body, err error) {
	mark := boundary()
	var top message.Header
	top.AppendRaw(WithoutContent(h)...)
	encoding := "7bit"
	if eightBit(b) {
		encoding = "8bit"
	}
	fields := [][2]string{{"Content-Type", `multipart/mixed; boundary="` + mark + `"`}, {"Content-Transfer-Encoding", encoding}}
	if h.Get("MIME-Version") == "" {
		fields = append([][2]string{{"MIME-Version", "1.0"}}, fields...)
	}
	for _, f := range fields {
		if err := top.Append(f[0], f[1]); err != nil {
			return nil, &Error{Step: "open", Err: err}
		}
	}
	text := words[why]
	fr, en := why.remedy(plain != nil)
	size := b.Size() + 8<<10
	if plain != nil {
		size += plain.Size() / 57 * 78
	}
	return build(o, size, func(w io.Writer) error {
		var note bytes.Buffer
		q := quotedprintable.NewWriter(&note)
		fmt.Fprintf(q, "Ce message vous est parvenu chiffré et la passerelle de messagerie ne l'a pas\r\nouvert normalement.\r\n\r\n%s\r\n\r\n%s\r\n\r\n"+
			"Le message d'origine est joint, inchangé.\r\n\r\n--\r\n\r\nThis message reached you encrypted and the mail gateway did not open it in the\r\nusual way.\r\n\r\n%s\r\n\r\n%s\r\n\r\n"+
			"The original message is attached, unchanged.\r\n", fold("La raison : "+text[0]+"."), fold(fr), fold("The reason: "+text[1]+"."), fold(en))
		q.Close()
		_, err := fmt.Fprintf(w, "%s--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%s", top.Bytes(), mark, note.Bytes())
		if err != nil {
			return err
		}
		if plain != nil {
			if _, err := fmt.Fprintf(w, "\r\n--%s\r\nContent-Type: application/octet-stream; name=\"contenu-dechiffre.eml.txt\"\r\nContent-Transfer-Encoding: base64\r\n"+
				"Content-Disposition: attachment; filename=\"contenu-dechiffre.eml.txt\"\r\n\r\n", mark); err != nil {
				return err
			}
			text := lines.NewWriter(w)
			if err := copyBody(ctx, text, plain, 0); err != nil {
				return err
			}
			if err := text.Close(); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(w, "\r\n--%s\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: %s\r\nContent-Disposition: attachment; filename=\"message-original.eml\"\r\n\r\n", mark, encoding); err != nil {
			return err
		}
		if err := copyBody(ctx, w, b, 0); err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "\r\n--%s--\r\n", mark)
		return err
	})
}

// eightBit tells whether a body has octets over 127. What cannot be read counts as such: who sends it on finds out.
func eightBit(b *message.Body) bool {
	buf := make([]byte, 64<<10)
	for off := int64(0); off < b.Size(); {
		n, err := b.ReadAt(buf, off)
		if bytes.ContainsFunc(buf[:n], func(r rune) bool { return r >= 0x80 }) || err != nil && err != io.EOF {
			return true
		}
		if off += int64(n); n == 0 {
			return true
		}
	}
	return false
}

// fold breaks a text into lines of 78.
func fold(s string) string {
	var b strings.Builder
	line := 0
	for word := range strings.FieldsSeq(s) {
		n := len([]rune(word))
		if line > 0 && line+1+n > 78 {
			b.WriteString("\r\n")
			line = 0
		} else if line > 0 {
			b.WriteByte(' ')
			line++
		}
		b.WriteString(word)
		line += n
	}
	return b.String()
}
