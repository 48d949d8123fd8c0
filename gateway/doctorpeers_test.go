package gateway_test

import (
	"strings"
	"testing"
	"time"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
)

// TestDoctorAudits: the national audit domains and ours, each bad one told at the step at which mail stops, each good one good.
func TestDoctorAudits(t *testing.T) {
	p := newIGC(t)
	steps := map[string]string{"expired": "validity", "revoked": "revocation", "chain": "chain", "weak-key": "key", "dn-mismatch": "dn"}
	var domains []string
	hosts := map[string]string{}
	for _, a := range audits {
		if a.noTLS {
			continue
		}
		cert := p.issue(a.cn(), nil)
		if a.bad != nil {
			cert = a.bad(p, a.cn())
		}
		domains = append(domains, a.domain())
		hosts[a.domain()] = p.far(cert).addr
	}
	h := custom(t, withRules("rules:\n  - {name: rest, route: plain}\n")+p.spaceText("", audits, hosts), nil, nil)
	l := h.examine(t, gateway.Examination{Domains: domains})
	for _, a := range audits {
		if a.noTLS {
			continue
		}
		if a.bad == nil {
			l.want(t, gateway.Fine, "trust.peer", a.domain(), "verdict", "mail for")
			continue
		}
		kind, _, _ := strings.Cut(a.log, ":")
		l.want(t, gateway.Fail, "trust.peer", a.domain(), steps[kind])
		l.want(t, gateway.Fail, "trust.peer", a.domain(), "verdict", "does not go there")
	}
	if t.Failed() {
		t.Log(l)
	}
}

// TestDoctorRevocation: who tells of revocation is asked, also who is needed only where another fails.
func TestDoctorRevocation(t *testing.T) {
	p := newIGC(t)
	h := custom(t, withRules("rules:\n  - {name: rest, route: plain}\n")+p.spaceText("", audits[:1], nil), nil, nil)
	l := h.examine(t, gateway.Examination{})
	l.want(t, gateway.Fine, "trust.revocation", "crl", "/crl", "is good until")
	l.want(t, gateway.Fine, "trust.revocation", "ocsp", "/ocsp", "answers")
	l.want(t, gateway.Fine, "trust.certificate", "revocation", "not revoked")

	p.status.Set(gatewaytest.Status{NoOCSP: true}) // lists still tell
	l = h.examine(t, gateway.Examination{})
	l.want(t, gateway.Warn, "trust.revocation", "ocsp")
	l.want(t, gateway.Fine, "trust.certificate", "revocation", "not revoked")

	p.status.Set(gatewaytest.Status{Down: true}) // nobody does
	l = h.examine(t, gateway.Examination{})
	l.want(t, gateway.Warn, "trust.revocation", "crl")
	l.want(t, gateway.Warn, "trust.certificate", "revocation", "revocation-unknown")

	p.status.Set(gatewaytest.Status{})
	p.inter.Revoke(p.own)
	h.examine(t, gateway.Examination{}).want(t, gateway.Fail, "trust.certificate", "revocation", "revoked")

	p.status.Set(gatewaytest.Status{Silent: true}) // holds nobody beyond his time
	began := time.Now()
	h.examine(t, gateway.Examination{Each: time.Second})
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("took %s", took)
	}
}
