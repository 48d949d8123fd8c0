package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"passerelle/config"
	"passerelle/gateway/relay"
)

func newHop(name, helo string, h config.Hop) (relay.Hop, error) {
	hop := relay.Hop{Name: name, Addr: h.Addr, Helo: helo, LMTP: h.LMTP, MaxConns: h.MaxConns}
	switch h.TLS {
	case "none":
		hop.TLS.Mode = relay.None
	case "encrypt":
		hop.TLS.Mode = relay.Encrypt
	case "verify":
		hop.TLS.Mode = relay.Verify
	default:
		hop.TLS.Mode = relay.Opportunistic
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: h.ServerName}
	if tc.ServerName == "" {
		tc.ServerName = hostOf(h.Addr)
	}
	if h.CA != "" {
		pem, err := os.ReadFile(h.CA)
		if err != nil {
			return hop, fmt.Errorf("hops.%s.ca: %w", name, err)
		}
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(pem) {
			return hop, fmt.Errorf("hops.%s.ca: no certificate in %s", name, h.CA)
		}
	}
	if h.Cert != "" {
		pair, err := tls.LoadX509KeyPair(h.Cert, h.Key)
		if err != nil {
			return hop, fmt.Errorf("hops.%s.cert: %w", name, err)
		}
		tc.Certificates = []tls.Certificate{pair}
	}
	hop.TLS.Config = tc
	return hop, nil
}

// trustHop is the next hop of a domain of the trust space, with the certificate that it must show; without an address where the DNS is to
// be asked for one.
func (g *Gateway) trustHop(domain string) (relay.Hop, error) {
	if g.space == nil {
		return relay.Hop{}, later("Incident interne de la passerelle, nouvel essai plus tard", errors.New("route trust outside of the trust space"))
	}
	tc, check, err := g.space.ClientTLS(domain)
	if err != nil {
		return relay.Hop{}, refuse(451, [3]int{4, 7, 1}, "Domaine MSSante sorti de la liste blanche entre-temps, nouvel essai plus tard", err)
	}
	return relay.Hop{Name: "trust " + domain, Addr: g.set.hops["trust:"+domain].Addr, Helo: g.spaceName(), MaxConns: g.set.trustLimit(domain).MaxConns, TLS: relay.TLS{Mode: relay.Verify, Config: tc, Check: check}}, nil
}

func hostOf(addr string) string {
	if i := strings.LastIndexByte(addr, ':'); i >= 0 {
		return strings.Trim(addr[:i], "[]")
	}
	return addr
}
