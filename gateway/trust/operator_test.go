package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math"
	"testing"
	"time"
)

// TestClientWithoutCertificate: an operator's client that has a token needs no certificate of its own and shows none; its listener serves nobody.
func TestClientWithoutCertificate(t *testing.T) {
	w := newWorld(t)
	w.cfg.Cert, w.cfg.Key = "", ""
	s := w.space()
	if !math.IsInf(s.DaysLeft(), 1) {
		t.Errorf("%v days left of no certificate", s.DaysLeft())
	}
	operator := w.inter.issue(peerName, nil, nil)
	own := w.inter.issue(name("bal@nous.test"), nil, nil)
	for _, c := range []struct {
		cert *tls.Certificate
		want string // CN that the operator sees
	}{{nil, ""}, {&own, "bal@nous.test"}} {
		_, ss, cerr, serr := shake(t, s.OperatorTLS("mx.peer.test", c.cert), &tls.Config{Certificates: []tls.Certificate{operator}, ClientAuth: tls.RequestClientCert})
		seen := ""
		if len(ss.PeerCertificates) > 0 {
			seen = ss.PeerCertificates[0].Subject.CommonName
		}
		if cerr != nil || serr != nil || seen != c.want {
			t.Errorf("operator sees %q, want %q; %v, %v", seen, c.want, cerr, serr)
		}
	}
	if _, _, cerr, serr := shake(t, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{operator}}, s.ServerTLS()); cerr == nil || serr == nil {
		t.Error("a listener without a certificate serves")
	}
	w.cfg.Key = w.file("key.pem")
	if _, err := New(w.cfg); err == nil {
		t.Error("a key without its certificate is taken")
	}
}

// TestOperatorTLS: chain, revocation and the host's name count, at each handshake and for whoever asks again; the white list does not. The
// settings are the same until the files were read again.
func TestOperatorTLS(t *testing.T) {
	w := newWorld(t)
	s := w.space()
	own := w.inter.issue(name("bal@nous.test"), nil, nil)
	stranger := newCA(t, "AC ORGANISATIONS", nil)
	good := w.inter.issue(name("a name that no list has"), nil, nil)
	for what, c := range map[string]struct {
		cert   tls.Certificate
		reason string
	}{
		"good":        {good, ""},
		"wrong host":  {w.inter.issue(peerName, func(c *x509.Certificate) { c.DNSNames = []string{"other.test"} }, nil), WrongName},
		"CN alone":    {w.inter.issue(peerName, func(c *x509.Certificate) { c.DNSNames = nil }, nil), WrongName},
		"another CA":  {stranger.issue(peerName, nil, nil), Chain},
		"expired":     {w.inter.issue(peerName, func(c *x509.Certificate) { c.NotAfter = clock.Add(-time.Minute) }, nil), Expired},
		"for clients": {w.inter.issue(peerName, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, nil), Chain},
	} {
		_, _, err, _ := shake(t, s.OperatorTLS("mx.peer.test", &own), &tls.Config{Certificates: []tls.Certificate{c.cert}, ClientAuth: tls.RequireAnyClientCert})
		var e *Error
		if errors.As(err, &e) != (c.reason != "") || e != nil && e.Reason != c.reason || err != nil && e == nil {
			t.Errorf("%s: %v, want %q", what, err, c.reason)
		}
	}
	first := s.OperatorTLS("mx.peer.test", &own)
	if s.OperatorTLS("mx.peer.test", &own) != first || s.OperatorTLS("other.test", &own) == first || s.OperatorTLS("mx.peer.test", nil) == first {
		t.Error("settings are not kept for what they were made for")
	}
	cs, _, err, _ := shake(t, first, &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert})
	if err != nil || first.VerifyConnection(cs) != nil {
		t.Fatalf("good: %v", err)
	}
	w.inter.crl(w.file("inter.crl"), clock.Add(24*time.Hour), good.Leaf.SerialNumber)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if !errors.As(first.VerifyConnection(cs), &e) || e.Reason != Revoked {
		t.Errorf("asked again after a revocation: %v", e)
	}
	if s.OperatorTLS("mx.peer.test", &own) == first {
		t.Error("settings outlive a reload")
	}
}
