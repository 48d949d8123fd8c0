package config

import (
	"crypto/tls"
	"fmt"
	"testing"
	"time"
)

// TestRevocationDefaults: where a file is named nothing is fetched, unless it is said; where none is, everything is asked.
func TestRevocationDefaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                "fetch true, OCSP fallback, files [] for 0s more, URLs [] for 4h0m0s",
		"crl: /ok/c.pem":  "fetch false, OCSP off, files [/ok/c.pem] for 0s more, URLs [] for 4h0m0s",
		"tls_dir: /trust": "fetch false, OCSP off, files [/trust/crl.pem] for 0s more, URLs [] for 4h0m0s",
		"crl: /ok/c.pem, revocation: {fetch: true, ocsp: require}":             "fetch true, OCSP require, files [/ok/c.pem] for 0s more, URLs [] for 4h0m0s",
		"revocation: {fetch: false, ocsp: off}":                                "fetch false, OCSP off, files [] for 0s more, URLs [] for 4h0m0s",
		"revocation: {grace: 0s}":                                              "fetch true, OCSP fallback, files [] for 0s more, URLs [] for 0s",
		"revocation: {grace: 30m, crl: [/ok/a.crl, \"http://ca.test/b.crl\"]}": "fetch true, OCSP fallback, files [/ok/a.crl] for 30m0s more, URLs [http://ca.test/b.crl] for 30m0s",
	} {
		s := parse(t, small+"trust: {"+text+"}\n", noenv).Trust
		files, urls := s.Lists()
		a, b := s.Graces()
		if got := fmt.Sprintf("fetch %v, OCSP %s, files %s for %s more, URLs %s for %s", s.Fetches(), s.AsksOCSP(), files, a, urls, b); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
	if r := Default().Trust.Revocation; r.Every.Std() != time.Hour || r.Timeout.Std() != 5*time.Second || r.MaxAge.Std() != 7*24*time.Hour {
		t.Errorf("defaults %+v", r)
	}
}

// TestSuitesOfECO: the list of ECO.1.1.3 as it stands is understood.
func TestSuitesOfECO(t *testing.T) {
	s := parse(t, small+`trust: {tls: {max: "1.2", suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256]}}`, noenv).Trust.TLS
	least, most, ids := s.IDs()
	if got := fmt.Sprintf("%d %#x %#x", least, most, ids); got != fmt.Sprintf("0 %#x [0xc030 0xc02f 0xc027]", tls.VersionTLS12) {
		t.Errorf("got %s", got)
	}
}
