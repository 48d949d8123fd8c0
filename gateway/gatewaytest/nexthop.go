package gatewaytest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// Reply is what a NextHop answers. The zero value accepts.
type Reply struct {
	Code     int
	Enhanced [3]int
	Text     string
}

func (r Reply) err() error {
	if r.Code == 0 || r.Code/100 == 2 {
		return nil
	}
	return &smtp.SMTPError{Code: r.Code, EnhancedCode: smtp.EnhancedCode(r.Enhanced), Message: r.Text}
}

// Stall is closed to let a stalled NextHop go on. While it is open, nothing is answered at that step.
type Stall struct {
	At string // "mail", "rcpt", "data" (the body is not read) or "dot" (the body is read, its reply is held back)
	Go <-chan struct{}
}

// Options of a NextHop.
type Options struct {
	// Addr is host:port, "" is a free port of 127.0.0.1.
	Addr string
	// Hostname stands in the greeting, "" is hop.test.
	Hostname string
	// TLS, where set, is offered by STARTTLS. RequireTLS refuses MAIL without it.
	TLS        *tls.Config
	RequireTLS bool
	// RequireClientCert refuses MAIL from a client that showed no certificate, on top of what TLS.ClientAuth says.
	RequireClientCert bool
	// LMTP speaks LMTP: one reply per recipient after the dot.
	LMTP bool
	// Rcpt answers a recipient at RCPT, nil accepts. Data answers a recipient after the dot; under SMTP the first that is no 2xx is
	// the answer for all. n counts the messages that came so far, from 0.
	Rcpt func(sender, recipient string) Reply
	Data func(n int, sender, recipient string) Reply
	// Stall holds every session at a step.
	Stall *Stall
	// NoDSN: RFC 3461 is not offered.
	NoDSN bool
	// MaxMessage in bytes, 0 is 100 MiB.
	MaxMessage int64
}

// Message is one that was accepted for at least one recipient.
type Message struct {
	Sender     string
	Recipients []string // those that were answered 2xx after the dot
	Refused    []string // those that were not
	Data       []byte   // as received, dots undone, CRLF line ends
	Helo       string
	EightBit   bool                 // BODY=8BITMIME stood in MAIL
	DSN        string               // the parameters of RFC 3461: RET and ENVID, then NOTIFY and ORCPT of each recipient
	TLS        *tls.ConnectionState // nil: in clear
	At         time.Time
}

// NextHop is an SMTP or LMTP server that keeps what it is given in memory. It is safe for concurrent use.
type NextHop struct {
	opt      Options
	server   *smtp.Server
	listener net.Listener
	done     chan error

	mu       sync.Mutex
	messages []Message
	attempts int
	held     atomic.Int64
	news     chan struct{} // closed and replaced with each message
}

// StartNextHop listens and serves until Close.
func StartNextHop(opt Options) (*NextHop, error) {
	if opt.Addr == "" {
		opt.Addr = "127.0.0.1:0"
	}
	if opt.Hostname == "" {
		opt.Hostname = "hop.test"
	}
	if opt.MaxMessage == 0 {
		opt.MaxMessage = 100 << 20
	}
	l, err := net.Listen("tcp", opt.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen as next hop: %w", err)
	}
	h := &NextHop{opt: opt, listener: l, done: make(chan error, 1), news: make(chan struct{})}
	s := smtp.NewServer(h)
	s.Domain, s.LMTP, s.TLSConfig = opt.Hostname, opt.LMTP, opt.TLS
	s.MaxMessageBytes, s.MaxLineLength = opt.MaxMessage+1, 1<<20
	s.EnableSMTPUTF8, s.EnableDSN, s.EnableREQUIRETLS = true, !opt.NoDSN, true
	s.ErrorLog = log.New(io.Discard, "", 0)
	h.server = s
	go func() { h.done <- s.Serve(l) }()
	return h, nil
}

// Addr is host:port.
func (h *NextHop) Addr() string { return h.listener.Addr().String() }

// Close cuts all sessions and waits for the listener to end.
func (h *NextHop) Close() error {
	err := h.server.Close()
	h.listener.Close() // the server knows none yet where Serve has not begun
	if e := <-h.done; e != nil && !errors.Is(e, smtp.ErrServerClosed) && !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// Messages is a snapshot of what was accepted, in order of arrival.
func (h *NextHop) Messages() []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.messages)
}

// Attempts counts the messages whose body was read to its end, accepted or not.
func (h *NextHop) Attempts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempts
}

// Held tells how many sessions are stalled now; at "dot" each of them has brought its whole message.
func (h *NextHop) Held() int { return int(h.held.Load()) }

// To gives the accepted messages for one recipient.
func (h *NextHop) To(recipient string) []Message {
	var out []Message
	for _, m := range h.Messages() {
		if slices.Contains(m.Recipients, recipient) {
			out = append(out, m)
		}
	}
	return out
}

// Wait returns when n messages have been accepted, or with ctx's error and what there is.
func (h *NextHop) Wait(ctx context.Context, n int) ([]Message, error) {
	return h.WaitFor(ctx, func(m []Message) bool { return len(m) >= n })
}

// WaitFor returns when ok holds for the accepted messages, or with ctx's error and what there is.
func (h *NextHop) WaitFor(ctx context.Context, ok func([]Message) bool) ([]Message, error) {
	for {
		h.mu.Lock()
		got, news := slices.Clone(h.messages), h.news
		h.mu.Unlock()
		if ok(got) {
			return got, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return got, fmt.Errorf("wait at %s, %d messages came: %w", h.Addr(), len(got), ctx.Err())
		}
	}
}

// Reset forgets all messages.
func (h *NextHop) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages, h.attempts = nil, 0
}

// NewSession is for go-smtp.
func (h *NextHop) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &hopSession{hop: h, conn: c}, nil
}

type hopSession struct {
	hop  *NextHop
	conn *smtp.Conn
	m    Message
}

func (s *hopSession) Reset()        { s.m = Message{} }
func (s *hopSession) Logout() error { return nil }

func (s *hopSession) stall(at string) {
	if st := s.hop.opt.Stall; st != nil && st.At == at {
		s.hop.held.Add(1)
		<-st.Go
		s.hop.held.Add(-1)
	}
}

func (s *hopSession) Mail(from string, o *smtp.MailOptions) error {
	s.stall("mail")
	cs, onTLS := s.conn.TLSConnectionState()
	if (s.hop.opt.RequireTLS || s.hop.opt.RequireClientCert) && !onTLS {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Must issue a STARTTLS command first"}
	}
	if s.hop.opt.RequireClientCert && len(cs.PeerCertificates) == 0 {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "Client certificate required"}
	}
	s.m = Message{Sender: from, Helo: s.conn.Hostname(), EightBit: o != nil && o.Body == smtp.Body8BitMIME}
	if o != nil && (o.Return != "" || o.EnvelopeID != "") {
		s.m.DSN = fmt.Sprintf("RET=%s ENVID=%s", o.Return, o.EnvelopeID)
	}
	if onTLS {
		s.m.TLS = &cs
	}
	return nil
}

func (s *hopSession) Rcpt(to string, o *smtp.RcptOptions) error {
	s.stall("rcpt")
	if f := s.hop.opt.Rcpt; f != nil {
		if err := f(s.m.Sender, to).err(); err != nil {
			return err
		}
	}
	if o != nil && (len(o.Notify) > 0 || o.OriginalRecipient != "") {
		s.m.DSN += fmt.Sprintf(" NOTIFY=%v ORCPT=%s", o.Notify, o.OriginalRecipient)
	}
	s.m.Recipients = append(s.m.Recipients, to)
	return nil
}

func (s *hopSession) Data(r io.Reader) error {
	replies, err := s.read(r)
	if err != nil {
		return err
	}
	for _, e := range replies { // one answer for all: what one recipient lacks, all lack
		if e != nil {
			s.keep(slices.Repeat([]error{e}, len(replies)))
			return e
		}
	}
	s.keep(replies)
	return nil
}

// LMTPData answers each recipient by itself (RFC 2033 section 4.2).
func (s *hopSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	replies, err := s.read(r)
	if err != nil {
		return err
	}
	rcpts := s.m.Recipients
	s.keep(replies)
	for i, e := range replies {
		status.SetStatus(rcpts[i], e)
	}
	return nil
}

func (s *hopSession) read(r io.Reader) ([]error, error) {
	s.stall("data")
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	s.stall("dot")
	s.m.Data, s.m.At = data, time.Now()
	s.hop.mu.Lock()
	n := s.hop.attempts
	s.hop.attempts++
	s.hop.mu.Unlock()
	replies := make([]error, len(s.m.Recipients))
	if f := s.hop.opt.Data; f != nil {
		for i, to := range s.m.Recipients {
			replies[i] = f(n, s.m.Sender, to).err()
		}
	}
	return replies, nil
}

// keep notes the message before its reply is written, so that who reads the reply finds the message.
func (s *hopSession) keep(replies []error) {
	var took, refused []string
	for i, e := range replies {
		if e == nil {
			took = append(took, s.m.Recipients[i])
		} else {
			refused = append(refused, s.m.Recipients[i])
		}
	}
	if len(took) == 0 {
		return
	}
	m := s.m
	m.Recipients, m.Refused = took, refused
	h := s.hop
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = append(h.messages, m)
	close(h.news)
	h.news = make(chan struct{})
}
