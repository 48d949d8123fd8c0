package deploy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// tap stands in front of a door of the trust space and hears all that is said there, under TLS too: it has both sides' keys.
type tap struct {
	l              net.Listener
	door           string
	server, client *tls.Config
	mu             sync.Mutex
	heard          bytes.Buffer
}

// startTap listens for a door. server is the certificate of who is behind it, client that of the one who knocks.
func startTap(t *testing.T, door string, server, client *gatewaytest.Issued) *tap {
	t.Helper()
	return startTapAt(t, "127.0.0.1:0", door, server, client)
}

func startTapAt(t *testing.T, addr, door string, server, client *gatewaytest.Issued) *tap {
	t.Helper()
	p := &tap{l: must(net.Listen("tcp", addr))(t), door: door,
		server: &tls.Config{Certificates: []tls.Certificate{server.TLS()}, ClientAuth: tls.RequireAnyClientCert},
		client: &tls.Config{Certificates: []tls.Certificate{client.TLS()}, InsecureSkipVerify: true}}
	t.Cleanup(func() { p.l.Close() })
	go func() {
		for {
			c, err := p.l.Accept()
			if err != nil {
				return
			}
			go p.carry(c)
		}
	}()
	return p
}

func (p *tap) addr() string { return p.l.Addr().String() }

// seen is what was heard so far.
func (p *tap) seen() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.heard.Bytes())
}

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard.Write(b)
}

// carry takes one session to the door: in clear up to STARTTLS, line by line, then under TLS on both sides.
func (p *tap) carry(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", p.door)
	if err != nil {
		return
	}
	defer to.Close()
	asks, says := bufio.NewReader(io.TeeReader(from, p)), bufio.NewReader(io.TeeReader(to, p))
	reply := func() bool {
		for {
			line, err := says.ReadString('\n')
			if err != nil {
				return false
			}
			if _, err := io.WriteString(from, line); err != nil {
				return false
			}
			if len(line) < 4 || line[3] != '-' {
				return true
			}
		}
	}
	for reply() {
		line, err := asks.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(to, line); err != nil {
			return
		}
		if strings.EqualFold(strings.TrimSpace(line), "STARTTLS") {
			if reply() {
				p.under(tls.Server(from, p.server), tls.Client(to, p.client))
			}
			return
		}
	}
}

func (p *tap) under(from, to *tls.Conn) {
	if from.Handshake() != nil || to.Handshake() != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(from, io.TeeReader(to, p))
		from.Close()
	}()
	io.Copy(to, io.TeeReader(from, p))
	to.Close()
	<-done
}
