package smtpd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
)

// A reply that fills the buffer is written at once; where that write fails nobody heard it.
func TestSettledWhereTheBufferFillsUp(t *testing.T) {
	s := start(t, nil)
	ours, theirs := net.Pipe()
	theirs.Close()
	c := newConn(s.srv, arrival{Conn: ours})
	c.out = []byte(strings.Repeat("x", replyBuffer))
	var told []bool
	c.finals = []final{{accepted, func(written bool) { told = append(told, written) }}}
	c.answer(250, false, "")
	c.flush()
	if len(told) != 1 || told[0] {
		t.Errorf("told %v of a reply that was never written", told)
	}
}

// Operators' certificates are made for servers: a config that verifies by itself is not overruled by crypto/tls.
func TestClientCertificateVerifiedByTheConfig(t *testing.T) {
	ca := newAuthority(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "operator.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan int, 10)
	s := start(t, func(cfg *Config, _ *recorder) {
		cfg.TLS, cfg.RequireClientCert = ca.server(), true
		cfg.TLS.ClientAuth = tls.RequireAnyClientCert
		cfg.TLS.VerifyConnection = func(cs tls.ConnectionState) error { asked <- len(cs.PeerCertificates); return nil }
	})
	c := hello(t, s.addr)
	tc := ca.client()
	tc.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	if err := c.startTLS(tc); err != nil {
		t.Fatal(err)
	}
	c.want(250, "EHLO operator.test")
	c.want(250, "MAIL FROM:<a@b.test>")
	if n := <-asked; n != 1 {
		t.Errorf("the config was asked about %d certificates", n)
	}
	none := hello(t, s.addr)
	if err := none.startTLS(ca.client()); err == nil { // with TLS 1.3 the client learns it at its next read
		none.nc.Write([]byte("EHLO x.test\r\n"))
		if codes := none.gone(); len(codes) != 0 {
			t.Errorf("without a certificate: got %v", codes)
		}
	}
}

func TestProtocolOfTheTrace(t *testing.T) {
	ca := newAuthority(t)
	for _, c := range []struct {
		lmtp, secure, utf8 bool
		verb, want         string
	}{
		{false, false, false, "HELO", "SMTP"}, {false, false, false, "EHLO", "ESMTP"}, {false, true, false, "EHLO", "ESMTPS"},
		{true, false, false, "LHLO", "LMTP"}, {true, true, false, "LHLO", "LMTPS"}, {false, true, true, "EHLO", "UTF8SMTPS"}, {true, false, true, "LHLO", "UTF8LMTP"},
	} {
		s := start(t, func(cfg *Config, _ *recorder) { cfg.LMTP, cfg.TLS = c.lmtp, ca.server() })
		k := greet(t, s.addr, c.verb)
		if c.secure {
			if err := k.startTLS(ca.client()); err != nil {
				t.Fatal(err)
			}
			k.want(250, c.verb+" client.test")
		}
		utf8 := ""
		if c.utf8 {
			utf8 = " SMTPUTF8"
		}
		k.want(250, "MAIL FROM:<a@b.test>"+utf8)
		k.want(250, "RCPT TO:<c@d.test>")
		k.want(354, "DATA")
		k.send(".\r\n")
		k.expect(250)
		if got := s.got()[0].env.Protocol; got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// A client that has closed is not here any more, also where what it said last was not read: a TLS alert, a QUIT.
func TestClosedClientIsNotHere(t *testing.T) {
	ca := newAuthority(t)
	for name, say := range map[string]string{"tls": "", "quit": "QUIT\r\n"} {
		asker := hereAsker{make(chan func() bool), make(chan struct{})}
		s := start(t, func(cfg *Config, _ *recorder) { cfg.TLS, cfg.Handler = ca.server(), asker })
		c := hello(t, s.addr)
		if name == "tls" {
			if err := c.startTLS(ca.client()); err != nil {
				t.Fatal(err)
			}
			c.want(250, "EHLO client.test")
		}
		c.inData()
		c.send("Subject: x\r\n\r\n.\r\n" + say)
		here := <-asker.in
		if !here() {
			t.Errorf("%s: who waits for a reply is not here", name)
		}
		c.nc.Close()
		for end := time.Now().Add(2 * time.Second); here() && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		if here() {
			t.Errorf("%s: who has closed is still here", name)
		}
		close(asker.on)
	}
}

// hereAsker holds a message until on, and gives away who asks whether its client is here.
type hereAsker struct {
	in chan func() bool
	on chan struct{}
}

func (hereAsker) Mail(context.Context, Client, *message.Envelope) error { return nil }
func (hereAsker) Rcpt(context.Context, Client, *message.Envelope, message.Recipient) error {
	return nil
}

func (h hereAsker) Data(_ context.Context, c Client, _ *message.Envelope, _ *message.Body) Outcome {
	h.in <- c.Here
	<-h.on
	return Outcome{Whole: accepted}
}
