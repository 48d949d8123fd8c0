package trust

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"testing"
	"time"

	"passerelle/gateway/message"

	"pgregory.net/rapid"
)

// outgoing makes a session to a peer with a certificate and asks whether it is valide.test's.
func outgoing(t *testing.T, s *Space, peer tls.Certificate) error {
	t.Helper()
	cfg, check, err := s.ClientTLS("valide.test")
	if err != nil {
		t.Fatal(err)
	}
	cs, ss, cerr, _ := shake(t, cfg, &tls.Config{Certificates: []tls.Certificate{peer}, ClientAuth: tls.RequestClientCert})
	if cerr != nil {
		return cerr
	}
	if len(ss.PeerCertificates) == 0 || ss.PeerCertificates[0].Subject.CommonName != "nous.test" {
		t.Error("our certificate was not shown")
	}
	return check(cs)
}

func reason(err error) string {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e) && e.Later:
		return e.Reason + " later"
	case errors.As(err, &e):
		return e.Reason
	}
	return err.Error()
}

// TestAudit plays the certificates of the ANS audit domains (cert-valide-audit, ...); sans-tls-audit is in audit_test.go.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	good := w.inter.issue(name("mx.peer.test"), nil, nil)
	revoked := w.inter.issue(name("mx.peer.test"), nil, nil)
	w.inter.crl(w.file("inter.crl"), clock.Add(24*time.Hour), revoked.Leaf.SerialNumber)
	s := w.space()
	stranger := newCA(t, "AC ORGANISATIONS", newCA(t, "AC RACINE", nil))
	rsa1024, err := x509.ParsePKCS1PrivateKey(weakRSA(t))
	if err != nil {
		t.Fatal(err)
	}
	for title, c := range map[string]struct {
		peer tls.Certificate
		want string
	}{
		"cert-valide":     {good, ""},
		"cert-expire":     {w.inter.issue(name("mx.peer.test"), func(c *x509.Certificate) { c.NotAfter = clock.Add(-time.Minute) }, nil), Expired},
		"not yet":         {w.inter.issue(name("mx.peer.test"), func(c *x509.Certificate) { c.NotBefore = clock.Add(time.Minute) }, nil), Expired},
		"cert-revoque":    {revoked, Revoked},
		"cert-non-igc":    {stranger.issue(name("mx.peer.test"), nil, nil), Chain},
		"cert-no-match":   {w.inter.issue(name("autre.test"), nil, nil), WrongName},
		"cert-cn-diff-dn": {w.inter.issue(name("mx2.peer.test"), nil, nil), WrongName},
		"other use":       {w.inter.issue(name("mx.peer.test"), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }, nil), Chain},
		"client use only": {w.inter.issue(name("mx.peer.test"), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, nil), Chain},
		"P-224":           {w.inter.issue(name("mx.peer.test"), nil, newKey(t, elliptic.P224())), WeakKey},
		"RSA 1024":        {w.inter.issue(name("mx.peer.test"), nil, rsa1024), WeakKey},
		"P-384":           {w.inter.issue(name("mx.peer.test"), nil, newKey(t, elliptic.P384())), ""},
		"root's own":      {w.root.issue(name("mx.peer.test"), nil, nil), ""},
	} {
		t.Run(title, func(t *testing.T) {
			cs := tls.ConnectionState{Version: tls.VersionTLS12}
			for _, der := range c.peer.Certificate {
				cert, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				cs.PeerCertificates = append(cs.PeerCertificates, cert)
			}
			_, check, _ := s.ClientTLS("valide.test")
			if got := reason(check(cs)); got != c.want {
				t.Errorf("check: got %q, want %q", got, c.want)
			}
			if c.want == WeakKey {
				return // Go's own server would not speak with such a key
			}
			if got := reason(outgoing(t, s, c.peer)); got != c.want {
				t.Errorf("session: got %q, want %q", got, c.want)
			}
		})
	}
	_, check, _ := s.ClientTLS("deux.test")
	if err := check(tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{good.Leaf}}); err != nil {
		t.Errorf("second DN of a domain, leaf without its chain: %v", err)
	}
	if got := reason(check(tls.ConnectionState{Version: tls.VersionTLS11, PeerCertificates: []*x509.Certificate{good.Leaf}})); got != OldTLS {
		t.Errorf("got %q", got)
	}
	if got := reason(check(tls.ConnectionState{Version: tls.VersionTLS12})); got != NoCertificate {
		t.Errorf("got %q", got)
	}
	if _, _, err := s.ClientTLS("sub.valide.test"); reason(err) != NotListed {
		t.Errorf("sub-domain: got %v", err)
	}
	id := Identify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{good.Leaf}}, "elsewhere.test")
	if !id.HostMismatch || id.Subject != dnOf("mx.peer.test") || len(id.Fingerprint) != 64 {
		t.Errorf("identity %+v", id)
	}
}

func weakRSA(t *testing.T) []byte {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return x509.MarshalPKCS1PrivateKey(k)
}

func TestRevocationLists(t *testing.T) {
	for title, c := range map[string]struct {
		change func(w *world)
		want   string
	}{
		"fresh":           {func(w *world) {}, ""},
		"none configured": {func(w *world) { w.cfg.CRL = nil }, ""},
		"missing":         {func(w *world) { os.Remove(w.file("inter.crl")) }, Unproven + " later"},
		"garbage":         {func(w *world) { write(w.t, w.file("inter.crl"), []byte("garbage")) }, Unproven + " later"},
		"stale":           {func(w *world) { w.inter.crl(w.file("inter.crl"), clock.Add(-time.Hour)) }, Unproven + " later"},
		"stale within grace": {func(w *world) {
			w.inter.crl(w.file("inter.crl"), clock.Add(-time.Hour))
			w.cfg.CRLGrace = 4 * time.Hour
		}, ""},
		"of the future":       {func(w *world) { w.inter.crl(w.file("inter.crl"), clock.Add(72*time.Hour)) }, Unproven + " later"},
		"signed by another":   {func(w *world) { newCA(w.t, "AC ORGANISATIONS", nil).crl(w.file("inter.crl"), clock.Add(time.Hour)) }, Unproven + " later"},
		"none of the issuer":  {func(w *world) { w.cfg.CRL = w.cfg.CRL[:1] }, Unproven + " later"},
		"none of the root":    {func(w *world) { w.cfg.CRL = w.cfg.CRL[1:] }, ""},
		"root's is stale":     {func(w *world) { w.root.crl(w.file("root.crl"), clock.Add(-time.Hour)) }, Unproven + " later"},
		"intermediate is out": {func(w *world) { w.root.crl(w.file("root.crl"), clock.Add(time.Hour), w.inter.cert.SerialNumber) }, Revoked},
		"stale, leaf is out":  {func(w *world) { w.inter.crl(w.file("inter.crl"), clock.Add(-time.Hour), big.NewInt(102)) }, Revoked},
	} {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			s := w.space()
			peer := w.inter.issue(peerName, nil, nil) // serial 102
			if got := reason(outgoing(t, s, peer)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestIncoming(t *testing.T) {
	w := newWorld(t)
	s := w.space()
	session := func(peer tls.Certificate) (tls.ConnectionState, error) {
		t.Helper()
		client := &tls.Config{InsecureSkipVerify: true}
		if peer.Certificate != nil {
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &peer, nil } // whatever is asked for
		}
		_, ss, _, err := shake(t, client, s.ServerTLS())
		return ss, err
	}
	cs, err := session(w.inter.issue(name("mx.peer.test"), nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]string{"valide.test": "", "VALIDE.test.": "", "deux.test": "", "autre.test": WrongName, "nowhere.test": NotListed, "": "", "sub.valide.test": NotListed} {
		if got := reason(s.AdmitPeer(cs, domain)); got != want {
			t.Errorf("%q: got %q, want %q", domain, got, want)
		}
	}
	cs, err = session(w.inter.issue(name("unlisted.test"), nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := reason(s.AdmitPeer(cs, "")); got != WrongName {
		t.Errorf("null sender of an unlisted peer: got %q", got)
	}
	if _, err := session(tls.Certificate{}); err == nil {
		t.Error("a client without certificate came in")
	}
	if _, err := session(newCA(t, "X", nil).issue(name("mx.peer.test"), nil, nil)); reason(err) != Chain {
		t.Errorf("a stranger: %v", err)
	}
}

func TestReload(t *testing.T) {
	w := newWorld(t)
	s := w.space()
	server := s.ServerTLS()
	before, _, _ := s.ClientTLS("valide.test")
	peer := w.inter.issue(name("mx.peer.test"), nil, nil)
	if d := s.DaysLeft(); d < 9.9 || d > 10 {
		t.Errorf("days left %f", d)
	}
	w.inter.crl(w.file("inter.crl"), clock.Add(24*time.Hour), peer.Leaf.SerialNumber)
	w.ours(w.inter.issue(name("nouveau.test"), func(c *x509.Certificate) { c.NotAfter = clock.Add(-24 * time.Hour) }, nil))
	key, _ := os.ReadFile(w.file("key.pem"))
	write(t, w.file("key.pem"), []byte("half a fi"))
	if s.Reload() == nil {
		t.Fatal("a broken key was taken")
	}
	if err := outgoing(t, s, peer); err != nil {
		t.Errorf("after a fault the old state must hold: %v", err)
	}
	write(t, w.file("key.pem"), key)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if after, _, _ := s.ClientTLS("valide.test"); after == before {
		t.Error("the settings did not change, so kept connections would live on")
	}
	cs, _, _, _ := shake(t, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{w.inter.issue(name("mx.peer.test"), nil, nil)}}, server)
	if len(cs.PeerCertificates) == 0 || cs.PeerCertificates[0].Subject.CommonName != "nouveau.test" {
		t.Error("the listener shows the old certificate")
	}
	if d := s.DaysLeft(); d > -0.9 || d < -1.1 {
		t.Errorf("days left %f", d)
	}
	os.Remove(w.file("inter.crl"))
	if s.Reload() == nil {
		t.Error("a missing CRL is no fault of a reload")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"no CA":     func(w *world) { w.cfg.CA = nil },
		"CA gone":   func(w *world) { os.Remove(w.file("ca.pem")) },
		"CA no PEM": func(w *world) { write(w.t, w.file("ca.pem"), []byte("x")) },
		"key":       func(w *world) { os.Remove(w.file("key.pem")) },
		"domain":    func(w *world) { w.cfg.Domains = Domains{"a b": {"CN=x"}} },
		"no DN":     func(w *world) { w.cfg.Domains = Domains{"a.test": nil} },
		"bad DN":    func(w *world) { w.cfg.Domains = Domains{"a.test": {"no name"}} },
		"own":       func(w *world) { w.cfg.OwnDomains = []string{"-"} },
	} {
		w := newWorld(t)
		change(w)
		if _, err := New(w.cfg); err == nil {
			t.Errorf("%s: no fault", name)
		}
	}
}

func TestINS(t *testing.T) {
	for in, want := range map[string][2]bool{
		"255081416802538@patient.mssante.fr":   {true, true},
		"279035121518989@PATIENT.mssante.fr":   {true, true},
		"279035121518988@patient.mssante.fr":   {false, true},
		"2790351215189@patient.mssante.fr":     {false, true},
		"27903512151898x@patient.mssante.fr":   {false, true},
		"reponse.auto@patient.mssante.fr":      {false, true},
		"255081416802538@medecin.mssante.fr":   {false, false},
		"255081416802538@x.patient.mssante.fr": {false, false},
	} {
		a, err := message.ParseAddress(in, false)
		if err != nil {
			t.Fatal(err)
		}
		if valid, is := ParseINS(a); valid != want[0] || is != want[1] {
			t.Errorf("%s: got %v, %v, want %v", in, valid, is, want)
		}
	}
	w := newWorld(t)
	w.cfg.PatientDomain = "patient.formation.test"
	s := w.space()
	if valid, is := s.ParseINS(message.Address{Local: "255081416802538", Domain: "patient.formation.test"}); !valid || !is {
		t.Error("the configured domain is not looked at")
	}
	if !s.Listed("VALIDE.TEST") || s.Listed("nous.test") || !s.Own("Nous.test.") || s.Own("valide.test") || s.Listed("") {
		t.Error("Listed or Own is wrong")
	}
}

// TestINSKeyFindsEachWrongDigit: Corsicans too.
func TestINSKeyFindsEachWrongDigit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := []byte(rapid.StringMatching(`[1-478][0-9]{4}([0-9]{2}|2A|2B)[0-9]{6}`).Draw(t, "body"))
		var full string
		for key := 1; key <= 97; key++ {
			if s := string(body) + string([]byte{byte('0' + key/10), byte('0' + key%10)}); validINS(s) {
				if full != "" {
					t.Fatalf("two keys for %s", body)
				}
				full = s
			}
		}
		if full == "" {
			t.Fatalf("no key for %s", body)
		}
		i := rapid.IntRange(0, 14).Draw(t, "place")
		d := byte('0' + rapid.IntRange(0, 9).Draw(t, "digit"))
		if full[i] == d {
			return
		}
		if wrong := full[:i] + string(d) + full[i+1:]; full[i] <= '9' && validINS(wrong) {
			t.Fatalf("%s passes for %s", wrong, full)
		}
	})
}
