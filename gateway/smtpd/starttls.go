package smtpd

import (
	"crypto/tls"
	"net/netip"
	"slices"
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
	if !c.srv.ln.mayShake(c.key) {
		c.say(&Reply{454, [3]int{4, 7, 0}, "TLS indisponible pour l'instant, nouvel essai plus tard"}) // RFC 3207 section 4
		return
	}
	defer c.srv.ln.shaken(c.key)
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
	if !c.srv.ln.mayShake(c.key) {
		c.end()
		return
	}
	defer c.srv.ln.shaken(c.key)
	c.handshake()
}

// mayShake counts a handshake, until shaken, and tells whether that many at once are well: they cost a client nothing and us a key
// exchange and tens of kilobytes each. A quarter of the sessions may be at it, and of one client the share that it may have of the sessions.
func (l *listener) mayShake(key netip.Addr) bool {
	all := max(l.srv.cfg.MaxSessions/4, 8)
	share := max(1, min(all, all*l.srv.cfg.MaxSessionsPerClient/l.srv.cfg.MaxSessions))
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.per[key]
	if l.shaking >= all || key.IsValid() && t.shaking >= share {
		return false
	}
	l.shaking++
	t.shaking++
	return true
}

func (l *listener) shaken(key netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shaking--
	l.per[key].shaking--
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

// houseSuites are those of TLS 1.2 that the house speaks: ECDHE and AEAD.
var houseSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// harden gives a copy of cfg without what the house never speaks: TLS below 1.2, other suites. One of ECO.1.1.3 with CBC is spoken where cfg
// names it.
func harden(cfg *tls.Config, clientCert bool) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.CipherSuites = slices.DeleteFunc(slices.Clone(cfg.CipherSuites), func(s uint16) bool {
		return !slices.Contains(houseSuites, s) && s != tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256
	})
	if len(cfg.CipherSuites) == 0 {
		cfg.CipherSuites = houseSuites
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
