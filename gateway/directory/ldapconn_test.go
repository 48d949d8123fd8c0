package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"passerelle/gateway/gatewaytest"
)

const jean = "jean.martin@medecin.mssante.test"

// TestLDAPServerGoesAndComes: a dead connection is replaced, an absent server could not be asked, and nothing has to be restarted.
func TestLDAPServerGoesAndComes(t *testing.T) {
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)}, doctor("a", jean))
	l := openLDAP(t, ldapFor(s))
	restart := func() {
		t.Helper()
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop := func() {
		t.Helper()
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	found(t, l, jean, 1)
	found(t, l, jean, 1)
	if n := strings.Count(s.LogText(), "ACCEPT from"); n != 2 { // one was the look whether it listens
		t.Errorf("%d connections for two questions one after the other", n-1)
	}
	stop()
	unasked(t, l, jean, "connect")
	restart()
	found(t, l, jean, 1)
	stop() // and back before anybody asks
	restart()
	found(t, l, jean, 1)

	// Four connections, all dead at once.
	var wg sync.WaitGroup
	all := func() {
		for range 8 {
			wg.Go(func() {
				if recs, err := l.ask(t.Context(), address(t, jean)); err != nil || len(recs) != 1 {
					t.Errorf("%d records, %v", len(recs), err)
				}
			})
		}
		wg.Wait()
	}
	all()
	stop()
	restart()
	all()
}

// TestLDAPServerHangs: it holds a question no longer than its timeout, also while it was answering before, and is asked again when
// it lives again.
func TestLDAPServerHangs(t *testing.T) {
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)}, doctor("a", jean))
	cfg := ldapFor(s)
	cfg.Timeout = time.Second
	l := openLDAP(t, cfg)
	found(t, l, jean, 1)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	paused := true
	defer func() {
		if paused {
			s.Resume()
		}
	}()
	var wg sync.WaitGroup
	start := time.Now()
	for range 12 { // more than connections: who waits for one has his deadline too
		wg.Go(func() { unasked(t, l, jean, late) })
	}
	wg.Wait()
	if took := time.Since(start); took > 10*cfg.Timeout {
		t.Errorf("took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := l.ask(ctx, address(t, jean)); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	paused = false
	found(t, l, jean, 1)
}

// TestLDAPTLS: without a certificate that verifies, the server hears nothing but the request for TLS.
func TestLDAPTLS(t *testing.T) {
	other, err := gatewaytest.NewCA("autre")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "other.pem"), string(other.CertPEM()))
	heard := func(t *testing.T, s *gatewaytest.Slapd) {
		t.Helper()
		if log := s.LogText(); strings.Contains(log, "BIND") || strings.Contains(log, "SRCH") || !strings.Contains(log, "ACCEPT") {
			t.Errorf("it heard more than the request for TLS:\n%s", log)
		}
	}
	t.Run("StartTLS refused", func(t *testing.T) {
		s := slapd(t, gatewaytest.SlapdOptions{}, doctor("a", jean))
		cfg := ldapFor(s)
		cfg.CA = filepath.Join(dir, "other.pem")
		unasked(t, openLDAP(t, cfg), jean, "begin TLS: the server answers ")
		cfg.Clear = true // a leave, not an order
		unasked(t, openLDAP(t, cfg), jean, "begin TLS: the server answers ")
		heard(t, s)
	})
	t.Run("unknown authority", func(t *testing.T) {
		s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)}, doctor("a", jean))
		for _, url := range []string{"ldap://" + s.Addr(), "ldaps://" + s.TLSAddr()} {
			for _, ca := range []string{"", filepath.Join(dir, "other.pem")} { // "": the system's roots
				cfg := ldapFor(s)
				cfg.URL, cfg.CA = url, ca
				unasked(t, openLDAP(t, cfg), jean, "certificate")
			}
		}
		heard(t, s)
	})
	t.Run("another name", func(t *testing.T) {
		s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)}, doctor("a", jean))
		cfg := ldapFor(s)
		cfg.URL = fmt.Sprintf("ldap://localhost:%d", s.Port)
		found(t, openLDAP(t, cfg), jean, 1)
		for _, url := range []string{"ldap://" + forward(t, s.Addr()), "ldaps://" + forward(t, s.TLSAddr())} {
			cfg.URL = url
			unasked(t, openLDAP(t, cfg), jean, "certificate")
		}
		if n := strings.Count(s.LogText(), "SRCH base"); n != 1 {
			t.Errorf("%d searches, want the first alone:\n%s", n, s.LogText())
		}
	})
}

// TestLDAPReplacedFiles: password and authority may be replaced while it runs, as certificates are.
func TestLDAPReplacedFiles(t *testing.T) {
	s := slapd(t, gatewaytest.SlapdOptions{CA: authority(t)}, doctor("a", jean))
	other, err := gatewaytest.NewCA("autre")
	if err != nil {
		t.Fatal(err)
	}
	cfg := ldapFor(s)
	dir := t.TempDir()
	cfg.Password, cfg.PasswordFile, cfg.CA = "", filepath.Join(dir, "password"), filepath.Join(dir, "ca.pem")
	writeFile(t, cfg.PasswordFile, "former")
	writeFile(t, cfg.CA, string(other.CertPEM()))
	l := openLDAP(t, cfg)
	unasked(t, l, jean, "certificate")
	writeFile(t, cfg.CA, string(authority(t).CertPEM()))
	unasked(t, l, jean, "49 (Invalid Credentials)")
	writeFile(t, cfg.PasswordFile, gatewaytest.SlapdPassword+"\r\n")
	found(t, l, jean, 1)
	writeFile(t, cfg.PasswordFile, "")
	found(t, l, jean, 1) // bound already
	l.(*ldapSource).pool.forget()
	unasked(t, l, jean, "password")
}

// forward is the server under an address that its certificate does not hold.
func forward(t *testing.T, to string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				c.Close()
				continue
			}
			wg.Go(func() { io.Copy(s, c); s.Close() })
			wg.Go(func() { io.Copy(c, s); c.Close() })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func TestLDAPSettings(t *testing.T) {
	dir := t.TempDir()
	empty, noCert := filepath.Join(dir, "empty"), filepath.Join(dir, "no.pem")
	writeFile(t, empty, "\n")
	writeFile(t, noCert, "no certificate")
	good := LDAPConfig{URL: "ldap://annuaire.test", Base: "dc=x", Filter: "(mail=%s)", MSS: "*", BindDN: "cn=x", Password: "hunter2", StartTLS: true,
		Attributes: LDAPAttributes{Address: "mail"}}
	l := openLDAP(t, good)
	if text := fmt.Sprintf("%v %+v %#v", l, l.(*ldapSource).pool, l.(*ldapSource).cfg); strings.Contains(text, "hunter2") {
		t.Errorf("shows the password: %s", text)
	}
	if l.name() != "ldap" {
		t.Error(l.name())
	}
	for name, c := range map[string]struct {
		change func(*LDAPConfig)
		why    string
	}{
		"no host":               {func(c *LDAPConfig) { c.URL = "ldap://" }, "url"},
		"web":                   {func(c *LDAPConfig) { c.URL = "https://annuaire.test" }, "url"},
		"user in url":           {func(c *LDAPConfig) { c.URL = "ldap://a:hunter2@annuaire.test" }, "url"},
		"clear":                 {func(c *LDAPConfig) { c.StartTLS = false }, "in clear"},
		"no placeholder":        {func(c *LDAPConfig) { c.Filter = "(mail=x)" }, "%s"},
		"two placeholders":      {func(c *LDAPConfig) { c.Filter = "(|(mail=%s)(cn=%s))" }, "%s"},
		"broken filter":         {func(c *LDAPConfig) { c.Filter = "(mail=%s" }, "filter"},
		"no mss":                {func(c *LDAPConfig) { c.MSS = "" }, "mss"},
		"no address":            {func(c *LDAPConfig) { c.Attributes.Address = "" }, "address"},
		"no password":           {func(c *LDAPConfig) { c.Password = "" }, "password"},
		"nobody's password":     {func(c *LDAPConfig) { c.BindDN = "" }, "bind_dn"},
		"empty password file":   {func(c *LDAPConfig) { c.PasswordFile = empty }, "password"},
		"missing password file": {func(c *LDAPConfig) { c.PasswordFile = empty + "x" }, "no such file"},
		"missing ca":            {func(c *LDAPConfig) { c.CA = empty + "x" }, "no such file"},
		"ca without any":        {func(c *LDAPConfig) { c.CA = noCert }, "no certificate"},
	} {
		cfg := good
		c.change(&cfg)
		if _, err := newLDAP(cfg, fixed); err == nil || !strings.Contains(err.Error(), c.why) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
	}
	for url, addr := range map[string]string{"ldap://a.test": "a.test:389", "ldaps://a.test/": "a.test:636", "ldap://[::1]:3890": "[::1]:3890"} {
		if got, _, _, err := (LDAPConfig{URL: url, StartTLS: true}).endpoint(); got != addr || err != nil {
			t.Errorf("%s: %s, %v", url, got, err)
		}
	}
}

// FuzzLDAPRecords: values of any bytes give records that are clean, bounded and about the address that was asked for.
func FuzzLDAPRecords(f *testing.F) {
	f.Add("jean.martin@medecin.mssante.test", "MARTIN\x00\xff", "PER")
	f.Add("SMTP:jean.martin@medecin.mssante.test", strings.Repeat("é", 600), "\u2028")
	f.Fuzz(func(t *testing.T, mail, name, kind string) {
		src := &ldapSource{now: fixed, cfg: LDAPConfig{Attributes: LDAPAttributes{Address: "mail", LastName: "sn", Kind: "kind", RPPS: "sn"}}}
		e := ldap.NewEntry("cn=a", map[string][]string{"MAIL": {mail, mail + "x"}, "sn": {name, kind}, "kind": {kind}})
		recs, err := src.records(jean, []*ldap.Entry{e})
		if err != nil {
			return
		}
		for _, r := range recs {
			if r.Address != jean || len(r.LastName) > maxField+8 || r.Kind != "" && !isKind(r.Kind) || strings.ContainsFunc(r.LastName+r.ID, isControl) {
				t.Errorf("%+v", r)
			}
		}
		if same := sameAddress(mail, jean); same && !strings.EqualFold(strings.TrimPrefix(strings.ToLower(mail), "smtp:"), jean) && !strings.ContainsFunc(mail, func(r rune) bool { return r > '~' || r == '"' }) {
			t.Errorf("%q was taken for %s", mail, jean)
		}
	})
}
