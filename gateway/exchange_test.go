package gateway_test

import (
	"crypto/x509/pkix"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// TestExchangers: where trust.hosts names no server, those of the MX are tried by preference; one that is away or shows another's
// certificate hears nothing of the letter, and the next is asked.
func TestExchangers(t *testing.T) {
	dns, err := gatewaytest.StartNameServer()
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	for i, host := range []string{"mx1.peer.test", "mx2.peer.test", "mx3.peer.test"} {
		dns.A(host, "127.0.0."+strconv.Itoa(i+1))
	}
	s := newSpace(t)
	// One port, three addresses: mx1 is away, mx2 shows a certificate of the space that is not listed for the domain, mx3 is the domain's.
	other, err := s.ca.IssueLocal(pkix.Name{Country: []string{"FR"}, Organization: []string{"OTHER"}, CommonName: "mss.other.test"})
	if err != nil {
		t.Fatal(err)
	}
	hop := func(addr string, who *gatewaytest.Issued) *gatewaytest.NextHop {
		h, err := gatewaytest.StartNextHop(gatewaytest.Options{Addr: addr, TLS: s.ca.ServerTLS(who, true), RequireTLS: true, RequireClientCert: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		return h
	}
	good := hop("127.0.0.3:0", s.peer)
	_, port, err := net.SplitHostPort(good.Addr())
	if err != nil {
		t.Fatal(err)
	}
	strange := hop("127.0.0.2:"+port, other)
	now := time.Now()
	var ahead atomic.Int64
	text := withRules("rules: [{name: rest, route: trust}]\n") + strings.Replace(trustText, `hosts: {peer.mssante.test: "127.0.0.1:1"}`, "port: "+port+"\n  limits: {peer.mssante.test: {size: 20kB}}", 1)
	h := custom(t, text, nil, func(h *house) {
		h.opts = append(h.opts, gateway.Resolver(dns.Resolver()), gateway.Clock(func() time.Time { return now.Add(time.Duration(ahead.Load())) }))
	}, "{tls}", s.dir)
	hears := func(what, want string) {
		t.Helper()
		if got := h.send(h.lmtp, "dr@mss.clinic.test", strings.Replace(hello, "bonjour", what, 1), "x@peer.mssante.test")[0]; !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}

	dns.Away(true)
	hears("no answer of the DNS", "introuvable (DNS)")
	dns.Away(false)
	hears("no such domain", "4.4.3")
	dns.MX("peer.mssante.test", gatewaytest.MX{Host: "."})
	ahead.Add(int64(6 * time.Minute))
	hears("null MX", "MX nul")
	dns.MX("peer.mssante.test", gatewaytest.MX{Preference: 30, Host: "mx3.peer.test"}, gatewaytest.MX{Preference: 20, Host: "mx2.peer.test"}, gatewaytest.MX{Preference: 10, Host: "mx1.peer.test"})
	hears("the null MX is kept a while", "MX nul")
	ahead.Add(int64(6 * time.Minute))
	hears("third server", "250")
	dns.Away(true)
	ahead.Add(int64(6 * time.Minute))
	hears("known servers serve while the DNS is away", "250")
	hears(strings.Repeat("too large\n", 3000), "5.3.4")
	if n := len(good.Messages()); n != 2 {
		t.Errorf("%d letters came, want 2", n)
	}
	if n := len(strange.Messages()); n != 0 {
		t.Errorf("%d letters reached a server with another's certificate", n)
	}
	ahead.Add(int64(25 * time.Hour))
	hears("what was known is too old", "introuvable (DNS)")
}
