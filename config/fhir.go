package config

import (
	"net/url"
	"time"
)

// FHIR is the national directory's API (Annuaire Santé, FHIR v2), asked about addresses of the trust space.
type FHIR struct {
	// URL is its base, https://gateway.api.esante.gouv.fr/fhir/v2; "" if it is not asked.
	URL string `yaml:"url"`
	// APIKey is sent as ESANTE-API-KEY.
	APIKey Secret `yaml:"api_key"`
	// CA verifies the server's certificate in the place of the system's roots.
	CA string `yaml:"ca"`
	// Ask is never, background (for addresses that were asked before), or mail: while the message waits, timeout at most.
	Ask string `yaml:"ask"`
	// Every is the age at which an answer is asked for again.
	Every Duration `yaml:"every"`
	// MaxAge makes an older answer "could not ask".
	MaxAge  Duration `yaml:"max_age"`
	Timeout Duration `yaml:"timeout"`
}

func defaultFHIR() FHIR {
	return FHIR{Ask: "background", Every: Duration(day), MaxAge: Duration(21 * day), Timeout: Duration(2 * time.Second)}
}

func (v *validator) fhir() {
	f := v.c.Directory.FHIR
	v.oneOf("directory.fhir.ask", f.Ask, "never", "background", "mail")
	v.file("directory.fhir.ca", f.CA)
	// One address is three calls of the 17 a second that a key is allowed; more than once an hour tells nothing new.
	if (f.Every < Duration(time.Hour) || f.Every > 21*Duration(day)) && v.ok("directory.fhir.every") {
		v.fault("directory.fhir.every", "must be between 1h and 21d")
	}
	if (f.Timeout < Duration(100*time.Millisecond) || f.Timeout > Duration(20*time.Second)) && v.ok("directory.fhir.timeout") {
		v.fault("directory.fhir.timeout", "must be between 100ms and 20s: the mail waits for it")
	}
	if f.MaxAge < f.Every && v.ok("directory.fhir.max_age") && v.ok("directory.fhir.every") {
		v.fault("directory.fhir.max_age", "must not be less than every: an answer would be too old before it is asked for again")
	}
	if f.URL == "" {
		return
	}
	v.weburl("directory.fhir.url", f.URL, true)
	if u, err := url.Parse(f.URL); err == nil && f.APIKey == "" && !loopback(u.Hostname()) && v.ok("directory.fhir.api_key") {
		v.fault("directory.fhir.api_key", "must be set: the national service answers nobody without one")
	}
}
