package gateway_test

import (
	"crypto/tls"
	"strings"
	"testing"
)

// TestDoorSpeaksPinnedSuites: what trust.tls pins binds the peers that write to us as it binds those that we write to.
func TestDoorSpeaksPinnedSuites(t *testing.T) {
	p, a := newIGC(t), audit{name: "suites"}
	cert := p.issue(a.cn(), nil)
	pin := "  tls: {max: \"1.2\", suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256]}\n"
	h := custom(t, listening(withRules("rules:\n  - {name: rest, route: plain}\n"))+p.spaceText(pin, []audit{a}, nil), nil, nil)
	say := func(suites ...uint16) string {
		return h.write(cert, &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites}, "dr@"+a.domain(), "dr@clinic.test", p.letter())
	}
	if got := say(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384); got != ok {
		t.Errorf("a pinned suite: %q", got)
	}
	if got := say(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256); !strings.HasPrefix(got, "TLS: ") {
		t.Errorf("a suite that is not pinned: %q", got)
	}
}
