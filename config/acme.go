package config

import (
	"net/netip"
	"net/url"
	"strings"
)

// PortalACME gets the portal's certificate by itself (RFC 8555), in the place of files.
type PortalACME struct {
	// Email is where the authority warns of what fails; set, it switches this on and agrees to the authority's terms.
	Email string `yaml:"email"`
	// Domains are in the certificate; none is the host of pickup.url.
	Domains []string `yaml:"domains"`
	// CA is the authority's directory.
	CA string `yaml:"ca"`
	// CARoot is a PEM file with what is believed about that host, in the place of the system's roots.
	CARoot string `yaml:"ca_root"`
	// HTTPAddr listens while a name is proved by HTTP-01: port 80 of the domains must lead to it. "" proves by TLS-ALPN-01 (RFC 8737) on
	// listen.portal: port 443 must lead there, untouched by a proxy.
	HTTPAddr string `yaml:"http_addr"`
}

// On tells whether certificates are got by ACME.
func (a PortalACME) On() bool { return a.Email != "" }

const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// completeACME takes the domain from what patients see.
func (c *Config) completeACME() {
	a := &c.Listen.Portal.ACME
	if u, err := url.Parse(c.Pickup.URL); err == nil && a.On() && len(a.Domains) == 0 && u.Hostname() != "" {
		a.Domains = []string{strings.ToLower(u.Hostname())}
	}
}

func (v *validator) acme() {
	const key = "listen.portal.acme"
	p := v.c.Listen.Portal
	a := p.ACME
	if !a.On() {
		for name, set := range map[string]bool{"domains": len(a.Domains) > 0, "ca_root": a.CARoot != "", "http_addr": a.HTTPAddr != ""} {
			if set {
				v.fault(key+"."+name, "needs %s.email, which switches ACME on", key)
			}
		}
		return
	}
	v.address(key+".email", a.Email)
	if p.Cert != "" {
		v.fault(key, "and listen.portal.cert are two ways to a certificate: take one")
	}
	if v.c.Pickup.URL == "" || strings.HasPrefix(strings.ToLower(v.c.Pickup.URL), "http:") {
		v.fault(key, "needs pickup.url with https://")
	}
	for i, d := range a.Domains {
		at := index(key+".domains", i)
		if !v.seen(at) {
			at = key
		}
		if _, err := netip.ParseAddr(d); err == nil || strings.HasPrefix(d, "*") {
			v.fault(at, "%q is no name that can be proved here: no address, no wildcard", d)
			continue
		}
		v.domain(at, d)
	}
	v.weburl(key+".ca", a.CA, false)
	v.file(key+".ca_root", a.CARoot)
	v.hostport(key+".http_addr", a.HTTPAddr)
}
