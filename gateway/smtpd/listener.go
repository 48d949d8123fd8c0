package smtpd

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// listener admits clients: by network, by their number, and by the number of all sessions.
//
// Who finds no place waits without a greeting, and 421 is not said: a Postfix that meets 421 at connect takes its only next hop for
// dead and throttles it for minutes, while it waits 5 min for a greeting (smtp_helo_timeout, lmtp_lhlo_timeout). A client at its own
// limit waits behind itself alone; others pass. Only who has MaxSessions connections waiting is told 421, for no mail server does
// that, and he would lock out the others; where twice as many wait, the rest stays in the kernel's backlog.
//
// While somebody waits, a session that does nothing loses its place: session.due says from when on. That costs a Postfix nothing,
// which asks a kept connection whether it lives before it uses it.
type listener struct {
	srv    *Server
	out    chan arrival // to Accept; it has a place for each session
	failed chan error
	done   chan struct{}
	begin  sync.Once
	once   sync.Once
	err    error
	work   sync.WaitGroup // the goroutines of this listener and the sessions

	mu       sync.Mutex
	places   sync.Cond // the queue got shorter
	waiting  []arrival
	total    int
	shaking  int // in a TLS handshake
	per      map[netip.Addr]*tally
	evicting bool
}

// arrival is a connection that has no session yet.
type arrival struct {
	net.Conn
	addr, key netip.Addr
}

// tally counts one client.
type tally struct{ sessions, waiting, shaking int }

func newListener(s *Server) *listener {
	l := &listener{srv: s, out: make(chan arrival, s.cfg.MaxSessions), failed: make(chan error, 1), done: make(chan struct{}), per: make(map[netip.Addr]*tally)}
	l.places.L = &l.mu
	return l
}

func (l *listener) Addr() net.Addr { return l.srv.cfg.Listener.Addr() }

// Close is called by Serve and by the library. Who waits hears 421: we stop.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.err = l.srv.cfg.Listener.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.places.Broadcast()
		for _, a := range l.waiting {
			l.refuse(a, errStopped)
		}
		l.waiting = nil
		waiting.WithLabelValues(l.srv.cfg.Name).Set(0)
	})
	return l.err
}

// drain closes what got a place after the last Accept.
func (l *listener) drain() {
	for {
		select {
		case a := <-l.out:
			l.refuse(a, errStopped)
		default:
			return
		}
	}
}

// Accept gives the library a conn for a client that may speak to us.
func (l *listener) Accept() (net.Conn, error) {
	l.begin.Do(func() { l.work.Go(l.arrivals) })
	select {
	case a := <-l.out:
		c := newConn(l.srv, a)
		l.work.Add(1)
		sessions.WithLabelValues(l.srv.cfg.Name).Inc()
		l.srv.mu.Lock()
		l.srv.conns[c] = struct{}{}
		l.srv.mu.Unlock()
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// arrivals takes connections off the kernel's queue.
func (l *listener) arrivals() {
	for l.place() {
		nc, err := l.srv.cfg.Listener.Accept()
		if passing(err) {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-l.done:
			}
			continue
		}
		if err != nil {
			l.failed <- err
			return
		}
		l.arrived(nc)
	}
}

// passing tells of a failed accept whether the next one may succeed: no descriptor or memory is left until sessions end and give theirs
// back, or the client left before it was taken.
func passing(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR},
		func(no error) bool { return errors.Is(err, no) })
}

// place waits until one more may wait, and tells whether the listener is still open.
func (l *listener) place() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		select {
		case <-l.done:
			return false
		default:
		}
		if len(l.waiting) < 2*l.srv.cfg.MaxSessions {
			return true
		}
		l.places.Wait()
	}
}

func (l *listener) arrived(nc net.Conn) {
	a := arrival{Conn: nc, addr: clientAddr(nc)}
	a.key = clientKey(a.addr)
	if !l.allowed(a.addr) {
		l.srv.cfg.Log.Warn("client refused: not of an allowed network", "client", a.addr)
		l.refuse(a, &Reply{554, [3]int{5, 7, 1}, "Reseau non autorise (clinic.networks)"})
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		l.refuse(a, errStopped)
		return
	default:
	}
	t := l.per[a.key]
	if t == nil {
		t = &tally{}
		l.per[a.key] = t
	}
	if a.addr.IsValid() && t.waiting >= l.srv.cfg.MaxSessions {
		l.srv.cfg.Log.Warn("client refused: it waits with too many connections", "client", a.addr)
		l.refuse(a, &Reply{421, [3]int{4, 7, 0}, "Trop de sessions de votre adresse, nouvel essai plus tard"})
		return
	}
	t.waiting++
	l.waiting = append(l.waiting, a)
	l.dispatch()
}

func (l *listener) allowed(a netip.Addr) bool {
	var nets []netip.Prefix
	if l.srv.cfg.Networks != nil {
		nets = l.srv.cfg.Networks()
	}
	return !a.IsValid() || len(nets) == 0 || slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// refuse says why and closes. A new socket's send buffer is empty: this does not wait.
func (l *listener) refuse(a arrival, r *Reply) {
	replied.WithLabelValues(l.srv.cfg.Name, r.code()).Inc()
	if !l.srv.cfg.ImplicitTLS {
		a.SetWriteDeadline(time.Now().Add(time.Second))
		a.Write([]byte(r.line()))
	}
	a.Close()
}

// dispatch gives places to who waits, in order, but for those at their own limit. l.mu is held.
func (l *listener) dispatch() {
	kept := l.waiting[:0]
	for _, a := range l.waiting {
		t := l.per[a.key]
		if l.total >= l.srv.cfg.MaxSessions || l.full(a.key) {
			kept = append(kept, a)
			continue
		}
		t.waiting--
		t.sessions++
		l.total++
		l.out <- a
	}
	clear(l.waiting[len(kept):])
	l.waiting = kept
	waiting.WithLabelValues(l.srv.cfg.Name).Set(float64(len(kept)))
	l.places.Signal()
	if len(kept) > 0 && !l.evicting {
		l.evicting = true
		l.work.Go(l.evict)
	}
}

// full tells whether a client has all the sessions that it may have. A Unix socket's clients are not told apart.
func (l *listener) full(key netip.Addr) bool {
	return key.IsValid() && l.per[key].sessions >= l.srv.cfg.MaxSessionsPerClient
}

// scarce tells whether a client's places, or all, are nearly used up: patience is short then.
func (l *listener) scarce(key netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.per[key]
	return len(l.waiting) > 0 || 4*l.total > 3*l.srv.cfg.MaxSessions || key.IsValid() && t != nil && 4*t.sessions > 3*l.srv.cfg.MaxSessionsPerClient
}

// evict takes places from sessions that do nothing, as long as somebody waits.
func (l *listener) evict() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for l.evictOnce() {
		select {
		case <-tick.C:
		case <-l.done:
			return
		}
	}
}

func (l *listener) evictOnce() bool {
	due := l.overdue()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.evicting = false
		return false
	}
	want, any := map[netip.Addr]int{}, 0
	for _, a := range l.waiting {
		if l.full(a.key) {
			want[a.key]++ // only a session of its own helps it
		} else {
			any++
		}
	}
	for _, c := range due {
		switch {
		case want[c.key] > 0:
			want[c.key]--
		case any > 0:
			any--
		default:
			continue
		}
		c.wire.evict()
	}
	return true
}

// overdue gives the sessions that may lose their place, the longest overdue first.
func (l *listener) overdue() []*conn {
	now := time.Now().UnixNano()
	type entry struct {
		c   *conn
		due int64
	}
	var list []entry
	l.srv.each(func(c *conn) {
		if d := c.wire.due.Load(); d != 0 && d <= now {
			list = append(list, entry{c, d})
		}
	})
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.due, b.due) })
	out := make([]*conn, len(list))
	for i, e := range list {
		out[i] = e.c
	}
	return out
}

// release undoes Accept when the session has ended.
func (l *listener) release(c *conn) {
	l.srv.mu.Lock()
	delete(l.srv.conns, c)
	l.srv.mu.Unlock()
	sessions.WithLabelValues(l.srv.cfg.Name).Dec()
	l.mu.Lock()
	l.total--
	t := l.per[c.key]
	t.sessions--
	l.dispatch()
	if *t == (tally{}) {
		delete(l.per, c.key)
	}
	l.mu.Unlock()
	l.work.Done()
}

// open is how many sessions an address has.
func (l *listener) open(a netip.Addr) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.per[a]; t != nil {
		return t.sessions
	}
	return 0
}

// clientAddr is the peer's address, the zero Addr on a Unix socket.
func clientAddr(nc net.Conn) netip.Addr {
	if t, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// clientKey is what counts as one client: an IPv4 address, or an IPv6 /64, of which one host may use every address.
func clientKey(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
