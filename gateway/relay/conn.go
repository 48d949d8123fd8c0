package relay

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// conn is one connection to a hop behind its greeting. One goroutine uses it at a time.
type conn struct {
	hop      Hop
	timeouts *Timeouts
	raw      net.Conn // the TCP connection
	nc       net.Conn // raw, or TLS over it
	br       *bufio.Reader
	banner   string            // the first line of its greeting
	ext      map[string]string // EHLO keywords in upper case -> parameters
	tls      *tls.ConnectionState
	peer     Peer
	token    string // with which the session began; "" without one
	uses     int
	since    time.Time // unused since
	broken   bool      // its state is unknown: it may only be closed
	closing  sync.Once

	mu      sync.Mutex // guards aborted against the deadlines
	aborted error      // why ctx ended
}

// errInjected: RFC 3207 section 6 and CVE-2011-0411; what came in clear must not be read as if it had come under TLS.
var errInjected = fmt.Errorf("%w: words in clear behind the reply to STARTTLS", errProtocol)

// open makes a connection ready for MAIL.
func (r *Relay) open(ctx context.Context, hop Hop) (*conn, *Error) {
	if hop.Auth != nil {
		return r.openAs(ctx, hop)
	}
	c, err := r.dial(ctx, hop, hop.TLS.Mode != None && !hop.TLS.Implicit, "")
	if err != nil && hop.TLS.Mode == Opportunistic && err.Step == "starttls" && ctx.Err() == nil && !errors.Is(err, errInjected) {
		c, err = r.dial(ctx, hop, false, "") // RFC 7435: a broken offer is no offer
	}
	return c, err
}

// dial connects and greets; token is what Auth may need.
func (r *Relay) dial(ctx context.Context, hop Hop, startTLS bool, token string) (*conn, *Error) {
	began, to := time.Now(), &r.cfg.Timeouts
	d := net.Dialer{Timeout: to.Dial, Resolver: r.cfg.Resolver}
	raw, err := d.DialContext(ctx, "tcp", hop.Addr)
	stepSeconds.WithLabelValues("dial").Observe(time.Since(began).Seconds())
	if err != nil {
		return nil, hop.noConnection(err)
	}
	connections.WithLabelValues(hop.Name).Inc()
	c := &conn{hop: hop, timeouts: to, raw: raw, nc: raw, br: bufio.NewReaderSize(raw, maxLine), token: token, peer: Peer{Addr: raw.RemoteAddr().String()}}
	stop := c.abortWith(ctx)
	fail := c.greet(startTLS, token)
	stop()
	if fail != nil {
		c.kill()
		return nil, fail
	}
	return c, nil
}

// noConnection tells apart what different people mend: the hop, the resolver, our own limits.
func (h *Hop) noConnection(err error) *Error {
	dns := (*net.DNSError)(nil)
	switch {
	case errors.As(err, &dns):
		return h.temporary("connect", [3]int{4, 4, 3}, "nom du relais suivant introuvable (DNS), nouvel essai plus tard", err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE): // not class 4: the hop is not to be left alone for it
		return h.temporary("connect", [3]int{4, 3, 1}, "trop de connexions ouvertes sur la passerelle, nouvel essai plus tard", err)
	}
	return h.temporary("connect", [3]int{4, 4, 1}, "le relais suivant ne repond pas, nouvel essai plus tard", err)
}

// abortWith makes the end of ctx end every read and write, until stop; stop tells whether ctx had not ended.
func (c *conn) abortWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { c.abort(context.Cause(ctx)) })
}

// abort ends every read and write from now on.
func (c *conn) abort(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aborted = why
	c.raw.SetDeadline(time.Unix(1, 0))
}

func (c *conn) deadline(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted == nil {
		c.raw.SetDeadline(time.Now().Add(d))
	}
}

// greet goes from the TCP connection to the last EHLO and who we are.
func (c *conn) greet(startTLS bool, token string) *Error {
	if c.hop.TLS.Implicit {
		if fail := c.handshake(c.timeouts.StartTLS); fail != nil {
			return fail
		}
	}
	r, fail := c.read("banner", c.timeouts.Banner)
	if fail != nil {
		return fail
	}
	if r.refusal() {
		return c.hop.refused("banner", r)
	}
	if r.code != 220 {
		return c.unexpected("banner", r)
	}
	c.banner = r.lines[0]
	if fail := c.hello(); fail != nil {
		return fail
	}
	if startTLS {
		if fail := c.startTLS(); fail != nil {
			return fail
		}
	}
	return c.authenticate(token)
}

// hello says EHLO, or LHLO (RFC 2033 section 4.1), or HELO where the hop knows no EHLO (RFC 5321 section 4.1.4).
func (c *conn) hello() *Error {
	name := c.hop.Helo
	if name == "" {
		name = "localhost"
	}
	verb := "EHLO"
	if c.hop.LMTP {
		verb = "LHLO"
	}
	r, fail := c.command("hello", c.timeouts.Hello, verb+" "+name)
	if fail != nil {
		return fail
	}
	c.ext = map[string]string{}
	if r.code/10 == 50 && verb == "EHLO" {
		if r, fail = c.command("hello", c.timeouts.Hello, "HELO "+name); fail != nil {
			return fail
		}
		r.lines = r.lines[:1]
	}
	if r.refusal() {
		return c.hop.refused("hello", r)
	}
	if r.code != 250 {
		return c.unexpected("hello", r)
	}
	for _, line := range r.lines[1:] {
		key, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		c.ext[strings.ToUpper(key)] = params
	}
	return nil
}

// offers tells whether the hop named an extension.
func (c *conn) offers(key string) bool { _, ok := c.ext[key]; return ok }

// sizeLimit is the hop's largest message in octets, 0 where it names none (RFC 1870 section 4).
func (c *conn) sizeLimit() int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(c.ext["SIZE"]), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// startTLS begins TLS and greets again (RFC 3207 section 4.2), or says why the mode forbids to go on.
func (c *conn) startTLS() *Error {
	must := c.hop.TLS.Mode >= Encrypt
	if !c.offers("STARTTLS") {
		if must {
			return c.hop.temporary("starttls", [3]int{4, 7, 4}, "le relais suivant ne propose pas STARTTLS", errors.New("STARTTLS is not offered"))
		}
		return nil
	}
	began := time.Now()
	r, fail := c.command("starttls", c.timeouts.StartTLS, "STARTTLS")
	if fail != nil {
		return fail
	}
	if r.code != 220 {
		if must || r.code == 421 || !r.refusal() {
			return c.hop.temporary("starttls", [3]int{4, 7, 4}, "le relais suivant refuse STARTTLS", fmt.Errorf("reply %d", r.code))
		}
		return nil
	}
	if c.br.Buffered() > 0 {
		return c.hop.temporary("starttls", [3]int{4, 7, 5}, "STARTTLS falsifie par le relais suivant", errInjected)
	}
	if fail := c.handshake(max(c.timeouts.StartTLS-time.Since(began), time.Second)); fail != nil {
		return fail
	}
	stepSeconds.WithLabelValues("starttls").Observe(time.Since(began).Seconds())
	return c.hello()
}

// handshake puts the connection under TLS within d.
func (c *conn) handshake(d time.Duration) *Error {
	tc := tls.Client(c.raw, c.tlsConfig())
	c.deadline(d)
	if err := tc.Handshake(); err != nil {
		return c.lost("starttls", err)
	}
	cs := tc.ConnectionState()
	if c.hop.TLS.Check != nil && c.hop.TLS.Mode >= Encrypt {
		if err := c.hop.TLS.Check(cs); err != nil {
			return c.hop.temporary("starttls", [3]int{4, 7, 5}, "certificat du relais suivant refuse", err)
		}
	}
	c.nc, c.tls, c.br = tc, &cs, bufio.NewReaderSize(tc, maxLine)
	c.peer.TLSVersion, c.peer.Cipher = tls.VersionName(cs.Version), tls.CipherSuiteName(cs.CipherSuite)
	if len(cs.PeerCertificates) > 0 {
		leaf := cs.PeerCertificates[0]
		sum := sha256.Sum256(leaf.Raw)
		c.peer.Subject, c.peer.Fingerprint = subject(leaf), hex.EncodeToString(sum[:])
	}
	return nil
}

// subject writes a DN from CN to C in the certificate's own order, which pkix.Name does not keep.
func subject(cert *x509.Certificate) string {
	var seq pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.RawSubject, &seq); err != nil {
		return ""
	}
	return seq.String()
}

func (c *conn) tlsConfig() *tls.Config {
	cfg := &tls.Config{}
	if c.hop.TLS.Config != nil {
		cfg = c.hop.TLS.Config.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(c.hop.Addr)
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	if c.hop.TLS.Mode < Verify {
		cfg.InsecureSkipVerify = true // any certificate; VerifyConnection is asked all the same
	}
	return cfg
}

var errEarly = fmt.Errorf("%w: a reply came before its command", errProtocol)

// inStep tells whether the hop has said nothing but a refusal (a 421, say) that was not asked for: one reply too many, and each that
// follows would be taken for another's.
func (c *conn) inStep() error {
	if c.br.Buffered() > 0 {
		if p, _ := c.br.Peek(1); p[0] != '4' && p[0] != '5' {
			return errEarly
		}
	}
	return nil
}

// command writes one line and reads its reply.
func (c *conn) command(step string, d time.Duration, line string) (reply, *Error) {
	if err := c.write([]byte(line+"\r\n"), d); err != nil {
		return reply{}, c.lost(step, err)
	}
	return c.read(step, d)
}

func (c *conn) write(p []byte, d time.Duration) error {
	c.deadline(d)
	_, err := c.nc.Write(p)
	return err
}

// read waits d for one reply.
func (c *conn) read(step string, d time.Duration) (reply, *Error) {
	began := time.Now()
	c.deadline(d)
	r, err := readReply(c.br)
	if step != "starttls" {
		stepSeconds.WithLabelValues(step).Observe(time.Since(began).Seconds())
	}
	if err != nil {
		return r, c.lost(step, err)
	}
	if r.code == 421 { // RFC 5321 section 3.8: the hop closes
		c.broken = true
	}
	return r, nil
}

// lost marks the connection as broken and names the fault.
func (c *conn) lost(step string, err error) *Error {
	c.broken = true
	c.mu.Lock()
	if c.aborted != nil {
		err = errors.Join(c.aborted, err)
	}
	c.mu.Unlock()
	var ne net.Error
	switch {
	case errors.Is(err, errProtocol):
		return c.hop.temporary(step, [3]int{4, 5, 0}, "reponse incomprehensible du relais suivant", err)
	case errors.As(err, &ne) && ne.Timeout():
		return c.hop.temporary(step, [3]int{4, 4, 2}, "le relais suivant ne repond plus", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return c.hop.temporary(step, [3]int{4, 4, 2}, "connexion perdue avec le relais suivant", err)
	}
	// What is left are TLS faults: ours about the hop's certificate, or its alert about ours, which TLS 1.3 shows at the next read.
	return c.hop.temporary(step, [3]int{4, 7, 5}, "liaison TLS refusee avec le relais suivant", err)
}

func (c *conn) unexpected(step string, r reply) *Error {
	return c.lost(step, fmt.Errorf("%w: %d cannot stand here", errProtocol, r.code))
}

// fits tells whether a hop's settings would make this connection, under the token of now.
func (c *conn) fits(h Hop) bool {
	if c.token != "" && !c.hop.Auth.Tokens.Holds(c.token) {
		return false
	}
	return c.hop.Auth.same(h.Auth) && c.hop.TLS.Implicit == h.TLS.Implicit && c.hop.TLS.Mode == h.TLS.Mode && c.hop.TLS.Config == h.TLS.Config && c.hop.LMTP == h.LMTP && c.hop.Helo == h.Helo
}

// quiet tells whether an idle connection is open and silent: a hop that has spoken (421) or closed meanwhile is of no use.
func (c *conn) quiet() bool {
	if c.br.Buffered() > 0 {
		return false
	}
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = rc.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = err == syscall.EAGAIN
	})
	return err == nil && silent
}

// reset ends an open transaction.
func (c *conn) reset() {
	if r, fail := c.command("rset", c.timeouts.Mail, "RSET"); fail != nil || !r.ok() {
		c.broken = true
	}
}

// quit says goodbye (RFC 5321 section 4.1.1.10) and closes.
func (c *conn) quit() {
	c.command("quit", c.timeouts.Quit, "QUIT")
	if !c.broken {
		c.nc.Close() // TLS: with its alert, so that the hop sees no cut
	}
	c.kill()
}

// kill closes at once: nothing more is sent, not even a TLS alert.
func (c *conn) kill() {
	c.closing.Do(func() {
		c.raw.Close()
		connections.WithLabelValues(c.hop.Name).Dec()
	})
}
