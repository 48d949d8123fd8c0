package deploy_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"passerelle/gateway/gatewaytest"
)

// TestTrustDoor knocks at TRUST_ADDR of the bench file: a listed peer writes from its own domain to *@dest.test and to nobody else, and
// what is not admitted never reaches the clinic's server, which here wants to see our certificate too.
func TestTrustDoor(t *testing.T) {
	ca, sinkTLS, env := benchSpace(t)
	dir := strings.TrimPrefix(env[0], "TLS_DIR=")
	benchCheck(t, os.Remove(filepath.Join(dir, "crl.pem"))) // the contract promises ca, cert and key alone
	sink, err := gatewaytest.StartNextHop(gatewaytest.Options{TLS: sinkTLS, RequireTLS: true, RequireClientCert: true})
	benchCheck(t, err)
	t.Cleanup(func() { sink.Close() })
	door := freeAddr(t)
	benchStart(t, binary(t), "trust", sink.Addr(), append(env, "TRUST_ADDR="+door))

	issue := func(ca *gatewaytest.CA, cn string) []tls.Certificate {
		i, err := ca.IssueLocal(pkix.Name{CommonName: cn})
		benchCheck(t, err)
		return []tls.Certificate{i.TLS()}
	}
	strange, err := gatewaytest.NewCA("strange")
	benchCheck(t, err)
	letter := append(benchHead("in", "marker"), "Bonjour\r\n"...)
	for _, c := range []struct {
		name       string
		certs      []tls.Certificate
		clear      bool
		sender, to string
		want       int // of the first refusal; 250: taken; 0: the handshake fails
	}{
		{name: "listed peer", certs: issue(ca, "good.space.test"), sender: "dr@good.space.test", to: "user@dest.test", want: 250},
		{name: "null sender", certs: issue(ca, "good.space.test"), to: "user@dest.test", want: 250},
		{name: "another peer's domain", certs: issue(ca, "good.space.test"), sender: "dr@dest.test", to: "user@dest.test", want: 550},
		{name: "unlisted domain", certs: issue(ca, "good.space.test"), sender: "dr@elsewhere.test", to: "user@dest.test", want: 550},
		{name: "unlisted DN", certs: issue(ca, "other.space.test"), sender: "dr@good.space.test", to: "user@dest.test", want: 550},
		{name: "relay", certs: issue(ca, "good.space.test"), sender: "dr@good.space.test", to: "user@elsewhere.test", want: 550},
		{name: "relay inside the space", certs: issue(ca, "good.space.test"), sender: "dr@good.space.test", to: "dr@good.space.test", want: 550},
		{name: "in clear", clear: true, sender: "dr@good.space.test", to: "user@dest.test", want: 530},
		{name: "another authority", certs: issue(strange, "good.space.test"), sender: "dr@good.space.test", to: "user@dest.test"},
		{name: "no certificate", sender: "dr@good.space.test", to: "user@dest.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sink.Reset()
			s, err := smtp.Dial(door)
			benchCheck(t, err)
			defer s.Close()
			if !c.clear {
				s.Close()
				s, err = smtp.DialStartTLS(door, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", Certificates: c.certs, MinVersion: tls.VersionTLS12})
			}
			if err == nil {
				err = s.SendMail(c.sender, []string{c.to}, bytes.NewReader(letter))
			}
			var refused *smtp.SMTPError
			switch {
			case c.want == 250 && err != nil:
				t.Errorf("refused: %v", err)
			case c.want == 0 && (err == nil || errors.As(err, &refused)):
				t.Errorf("want no handshake, got %v", err)
			case c.want > 250 && (!errors.As(err, &refused) || refused.Code != c.want):
				t.Errorf("want %d, got %v", c.want, err)
			}
			if n := len(sink.Messages()); (n == 1) != (c.want == 250) {
				t.Errorf("%d messages reached the clinic", n)
			}
		})
	}
}
