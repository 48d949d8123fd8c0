package trust_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/relay"
	"passerelle/gateway/trust"
)

// TestAuditSansTLS plays the ANS audit domain sans-tls-audit: a hop of the trust space that offers no STARTTLS gets no MAIL.
func TestAuditSansTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer c.Close()
		fmt.Fprint(c, "220 sans-tls\r\n")
		br := bufio.NewReader(c)
		br.ReadString('\n')
		fmt.Fprint(c, "250-sans-tls\r\n250 PIPELINING\r\n")
		line, _ := br.ReadString('\n')
		heard <- line
	}()
	r := relay.New(relay.Config{})
	defer r.Close()
	to, _ := message.ParseAddress("a@sans-tls.test", false)
	clear := relay.Hop{Name: "trust", Addr: l.Addr().String(), TLS: relay.TLS{Mode: relay.Verify, Config: &tls.Config{}}}
	res := r.Send(context.Background(), clear, relay.Letter{Recipients: []message.Recipient{{Address: to}}, Header: []byte("Subject: x\r\n\r\n")})
	if e := res[0].Err; e == nil || e.Permanent || e.Enhanced != [3]int{4, 7, 4} {
		t.Errorf("got %v", e)
	}
	if line := <-heard; strings.HasPrefix(line, "MAIL") {
		t.Errorf("hop heard %q in clear", line)
	}
}

// TestRelayUnderTrust hands a letter on to a peer of the trust space, both sides by their own settings; the kept connection serves a
// second domain only if its DN is listed for that too.
func TestRelayUnderTrust(t *testing.T) {
	space := trust.NewTestSpace(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 2 {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			hop(c, space.Cert)
		}
	}()
	r := relay.New(relay.Config{})
	for _, c := range []struct {
		domain string
		want   [3]int
	}{{"valide.test", [3]int{}}, {"deux.test", [3]int{}}, {"autre.test", [3]int{4, 7, 5}}} {
		cfg, check, err := space.ClientTLS(c.domain)
		if err != nil {
			t.Fatal(err)
		}
		to, _ := message.ParseAddress("a@"+c.domain, false)
		res := r.Send(context.Background(), relay.Hop{Name: "trust", Addr: l.Addr().String(), TLS: relay.TLS{Mode: relay.Verify, Config: cfg, Check: check}},
			relay.Letter{Recipients: []message.Recipient{{Address: to}}, Header: []byte("Subject: x\r\n\r\n")})
		switch e := res[0].Err; {
		case c.want == [3]int{} && e != nil:
			t.Errorf("%s: %v", c.domain, e)
		case c.want != [3]int{} && (e == nil || e.Permanent || e.Enhanced != c.want):
			t.Errorf("%s: got %v, want %v", c.domain, e, c.want)
		case e == nil && res[0].Peer.Subject != "CN=mx.peer.test,OU=318000000000018,O=CH ÉTÉ,ST=Haute-Garonne (31),C=FR":
			t.Errorf("peer %+v", res[0].Peer)
		}
	}
	r.Close()
	<-ended
}

// TestKeptConnectionLosesTrust: a connection that carried letters carries none once its certificate is revoked or has ended.
func TestKeptConnectionLosesTrust(t *testing.T) {
	for title, spoil := range map[string]func(s *trust.TestSpace) error{
		"revoked": (*trust.TestSpace).Revoke,
		"expired": func(s *trust.TestSpace) error { s.Pass(21 * time.Second); return nil },
	} {
		t.Run(title, func(t *testing.T) {
			space := trust.NewTestSpace(t)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var accepted atomic.Int32
			var wg sync.WaitGroup
			wg.Go(func() {
				for c, err := l.Accept(); err == nil; c, err = l.Accept() {
					accepted.Add(1)
					wg.Go(func() { hop(c, space.Cert) })
				}
			})
			r := relay.New(relay.Config{})
			for i := range 4 {
				if i == 2 {
					if err := spoil(space); err != nil {
						t.Fatal(err)
					}
				}
				cfg, check, err := space.ClientTLS("valide.test")
				if err != nil {
					t.Fatal(err)
				}
				to, _ := message.ParseAddress("a@valide.test", false)
				res := r.Send(context.Background(), relay.Hop{Name: "trust", Addr: l.Addr().String(), TLS: relay.TLS{Mode: relay.Verify, Config: cfg, Check: check}},
					relay.Letter{Recipients: []message.Recipient{{Address: to}}, Header: []byte("Subject: x\r\n\r\n")})
				switch e := res[0].Err; {
				case i < 2 && e != nil:
					t.Errorf("letter %d: %v", i, e)
				case i >= 2 && (e == nil || e.Enhanced != [3]int{4, 7, 5}):
					t.Errorf("letter %d: got %v", i, e)
				}
				if want := int32(max(1, i)); accepted.Load() != want {
					t.Errorf("letter %d: %d connections, want %d", i, accepted.Load(), want)
				}
			}
			r.Close()
			l.Close()
			wg.Wait()
		})
	}
}

// hop serves one connection: it takes everything, under TLS.
func hop(c net.Conn, cert tls.Certificate) {
	defer c.Close()
	fmt.Fprint(c, "220 x\r\n")
	for br := bufio.NewReader(c); ; {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		switch strings.ToUpper(line[:4]) {
		case "EHLO":
			fmt.Fprint(c, "250-x\r\n250 STARTTLS\r\n")
		case "STAR":
			fmt.Fprint(c, "220 go\r\n")
			tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert})
			if err := tc.Handshake(); err != nil {
				return
			}
			c, br = tc, bufio.NewReader(tc)
		case "DATA":
			fmt.Fprint(c, "354 go\r\n")
			for line, err = br.ReadString('\n'); err == nil && line != ".\r\n"; line, err = br.ReadString('\n') {
			}
			fmt.Fprint(c, "250 2.0.0 ok\r\n")
		case "QUIT":
			fmt.Fprint(c, "221 bye\r\n")
			return
		default:
			fmt.Fprint(c, "250 ok\r\n")
		}
	}
}
