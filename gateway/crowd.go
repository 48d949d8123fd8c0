package gateway

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"passerelle/gateway/vault"
)

// Connections that a door for browsers holds at once, of all and of one address range: each is a descriptor and some 20 KB, and who
// opens them without end would take both from the mail. The proxies of this machine speak for many.
const (
	maxVisitors = 2000
	maxOfRange  = 500
)

// crowd is a listener that turns away who comes when it is full.
type crowd struct {
	net.Listener
	most, mostOf int
	log          *slog.Logger

	mu   sync.Mutex
	open int
	of   map[string]int
	told time.Time
}

func newCrowd(l net.Listener, log *slog.Logger) *crowd {
	return &crowd{Listener: l, most: maxVisitors, mostOf: maxOfRange, log: log, of: map[string]int{}}
}

func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		ap, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		from := vault.Range(ap.Addr())
		if c.enter(from, ap.Addr().Unmap().IsLoopback()) {
			return &visitor{Conn: conn, leave: sync.OnceFunc(func() { c.leave(from) })}, nil
		}
		conn.Close()
	}
}

func (c *crowd) enter(from string, proxy bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.most || c.of[from] >= c.mostOf && !proxy {
		if now := time.Now(); now.Sub(c.told) > time.Minute { // a flood does not fill the log
			c.told = now
			c.log.Warn("too many connections: turned away", "addr", c.Addr().String(), "open", c.open, "range", from)
		}
		return false
	}
	c.open++
	c.of[from]++
	return true
}

func (c *crowd) leave(from string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.of[from]--; c.of[from] == 0 {
		delete(c.of, from)
	}
}

type visitor struct {
	net.Conn
	leave func()
}

func (v *visitor) Close() error {
	v.leave()
	return v.Conn.Close()
}
