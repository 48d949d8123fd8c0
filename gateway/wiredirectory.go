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
	for domain := range cfg.Trust.Domains {
		c.Known = append(c.Known, domain)
	}
	for domain := range g.set.partners {
		if domain[0] != '*' {
			c.Known = append(c.Known, domain)
		}
	}
	slices.Sort(c.Known) // of two that are as near the first is named, always the same
	if g.space != nil {
		c.Askable = g.space.Listed
	}
	return c
}
