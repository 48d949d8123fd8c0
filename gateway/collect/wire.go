package collect

import (
	"errors"
	"net"
	"sync"
	"time"
)

// errFlood ends a session whose server says more than the command can be answered with.
var errFlood = errors.New("the server says more than was asked for")

// wire is the TCP connection below TLS and the IMAP library. The library bounds neither lines nor buffered literals, and gives a whole
// literal 5 minutes: so what may be read is bounded here, for each command, whatever its bytes mean. No more than that can be in memory.
type wire struct {
	net.Conn
	mu       sync.Mutex
	left     int64         // octets that the server may still send
	patience time.Duration // for each of them, while an answer is due; 0: none is
	end      *time.Timer   // of the command as a whole
}

// idleOctets is what a server may say while nothing is asked.
const idleOctets = 64 << 10

// due begins to wait for an answer of at most n octets: patience between two reads, total for all of it.
func (w *wire) due(n int64, patience, total time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.patience = n, patience
	if w.end != nil {
		w.end.Stop()
	}
	w.end = time.AfterFunc(total, func() { w.Conn.Close() })
	w.Conn.SetDeadline(time.Now().Add(patience)) // also of a read that waits already
}

// rest ends the wait.
func (w *wire) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.patience = idleOctets, 0
	if w.end != nil {
		w.end.Stop()
	}
	w.Conn.SetDeadline(time.Time{})
}

func (w *wire) Read(p []byte) (int, error) {
	w.mu.Lock()
	if w.left <= 0 {
		w.mu.Unlock()
		w.Conn.Close()
		return 0, errFlood
	}
	p = p[:min(int64(len(p)), w.left)]
	w.mu.Unlock()
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left -= int64(n)
	if w.patience > 0 && err == nil {
		w.Conn.SetDeadline(time.Now().Add(w.patience))
	}
	return n, err
}

// The library's own deadlines are too short for an operator that thinks for 58 s, and too long for one that is gone.
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
