package portal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/vault"
)

// AnswerWhy says why an answer was not handed on, where its writer can do something about it.
type AnswerWhy string

// The reasons of an AnswerError.
const (
	AnswerLarge     AnswerWhy = "size"      // larger than the clinic's server takes
	AnswerRefused   AnswerWhy = "refused"   // the clinic's server does not take mail for him who wrote
	AnswerInfected  AnswerWhy = "infected"  // File has a virus
	AnswerUnchecked AnswerWhy = "unchecked" // File could not be searched for viruses
	answerClosed    AnswerWhy = "closed"
	answerDaily     AnswerWhy = "daily"
	answerEmpty     AnswerWhy = "empty"
)

// AnswerError is what the patient is told.
type AnswerError struct {
	Why  AnswerWhy
	File string // as the patient named it
	Err  error
}

func (e *AnswerError) Error() string {
	if e.Err != nil {
		return "answer not handed on, " + string(e.Why) + ": " + e.Err.Error()
	}
	return "answer not handed on: " + string(e.Why)
}

func (e *AnswerError) Unwrap() error { return e.Err }

// ErrAnswered says that the same answer was handed on before: it is there, once.
var ErrAnswered = errors.New("the same answer was handed on before")

// handOnTime bounds the work behind the last octet of an answer, a refusal or a number: it is less than a deed is in one gateway's hand (vault.Take).
const handOnTime = 5 * time.Minute

// onWay are the answers and refusals that are being handed on.
type onWay struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]*handing
}

type handing struct {
	done chan struct{}
	err  error
}

// mayAnswer looks at what an answer may not be, once it is read: its text comes back to the page.
func (p *Portal) mayAnswer(ctx context.Context, c *vault.Content, a *Answer) error {
	if c.Closed {
		return &AnswerError{Why: answerClosed}
	}
	if strings.TrimSpace(a.Text) == "" && len(a.Files) == 0 {
		return &AnswerError{Why: answerEmpty}
	}
	n, err := p.cfg.Vault.AnswersToday(ctx, c.ID)
	if err == nil && n >= p.cfg.PerDay {
		err = &AnswerError{Why: answerDaily}
	}
	return err
}

// handOn gives an answer to the clinic, once.
func (p *Portal) handOn(ctx context.Context, a Answer) error {
	a.Key = a.key()
	return p.onWay.once(ctx, a.Key, func(ctx context.Context) error {
		err := p.cfg.Answer(ctx, a)
		if errors.Is(err, ErrAnswered) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.cfg.Vault.Answered(ctx, a.DepositID); err != nil {
			p.cfg.Log.Warn("answer handed on, but not counted", "deposit", a.DepositID, "err", err)
		}
		return nil
	})
}

// once does what has this key. It goes on when the browser leaves: who presses twice leaves the first request for the second, and that one waits
// for the end of the first.
func (o *onWay) once(ctx context.Context, key [sha256.Size]byte, do func(context.Context) error) error {
	o.mu.Lock()
	first := o.of[key]
	if first != nil {
		o.mu.Unlock()
		select {
		case <-first.done:
			return first.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h := &handing{done: make(chan struct{}), err: errors.New("panic while handing on")}
	o.of[key] = h
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		delete(o.of, key)
		o.mu.Unlock()
		close(h.done)
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOnTime)
	defer cancel()
	h.err = do(ctx)
	return h.err
}

// key tells this answer from all others. The content is part of it: a page that the browser's back button brings again has the token of the
// answer before, and another text on it is another answer.
func (a *Answer) key() [sha256.Size]byte {
	if a.token == "" {
		a.token = rand.Text()
	}
	h := sha256.New()
	for _, s := range []string{a.DepositID, a.token, a.Text} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	for _, f := range a.Files {
		sum := f.Body.Sum()
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(f.Name))))
		h.Write([]byte(f.Name))
		h.Write(sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// answerPage is what the patient reads of a fault, and its status.
func answerPage(err error) (page, int) {
	var e *AnswerError
	switch {
	case errors.As(err, &e):
		code, known := map[AnswerWhy]int{AnswerLarge: http.StatusRequestEntityTooLarge, AnswerRefused: http.StatusBadGateway, AnswerInfected: http.StatusUnprocessableEntity,
			AnswerUnchecked: http.StatusServiceUnavailable, answerClosed: http.StatusForbidden, answerDaily: http.StatusTooManyRequests, answerEmpty: http.StatusBadRequest}[e.Why]
		if known {
			return page{Fault: "fault." + string(e.Why), File: e.File}, code
		}
	case errors.Is(err, errTooMuch):
		return page{Fault: "fault.size"}, http.StatusRequestEntityTooLarge
	case errors.Is(err, message.ErrNoRoom):
		return page{Fault: "fault.answer"}, http.StatusServiceUnavailable
	case errors.Is(err, errNoForm):
		return page{Fault: "fault.answer"}, http.StatusBadRequest
	}
	return page{Fault: "fault.answer"}, http.StatusBadGateway
}

// answerForm fills in the part of a message's page where its reader answers, and allows its one script by its hash.
func (p *Portal) answerForm(w http.ResponseWriter, c *vault.Content, d *page) {
	d.CanAnswer = p.cfg.Answer != nil && !c.Sender.IsNull() && !c.Closed
	d.PerDay = p.cfg.PerDay
	if !d.CanAnswer {
		return
	}
	if d.Token == "" {
		d.Token = rand.Text()
	}
	d.Script = template.JS(answerScript)
	sum := sha256.Sum256([]byte(answerScript))
	w.Header().Set("Content-Security-Policy", csp+"; connect-src 'self'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
}
