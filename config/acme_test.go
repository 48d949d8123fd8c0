package config

import (
	"strings"
	"testing"
)

func TestPortalACME(t *testing.T) {
	const head = "clinic: {domains: [clinique.example], networks: [127.0.0.1]}\nstate_dir: /tmp\nhops: {clinic: {addr: '127.0.0.1:1'}, internet: {addr: '127.0.0.1:2'}}\npickup: {url: URL}\nlisten: {portal: {"
	for portal, want := range map[string]string{
		"acme: {email: a@clinique.example}":                                          "",
		"acme: {email: a@clinique.example, http_addr: ':80'}":                        "",
		"acme: {domains: [courrier.clinique.example]}":                               "listen.portal.acme.domains: needs listen.portal.acme.email",
		"acme: {email: nobody}":                                                      "listen.portal.acme.email: \"nobody\" is no mail address",
		"acme: {email: a@clinique.example, domains: ['*.clinique.example']}":         "no wildcard",
		"acme: {email: a@clinique.example, domains: [192.0.2.1]}":                    "no address",
		"acme: {email: a@clinique.example, ca: 'http://ca.example/dir'}":             "listen.portal.acme.ca: must be https",
		"acme: {email: a@clinique.example, ca_root: /nowhere/ca.pem}":                "listen.portal.acme.ca_root: /nowhere/ca.pem: no such file",
		"acme: {email: a@clinique.example, http_addr: 80}":                           "listen.portal.acme.http_addr: \"80\" is no host:port",
		"cert: /etc/hostname, key: /etc/hostname, acme: {email: a@clinique.example}": "listen.portal.acme: and listen.portal.cert are two ways",
	} {
		c, err := Parse("c.yaml", []byte(strings.Replace(head, "URL", "https://Courrier.clinique.example", 1)+portal+"}}\n"), noenv)
		if want == "" {
			if err != nil || len(c.Listen.Portal.ACME.Domains) != 1 || c.Listen.Portal.ACME.Domains[0] != "courrier.clinique.example" {
				t.Errorf("%s: %v", portal, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", portal, err, want)
		}
	}
	if _, err := Parse("c.yaml", []byte(strings.Replace(head, "URL", "http://127.0.0.1:8443", 1)+"acme: {email: a@clinique.example}}}\n"), noenv); err == nil || !strings.Contains(err.Error(), "needs pickup.url with https") {
		t.Errorf("without https: %v", err)
	}
}
