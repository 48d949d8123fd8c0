package relay

import (
	"crypto/tls"
	"fmt"

	"passerelle/gateway/message"
)

// Hop is a server that messages are handed on to.
type Hop struct {
	// Name stands in logs, metrics and the ledger. Connections are kept per Name and Addr.
	Name string
	// Addr is host:port.
	Addr string
	// Helo is how we name ourselves, "localhost" where empty.
	Helo string
	TLS  TLS
	LMTP bool
	// Auth is how we prove who we are; nil: not at all. It needs TLS that verifies.
	Auth *Auth
	// MaxConns bounds the connections at one time; 0 is the relay's default. The first letter to a hop fixes it.
	MaxConns int
	// MaxSize is the largest letter in octets that the hop takes, whatever it says itself; 0: what it says.
	MaxSize int64
}

// TLS is how much a hop must prove.
type TLS struct {
	Mode Mode
	// Implicit: TLS begins with the connection (RFC 8314 section 3.3, port 465), not by STARTTLS. Mode is Encrypt or Verify then.
	Implicit bool
	// Config holds roots, client certificate and ServerName (the host of Addr where empty). A kept connection is used again only
	// under the same *tls.Config, so hand in the same pointer as long as its content is the same.
	Config *tls.Config
	// Check is asked at each handshake, and again before a kept connection carries another letter.
	Check func(tls.ConnectionState) error
}

// Mode is a TLS policy.
type Mode int

const (
	// None never starts TLS.
	None Mode = iota
	// Opportunistic takes TLS where it is offered, with any certificate, and goes on in clear where it fails.
	Opportunistic
	// Encrypt needs TLS with any certificate (and a Check that passes, where there is one).
	Encrypt
	// Verify needs TLS with a certificate that Config and Check accept.
	Verify
)

// Letter is one message for one hop.
type Letter struct {
	Sender     message.Address
	Recipients []message.Recipient
	// EightBit and SMTPUTF8 say what the client declared. What the hop is told is measured on the content and the addresses.
	EightBit, SMTPUTF8, RequireTLS bool
	// Ret and EnvID (decoded) are those of RFC 3461.
	Ret, EnvID string
	// Header goes first: whole lines that end in CRLF. Body follows from Offset; nil where Header is all.
	Header []byte
	Body   *message.Body
	Offset int64
	// Pledge, where set, makes the outcome outlive this process.
	Pledge *Pledge
}

// Result is what became of one recipient.
type Result struct {
	// Err is nil where the hop accepted the letter for this recipient.
	Err *Error
	// Reply is the hop's deciding reply on one line of ASCII, "" where there was none.
	Reply string
	// Peer is the hop as it showed itself, zero where no connection was made.
	Peer Peer
	// DSN: the hop takes RFC 3461 parameters. Without it a report of success that the sender asked for is ours to write.
	DSN bool
}

// word is the metric's label.
func (r *Result) word() string {
	switch {
	case r.Err == nil:
		return "accepted"
	case r.Err.Permanent:
		return "failed"
	}
	return "deferred"
}

// Peer is the identity of the other side.
type Peer struct {
	// Addr is its IP address and port. Subject is the DN of its certificate (RFC 2253 order), Fingerprint the certificate's
	// SHA-256 in hex; both are "" without TLS.
	Addr, TLSVersion, Cipher, Subject, Fingerprint string
}

// Error is why a letter was not handed on.
type Error struct {
	// Code and Enhanced are the hop's, or ours where it gave none. A hop's 421 is 451 here: towards our own client 421 is for
	// shutdown alone.
	Code     int
	Enhanced [3]int
	// Text is one line of ASCII, at most 400 octets. It may name an address, so it is for replies and the ledger, never for logs.
	Text      string
	Permanent bool
	Hop, Step string // Step: connect, banner, hello, starttls (implicit TLS too), auth, mail, rcpt, data, content, final
	Err       error
}

// Error is fit for a log: it leaves the hop's own words out.
func (e *Error) Error() string {
	s := fmt.Sprintf("hand on to %s: %s: %d %d.%d.%d", e.Hop, e.Step, e.Code, e.Enhanced[0], e.Enhanced[1], e.Enhanced[2])
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

func (h *Hop) temporary(step string, enhanced [3]int, text string, err error) *Error {
	return &Error{Code: 451, Enhanced: enhanced, Text: text, Hop: h.Name, Step: step, Err: err}
}

func (h *Hop) permanent(step string, code int, enhanced [3]int, text string) *Error {
	return &Error{Code: code, Enhanced: enhanced, Text: text, Permanent: true, Hop: h.Name, Step: step}
}

// refused makes an error of a 4xx or 5xx reply.
func (h *Hop) refused(step string, r reply) *Error {
	e := &Error{Code: r.code, Enhanced: r.enhanced, Text: r.text(), Permanent: r.code >= 500, Hop: h.Name, Step: step}
	switch {
	case r.code == 421:
		e.Code = 451
	case e.Permanent && (step == "banner" || step == "hello"):
		// It says nothing of a letter or a recipient, but that this gateway's address or name is not let in: bouncing all mail meanwhile
		// mends nothing. Postfix takes such a greeting for passing too (smtp_skip_5xx_greeting).
		e.Code, e.Enhanced[0], e.Permanent = 451, 4, false
	case h.Auth != nil && (r.code == 530 || r.code == 534 || r.code == 535 || r.code == 538):
		// RFC 4954 section 6: it asks who we are, which is the administrator's to mend and says nothing of a letter.
		e.Code, e.Enhanced, e.Permanent = 451, [3]int{4, 7, 0}, false
	case step == "rcpt" && r.code == 552 && (r.enhanced == [3]int{5, 0, 0} || r.enhanced == [3]int{5, 5, 3}):
		// RFC 5321 section 4.5.3.1.10: an old way to say "too many recipients"; a client treats it as 452.
		e.Code, e.Enhanced, e.Permanent = 452, [3]int{4, 5, 3}, false
	}
	return e
}
