package addressbook

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ServerConfig sets up the LDAP door. Listener and Book are required.
type ServerConfig struct {
	Listener net.Listener
	// TLS is what StartTLS is answered with; nil offers none. With ImplicitTLS the client begins with it.
	TLS         *tls.Config
	ImplicitTLS bool
	// Book gives the state in force to each request.
	Book func() *Book
	// Idle ends a silent connection, Step a request or an answer that does not get on; 0 means 5 minutes and 10 seconds.
	Idle, Step time.Duration
	// MaxConns and MaxPerClient bound the connections open at once; 0 means 200 and 20.
	MaxConns, MaxPerClient int
	Log                    *slog.Logger
}

// Server answers LDAP clients: bind, search, StartTLS, and nothing else. It writes nothing and knows nobody.
//
// It was written here, on 150 lines of BER: gldap v0.1.14 sets one deadline for the life of a connection, runs a goroutine for every request
// that is pipelined, and takes messages as large as a package variable of asn1-ber allows, 2 GiB, a tree of every element with them.
type Server struct {
	cfg   ServerConfig
	mu    sync.Mutex
	conns map[net.Conn]netip.Addr
}

// NewServer gives the server of a listener.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Listener == nil || cfg.Book == nil {
		return nil, errors.New("new LDAP server: no listener or no book")
	}
	if cfg.ImplicitTLS && cfg.TLS == nil {
		return nil, errors.New("new LDAP server: no certificate")
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 5 * time.Minute
	}
	if cfg.Step <= 0 {
		cfg.Step = 10 * time.Second
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 200
	}
	if cfg.MaxPerClient <= 0 {
		cfg.MaxPerClient = 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, conns: map[net.Conn]netip.Addr{}}, nil
}

// Serve answers until ctx ends; then every connection is closed and it returns nil.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		s.cfg.Listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.Close()
		}
	})
	var told time.Time
	for wait := time.Duration(0); ; {
		conn, err := s.cfg.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if ne := (net.Error)(nil); !errors.As(err, &ne) || errors.Is(err, net.ErrClosed) {
				return err
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second) // out of descriptors: others end
			select {
			case <-time.After(wait):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		wait = 0
		client := clientOf(conn)
		if !within(s.cfg.Book().cfg.LDAPNetworks, client) {
			if now := time.Now(); now.Sub(told) > 10*time.Second { // for who sets a mail program up; a scanner does not fill the log
				told = now
				s.cfg.Log.Warn("address book: client is not in listen.ldap.networks", "client", client)
			}
			searches.WithLabelValues("ldap", "refused").Inc()
			conn.Close()
			continue
		}
		if !s.admit(ctx, conn, client) {
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer s.leave(conn)
			defer func() { // mail goes on, whatever a stranger's octets did here
				if r := recover(); r != nil {
					s.cfg.Log.Error("address book: session failed", "panic", r)
				}
			}()
			s.session(ctx, conn, client)
		})
	}
}

func clientOf(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// admit takes a connection in unless there are too many.
func (s *Server) admit(ctx context.Context, c net.Conn, client netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	same, key := 0, clientKey(client)
	for _, a := range s.conns {
		if a == key {
			same++
		}
	}
	if len(s.conns) >= s.cfg.MaxConns || same >= s.cfg.MaxPerClient || ctx.Err() != nil {
		return false
	}
	s.conns[c] = key
	return true
}

func (s *Server) leave(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}
