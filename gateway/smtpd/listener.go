package smtpd

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// listener admits clients: by network, by their number, and by the number of all sessions.
type listener struct {
	srv      *Server
	slots    chan struct{} // one taken per session: Accept waits for it, so a full house is felt as TCP back-pressure
	done     chan struct{}
	once     sync.Once
	err      error
	sessions sync.WaitGroup

	mu  sync.Mutex
	per map[netip.Addr]int
}

func newListener(s *Server) *listener {
	return &listener{srv: s, slots: make(chan struct{}, s.cfg.MaxSessions), done: make(chan struct{}), per: make(map[netip.Addr]int)}
}

func (l *listener) Addr() net.Addr { return l.srv.cfg.Listener.Addr() }

// Close is called by Serve and by the library.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.err = l.srv.cfg.Listener.Close()
	})
	return l.err
}

// Accept gives the library a conn for a client that may speak to us.
func (l *listener) Accept() (net.Conn, error) {
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.done:
			return nil, net.ErrClosed
		}
		nc, err := l.srv.cfg.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		addr := clientAddr(nc)
		if no := l.admit(addr); no != nil {
			<-l.slots
			replied.WithLabelValues(l.srv.cfg.Name, no.code()).Inc()
			nc.SetWriteDeadline(time.Now().Add(time.Second)) // a new socket's send buffer is empty: this does not wait
			nc.Write([]byte(no.line()))
			nc.Close()
			continue
		}
		c := newConn(l.srv, nc, addr)
		l.sessions.Add(1)
		sessions.WithLabelValues(l.srv.cfg.Name).Inc()
		l.srv.mu.Lock()
		l.srv.conns[c] = struct{}{}
		l.srv.mu.Unlock()
		return c, nil
	}
}

// release undoes Accept when the session has ended.
func (l *listener) release(c *conn) {
	l.mu.Lock()
	if l.per[c.addr]--; l.per[c.addr] == 0 {
		delete(l.per, c.addr)
	}
	l.mu.Unlock()
	l.srv.mu.Lock()
	delete(l.srv.conns, c)
	l.srv.mu.Unlock()
	sessions.WithLabelValues(l.srv.cfg.Name).Dec()
	<-l.slots
	l.sessions.Done()
}

func (l *listener) admit(a netip.Addr) *Reply {
	var nets []netip.Prefix
	if l.srv.cfg.Networks != nil {
		nets = l.srv.cfg.Networks()
	}
	if a.IsValid() && len(nets) > 0 {
		ok := false
		for _, p := range nets {
			ok = ok || p.Contains(a)
		}
		if !ok {
			l.srv.cfg.Log.Warn("client refused: not of an allowed network", "client", a)
			return &Reply{554, [3]int{5, 7, 1}, "Reseau non autorise"}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.IsValid() && l.per[a] >= l.srv.cfg.MaxSessionsPerClient {
		return &Reply{421, [3]int{4, 7, 0}, "Trop de sessions de votre adresse, reessayez plus tard"}
	}
	l.per[a]++
	return nil
}

// open is how many sessions an address has.
func (l *listener) open(a netip.Addr) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.per[a]
}

// clientAddr is the peer's address, the zero Addr on a Unix socket.
func clientAddr(nc net.Conn) netip.Addr {
	if t, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
