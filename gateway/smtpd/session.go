package smtpd

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/emersion/go-smtp"

	"passerelle/gateway/message"
)

// session is the library's view of one client: a transaction at a time.
type session struct {
	c    *conn
	env  *message.Envelope // nil: no transaction
	h    Handler           // of this transaction
	hint int64
}

// ready tells whether a message may come.
func (s *session) ready() bool { return s.env != nil && len(s.env.Recipients) > 0 }

// Reset ends the transaction.
func (s *session) Reset() {
	s.env, s.h, s.hint = nil, nil, 0
	if s.c.chunks != nil {
		s.c.chunks.refuse(errLater)
		s.c.chunks = nil
	}
}

func (s *session) Logout() error { return nil }

// Mail opens a transaction. from is the library's reading of the path; ours is of the line as it came.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	c := s.c
	switch {
	case !c.greeted, s.env != nil: // the library takes a second MAIL and keeps the first one's recipients
		return s.no(errSequence)
	case c.srv.cfg.RequireTLS && c.tls == nil, c.srv.cfg.RequireClientCert && (c.tls == nil || len(c.tls.PeerCertificates) == 0):
		return s.no(errNeedTLS)
	case opts.RequireTLS && c.tls == nil: // RFC 8689 section 4.2.1
		return s.no(errNoTLSHere)
	}
	addr, _, no := readPath(c.arg, "FROM:", from, opts.UTF8, errSender)
	if no != nil {
		return s.no(no)
	}
	env := &message.Envelope{
		Client: c.client(), Helo: c.helo, Sender: addr, ID: c.srv.cfg.NewID(),
		EightBit: opts.Body == smtp.Body8BitMIME, SMTPUTF8: opts.UTF8, RequireTLS: opts.RequireTLS,
		Ret: string(opts.Return), EnvID: opts.EnvelopeID, Protocol: c.protocol(opts.UTF8),
	}
	h := c.srv.cfg.Handler
	if c.srv.cfg.Begin != nil {
		h = c.srv.cfg.Begin()
	}
	if err := s.ask(env, func() error { return h.Mail(c.srv.ctx, c.who(), env) }); err != nil {
		return err
	}
	s.env, s.h, s.hint = env, h, opts.Size
	c.idle = 0
	return nil
}

// Rcpt adds a recipient.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	c := s.c
	if s.env == nil {
		return s.no(errSequence)
	}
	addr, raw, no := readPath(c.arg, "TO:", to, s.env.SMTPUTF8, errRecipient)
	if no != nil {
		return s.no(no)
	}
	r := message.Recipient{Address: addr, Raw: raw}
	for _, n := range opts.Notify {
		r.Notify = append(r.Notify, string(n))
	}
	if opts.OriginalRecipient != "" {
		r.ORcpt = strings.ToLower(string(opts.OriginalRecipientType)) + ";" + opts.OriginalRecipient
		if strings.ContainsFunc(r.ORcpt, isControl) { // the library decodes \x{01} of RFC 6533 to a control character
			return s.no(errSyntax)
		}
	} else if _, params, ok := splitPath(c.arg, "TO:"); ok {
		r.ORcpt, _, _ = otherORcpt(params)
	}
	if err := s.ask(s.env, func() error { return s.h.Rcpt(c.srv.ctx, c.who(), s.env, r) }); err != nil {
		return err
	}
	s.env.Recipients = append(s.env.Recipients, r)
	return nil
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd }

// Data takes the message off the wire and leaves one reply per recipient (LMTP) or one for all in the conn.
func (s *session) Data(io.Reader) error {
	c, env, h := s.c, s.env, s.h
	body, no := c.message(s.hint)
	if body == nil && no == nil {
		c.srv.cfg.Log.Info("client left inside a message", "id", env.ID, "client", c.addr)
		return io.ErrUnexpectedEOF
	}
	n := 1
	if c.srv.cfg.LMTP {
		n = len(env.Recipients)
	}
	if no != nil {
		c.srv.cfg.Log.Info("message refused on the wire", "id", env.ID, "client", c.addr, "code", no.Code)
		for range n {
			c.finals = append(c.finals, final{no, func(bool) {}})
		}
		return nil
	}
	received.WithLabelValues(c.srv.cfg.Name).Inc()
	c.bad = 0
	var out Outcome
	if err := s.ask(env, func() error { out = h.Data(c.srv.ctx, c.who(), env, body); return nil }); err != nil {
		c.own = nil
		out = Outcome{}
	}
	s.answer(env, body, out, n)
	return nil
}

// answer leaves the n replies of an outcome, each with its settling; the last settled closes the body.
func (s *session) answer(env *message.Envelope, body *message.Body, out Outcome, n int) {
	c, open := s.c, n
	for i := range n {
		r, who := out.Whole, -1
		if c.srv.cfg.LMTP {
			if who = i; i < len(out.Replies) && out.Replies[i] != nil {
				r = out.Replies[i]
			}
		}
		if r == nil {
			r = errLater
		}
		c.finals = append(c.finals, final{r, func(written bool) {
			if open--; open == 0 {
				defer body.Close()
			}
			if out.Settled != nil {
				_ = s.guard(env, func() error { out.Settled(who, written); return nil })
			}
		}})
	}
}

// ask calls the handler; its error, or its panic, becomes the reply.
func (s *session) ask(env *message.Envelope, f func() error) error {
	err := s.guard(env, f)
	if err == nil {
		return nil
	}
	var r *Reply
	if errors.As(err, &r) && r != nil {
		return s.no(r)
	}
	s.c.srv.cfg.Log.Error("handler failed", "id", env.ID, "client", s.c.addr, "error", err)
	return s.no(errLater)
}

func (s *session) guard(env *message.Envelope, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.c.srv.cfg.Log.Error("panic in the handler", "id", env.ID, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errors.New("panic in the handler")
		}
	}()
	return f()
}

// errRefused is all that the library learns: it would put an error's text on the wire.
var errRefused = errors.New("refused")

// no leaves the reply in the conn.
func (s *session) no(r *Reply) error {
	s.c.own = r
	return errRefused
}

func (c *conn) who() Client {
	return Client{Addr: c.addr, TLS: c.tls, Helo: c.helo, Sessions: c.srv.ln.open(c.key), Here: c.wire.here}
}

// protocol is the word for the trace field (RFC 3848; RFC 6531 section 4.3).
func (c *conn) protocol(utf8 bool) string {
	word := "ESMTP"
	switch {
	case c.srv.cfg.LMTP && utf8:
		word = "UTF8LMTP"
	case c.srv.cfg.LMTP:
		word = "LMTP"
	case utf8:
		word = "UTF8SMTP"
	case c.plain:
		word = "SMTP"
	}
	if c.tls != nil && word != "SMTP" {
		word += "S"
	}
	return word
}

// client names the peer in the envelope: its certificate's subject, else its address.
func (c *conn) client() string {
	if c.tls != nil && len(c.tls.PeerCertificates) > 0 {
		return c.tls.PeerCertificates[0].Subject.String()
	}
	if !c.addr.IsValid() {
		return "unix"
	}
	return c.addr.String()
}
