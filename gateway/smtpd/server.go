// Package smtpd receives mail: SMTP and LMTP servers for the clinic's side and for the trust space. It takes a listener and a
// Handler, gives the handler complete messages with strictly read envelopes and the peer its replies, and knows nothing of routes,
// hops or the config.
//
// github.com/emersion/go-smtp parses the commands and keeps the order of a session. Between it and the socket stands conn, on the
// plaintext side of TLS: it gives the library one checked command line at a time, does STARTTLS, takes message bodies (DATA and
// BDAT) off the wire in bulk and hands the library an empty DATA, and turns the library's replies into ours. No byte of a body
// can therefore reach the command parser.
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"passerelle/gateway/message"
)

// Config says how one listener receives.
type Config struct {
	// Listener is where clients arrive; Serve closes it. A Unix socket has no client addresses: Networks is not asked then.
	Listener net.Listener
	// Name is the listener's label in metrics and log; "" is "lmtp" or "smtp".
	Name string
	// LMTP: RFC 2033, one reply per recipient after the message.
	LMTP     bool
	Hostname string
	// Networks, asked for each client, may connect; nil or none given: everybody may.
	Networks func() []netip.Prefix
	// ImplicitTLS: the client begins with TLS (RFC 8314 section 3); no word is said in clear, and STARTTLS is not offered.
	ImplicitTLS bool
	// TLS is for STARTTLS and ImplicitTLS; nil: not offered. Versions below 1.2 and suites without ECDHE and AEAD are switched off whatever it says.
	TLS *tls.Config
	// RequireTLS refuses MAIL in clear; RequireClientCert also demands a certificate that the TLS config's ClientCAs
	// verify, or its own VerifyConnection where it says RequireAnyClientCert.
	RequireTLS, RequireClientCert bool
	// MaxMessage is the largest message in bytes, after dot-unstuffing.
	MaxMessage int64
	// MaxRecipients of one message (RFC 5321 section 4.5.3.1.8: at least 100).
	MaxRecipients int
	// MaxSessions at once, and MaxSessionsPerClient (an IPv4 address or an IPv6 /64); more wait for their greeting: see listener.
	MaxSessions, MaxSessionsPerClient int
	// IdleTimeout ends a session whose peer neither sends nor takes a byte for so long, or takes longer over one command line.
	IdleTimeout time.Duration
	// StopTimeout is the time that messages in hand have after Serve's context ended.
	StopTimeout time.Duration
	Budget      *message.Budget
	Log         *slog.Logger
	Handler     Handler
	// Begin, where set, gives the Handler of one message, asked at its MAIL: Handler may then be nil. An owner whose settings change
	// answers a whole message under the same ones.
	Begin func() Handler
	// NewID names messages.
	NewID func() string

	quiet, tight, pressed pace // zero: the constants; tests shorten them
}

// Client is who speaks to us.
type Client struct {
	Addr netip.Addr
	// TLS is nil in clear.
	TLS  *tls.ConnectionState
	Helo string
	// Sessions is how many sessions its address has open at this listener, this one among them.
	Sessions int
	// Here tells whether it has not closed its connection: a repeat of a message whose client is still here is none. It does not block.
	Here func() bool
}

// Handler decides over envelopes and messages. Any error that is not a *Reply is answered 451 4.3.0 and logged. Calls of one session
// come one after the other, those of several sessions at once. The context lives on while Serve stops gracefully.
type Handler interface {
	// Mail is called at MAIL. The recipients are empty yet.
	Mail(ctx context.Context, c Client, env *message.Envelope) error
	// Rcpt is called at RCPT; the recipient joins env when it returns nil. `<postmaster>` has an empty Domain.
	Rcpt(ctx context.Context, c Client, env *message.Envelope, r message.Recipient) error
	// Data is called with the whole message. smtpd closes body after the outcome was settled.
	Data(ctx context.Context, c Client, env *message.Envelope, body *message.Body) Outcome
}

// Outcome is what became of a message.
type Outcome struct {
	// Replies has one reply per recipient in env's order (LMTP); where one is missing Whole stands in, and 451 for a missing Whole.
	Replies []*Reply
	// Whole is the one reply of SMTP.
	Whole *Reply
	// Settled may be nil. It is called exactly once per recipient (SMTP: once with -1): written tells whether the reply's bytes went
	// out to the socket without an error.
	Settled func(i int, written bool)
}

// Server receives on one listener.
type Server struct {
	cfg   Config
	tls   *tls.Config
	lib   *smtp.Server
	ln    *listener
	bufs  sync.Pool
	drain atomic.Bool
	ctx   context.Context // of handler calls; set once by Serve before the first connection

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// New makes a server. Zero limits get defaults: 50 MiB, 1000 recipients, 1000 sessions, 500 per client, 5 minutes, 30 s to stop.
func New(cfg Config) (*Server, error) {
	if cfg.Listener == nil || cfg.Handler == nil && cfg.Begin == nil || cfg.Budget == nil || cfg.NewID == nil || cfg.Log == nil {
		return nil, errors.New("smtpd needs a listener, a handler, a budget, a logger and a maker of ids")
	}
	if cfg.TLS == nil && (cfg.RequireTLS || cfg.RequireClientCert || cfg.ImplicitTLS) {
		return nil, errors.New("smtpd: TLS is required, but there is no certificate")
	}
	if !isHelo(cfg.Hostname) {
		return nil, fmt.Errorf("smtpd: host name %q is not one", cfg.Hostname)
	}
	orInt := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	orTime := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	if cfg.MaxMessage <= 0 {
		cfg.MaxMessage = 50 << 20
	}
	orInt(&cfg.MaxRecipients, 1000)
	orInt(&cfg.MaxSessions, 1000)
	orInt(&cfg.MaxSessionsPerClient, 500)
	orTime(&cfg.IdleTimeout, 5*time.Minute)
	orTime(&cfg.StopTimeout, 30*time.Second)
	if cfg.pressed == (pace{}) {
		cfg.pressed = pressedPace
	}
	if cfg.quiet == (pace{}) {
		cfg.quiet = quietPace
	}
	if cfg.tight == (pace{}) {
		cfg.tight = tightPace
	}
	if cfg.Name == "" {
		cfg.Name = "smtp"
		if cfg.LMTP {
			cfg.Name = "lmtp"
		}
	}
	cfg.Log = cfg.Log.With("listener", cfg.Name)
	s := &Server{cfg: cfg, conns: make(map[*conn]struct{}), ctx: context.Background()}
	s.bufs.New = func() any { return new([bulkBuffer]byte) }
	if cfg.TLS != nil {
		s.tls = harden(cfg.TLS, cfg.RequireClientCert)
	}
	s.ln = newListener(s)
	s.lib = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return c.Conn().(*conn).session, nil
	}))
	s.lib.Domain, s.lib.LMTP = cfg.Hostname, cfg.LMTP
	s.lib.MaxMessageBytes, s.lib.MaxRecipients = cfg.MaxMessage, cfg.MaxRecipients
	s.lib.MaxLineLength = 0 // conn bounds command lines, and the library sees no others
	s.lib.EnableSMTPUTF8, s.lib.EnableDSN = true, true
	s.lib.EnableREQUIRETLS = true // only over TLS: session.Mail
	s.lib.ErrorLog = libraryLog{cfg.Log}
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.cfg.Listener.Addr() }

// Serve receives until ctx ends. It then accepts no more, answers 421 to who is idle, lets messages in hand be finished for at most
// StopTimeout, closes what is left, and returns when every session has ended.
func (s *Server) Serve(ctx context.Context) error {
	hctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.ctx = hctx
	failed := make(chan error, 1)
	go func() { failed <- s.lib.Serve(s.ln) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		failed <- nil
	}
	s.ln.Close()
	<-failed // no session begins any more
	s.ln.drain()
	s.drain.Store(true)
	s.each(func(c *conn) { c.wire.wake() })
	grace, stop := context.WithTimeout(hctx, s.cfg.StopTimeout)
	defer stop()
	if s.lib.Shutdown(grace) != nil && grace.Err() != nil {
		s.cfg.Log.Warn("stop: time is over, closing sessions with messages in hand")
		s.each(func(c *conn) { c.wire.Close() }) // before their handlers give up: a client without a reply comes again
		cancel()
	}
	s.ln.work.Wait()
	if err != nil {
		return fmt.Errorf("accept on %s: %w", s.Addr(), err)
	}
	return nil
}

func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// libraryLog takes what the library reports, panics of its own above all.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(format string, v ...any) {
	l.log.Error("smtp library: " + firstLine(fmt.Sprintf(format, v...)))
}
func (l libraryLog) Println(v ...any) { l.log.Error("smtp library: " + firstLine(fmt.Sprint(v...))) }

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

var (
	_ net.Conn     = (*conn)(nil)
	_ smtp.Session = (*session)(nil)
	_ io.Reader    = (*wire)(nil)
)
