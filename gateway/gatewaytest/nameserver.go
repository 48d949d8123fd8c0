package gatewaytest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// NameServer answers over UDP on loopback with the records that it was given, and NXDOMAIN for every other name.
type NameServer struct {
	conn net.PacketConn
	tcp  net.Listener // the same port: some resolvers ask by TCP alone
	mu   sync.Mutex
	mx   map[string][]MX
	a    map[string]string
	away bool
	done chan struct{}
}

// MX is one exchanger of a domain.
type MX struct {
	Preference uint16
	Host       string
}

// StartNameServer starts one without records.
func StartNameServer() (*NameServer, error) {
	// One port for both: the system knows of one that TCP may have (thousands are kept by connections that have just ended), seldom
	// does another hold it for UDP.
	var l net.Listener
	var c net.PacketConn
	var err error
	for range 20 {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("name server: %w", err)
		}
		if c, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			break
		}
		l.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("name server: %w", err)
	}
	s := &NameServer{conn: c, tcp: l, mx: map[string][]MX{}, a: map[string]string{}, done: make(chan struct{})}
	go s.serve()
	go s.serveTCP()
	return s, nil
}

// MX sets the exchangers of a domain.
func (s *NameServer) MX(domain string, records ...MX) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mx[domain] = records
}

// A sets the IPv4 address of a host.
func (s *NameServer) A(host, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.a[host] = addr
}

// Away makes it answer SERVFAIL to everything, or ends that.
func (s *NameServer) Away(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// Resolver asks this server alone.
func (s *NameServer) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// Addr is where it answers.
func (s *NameServer) Addr() string { return s.conn.LocalAddr().String() }

// Close ends it.
func (s *NameServer) Close() error {
	err := errors.Join(s.conn.Close(), s.tcp.Close())
	<-s.done
	return err
}

// serveTCP answers one question of each connection (RFC 1035 section 4.2.2).
func (s *NameServer) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, query); err != nil {
				return
			}
			if answer, err := s.answer(query); err == nil {
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}()
	}
}

func (s *NameServer) serve() {
	defer close(s.done)
	buf := make([]byte, 4096)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, err := s.answer(buf[:n]); err == nil {
			s.conn.WriteTo(answer, from)
		}
	}
}

func (s *NameServer) answer(query []byte) ([]byte, error) {
	var q dnsmessage.Message
	if err := q.Unpack(query); err != nil || len(q.Questions) != 1 {
		return nil, fmt.Errorf("query: %d questions, %w", len(q.Questions), err)
	}
	ask := q.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(ask.Name.String(), "."))
	r := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true, RecursionDesired: q.RecursionDesired}, Questions: q.Questions}
	head := dnsmessage.ResourceHeader{Name: ask.Name, Type: ask.Type, Class: dnsmessage.ClassINET, TTL: 60}
	s.mu.Lock()
	defer s.mu.Unlock()
	mx, hasMX := s.mx[name]
	addr, hasA := s.a[name]
	switch {
	case s.away:
		r.RCode = dnsmessage.RCodeServerFailure
	case ask.Type == dnsmessage.TypeMX && hasMX:
		for _, x := range mx {
			host, err := dnsmessage.NewName(strings.TrimSuffix(x.Host, ".") + ".")
			if err != nil {
				return nil, err
			}
			r.Answers = append(r.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.MXResource{Pref: x.Preference, MX: host}})
		}
	case ask.Type == dnsmessage.TypeA && hasA:
		a := dnsmessage.AResource{}
		copy(a.A[:], net.ParseIP(addr).To4())
		r.Answers = append(r.Answers, dnsmessage.Resource{Header: head, Body: &a})
	case !hasMX && !hasA:
		r.RCode = dnsmessage.RCodeNameError
	}
	return r.Pack()
}
