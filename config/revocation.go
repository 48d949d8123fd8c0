package config

import (
	"crypto/tls"
	"net/url"
	"slices"
	"strings"
	"time"
)

// TrustRevocation is how it is learnt that a certificate of the trust space was revoked (Référentiel #2, ECO.1.1.6 and 1.1.7).
type TrustRevocation struct {
	// Fetch: the lists are fetched that certificates of the trust space name. Unset: yes, but no where trust.crl names a file.
	Fetch *bool `yaml:"fetch"`
	// CRL are further lists, files or URLs, for CAs whose certificates name none.
	CRL []string `yaml:"crl"`
	// OCSP: off, fallback (where no list tells), prefer (before the lists) or require. Unset: fallback, but off where trust.crl names a file.
	OCSP string `yaml:"ocsp"`
	// OCSPURL is asked about peers in the place of the responders that their certificates name.
	OCSPURL string   `yaml:"ocsp_url"`
	Every   Duration `yaml:"every"`
	Timeout Duration `yaml:"timeout"`
	// Grace is how long a list or an answer counts beyond its end. Unset: 4h for what is fetched, none for files.
	Grace *Duration `yaml:"grace"`
	// MaxAge bounds an OCSP answer that promises more.
	MaxAge Duration `yaml:"max_age"`
	// NoSource is what becomes of a peer whose certificate names neither list nor responder, where none is configured: wait or accept.
	// IGC-Santé names both; test authorities often none.
	NoSource string `yaml:"no_source"`
}

func defaultRevocation() TrustRevocation {
	return TrustRevocation{Every: Duration(time.Hour), Timeout: Duration(5 * time.Second), MaxAge: Duration(7 * day), NoSource: "wait"}
}

// TrustTLS is what sessions of the trust space may speak.
type TrustTLS struct {
	Min string `yaml:"min"`
	Max string `yaml:"max"`
	// Suites of TLS 1.2 by their IANA names; those of TLS 1.3 are not chosen.
	Suites []string `yaml:"suites"`
}

// Fetches is Fetch with its default.
func (t TrustSpace) Fetches() bool {
	if f := t.Revocation.Fetch; f != nil {
		return *f
	}
	return t.CRL == ""
}

// AsksOCSP is Revocation.OCSP with its default.
func (t TrustSpace) AsksOCSP() string {
	switch {
	case t.Revocation.OCSP != "":
		return t.Revocation.OCSP
	case t.CRL == "":
		return "fallback"
	}
	return "off"
}

// Graces are those of files and of what is fetched.
func (t TrustSpace) Graces() (files, fetched time.Duration) {
	if g := t.Revocation.Grace; g != nil {
		return g.Std(), g.Std()
	}
	return 0, 4 * time.Hour
}

// Lists tells files and URLs of CRL and Revocation.CRL apart.
func (t TrustSpace) Lists() (files, urls []string) {
	if t.CRL != "" {
		files = append(files, t.CRL)
	}
	for _, l := range t.Revocation.CRL {
		if isURL(l) {
			urls = append(urls, l)
		} else {
			files = append(files, l)
		}
	}
	return files, urls
}

func isURL(s string) bool { return strings.Contains(s, "://") }

// IDs gives the settings as crypto/tls has them.
func (t TrustTLS) IDs() (least, most uint16, suites []uint16) {
	for _, name := range t.Suites {
		if s := suite(name); s != nil {
			suites = append(suites, s.ID)
		}
	}
	return tlsVersions[t.Min], tlsVersions[t.Max], suites
}

var tlsVersions = map[string]uint16{"": 0, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// suite gives a suite of TLS 1.2 with forward secrecy. ECO.1.1.3 lists one with CBC and SHA-256, which Go offers only to who names it.
func suite(name string) *tls.CipherSuite {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.Name == name && slices.Contains(s.SupportedVersions, tls.VersionTLS12) && (!s.Insecure || s.ID == tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256) {
			return s
		}
	}
	return nil
}

// notInGo is of ECO.1.1.3, so that who copies that list is understood; it is not offered.
const notInGo = "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"

func (v *validator) revocation() {
	r, key := v.c.Trust.Revocation, "trust.revocation"
	if r.OCSP != "" {
		v.oneOf(key+".ocsp", r.OCSP, "off", "fallback", "prefer", "require")
	}
	for i, l := range r.CRL {
		if at := index(key+".crl", i); isURL(l) {
			v.caURL(at, l)
		} else {
			v.file(at, l)
		}
	}
	v.caURL(key+".ocsp_url", r.OCSPURL)
	v.oneOf(key+".no_source", r.NoSource, "wait", "accept")
	for _, d := range []struct {
		key         string
		d           Duration
		least, most time.Duration
	}{{"every", r.Every, time.Minute, 7 * 24 * time.Hour}, {"timeout", r.Timeout, 100 * time.Millisecond, 30 * time.Second}, {"max_age", r.MaxAge, time.Minute, 366 * 24 * time.Hour}} {
		if k := join(key, d.key); v.ok(k) && (d.d.Std() < d.least || d.d.Std() > d.most) {
			v.fault(k, "must be from %s to %s", d.least, d.most)
		}
	}
	if k := key + ".grace"; r.Grace != nil && v.ok(k) && r.Grace.Std() > 7*24*time.Hour {
		v.fault(k, "must be 7d at most: so long a revoked certificate may pass")
	}
}

// caURL is http as a rule: what a CA signed needs no other proof.
func (v *validator) caURL(key, s string) {
	if s == "" || !v.ok(key) {
		return
	}
	if u, err := url.Parse(s); err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		v.fault(key, "is no URL (http://host/...)")
	}
}

func (v *validator) trustTLS() {
	t := v.c.Trust.TLS
	for _, f := range [][2]string{{"min", t.Min}, {"max", t.Max}} {
		if f[1] != "" {
			v.oneOf("trust.tls."+f[0], f[1], "1.2", "1.3")
		}
	}
	if t.Min == "1.3" && t.Max == "1.2" && v.ok("trust.tls") {
		v.fault("trust.tls.max", "is below trust.tls.min")
	}
	for i, name := range t.Suites {
		if name != notInGo && suite(name) == nil {
			v.fault(index("trust.tls.suites", i), "%q is no suite of TLS 1.2 that may be offered here (write TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)", name)
		}
	}
	if _, _, ids := t.IDs(); len(t.Suites) > 0 && len(ids) == 0 && v.ok("trust.tls.suites") {
		v.fault("trust.tls.suites", "none of these can be offered")
	}
}
