package smtpd

import (
	"crypto/tls"
	"time"
)

const (
	handshakeTimeout  = 30 * time.Second
	patienceHandshake = 3 * time.Second // where somebody waits for a place
)

// startTLS answers STARTTLS. What the client sent behind the command in clear is never read (CVE-2011-0411): the session ends.
func (c *conn) startTLS(arg string) {
	switch {
	case c.srv.tls == nil:
		c.say(errNotHere)
		return
	case c.tls != nil, c.chunks != nil: // amid a transfer what was taken in clear would go on under TLS
		c.say(errSequence)
		return
	case arg != "": // RFC 3207 section 4; the library takes any word that begins with STARTTLS
		c.say(errSyntax)
		return
	case c.buffered() > 0:
		c.say(&Reply{554, [3]int{5, 5, 0}, "Donnees en clair apres STARTTLS"})
		c.end()
		return
	}
	if !c.srv.mayShake() {
		c.srv.handshakes.Add(-1)
		c.say(&Reply{454, [3]int{4, 7, 0}, "TLS indisponible pour l'instant, nouvel essai plus tard"}) // RFC 3207 section 4
		return
	}
	defer c.srv.handshakes.Add(-1)
	c.say(&Reply{220, [3]int{2, 0, 0}, "Pret pour TLS"})
	if c.flush(); c.dead || !c.handshake() {
		return
	}
	// RFC 3207 section 4.2: the session begins anew. The library does not see the handshake; RSET ends what it keeps, and greeted
	// holds MAIL back until the next EHLO.
	c.greeted, c.helo = false, ""
	c.inject("RSET")
}

// begin is the handshake of a listener with implicit TLS, before the greeting.
func (c *conn) begin() {
	defer c.srv.handshakes.Add(-1)
	if !c.srv.mayShake() {
		c.end()
		return
	}
	c.handshake()
}

// mayShake counts a handshake, and tells whether that many at once are well: they cost a client nothing and us a key exchange and
// tens of kilobytes each. A quarter of the sessions may be at it.
func (s *Server) mayShake() bool {
	return s.handshakes.Add(1) <= int64(max(s.cfg.MaxSessions/4, 8))
}

func (c *conn) handshake() bool {
	t := tls.Server(c.wire, c.srv.tls)
	now := time.Now()
	c.wire.limit = now.Add(handshakeTimeout)
	c.wire.due.Store(now.Add(patienceHandshake).UnixNano())
	c.wire.waiting.Store(true) // a stopping server may interrupt
	err := t.Handshake()
	c.wire.waiting.Store(false)
	c.wire.due.Store(0)
	c.wire.limit = time.Time{}
	if err != nil {
		c.srv.cfg.Log.Info("TLS handshake failed", "client", c.addr, "error", err)
		c.out = nil
		c.end()
		return false
	}
	state := t.ConnectionState()
	c.stream, c.tls = t, &state
	return true
}

// harden gives a copy of cfg without what the house never speaks (TLS < 1.2, suites without ECDHE or AEAD). Suites that cfg names are the
// operator's word and stay.
func harden(cfg *tls.Config, clientCert bool) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	if len(cfg.CipherSuites) == 0 {
		cfg.CipherSuites = []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		}
	}
	own := cfg.ClientAuth == tls.RequireAnyClientCert && cfg.VerifyConnection != nil // crypto/tls would refuse certificates made for servers
	if clientCert && !own {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if get := cfg.GetConfigForClient; get != nil { // certificates that are reloaded
		cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			got, err := get(h)
			if got == nil || err != nil {
				return got, err
			}
			return harden(got, clientCert), nil
		}
	}
	return cfg
}
