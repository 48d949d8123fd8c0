package smtpd

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// errStopping: the server stops while the session waits for a command.
var errStopping = errors.New("server is stopping")

// wire is the socket. Every Read and every Write has the idle timeout to itself, so a slow but steady peer is served and a silent
// one is cut; limit, where set, is an end that progress does not move. An error closes the socket for good: go-smtp would go on
// and read the rest of a body as commands (its issue 196).
type wire struct {
	net.Conn
	idle    time.Duration
	drain   *atomic.Bool
	waiting atomic.Bool // for a command: a stopping server may interrupt
	limit   time.Time   // of the session's goroutine
	// due is when this session may lose its place to another, in Unix nanoseconds; 0 while it waits for nothing of its client.
	due     atomic.Int64
	evicted atomic.Bool
	once    sync.Once
	err     error
}

func (w *wire) deadline() time.Time {
	d := time.Now().Add(w.idle)
	if !w.limit.IsZero() && w.limit.Before(d) {
		return w.limit
	}
	return d
}

func (w *wire) Read(p []byte) (int, error) {
	end := w.deadline()
	for {
		w.Conn.SetReadDeadline(end)
		if w.drain.Load() && w.waiting.Load() {
			return 0, errStopping // the caller says 421, then closes
		}
		if w.evicted.Load() {
			return 0, os.ErrDeadlineExceeded
		}
		n, err := w.Conn.Read(p)
		if n > 0 || err == nil {
			w.evicted.Store(false) // it came to life again
			return n, err
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if time.Now().Before(end) {
				continue // wake() by a stopping server
			}
			return 0, err // the caller may say why, then closes
		}
		w.Close()
		return 0, err
	}
}

func (w *wire) Write(p []byte) (int, error) {
	w.Conn.SetWriteDeadline(w.deadline())
	n, err := w.Conn.Write(p)
	if err != nil {
		w.Close()
	}
	return n, err
}

// established is the first octet of Linux's tcp_info while neither side has closed (include/net/tcp_states.h).
const established = 1

// here tells whether the peer has not closed the connection, as far as the kernel knows. Any goroutine may ask.
func (w *wire) here() bool {
	sc, ok := w.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	here := false
	err = rc.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		here = n > 0 || err == syscall.EAGAIN
		// What was said last hides the end behind it: under TLS that is an alert, always.
		if info, err := syscall.GetsockoptInet4Addr(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO); err == nil && info[0] != established {
			here = false
		}
	})
	return err == nil && here
}

// wake ends a Read that waits for a command. It is called after drain was set.
func (w *wire) wake() { w.Conn.SetReadDeadline(time.Unix(1, 0)) }

// evict ends what the session waits for, as if its time were over. Called too late it is called again.
func (w *wire) evict() {
	w.evicted.Store(true)
	w.Conn.SetDeadline(time.Unix(1, 0))
}

// Close may be called by several goroutines.
func (w *wire) Close() error {
	w.once.Do(func() { w.err = w.Conn.Close() })
	return w.err
}

// The library and crypto/tls set deadlines of their own; they are the wire's business alone.
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
