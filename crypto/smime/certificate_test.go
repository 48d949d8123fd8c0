package smime

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"
)

func TestUsable(t *testing.T) {
	for name, c := range map[string]struct {
		algo string
		edit func(*x509.Certificate)
		want string // "" is usable
	}{
		"rsa":                {"rsa", nil, ""},
		"p256":               {"p256", nil, ""},
		"no usages":          {"rsa", func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = 0, nil }, ""},
		"any usage":          {"p384", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, ""},
		"sign and encrypt":   {"rsa", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature }, ""},
		"to come":            {"rsa", func(c *x509.Certificate) { c.NotBefore = now.AddDate(0, 0, 1) }, "not valid before 2026-11-24"},
		"over":               {"rsa", func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 0, -1) }, "ran out on 2026-11-22"},
		"signing only":       {"rsa", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, "keyUsage"},
		"agreement by RSA":   {"rsa", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, "keyUsage"},
		"encipherment by EC": {"p256", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, "keyUsage"},
		"server":             {"p256", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "extendedKeyUsage"},
		"unknown usage alone": {"p256", func(c *x509.Certificate) {
			c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{{1, 2, 3}}
		}, "extendedKeyUsage"},
		"short": {"rsa1024", nil, "less than 2048"},
		"curve": {"p224", nil, "curve other than"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPerson(t, c.algo, c.edit)
			err := Usable(p.cert, now)
			var e *CertificateError
			if (c.want == "") != (err == nil) || err != nil && (!errors.As(err, &e) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if Usable(nil, now) == nil {
		t.Error("none is usable")
	}
}

func TestAnnounced(t *testing.T) {
	gcm, all := capable(oidAES256GCM), capable(oidAES256CBC, oidAES256GCM, oidOAEP)
	broken := func(c *x509.Certificate) {
		all(c)
		e := &c.ExtraExtensions[0]
		e.Value = append(e.Value, 0)
	}
	for name, c := range map[string]struct {
		algo string
		edit func(*x509.Certificate)
		want Suite
	}{
		"nothing": {"p256", nil, Compatible}, "elliptic": {"p256", gcm, Modern}, "RSA without OAEP": {"rsa", gcm, Compatible},
		"RSA": {"rsa", all, Modern}, "broken": {"rsa", broken, Compatible},
	} {
		if got := Announced([]*x509.Certificate{newPerson(t, c.algo, c.edit).cert}); got != c.want {
			t.Errorf("%s: got %s", name, got.Type())
		}
	}
	if Announced([]*x509.Certificate{newPerson(t, "p256", gcm).cert, newPerson(t, "p256", nil).cert}) != Compatible || Announced(nil) != Compatible {
		t.Error("one who announces nothing does not count")
	}
}
