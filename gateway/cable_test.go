package gateway_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// cable is what lies between the gateway and a server: it can be pulled out, and it can spoil what the server answers.
type cable struct {
	t        *testing.T
	addr, to string
	spoil    atomic.Pointer[func(answer []byte) (instead []byte, on bool)] // nil: as it comes

	mu    sync.Mutex
	l     net.Listener
	conns []net.Conn
	wg    sync.WaitGroup
}

func startCable(t *testing.T, to string) *cable {
	t.Helper()
	c := &cable{t: t, addr: freeAddr(t), to: to}
	c.plug()
	t.Cleanup(func() { c.pull(); c.wg.Wait() })
	return c
}

// pull takes the cable out: who talks is cut off, who connects is refused.
func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.l != nil {
		c.l.Close()
	}
	for _, conn := range c.conns {
		conn.Close()
	}
	c.l, c.conns = nil, nil
}

func (c *cable) plug() {
	c.t.Helper()
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.l = l
	c.mu.Unlock()
	c.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.carry(in) })
		}
	})
}

func (c *cable) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer out.Close()
	c.mu.Lock()
	if c.l == nil {
		c.mu.Unlock()
		return
	}
	c.conns = append(c.conns, in, out)
	c.mu.Unlock()
	c.wg.Go(func() {
		io.Copy(out, in)
		out.Close()
	})
	for buf, on := make([]byte, 32<<10), true; on; {
		n, err := out.Read(buf)
		if err != nil {
			return
		}
		b := buf[:n]
		if spoil := c.spoil.Load(); spoil != nil {
			b, on = (*spoil)(b)
		}
		if _, err := in.Write(b); err != nil {
			return
		}
	}
}

// spoils changes what the server answers from now on; nil leaves it as it is. on false ends the connection behind it.
func (c *cable) spoils(f func(answer []byte) (instead []byte, on bool)) {
	if f == nil {
		c.spoil.Store(nil)
		return
	}
	c.spoil.Store(&f)
}
