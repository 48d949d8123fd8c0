package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"time"

	"passerelle/gateway/ledger"
	"passerelle/gateway/message"
	"passerelle/gateway/portal"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/policy"
)

// Answer hands a patient's answer to the clinic's Postfix as an ordinary mail in the thread, marked with how the patient proved
// himself. It returns only when Postfix took it and the ledger knows: the page then says "sent". What was handed on is not handed on again: the
// ledger's memory knows the answer by its key, after a crash too, the shared vault what another gateway did, and portal.ErrAnswered says so.
func (g *Gateway) Answer(ctx context.Context, a portal.Answer) error {
	if g.shared == nil {
		_, err := g.handOnAnswer(ctx, a)
		return err
	}
	lease, err := g.take(ctx, a.Key)
	if err != nil {
		return err
	}
	left, err := g.handOnAnswer(ctx, a)
	g.leave(ctx, a.Key, lease, left)
	return err
}

// handOnAnswer tells also whether the clinic has the answer: it may, and not be noted here.
func (g *Gateway) handOnAnswer(ctx context.Context, a portal.Answer) (left bool, err error) {
	if g.space != nil && g.space.Listed(a.To.Domain) && !g.space.Own(a.To.Domain) || a.To.Domain == g.set.patientDomain {
		return false, errors.New("an answer to the trust space does not leave by the clinic's server")
	}
	if err := g.ledger.Ready(); err != nil {
		return false, laterNote(err)
	}
	claim, err := g.ledger.Claim(ctx, []ledger.Ask{{Client: "portal", Sender: a.DepositID, Recipient: a.To.String(), Body: a.Key}}, nil)
	if err != nil {
		return false, laterNote(err)
	}
	defer claim.Release() // without Settled: what was handed on stays remembered
	if _, served := claim.Served(0); served {
		return true, portal.ErrAnswered
	}
	searched, err := g.search(ctx, a)
	if err != nil {
		return false, err
	}
	env := &message.Envelope{ID: newID(), Client: "portal", Sender: message.Address{}, Recipients: []message.Recipient{{Address: a.To, Raw: a.To.String()}}}
	body, err := g.answerMail(a, env.ID, searched)
	if err != nil {
		return false, fmt.Errorf("build answer: %w", err)
	}
	defer body.Close()
	release, decided, err := g.room(ctx, body)
	if err != nil {
		return false, err
	}
	defer release()
	m, err := g.read(env, body)
	if err != nil {
		return false, err
	}
	if err := m.mark(g, protect.Origin{Origin: protect.FromPatient, Verified: a.Level + ", deposit " + a.DepositID}); err != nil {
		return false, err
	}
	ways := []way{{deposit: a.DepositID, decision: policy.Decision{Route: policy.Local, Rule: "answer", Reason: "a patient's answer to a deposit, proved by " + a.Level + searched.ledger()}}}
	decided(m.index)
	g.handOn(ctx, m, ways)
	w := &ways[0]
	if err := claim.Note(ctx, []ledger.Entry{g.entry(m, 0, w)}); err != nil {
		return w.fault == nil, laterNote(err)
	}
	if w.fault != nil { // the patient reads it, and may try again
		claim.Settled(0, w.fault.permanent(), true)
	}
	g.account(g.log.With("id", env.ID, "client", "portal"), m, 0, w)
	return w.fault == nil, answerFault(w.fault)
}

// answerFault tells the page what the patient can do about it.
func answerFault(f *fault) error {
	var e *relay.Error
	switch {
	case f == nil:
		return nil
	case !errors.As(f.err, &e) || !e.Permanent:
		return f
	case e.Code == 552 || e.Enhanced[1] == 3 && e.Enhanced[2] == 4: // RFC 1870 section 6.1, RFC 3463 section 3.4
		return &portal.AnswerError{Why: portal.AnswerLarge, Err: f}
	}
	return &portal.AnswerError{Why: portal.AnswerRefused, Err: f}
}

// searched says what is known of viruses in an answer's files.
type searched int

const (
	notAsked searched = iota // pickup.clamd is not set, or there are no files
	clean
	notSearched // clamd could not be asked, and pickup.clamd.unreachable says accept
)

func (s searched) ledger() string {
	return [...]string{"", ", no virus in its files", ", its files were not searched for viruses"}[s]
}

// words are what the reader of the answer is told.
func (s searched) words() string {
	return [...]string{"", "Fichiers contrôlés par l'antivirus de l'établissement.\n", "ATTENTION : l'antivirus de l'établissement était injoignable, les fichiers n'ont PAS été contrôlés.\n"}[s]
}

// search has the files of an answer searched before anything is handed on.
func (g *Gateway) search(ctx context.Context, a portal.Answer) (searched, error) {
	if g.clamd == nil || len(a.Files) == 0 {
		return notAsked, nil
	}
	said := clean
	for _, f := range a.Files {
		virus, err := g.clamd.Scan(ctx, f.Body.Section(0, -1))
		switch {
		case err != nil && g.cfg.Pickup.Clamd.Unreachable != "accept":
			return 0, &portal.AnswerError{Why: portal.AnswerUnchecked, File: f.Name, Err: err}
		case err != nil:
			g.log.Warn("a file of an answer goes on unsearched, as pickup.clamd.unreachable says", "deposit", a.DepositID, "err", err)
			said = notSearched
		case virus != "":
			g.log.Warn("a file of an answer has a virus: the answer is not handed on", "deposit", a.DepositID, "virus", virus)
			return 0, &portal.AnswerError{Why: portal.AnswerInfected, File: f.Name}
		}
	}
	return said, nil
}

// answerMail writes the answer as a mail to the professional who wrote, and to nobody else.
func (g *Gateway) answerMail(a portal.Answer, id string, s searched) (*message.Body, error) {
	out := g.budget.NewWriter(0)
	boundary := "=_" + id
	var h bytes.Buffer
	fmt.Fprintf(&h, "From: %s <%s>\r\n", message.Phrase(a.From.String()+" (réponse du patient par la page sécurisée)"), g.set.postmaster)
	fmt.Fprintf(&h, "To: <%s>\r\n", a.To)
	writeField(&h, "Subject", mime.QEncoding.Encode("utf-8", "Re: "+oneLine(a.Subject)))
	// The same answer has the same name: a copy that a crash brought forth is known as one.
	fmt.Fprintf(&h, "Date: %s\r\nMessage-ID: <answer.%s@%s>\r\n", g.now().Format(time.RFC1123Z), hex.EncodeToString(a.Key[:16]), g.set.hostname)
	if a.MessageID != "" {
		writeField(&h, "In-Reply-To", oneLine(a.MessageID))
		writeField(&h, "References", oneLine(a.MessageID))
	}
	fmt.Fprintf(&h, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"%s\"\r\n\r\n", boundary)
	fmt.Fprintf(&h, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", boundary)
	writeQP(&h, fmt.Sprintf("%s\n\n-- \nRéponse de %s par la page sécurisée, preuve : %s.\n%s", a.Text, a.From, g.vault.Level(a.Level, "fr"), s.words()))
	if _, err := out.Write(h.Bytes()); err != nil {
		out.Abort()
		return nil, err
	}
	for _, f := range a.Files {
		if err := attach(out, boundary, f); err != nil {
			out.Abort()
			return nil, err
		}
	}
	if _, err := fmt.Fprintf(out, "--%s--\r\n", boundary); err != nil {
		out.Abort()
		return nil, err
	}
	return out.Body()
}

func attach(out io.Writer, boundary string, f portal.AnswerFile) error {
	disp := mime.FormatMediaType("attachment", map[string]string{"filename": oneLine(f.Name)})
	if disp == "" {
		disp = "attachment"
	}
	// The patient's browser said what the file is; nobody should believe it. The name is kept for the reader.
	if _, err := fmt.Fprintf(out, "--%s\r\nContent-Type: application/octet-stream\r\nContent-Disposition: %s\r\nContent-Transfer-Encoding: base64\r\n\r\n", boundary, disp); err != nil {
		return err
	}
	r := f.Body.Section(0, -1)
	in := make([]byte, 57*512)
	for {
		n, err := io.ReadFull(r, in)
		for p := in[:n]; len(p) > 0; {
			k := min(57, len(p))
			if _, werr := out.Write(append(base64.StdEncoding.AppendEncode(nil, p[:k]), '\r', '\n')); werr != nil {
				return werr
			}
			p = p[k:]
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// writeField folds at spaces so that no line passes 998 octets (RFC 5322 section 2.1.1).
func writeField(b *bytes.Buffer, name, value string) {
	col := len(name) + 1
	b.WriteString(name + ":")
	for _, word := range bytes.Fields([]byte(value)) {
		if col+1+len(word) > 76 && col > len(name)+1 {
			b.WriteString("\r\n")
			col = 0
		}
		b.WriteByte(' ')
		b.Write(word)
		col += 1 + len(word)
	}
	b.WriteString("\r\n")
}

// oneLine drops what would end a header line.
func oneLine(s string) string {
	return string(bytes.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, []byte(cut(s, 500))))
}
