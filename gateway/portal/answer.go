package portal

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"unicode/utf8"

	"passerelle/gateway/message"
)

// Answer is what a patient writes back to the professional who wrote.
type Answer struct {
	DepositID string
	// From is the patient, the recipient of the deposit; To is its sender.
	From, To message.Address
	// Subject and MessageID are those of the message that is answered.
	Subject, MessageID string
	// Level is how the deposit's opening was proved.
	Level string
	Text  string
	Files []AnswerFile
	// Key is the same for the same answer from the same page, sent twice by a nervous finger or after an error.
	Key [sha256.Size]byte
	// token is of the page that it was written on.
	token string
}

// AnswerFile is one file of an answer. Its body lies in memory or in an encrypted temp file, never in clear on the disk.
type AnswerFile struct {
	Name, Type string
	Body       *message.Body
}

const (
	maxAnswerText = 100 << 10
	maxReading    = 64 // answers at once
	maxToken      = 64
	drainFactor   = 4 // so much more than allowed is read and thrown away, so that the browser gets to read why
)

var (
	errTooMuch = errors.New("the answer is too large")
	errNoForm  = errors.New("the answer is no form")
)

// answer hands an answer on. The page says "sent" only after the clinic's server has accepted it; otherwise it keeps the text.
func (p *Portal) answer(w http.ResponseWriter, r *http.Request) {
	c, ok := p.openFor(w, r, func() string { return p.unsent(w, r) })
	if !ok {
		return
	}
	defer c.Close()
	if p.cfg.Answer == nil || c.Sender.IsNull() {
		p.showMessage(w, r, http.StatusForbidden, c, page{Fault: "fault.answer"})
		return
	}
	a := Answer{DepositID: c.ID, From: c.Recipient, To: c.Sender, Subject: c.Subject, MessageID: c.MessageID, Level: c.Level}
	defer func() {
		for _, f := range a.Files {
			f.Body.Close()
		}
	}()
	p.hurry(w, answerTime)
	r.Body = http.MaxBytesReader(w, r.Body, drainFactor*p.cfg.MaxAnswer+maxAnswerText)
	err := p.inTurn(r, &a)
	if err == nil {
		err = p.mayAnswer(r.Context(), c, &a)
	}
	if err == nil {
		err = p.handOn(r.Context(), a)
	}
	if err == nil {
		p.back(w, r, "answer", "reponse")
		return
	}
	d, code := answerPage(err)
	d.Text, d.Token = a.Text, a.token
	if code >= http.StatusInternalServerError {
		p.cfg.Log.Warn("answer not handed on", "deposit", c.ID, "err", err)
	}
	p.showMessage(w, r, code, c, d)
}

// unsent is the text of an answer that goes nowhere, because its proof is too old or its message is gone: hours of typing on an old telephone. The
// files behind it are read and thrown away, so that the browser gets to read the page.
func (p *Portal) unsent(w http.ResponseWriter, r *http.Request) string {
	r.Body = http.MaxBytesReader(w, r.Body, drainFactor*p.cfg.MaxAnswer+maxAnswerText)
	select {
	case p.unproved <- struct{}{}: // whoever has no proof takes no place from who has one
		defer func() { <-p.unproved }()
	default:
		return ""
	}
	form, err := newParts(r)
	if err != nil {
		return ""
	}
	text := ""
	for range maxParts {
		part, err := form.next()
		if err != nil {
			break
		}
		if part.FormName() == "texte" && text == "" {
			text, _ = readText(part) // what can be given back of it
		}
	}
	return text
}

// readText reads what was typed, and no more of it than an answer may have.
func readText(part io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(part, maxAnswerText+1))
	if err != nil {
		return "", errNoForm
	}
	if len(b) > maxAnswerText {
		b, err = b[:maxAnswerText], errTooMuch
	}
	return strings.ReplaceAll(strings.ToValidUTF8(string(b), "\ufffd"), "\r\n", "\n"), err
}

// inTurn reads an answer where there is a place for it.
func (p *Portal) inTurn(r *http.Request, a *Answer) error {
	select {
	case p.answers <- struct{}{}:
		defer func() { <-p.answers }()
		return p.readAnswer(r, a)
	default:
		return fmt.Errorf("%w: %d answers are being read", message.ErrNoRoom, maxReading)
	}
}

// readAnswer takes the form part by part. ParseMultipartForm would write large files to the disk in clear.
func (p *Portal) readAnswer(r *http.Request, a *Answer) error {
	form, err := newParts(r)
	if err != nil {
		return err
	}
	var total int64
	var fault error // the first one; the rest is read all the same
	for n := 0; ; n++ {
		part, err := form.next()
		if err == io.EOF {
			return fault
		}
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &large) || n > maxParts:
			return errTooMuch
		case err != nil:
			return errNoForm
		}
		switch {
		case part.FormName() == "texte":
			if a.Text, err = readText(part); errors.Is(err, errTooMuch) {
				fault = err
			} else if err != nil {
				return err
			}
		case part.FormName() == "jeton":
			b, err := io.ReadAll(io.LimitReader(part, maxToken))
			if err != nil {
				return errNoForm
			}
			a.token = string(b)
		case part.FormName() == "fichiers" && part.FileName() != "" && fault == nil:
			if len(a.Files) == p.cfg.MaxFiles {
				fault = errTooMuch
				continue
			}
			f, err := p.readFile(part, p.cfg.MaxAnswer-total)
			if errors.As(err, &large) {
				return errTooMuch
			}
			if err != nil {
				fault = err
				continue
			}
			total += f.Body.Size()
			a.Files = append(a.Files, f)
		}
	}
}

func (p *Portal) readFile(part *multipart.Part, room int64) (AnswerFile, error) {
	name := part.FileName()
	if !utf8.ValidString(name) {
		name = strings.ToValidUTF8(name, "_")
	}
	bw := p.cfg.Budget.NewWriter(0)
	n, err := io.Copy(bw, io.LimitReader(part, room+1))
	if err == nil && n > room {
		err = errTooMuch
	}
	if err != nil {
		bw.Abort()
		return AnswerFile{}, err
	}
	b, err := bw.Body()
	if err != nil {
		return AnswerFile{}, err
	}
	return AnswerFile{Name: fileName(name), Type: mediaType(part.Header.Get("Content-Type")), Body: b}, nil
}
