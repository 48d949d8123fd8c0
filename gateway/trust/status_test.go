package trust

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// answerOf signs an answer of an authority, or of who it made one.
func (a *authority) answerOf(change func(*ocsp.Response), by *tls.Certificate) []byte {
	a.t.Helper()
	r := ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(7), ThisUpdate: clock.Add(-time.Minute), NextUpdate: clock.Add(time.Hour), IssuerHash: crypto.SHA1}
	if change != nil {
		change(&r)
	}
	cert, key := a.cert, a.key
	if by != nil {
		cert, key, r.Certificate = by.Leaf, by.PrivateKey.(crypto.Signer), by.Leaf
	}
	raw, err := ocsp.CreateResponse(a.cert, cert, r, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return raw
}

// TestReadAnswer: only a fresh answer about the certificate, by its issuer or the issuer's responder, is one.
func TestReadAnswer(t *testing.T) {
	w := newWorld(t)
	twin := newCA(t, "AC AUTRE", w.root)
	twin.key, twin.cert = w.inter.key, func() *x509.Certificate { // the same key under another name
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "AC AUTRE"}, NotBefore: clock.Add(-time.Hour), NotAfter: clock.Add(time.Hour), IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, w.root.cert, w.inter.key.Public(), w.root.key)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := x509.ParseCertificate(der)
		return c
	}()
	responder := func(by *authority, change func(*x509.Certificate)) *tls.Certificate {
		c := by.issue(name("ocsp.test"), func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
			if change != nil {
				change(c)
			}
		}, nil)
		return &c
	}
	leaf := w.inter.issue(peerName, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }, nil).Leaf
	w.inter.crl(w.file("inter.crl"), clock.Add(time.Hour), big.NewInt(99))
	list, err := readCRL(w.file("inter.crl"), []*x509.Certificate{w.inter.cert})
	if err != nil {
		t.Fatal(err)
	}
	for title, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"by the issuer":           {w.inter.answerOf(nil, nil), ""},
		"issuer's own inside":     {w.inter.answerOf(nil, &tls.Certificate{Leaf: w.inter.cert, PrivateKey: w.inter.key}), ""},
		"by its responder":        {w.inter.answerOf(nil, responder(w.inter, nil)), ""},
		"revoked":                 {w.inter.answerOf(func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, clock }, nil), "revoked"},
		"no end":                  {w.inter.answerOf(func(r *ocsp.Response) { r.NextUpdate = time.Time{} }, nil), ""},
		"no end, an hour old":     {w.inter.answerOf(func(r *ocsp.Response) { r.NextUpdate, r.ThisUpdate = time.Time{}, clock.Add(-61*time.Minute) }, nil), "to be renewed by"},
		"out of date":             {w.inter.answerOf(func(r *ocsp.Response) { r.NextUpdate = clock.Add(-time.Second) }, nil), "to be renewed by"},
		"too old for us":          {w.inter.answerOf(func(r *ocsp.Response) { r.ThisUpdate = clock.Add(-25 * time.Hour) }, nil), "to be renewed by"},
		"of the future":           {w.inter.answerOf(func(r *ocsp.Response) { r.ThisUpdate = clock.Add(6 * time.Minute) }, nil), "of the future"},
		"unknown":                 {w.inter.answerOf(func(r *ocsp.Response) { r.Status = ocsp.Unknown }, nil), "does not know"},
		"another's number":        {w.inter.answerOf(func(r *ocsp.Response) { r.SerialNumber = big.NewInt(8) }, nil), "no response matching"},
		"another CA's, one key":   {twin.answerOf(nil, nil), "another issuer's certificate"},
		"by a stranger":           {newCA(t, "AC ORGANISATIONS", nil).answerOf(nil, nil), "another issuer's certificate"},
		"by a server":             {w.inter.answerOf(nil, responder(w.inter, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), "no OCSP responder"},
		"by a responder of above": {w.inter.answerOf(nil, responder(w.root, nil)), "another issuer"},
		"responder has expired":   {w.inter.answerOf(nil, responder(w.inter, func(c *x509.Certificate) { c.NotAfter = clock.Add(-time.Second) })), "not valid now"},
		"responder is revoked":    {w.inter.answerOf(nil, responder(w.inter, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(99) })), "its signer: certificate is revoked"},
		"a twin's responder":      {w.inter.answerOf(nil, responder(newCA(t, "AC ORGANISATIONS", nil), nil)), "not by the issuer"},
		"says: later":             {ocsp.TryLaterErrorResponse, "try later"},
		"none":                    {[]byte("<html>"), "read OCSP"},
		"tampered":                {func() []byte { p := w.inter.answerOf(nil, nil); p[len(p)-3] ^= 1; return p }(), "not by the issuer"},
	} {
		a, err := readAnswer(c.raw, leaf, w.inter.cert, clock, 24*time.Hour, []*revocations{list})
		switch {
		case c.want == "revoked":
			if err != nil || !a.revoked {
				t.Errorf("%s: got %v", title, err)
			}
		case c.want == "":
			if err != nil || a.revoked || a.until.After(clock.Add(time.Hour)) {
				t.Errorf("%s: got %v", title, err)
			}
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: got %v, want %q", title, err, c.want)
		}
	}
	e := OpenEvidence(EvidenceConfig{})
	k, at := keyOf(leaf, w.inter.cert), func(d time.Duration, revoked bool) *answer {
		return &answer{revoked: revoked, from: clock.Add(d), until: clock.Add(d + time.Hour)}
	}
	for i, c := range []struct {
		d             time.Duration
		revoked, want bool
	}{{0, false, false}, {time.Second, true, true}, {0, false, true}, {time.Second, false, true}, {2 * time.Second, false, false}} {
		if e.keepAnswer(k, at(c.d, c.revoked)); e.find(k).revoked != c.want {
			t.Errorf("answer %d: revoked is %v", i, !c.want)
		}
	}
}

// TestListsOfAPart: a list that speaks of some certificates proves nothing of the others (RFC 5280 section 5.2.5), and a delta nothing at all.
func TestListsOfAPart(t *testing.T) {
	url := func(u string) []byte { // [0] { [0] { [6] u } }
		p := append([]byte{0x86, byte(len(u))}, u...)
		p = append([]byte{0xa0, byte(len(p))}, p...)
		return append([]byte{0xa0, byte(len(p))}, p...)
	}
	part := func(body ...byte) pkix.Extension {
		return pkix.Extension{Id: oidIssuingPoint, Critical: true, Value: append([]byte{0x30, byte(len(body))}, body...)}
	}
	number, _ := asn1.Marshal(1)
	for title, c := range map[string]struct {
		extra  []pkix.Extension
		points []string
		want   string // for a peer
		ca     string // for its CA
	}{
		"all":                       {want: "", ca: ""},
		"an empty part":             {extra: []pkix.Extension{part()}},
		"users":                     {extra: []pkix.Extension{part(0x81, 1, 0xff)}, ca: unproven},
		"CAs":                       {extra: []pkix.Extension{part(0x82, 1, 0xff)}, want: unproven},
		"its part":                  {extra: []pkix.Extension{part(url("http://a.test/1.crl")...)}, points: []string{"http://a.test/0.crl", "http://a.test/1.crl"}},
		"another part":              {extra: []pkix.Extension{part(url("http://a.test/2.crl")...)}, points: []string{"http://a.test/1.crl"}, want: unproven},
		"a part, it names none":     {extra: []pkix.Extension{part(url("http://a.test/2.crl")...)}, want: unproven},
		"of some reasons":           {extra: []pkix.Extension{part(0x83, 2, 1, 0x40)}, want: unproven, ca: unproven},
		"indirect":                  {extra: []pkix.Extension{part(0x84, 1, 0xff)}, want: unproven, ca: unproven},
		"of attributes":             {extra: []pkix.Extension{part(0x85, 1, 0xff)}, want: unproven, ca: unproven},
		"malformed":                 {extra: []pkix.Extension{part(0x84)}, want: unproven, ca: unproven},
		"delta":                     {extra: []pkix.Extension{{Id: oidDelta, Critical: true, Value: number}}, want: unproven, ca: unproven},
		"delta that says it softly": {extra: []pkix.Extension{{Id: oidDelta, Value: number}}, want: unproven, ca: unproven},
		"what nobody knows":         {extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: number}}, want: unproven, ca: unproven},
		"what nobody needs":         {extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: number}}},
	} {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			w.inter.crlExtra = c.extra
			w.inter.crl(w.file("inter.crl"), clock.Add(time.Hour))
			s := w.space()
			peer := w.inter.issue(peerName, func(t *x509.Certificate) { t.CRLDistributionPoints = c.points }, nil)
			if got := reason(s.Sound([]*x509.Certificate{peer.Leaf, w.inter.cert, w.root.cert})); got != c.want {
				t.Errorf("peer: got %q, want %q", got, c.want)
			}
			w = newWorld(t)
			w.root.crlExtra = c.extra
			w.root.crl(w.file("root.crl"), clock.Add(time.Hour))
			s = w.space()
			peer = w.inter.issue(peerName, nil, nil)
			want := c.ca
			if len(c.points) > 0 || title == "a part, it names none" || title == "users" {
				want = "" // no list of the CA's own certificate is there, as where none is configured
			}
			if got := reason(s.Sound([]*x509.Certificate{peer.Leaf, w.inter.cert, w.root.cert})); got != want {
				t.Errorf("its CA: got %q, want %q", got, want)
			}
		})
	}
}

// TestTLSSettings: what the operator pins is what both sides of the space speak.
func TestTLSSettings(t *testing.T) {
	for title, c := range map[string]struct {
		ours  TLS
		peers *tls.Config
		want  uint16 // the version, 0: none
		suite uint16
	}{
		"as it comes":             {TLS{}, &tls.Config{}, tls.VersionTLS13, 0},
		"the peer has 1.2":        {TLS{}, &tls.Config{MaxVersion: tls.VersionTLS12}, tls.VersionTLS12, 0},
		"the peer has 1.1":        {TLS{}, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0, 0},
		"pinned to 1.2":           {TLS{Max: tls.VersionTLS12}, &tls.Config{}, tls.VersionTLS12, 0},
		"1.3 alone":               {TLS{Min: tls.VersionTLS13}, &tls.Config{}, tls.VersionTLS13, 0},
		"1.3 alone, the peer 1.2": {TLS{Min: tls.VersionTLS13}, &tls.Config{MaxVersion: tls.VersionTLS12}, 0, 0},
		"one suite":               {TLS{Max: tls.VersionTLS12, Suites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}}, &tls.Config{}, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
		"the peer has another suite": {TLS{Suites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}},
			&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, 0, 0},
	} {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.TLS = c.ours
			s := w.space()
			peer := w.inter.issue(peerName, nil, nil)
			far := c.peers.Clone()
			far.Certificates, far.InsecureSkipVerify, far.ClientAuth = []tls.Certificate{peer}, true, tls.RequestClientCert
			ours, _, err := s.ClientTLS("valide.test")
			if err != nil {
				t.Fatal(err)
			}
			held := func(side string, cs tls.ConnectionState, err error) {
				if (err == nil) != (c.want != 0) || cs.Version != c.want || c.suite != 0 && cs.CipherSuite != c.suite {
					t.Errorf("%s: version %x, suite %x, %v", side, cs.Version, cs.CipherSuite, err)
				}
			}
			cs, _, err, _ := shake(t, ours, far)
			held("out", cs, err)
			_, ss, _, err := shake(t, far, s.ServerTLS())
			held("in", ss, err)
		})
	}
}

// TestSuitesOfECO: with each suite of ECO.1.1.3 that there is, a peer with an RSA certificate is reached over TLS 1.2, and with no other.
func TestSuitesOfECO(t *testing.T) {
	eco := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256}
	w := newWorld(t)
	w.cfg.TLS = TLS{Max: tls.VersionTLS12, Suites: eco}
	s := w.space()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	peer := w.inter.issue(peerName, nil, key)
	ours, _, err := s.ClientTLS("valide.test")
	if err != nil {
		t.Fatal(err)
	}
	for _, suite := range append(eco, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA) {
		cs, _, err, _ := shake(t, ours, &tls.Config{Certificates: []tls.Certificate{peer}, ClientAuth: tls.RequestClientCert, CipherSuites: []uint16{suite}})
		if listed := slices.Contains(eco, suite); (err == nil) != listed || listed && (cs.CipherSuite != suite || cs.Version != tls.VersionTLS12) {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
		}
	}
}

// TestSeveralRoots: a peer of either CA is believed, in one file or in two; of one that is not named, none is.
func TestSeveralRoots(t *testing.T) {
	w := newWorld(t)
	other := newCA(t, "AC RACINE 2", nil)
	other.crl(w.file("other.crl"), clock.Add(time.Hour))
	writePEM(t, w.file("other.pem"), "CERTIFICATE", other.cert.Raw)
	writePEM(t, w.file("both.pem"), "CERTIFICATE", w.root.cert.Raw, w.inter.cert.Raw, other.cert.Raw)
	for _, c := range []struct {
		ca, crl []string
		want    [2]string
	}{
		{[]string{"ca.pem"}, nil, [2]string{"", Chain}},
		{[]string{"other.pem"}, []string{"other.crl"}, [2]string{Chain, ""}},
		{[]string{"ca.pem", "other.pem"}, []string{"inter.crl", "other.crl"}, [2]string{"", ""}},
		{[]string{"both.pem"}, []string{"inter.crl", "other.crl"}, [2]string{"", ""}},
		{[]string{"both.pem"}, []string{"inter.crl"}, [2]string{"", unproven}},
	} {
		w.cfg.CA, w.cfg.CRL = nil, nil
		for _, f := range c.ca {
			w.cfg.CA = append(w.cfg.CA, w.file(f))
		}
		for _, f := range c.crl {
			w.cfg.CRL = append(w.cfg.CRL, w.file(f))
		}
		s := w.space()
		for i, ca := range []*authority{w.inter, other} {
			if got := reason(outgoing(t, s, ca.issue(peerName, nil, nil))); got != c.want[i] {
				t.Errorf("%q, %s: got %q, want %q", c.ca, ca.cert.Subject, got, c.want[i])
			}
		}
	}
}

// TestStrictDN: to the letter or not at all.
func TestStrictDN(t *testing.T) {
	for _, c := range []struct {
		listed         string
		lenient, exact bool
	}{
		{dnOf("mx.peer.test"), true, true},
		{"cn=mx.peer.test,OU=318000000000018,O=CH ÉTÉ,ST=Haute-Garonne (31),C=FR", true, true}, // types have no case
		{"C=FR,ST=Haute-Garonne (31),O=CH ÉTÉ,OU=318000000000018,CN=mx.peer.test", true, false},
		{"CN=mx.peer.test, OU=318000000000018, O=CH ÉTÉ, ST=Haute-Garonne (31), C=FR", true, true}, // what stands between is no part of it
		{`CN=mx.peer.test,OU=318000000000018,O="CH ÉTÉ",ST=Haute-Garonne (31),C=FR`, true, false},
		{"CN=mx.peer.test,OU=318000000000018,O=CH\u00a0ÉTÉ,ST=Haute-Garonne (31),C=FR", true, false},
		{"CN=mx.peer.test,OU=318000000000018,O=CH E\u0301TE\u0301,ST=Haute-Garonne (31),C=FR", true, false},
		{"CN=mx.peer.test,OU=318000000000018,O=CH \\C3\\89T\\C3\\89,ST=Haute-Garonne (31),C=FR", true, true},
		{"CN=MX.peer.test,OU=318000000000018,O=CH ÉTÉ,ST=Haute-Garonne (31),C=FR", false, false},
		{"CN=mx.peer.test,O=CH ÉTÉ,OU=318000000000018,ST=Haute-Garonne (31),C=FR", false, false},
		{"CN=mx.peer.test", false, false},
	} {
		for strict, want := range map[bool]bool{false: c.lenient, true: c.exact} {
			w := newWorld(t)
			w.cfg.Domains, w.cfg.StrictDN = Domains{"valide.test": {c.listed}}, strict
			if got := reason(outgoing(t, w.space(), w.inter.issue(peerName, nil, nil))); (got == "") != want {
				t.Errorf("%s, strict %v: got %q", c.listed, strict, got)
			}
		}
	}
}
