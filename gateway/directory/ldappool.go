package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	ldapConns   = 4                // at once; who comes later waits, within his deadline
	ldapIdle    = 30 * time.Second // a connection unused for longer is not trusted: firewalls forget it silently
	ldapMaxRead = 64 << 10         // bytes of one answer, or of a handshake: an entry has 1 or 2 kB, and the library makes up to a thousandfold of what it reads
)

// ldapPool keeps a few bound connections. The library does not reconnect: after a fault every call on a connection fails, so a
// connection that failed once is thrown away.
type ldapPool struct {
	cfg                LDAPConfig
	addr               string
	implicit, startTLS bool
	password           func() (string, error) // nobody's %+v shows what a function returns; it does show an unexported Secret
	slots              chan struct{}

	mu     sync.Mutex
	idle   []*ldapConn
	closed bool
	once   sync.Once
}

// ldapConn is a connection, bound where there is somebody to bind as.
type ldapConn struct {
	*ldap.Conn
	raw  *boundedConn
	used time.Time // when it was put back
}

func newLDAPPool(cfg LDAPConfig) (*ldapPool, error) {
	p := &ldapPool{cfg: cfg, slots: make(chan struct{}, ldapConns)}
	var err error
	if p.addr, p.implicit, p.startTLS, err = cfg.endpoint(); err != nil {
		return nil, err
	}
	if _, err = cfg.tlsConfig(p.addr); err != nil {
		return nil, err
	}
	pass := string(cfg.Password)
	p.cfg.Password = ""
	p.password = func() (string, error) { return cfg.credentials(pass) }
	_, err = p.password()
	return p, err
}

var (
	errLDAPClosed = errors.New("the source is closed")
	errBeginTLS   = errors.New("begin TLS")
)

// search asks on an idle connection; where that one turns out to be dead, once more on a fresh one. The library's SearchAsync is not
// used: it ends without an error, as if nothing were listed, when its context ends or the connection closes.
func (p *ldapPool) search(ctx context.Context, req *ldap.SearchRequest) (*ldap.SearchResult, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a connection: %w", ctx.Err())
	}
	c, err := p.take()
	if err != nil {
		return nil, err
	}
	if c != nil {
		res, err := p.searchOn(ctx, c, req)
		var said *ldapError
		if err == nil || errors.As(err, &said) || ctx.Err() != nil {
			return res, err
		}
		p.forget() // what happened to one connection happened to the others
	}
	if c, err = p.dial(ctx); err != nil {
		return nil, err
	}
	return p.searchOn(ctx, c, req)
}

func (p *ldapPool) searchOn(ctx context.Context, c *ldapConn, req *ldap.SearchRequest) (*ldap.SearchResult, error) {
	var res *ldap.SearchResult
	err := c.within(ctx, func() (err error) {
		res, err = c.Search(req)
		return err
	})
	if err != nil {
		c.drop()
		return nil, fmt.Errorf("search: %w", err)
	}
	p.put(c)
	return res, nil
}

// dial connects, begins TLS and binds. Nothing but the request for TLS is said before TLS.
func (p *ldapPool) dial(ctx context.Context) (*ldapConn, error) {
	secret, err := p.cfg.tlsConfig(p.addr)
	if err != nil {
		return nil, err
	}
	pass, err := p.password()
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	raw := &boundedConn{Conn: conn}
	raw.left.Store(ldapMaxRead)
	c := &ldapConn{raw: raw}
	if p.implicit {
		t := tls.Client(raw, secret)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", errBeginTLS, err), raw.Close())
		}
		c.Conn = ldap.NewConn(t, true)
	} else {
		c.Conn = ldap.NewConn(raw, false)
	}
	c.SetTimeout(2 * p.cfg.Timeout) // behind our own deadline
	c.Start()
	if p.startTLS {
		err = c.within(ctx, func() error { return c.StartTLS(secret) })
		if _, begun := c.TLSConnectionState(); err == nil && !begun {
			err = errors.New("the connection is still in clear")
		}
		if err != nil {
			c.drop()
			return nil, fmt.Errorf("%w: %w", errBeginTLS, err)
		}
	}
	if p.cfg.BindDN != "" {
		if err := c.within(ctx, func() error { return c.Bind(p.cfg.BindDN, pass) }); err != nil {
			c.drop()
			return nil, fmt.Errorf("bind: %w", err)
		}
	}
	return c, nil
}

// take gives the idle connection that was used last, nil if there is none to trust.
func (p *ldapPool) take() (*ldapConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errLDAPClosed
	}
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if !c.IsClosing() && time.Since(c.used) < ldapIdle {
			return c, nil
		}
		c.drop()
	}
	return nil, nil
}

func (p *ldapPool) put(c *ldapConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || c.IsClosing() {
		c.drop()
		return
	}
	c.used = time.Now()
	p.idle = append(p.idle, c)
}

func (p *ldapPool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.drop()
	}
	p.idle = nil
}

// close waits for the questions in hand; they end within their deadline.
func (p *ldapPool) close() error {
	p.once.Do(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.forget()
		for range ldapConns { // each slot is one question less, and no further one gets past take
			p.slots <- struct{}{}
		}
		for range ldapConns {
			<-p.slots
		}
	})
	return nil
}

// within runs f, which talks on c, until ctx ends: then the connection fails under it. The library knows no context.
func (c *ldapConn) within(ctx context.Context, f func() error) error {
	c.raw.left.Store(ldapMaxRead)
	stop := context.AfterFunc(ctx, func() { c.raw.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() || ctx.Err() != nil {
		return ctx.Err() // a complete answer too: its connection is of no more use
	}
	return plainLDAP(err)
}

// drop closes the connection under the library first, so that nothing waits for a server that hangs.
func (c *ldapConn) drop() {
	c.raw.Close()
	c.Close()
}

// ldapError is what the server said, or from 201 on the library of it. The text is left out: it may repeat names, addresses or the
// filter, and errors are logged.
type ldapError struct{ code uint16 }

func (e *ldapError) Error() string {
	if text := ldap.LDAPResultCodeMap[e.code]; text != "" {
		return fmt.Sprintf("the server answers %d (%s)", e.code, text)
	}
	return fmt.Sprintf("the server answers %d", e.code)
}

// plainLDAP tells an answer of the server from a fault of the connection.
func plainLDAP(err error) error {
	var e *ldap.Error
	switch {
	case errors.Is(err, ldap.ErrSizeLimitExceeded): // our own count: the server does not keep to the limit
		return &ldapError{ldap.LDAPResultSizeLimitExceeded}
	case errors.As(err, &e) && e.ResultCode != ldap.ErrorNetwork:
		return &ldapError{e.ResultCode}
	}
	return err
}

// boundedConn reads no more than what is left. A server can name any length in front of a value.
type boundedConn struct {
	net.Conn
	left atomic.Int64
}

func (b *boundedConn) Read(p []byte) (int, error) {
	if b.left.Load() <= 0 {
		return 0, errors.New("the answer is too large")
	}
	n, err := b.Conn.Read(p)
	b.left.Add(-int64(n))
	return n, err
}
