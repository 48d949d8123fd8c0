package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
)

// Seen is what a look at a hop found, as far as it came.
type Seen struct {
	Addr       string   // of the server, host:port
	Banner     string   // its first line, without the code
	Extensions []string // the keywords of its last EHLO, sorted
	TLS        *tls.ConnectionState
}

// Examine goes the way of Greet, without saying who we are by AUTH, and tells what it saw, also of a hop that fails on the way. An *Error
// names the step: connect, banner, hello, starttls.
func (r *Relay) Examine(ctx context.Context, hop Hop) (Seen, error) {
	if err := hop.check(); err != nil {
		return Seen{}, err
	}
	hop.Auth = nil
	seen, fail := r.look(ctx, hop, hop.TLS.Mode != None && !hop.TLS.Implicit)
	if fail != nil && hop.TLS.Mode == Opportunistic && fail.Step == "starttls" && ctx.Err() == nil && !errors.Is(fail, errInjected) {
		seen, fail = r.look(ctx, hop, false) // as open does it
	}
	if fail != nil {
		return seen, fail
	}
	return seen, nil
}

func (r *Relay) look(ctx context.Context, hop Hop, startTLS bool) (seen Seen, fail *Error) {
	to := &r.cfg.Timeouts
	d := net.Dialer{Timeout: to.Dial, Resolver: r.cfg.Resolver}
	raw, err := d.DialContext(ctx, "tcp", hop.Addr)
	if err != nil {
		return seen, hop.noConnection(err)
	}
	connections.WithLabelValues(hop.Name).Inc()
	c := &conn{hop: hop, timeouts: to, raw: raw, nc: raw, br: bufio.NewReaderSize(raw, maxLine), peer: Peer{Addr: raw.RemoteAddr().String()}}
	stop := c.abortWith(ctx)
	fail = c.greet(startTLS, "")
	seen = Seen{Addr: c.peer.Addr, Banner: c.banner, Extensions: slices.Sorted(maps.Keys(c.ext)), TLS: c.tls}
	if fail != nil {
		stop()
		c.kill()
		return seen, fail
	}
	c.quit()
	stop()
	return seen, nil
}
