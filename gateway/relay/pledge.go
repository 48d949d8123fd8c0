package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Pledge lets what a hop says of a letter outlive this process. Behind the final dot only the hop knows what became of the letter
// (RFC 1047), and who is killed before he has noted its reply would have to send the letter again. With a pledge the connection is first
// given to somebody who outlives us, and the reply is looked at without being taken out of it: until Release, whoever gets the connection
// finds the reply (Inherit). It serves one letter with one recipient, over a connection in clear: the keys of TLS die with us.
type Pledge struct {
	// Keep is given the connection's descriptor before the final dot is written. Where it fails the letter goes as any other.
	Keep func(fd uintptr) error

	mu     sync.Mutex
	end    func()
	result *Result
}

// Outcome is what the hop answered, false while it has not.
func (p *Pledge) Outcome() (Result, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.result == nil {
		return Result{}, false
	}
	return *p.result, true
}

// Release ends the connection; what the hop answered was noted. It may be called again.
func (p *Pledge) Release() {
	p.mu.Lock()
	end := p.end
	p.end = nil
	p.mu.Unlock()
	if end != nil {
		end()
	}
}

// used tells whether a connection is pledged already: a second one would never be ended.
func (p *Pledge) used() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end != nil
}

// take pledges a connection, and tells whether it did.
func (p *Pledge) take(c *conn) bool {
	raw, ok := c.raw.(syscall.Conn)
	if p == nil || !ok || p.used() || c.tls != nil || c.br.Buffered() > 0 {
		return false
	}
	rc, err := raw.SyscallConn()
	if err != nil {
		return false
	}
	var fail error
	if err := rc.Control(func(fd uintptr) { fail = p.Keep(fd) }); err != nil || fail != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = c.quit
	return true
}

// settle keeps the result for Outcome.
func (p *Pledge) settle(r Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result = &r
}

// Inherit takes over a connection that an earlier process had pledged, and waits d for what the hop says. It says that nothing more comes:
// a hop that never got the final dot throws the letter away, and closes. Then Outcome is false, and the letter is to be sent again. It gives nil where
// the hop has said nothing yet: ask again later.
func Inherit(ctx context.Context, raw net.Conn, hop Hop, d time.Duration) *Pledge {
	p := &Pledge{end: func() { raw.Close() }}
	if t, ok := raw.(*net.TCPConn); ok {
		t.CloseWrite()
	}
	raw.SetReadDeadline(time.Now().Add(d))
	defer context.AfterFunc(ctx, func() { raw.SetReadDeadline(time.Unix(1, 0)) })()
	r, err := peekReply(raw)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil || !r.ok() && !r.refusal() {
		return p
	}
	res := Result{Reply: r.String(), Peer: Peer{Addr: raw.RemoteAddr().String()}}
	if r.refusal() {
		res.Err = hop.refused("final", r)
	}
	p.settle(res)
	return p
}

// peekReply reads a reply and leaves it where it is.
func peekReply(c net.Conn) (reply, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return reply{}, errors.New("no connection of the system's")
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return reply{}, err
	}
	buf := make([]byte, maxLine)
	for {
		var n int
		var fail error
		err := rc.Read(func(fd uintptr) bool {
			n, _, fail = syscall.Recvfrom(int(fd), buf, syscall.MSG_PEEK)
			return fail != syscall.EAGAIN
		})
		switch {
		case err != nil:
			return reply{}, err
		case fail != nil:
			return reply{}, fmt.Errorf("look at the reply: %w", fail)
		case n == 0:
			return reply{}, io.EOF
		}
		r, err := readReply(bufio.NewReaderSize(bytes.NewReader(buf[:n]), maxLine))
		if err == nil || n == len(buf) || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return r, err
		}
		time.Sleep(5 * time.Millisecond) // a part of it is there
	}
}
