package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/gatewaytest"
)

type entry = gatewaytest.ListEntry

// keep puts a list where the last good one lies.
func (w *world) keep(raw []byte) {
	w.t.Helper()
	write(w.t, filepath.Join(w.cfg.WhiteList.StateDir, listName), raw)
}

func TestEntries(t *testing.T) {
	deep := "<Domaine><Nom>deep.test</Nom><Description><Nom>evil.test</Nom></Description><DNCertificatOperateur>CN=d</DNCertificatOperateur></Domaine>"
	for name, c := range map[string]struct {
		body string // of ListeDomaines
		want string // "domain=DN;DN domain="
		odd  int
	}{
		"one":                    {"<Domaine><Nom>A.mssante.test</Nom><DNCertificatOperateur>CN=a, O=\"B  C\"</DNCertificatOperateur></Domaine>", "a.mssante.test=CN=a,O=B C", 0},
		"several DNs, one twice": {strings.Repeat("<Domaine><Nom>a.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>", 2) + "<Domaine><Nom>A.TEST</Nom><DNCertificatOperateur>CN=b</DNCertificatOperateur></Domaine>", "a.test=CN=a;CN=b", 0},
		"Unicode domain":         {"<Domaine><Nom>Évreux.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>", "xn--vreux-9ra.test=CN=a", 0},
		"empty domain":           {"<Domaine><Nom/><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>" + deep, "deep.test=CN=d", 1},
		"wildcard":               {"<Domaine><Nom>*.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>" + deep, "deep.test=CN=d", 1},
		"two domains in one":     {"<Domaine><Nom>a.test, b.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>" + deep, "deep.test=CN=d", 1},
		"an address":             {"<Domaine><Nom>[192.0.2.1]</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>" + deep, "deep.test=CN=d", 1},
		"no DN":                  {"<Domaine><Nom>a.test</Nom></Domaine>", "a.test=", 1},
		"unreadable DN":          {"<Domaine><Nom>a.test</Nom><DNCertificatOperateur>mx.test</DNCertificatOperateur></Domaine>", "a.test=", 1},
		"unreadable, then good":  {"<Domaine><Nom>a.test</Nom><DNCertificatOperateur>mx</DNCertificatOperateur></Domaine><Domaine><Nom>a.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>", "a.test=CN=a", 1},
		"Nom twice":              {"<Domaine><Nom>a.test</Nom><Nom>b.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>" + deep, "deep.test=CN=d", 1},
		"DN twice":               {"<Domaine><Nom>a.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur><DNCertificatOperateur>CN=b</DNCertificatOperateur></Domaine>", "a.test=", 1},
		"element in Nom":         {"<Domaine><Nom>a.test<b/></Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>" + deep, "deep.test=CN=d", 1},
		"element amid Nom":       {"<Domaine><Nom>a<b>.evil</b>.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>" + deep, "deep.test=CN=d", 1},
		"element in the DN":      {"<Domaine><Nom>a.test</Nom><DNCertificatOperateur>CN=a<b/></DNCertificatOperateur></Domaine>", "a.test=", 1},
		"Domaine in Domaine":     {"<Domaine><Domaine><Nom>x.test</Nom></Domaine><Nom>a.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>", "a.test=CN=a", 0},
		"unknown elements":       {"<Note><Domaine><Nom>x.test</Nom><DNCertificatOperateur>CN=x</DNCertificatOperateur></Domaine></Note>" + deep, "deep.test=CN=d", 0},
		"long name":              {"<Domaine><Nom>" + strings.Repeat("a", 300) + ".test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine>" + deep, "deep.test=CN=d", 1},
		"long DN":                {"<Domaine><Nom>a.test</Nom><DNCertificatOperateur>CN=" + strings.Repeat("a", 5000) + "</DNCertificatOperateur></Domaine>", "a.test=", 1},
	} {
		l, err := parseWhiteList([]byte(`<ListeBlancheMSSante xmlns="` + listSpace + `"><DateDeGeneration>2026-11-01T10:00:00Z</DateDeGeneration><ListeDomaines>` + c.body + `</ListeDomaines></ListeBlancheMSSante>`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for d, dns := range l.names {
			var texts []string
			for _, dn := range dns {
				texts = append(texts, dn.String())
			}
			got = append(got, d+"="+strings.Join(texts, ";"))
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want || l.odd != c.odd || len(l.skipped) != c.odd {
			t.Errorf("%s: got %q with %d skipped %q, want %q with %d", name, got, l.odd, l.skipped, c.want, c.odd)
		}
	}
}

func TestListShape(t *testing.T) {
	const one = "<ListeDomaines><Domaine><Nom>a.test</Nom><DNCertificatOperateur>CN=a</DNCertificatOperateur></Domaine></ListeDomaines>"
	const date = "<DateDeGeneration>2026-11-01T10:00:00Z</DateDeGeneration>"
	for name, c := range map[string]struct{ body, want string }{
		"good":             {date + one, ""},
		"no date":          {one, "one DateDeGeneration"},
		"two dates":        {date + date + one, "one DateDeGeneration"},
		"date is no date":  {"<DateDeGeneration>hier</DateDeGeneration>" + one, "DateDeGeneration"},
		"no domains":       {date, "one ListeDomaines"},
		"two lists":        {date + one + one, "one ListeDomaines"},
		"empty list":       {date + "<ListeDomaines></ListeDomaines>", "no domain"},
		"date in a domain": {one + "<x>" + date + "</x>", "one DateDeGeneration"},
	} {
		_, err := parseWhiteList([]byte(`<ListeBlancheMSSante xmlns="` + listSpace + `">` + c.body + `</ListeBlancheMSSante>`))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := parseWhiteList([]byte(`<Liste xmlns="` + listSpace + `">` + date + one + `</Liste>`)); err == nil {
		t.Error("another root was taken")
	}
}

func TestSigner(t *testing.T) {
	plain := list(clock.Add(-time.Hour), entry{Domain: "a.test", DN: "CN=a"})
	set := func(f func(*x509.Certificate)) func(*world) *gatewaytest.ListSigner {
		return func(w *world) *gatewaytest.ListSigner { return w.inter.signer(f, nil) }
	}
	good := func(w *world) *gatewaytest.ListSigner { return w.inter.signer(nil, nil) }
	for name, c := range map[string]struct {
		signer func(*world) *gatewaytest.ListSigner
		world  func(*world, *gatewaytest.ListSigner)
		want   string
	}{
		"good":             {good, nil, ""},
		"roots of its own": {good, func(w *world, _ *gatewaytest.ListSigner) { w.cfg.WhiteList.Roots = []string{w.file("ca.pem")} }, ""},
		"another's roots": {good, func(w *world, _ *gatewaytest.ListSigner) {
			writePEM(w.t, w.file("else.pem"), "CERTIFICATE", newCA(w.t, "AC ORGANISATIONS", nil).cert.Raw)
			w.cfg.WhiteList.Roots = []string{w.file("else.pem")}
		}, "unknown authority"},
		"roots gone": {good, func(w *world, _ *gatewaytest.ListSigner) { w.cfg.WhiteList.Roots = []string{w.file("gone.pem")} }, "gone.pem"},
		"another CN": {set(func(c *x509.Certificate) { c.Subject.CommonName = "evil" }), nil, "common name"},
		"two CNs": {set(func(c *x509.Certificate) {
			c.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "evil"}, {Type: []int{2, 5, 4, 3}, Value: signerCN}}}
		}), nil, "common name"},
		"another issuer": {func(w *world) *gatewaytest.ListSigner { return w.root.signer(nil, nil) }, nil, "issued by"},
		"a stranger's":   {func(w *world) *gatewaytest.ListSigner { return newCA(w.t, "AC ORGANISATIONS", nil).signer(nil, nil) }, nil, "unknown authority"},
		"self-signed": {func(w *world) *gatewaytest.ListSigner {
			a := newCA(w.t, "AC ORGANISATIONS", nil)
			return a.signer(nil, a.key)
		}, nil, "unknown authority"},
		"a peer's EKU":       {set(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), nil, "another use"},
		"no EKU":             {set(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), nil, "another use"},
		"any EKU":            {set(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), nil, "another use"},
		"any is configured":  {set(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), func(w *world, _ *gatewaytest.ListSigner) { w.cfg.WhiteList.EKU = x509.ExtKeyUsageAny }, ""},
		"key for encryption": {set(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), nil, "not for signatures"},
		"expired":            {set(func(c *x509.Certificate) { c.NotAfter = clock.Add(-time.Second) }), nil, "expired"},
		"not yet valid":      {set(func(c *x509.Certificate) { c.NotBefore = clock.Add(time.Minute) }), nil, "not yet valid"},
		"revoked": {good, func(w *world, s *gatewaytest.ListSigner) {
			w.inter.crl(w.file("inter.crl"), clock.Add(time.Hour), s.Cert.SerialNumber)
		}, "revoked"},
		"issuer revoked": {good, func(w *world, s *gatewaytest.ListSigner) {
			w.root.crl(w.file("root.crl"), clock.Add(time.Hour), w.inter.cert.SerialNumber)
		}, "revoked"},
		"stale CRL": {good, func(w *world, s *gatewaytest.ListSigner) { w.inter.crl(w.file("inter.crl"), clock.Add(-time.Hour)) }, "renewed by"},
		"no CRL":    {good, func(w *world, s *gatewaytest.ListSigner) { os.Remove(w.file("inter.crl")) }, "CRL"},
		"weak key":  {func(w *world) *gatewaytest.ListSigner { return w.inter.signer(nil, weak(w.t)) }, nil, "too short"},
	} {
		t.Run(name, func(t *testing.T) {
			w := listedWorld(t)
			signer := c.signer(w)
			if c.world != nil {
				c.world(w, signer)
			}
			raw := sign(t, signer, plain)
			w.keep(raw)
			s := w.space()
			err := s.Doubt("unlisted.test")
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if s.Listed("a.test") != (c.want == "") {
				t.Error("listed or not, against the doubt")
			}
		})
	}
}

func weak(t testing.TB) *ecdsa.PrivateKey { return newKey(t, elliptic.P224()) }

// A list that is in force binds peers in both directions; what it lists without a readable DN has no peer.
func TestListBindsPeers(t *testing.T) {
	w := listedWorld(t)
	w.keep(sign(t, w.inter.signer(nil, nil), list(clock.Add(-time.Hour), entry{Domain: "liste.test", DN: dnOf("mx.peer.test")}, entry{Domain: "autre.liste.test", DN: dnOf("other.test")},
		entry{Domain: "sans.test", DN: "?"}, entry{Domain: "valide.test", DN: dnOf("new.test")})))
	s := w.space()
	peer := w.inter.issue(peerName, nil, nil)
	admit := func(s *Space, peer tls.Certificate, domain string) error {
		t.Helper()
		_, ss, _, err := shake(t, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &peer, nil }}, s.ServerTLS())
		if err != nil {
			t.Fatal(err)
		}
		return s.AdmitPeer(ss, domain)
	}
	for domain, want := range map[string]string{"liste.test": "", "LISTE.test.": "", "autre.liste.test": WrongName, "sans.test": WrongName, "sub.liste.test": NotListed, "": "",
		"valide.test": "", "deux.test": ""} { // the last two by the config
		if got := reason(admit(s, peer, domain)); got != want {
			t.Errorf("%q: got %q, want %q", domain, got, want)
		}
	}
	if err := admit(s, w.inter.issue(name("new.test"), nil, nil), "valide.test"); err != nil {
		t.Errorf("config and list both count: %v", err)
	}
	if err := admit(s, w.inter.issue(name("new.test"), nil, nil), ""); err != nil {
		t.Errorf("null sender of a peer of the list: %v", err)
	}
	if got := reason(admit(s, w.inter.issue(name("nobody.test"), nil, nil), "")); got != WrongName {
		t.Errorf("null sender of nobody: %q", got)
	}
	// Too old: the config's own names go on, the rest waits.
	now := clock.Add(72*time.Hour - time.Second)
	w.cfg.Now = func() time.Time { return now }
	w.inter.crl(w.file("inter.crl"), clock.Add(100*time.Hour))
	w.root.crl(w.file("root.crl"), clock.Add(100*time.Hour))
	s = w.space()
	for domain, want := range map[string]string{"liste.test": ListUnknown, "valide.test": "", "deux.test": "", "sub.liste.test": NotListed, "": ""} {
		err := admit(s, peer, domain)
		if got := strings.TrimSuffix(reason(err), " later"); got != want {
			t.Errorf("too old, %q: got %q, want %q", domain, got, want)
		}
		if e := (*Error)(nil); want == ListUnknown && (!errors.As(err, &e) || !e.Later) {
			t.Errorf("%q: %v does not say later", domain, err)
		}
	}
	if err := s.Doubt("liste.test"); err == nil || !strings.Contains(err.Error(), "older than 72h") || !s.Listed("liste.test") || s.Doubt("nowhere.test") != nil || s.Doubt("valide.test") != nil {
		t.Errorf("doubt: %v", err)
	}
	if st := s.WhiteList(); st.Doubt == "" || !st.Alarm || st.Skipped != 1 || st.Domains != 4 {
		t.Errorf("status %+v", st)
	}
	_, _, err := s.ClientTLS("liste.test")
	if e := (*Error)(nil); !errors.As(err, &e) || e.Reason != ListUnknown || !e.Later {
		t.Errorf("towards it: %v", err)
	}
}

// Where none was ever loaded nothing can be said of any domain but those of the config.
func TestNeverLoaded(t *testing.T) {
	w := listedWorld(t)
	s := w.space()
	for domain, doubtful := range map[string]bool{"valide.test": false, "gmail.com": true, "liste.test": true} {
		if err := s.Doubt(domain); (err != nil) != doubtful {
			t.Errorf("%s: %v", domain, err)
		}
	}
	if _, _, err := s.ClientTLS("liste.test"); reason(err) != ListUnknown+" later" {
		t.Errorf("got %v", err)
	}
	if _, _, err := s.ClientTLS("valide.test"); err != nil {
		t.Error(err)
	}
	if st := s.WhiteList(); !strings.Contains(st.Doubt, "never loaded") || !st.Alarm {
		t.Errorf("status %+v", st)
	}
	// One that is broken on the disk is as good as none.
	raw := sign(t, w.inter.signer(nil, nil), list(clock, entries(3)...))
	w.keep(bytes.Replace(raw, []byte("d1.mssante"), []byte("dx.mssante"), 1))
	if err := w.space().Doubt("d2.mssante.test"); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Errorf("a changed file: %v", err)
	}
	w.keep(raw)
	if s := w.space(); s.Doubt("gmail.com") != nil || !s.Listed("d2.mssante.test") {
		t.Error("a good file is not in force")
	}
	w.cfg.Now = func() time.Time { return clock.Add(-4 * time.Hour) }
	if err := w.space().Doubt("x.test"); err == nil { // the certificates are not valid yet either
		t.Error("a list of the future is in force")
	}
}

func TestListOfTheFuture(t *testing.T) {
	w := listedWorld(t)
	s := w.space()
	signer := w.inter.signer(nil, nil)
	for ahead, want := range map[time.Duration]bool{0: true, 2 * time.Hour: true, 4 * time.Hour: false} {
		raw := sign(t, signer, list(clock.Add(ahead), entries(1)...))
		if _, err := s.readWhiteList(bytes.NewReader(raw), 0); (err == nil) != want {
			t.Errorf("%s ahead: %v", ahead, err)
		}
	}
}

// A reload of the config keeps the list; settings that it is not good under are refused.
func TestListOutlivesReload(t *testing.T) {
	w := listedWorld(t)
	w.keep(sign(t, w.inter.signer(nil, nil), list(clock, entries(3)...)))
	first := w.space()
	os.Remove(filepath.Join(w.cfg.WhiteList.StateDir, listName))
	change := func(f func(*WhiteListConfig)) (*Space, error) {
		cfg := w.cfg
		c := *w.cfg.WhiteList
		f(&c)
		cfg.WhiteList, cfg.Former = &c, first
		return New(cfg)
	}
	s, err := change(func(c *WhiteListConfig) { c.MaxAge, c.Shrink = time.Hour, 0.5 })
	if err != nil || !s.Listed("d1.mssante.test") || s.Doubt("d1.mssante.test") != nil {
		t.Errorf("%v", err)
	}
	if _, err := change(func(c *WhiteListConfig) { c.CN = "another" }); err == nil {
		t.Error("a signer who did not sign the list in force was taken")
	}
	if s, err := change(func(c *WhiteListConfig) { c.URL = "https://127.0.0.1:2/other" }); err != nil || s.Doubt("d1.mssante.test") == nil {
		t.Errorf("another list's domains count: %v", err)
	}
	cfg := w.cfg
	cfg.WhiteList, cfg.Former = nil, first
	if s, err := New(cfg); err != nil || s.Listed("d1.mssante.test") || s.Doubt("x.test") != nil || s.WhiteList() != nil {
		t.Errorf("without a list: %v", err)
	}
}

func TestShow(t *testing.T) {
	w := listedWorld(t)
	w.keep(sign(t, w.inter.signer(nil, nil), list(clock, entry{Domain: "valide.test", DN: "CN=a, O=\"B  C\""})))
	names, err := w.space().Show("VALIDE.test")
	if fmt.Sprint(names, err) != "[["+dnOf("mx.peer.test")+" config] [CN=a,O=B C white list]] <nil>" {
		t.Errorf("got %v %v", names, err)
	}
}

// What is said of a domain is said of one state of the list, also while it changes.
func TestAskIsOneMoment(t *testing.T) {
	w := listedWorld(t)
	w.keep(sign(t, w.inter.signer(nil, nil), list(clock, entries(3)...)))
	s := w.space()
	good := s.lister.force.Load()
	stop := make(chan struct{})
	var swap sync.WaitGroup
	swap.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.lister.force.Store(nil)
				s.lister.force.Store(good)
			}
		}
	})
	for range 20000 {
		if listed, doubt := s.Ask("d1.mssante.test"); !listed && doubt == nil {
			t.Fatal("a listed domain was said to be unlisted")
		}
	}
	close(stop)
	swap.Wait()
}
