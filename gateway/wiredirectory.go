package gateway

import (
	"slices"
	"time"

	"passerelle/config"
	"passerelle/gateway/directory"
)

// directoryConfig is the directory as the config wants it. The trust space, where there is one, stands already.
func (g *Gateway) directoryConfig(cfg *config.Config) directory.Config {
	d, f := cfg.Directory, cfg.Directory.Fetch
	c := directory.Config{StateDir: cfg.StateDir, ExtractionFile: d.Extraction, ListFile: d.List,
		Fetch:  directory.FetchConfig{URL: f.URL, Every: f.Every.Std(), CA: f.CA, RedirectHosts: f.RedirectHosts, Shrink: f.Shrink.Share()},
		MaxAge: time.Duration(d.MaxAge), AlarmAge: time.Duration(d.AlarmAge), Precedence: d.Precedence, KeyFiles: cfg.Encrypt.Keys,
		Known: slices.Concat(cfg.Clinic.Domains, cfg.Trust.OwnDomains), Now: g.now, Log: g.log}
	if g.key != ([32]byte{}) {
		c.OpenSecret = newSecretSealer(g.key).open
	}
	for domain := range cfg.Trust.Domains {
		c.Known = append(c.Known, domain)
	}
	for domain := range g.set.partners {
		if domain[0] != '*' {
			c.Known = append(c.Known, domain)
		}
	}
	slices.Sort(c.Known) // of two that are as near the first is named, always the same
	listed := func(string) bool { return false }
	if g.space != nil {
		listed = g.space.Listed
	}
	if f := d.FHIR; f.URL != "" && f.Ask != "never" {
		c.FHIR = &directory.FHIRConfig{URL: f.URL, APIKey: directory.Secret(f.APIKey.Reveal()), CA: f.CA}
		c.FHIRAsking = directory.Asking{Every: f.Every.Std(), MaxAge: f.MaxAge.Std(), Timeout: f.Timeout.Std(), OnMail: f.Ask == "mail", Verifies: true, About: notPatients(cfg, listed)}
	}
	if l := d.LDAP; l.URL != "" && l.Ask != "never" {
		c.LDAP = &directory.LDAPConfig{URL: l.URL, Base: l.Base, Filter: l.Filter, BindDN: l.BindDN, Password: directory.Secret(l.Password.Reveal()), PasswordFile: l.PasswordFile,
			StartTLS: l.StartTLS, Clear: l.Clear, CA: l.CA, Timeout: l.Timeout.Std(), SizeLimit: l.SizeLimit, MSS: l.MSS, Attributes: directory.LDAPAttributes(l.Attributes)}
		about := listed
		if len(l.Domains) > 0 {
			own := set(l.Domains)
			about = func(domain string) bool { return own[domain] }
		}
		c.LDAPAsking = directory.Asking{Every: l.Every.Std(), MaxAge: l.MaxAge.Std(), Timeout: l.Timeout.Std(), OnMail: l.Ask == "mail", Verifies: l.Verifies, About: notPatients(cfg, about)}
	}
	return c
}

// notPatients leaves the patients' domain out of what a source is asked about: a patient's address is nobody's business there.
func notPatients(cfg *config.Config, about func(string) bool) func(string) bool {
	patients := set([]string{cfg.Trust.PatientDomain})
	return func(domain string) bool { return !patients[domain] && about(domain) }
}
