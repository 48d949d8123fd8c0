package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"passerelle/policy"
)

// validator holds the decoded file against what it must mean. It changes nothing but Config.Policy.
type validator struct {
	*decoder
	c     *Config
	files func(string) error
}

func (v *validator) all() {
	v.general()
	v.clinic()
	v.listeners()
	v.limits()
	v.rules()
	v.hops()
	v.trust()
	v.inbound()
	v.collect()
	v.directory()
	v.encrypt()
	v.pickup()
	v.sms()
	v.dkim()
	v.keys()
	v.sign()
	v.expect()
}

func (v *validator) general() {
	v.oneOf("mode", v.c.Mode, "enforce", "observe")
	v.oneOf("log.level", v.c.Log.Level, "debug", "info", "warn", "error")
	if v.c.Hostname != "" && (v.seen("hostname") || v.ok("clinic.domains")) { // what was made from a faulty domain is no second fault
		v.domain("hostname", v.c.Hostname)
	}
	if v.c.StateDir == "" {
		v.fault("state_dir", "must be set: deposits and the ledger live there")
	}
	v.file("key_file", v.c.KeyFile)
	for i, h := range v.c.Headers.Keep {
		if strings.ContainsFunc(h, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
			v.fault(index("headers.keep", i), "%q is no name of a header field", h)
		}
	}
}

// longestQueue is how long the ledger remembers (ledger.Config.Memory): who was served while others wait would get the message again behind it.
const longestQueue = Duration(7 * day)

func (v *validator) clinic() {
	c := v.c.Clinic
	if len(c.Domains) == 0 && v.ok("clinic.domains") {
		v.fault("clinic.domains", "must name the clinic's own mail domains")
	}
	v.domains("clinic.domains", c.Domains)
	v.domains("recipients.domains", v.c.Recipients.Domains)
	if len(c.Networks) == 0 && v.ok("clinic.networks") {
		v.fault("clinic.networks", "must name who may send: nobody could")
	}
	v.networks("clinic.networks", c.Networks)
	if c.QueueLifetime.Std() < day/24 && v.ok("clinic.queue_lifetime") {
		v.fault("clinic.queue_lifetime", "must be an hour at least, as the clinic server's own (Postfix: maximal_queue_lifetime)")
	}
	if c.QueueLifetime > longestQueue && v.ok("clinic.queue_lifetime") {
		v.fault("clinic.queue_lifetime", "must be %s at most, also where the clinic server's own is longer: for so long it is remembered who has a message already", longestQueue)
	}
	if c.Postmaster != "" && (v.seen("clinic.postmaster") || v.ok("clinic.domains")) {
		v.address("clinic.postmaster", c.Postmaster)
	}
}

func (v *validator) listeners() {
	l := v.c.Listen
	v.tls("listen.lmtp", l.LMTP.TLSDir, l.LMTP.Cert, l.LMTP.Key)
	v.tls("listen.smtp", l.SMTP.TLSDir, l.SMTP.Cert, l.SMTP.Key)
	v.tls("listen.portal", l.Portal.TLSDir, l.Portal.Cert, l.Portal.Key)
	v.acme()
	v.tls("listen.addressbook", l.Addressbook.TLSDir, l.Addressbook.Cert, l.Addressbook.Key)
	v.tls("listen.ldap", l.LDAP.TLSDir, l.LDAP.Cert, l.LDAP.Key)
	v.networks("listen.addressbook.networks", l.Addressbook.Networks)
	v.networks("listen.ldap.networks", l.LDAP.Networks)
	if !baseDN.MatchString(l.LDAP.Base) && v.ok("listen.ldap.base") {
		v.fault("listen.ldap.base", "%q is no plain distinguished name (o=annuaire, or dc=clinique,dc=example)", l.LDAP.Base)
	}
	v.file("listen.lmtp.client_ca", l.LMTP.ClientCA)
	v.file("listen.smtp.client_ca", l.SMTP.ClientCA)
	for key, need := range map[string]bool{"listen.lmtp": l.LMTP.RequireTLS && l.LMTP.Cert == "", "listen.smtp": l.SMTP.RequireTLS && l.SMTP.Cert == ""} {
		if need {
			v.fault(key+".require_tls", "needs a certificate: set cert and key, or tls_dir")
		}
	}
	if l.LMTP.Addr == "" && l.SMTP.Addr == "" && !v.broken["listen"] {
		v.fault("listen", "lmtp and smtp are both off: no mail could come in")
	}
	for key, need := range map[string]bool{"listen.lmtp": l.LMTP.ImplicitTLS && l.LMTP.Cert == "", "listen.smtp": l.SMTP.ImplicitTLS && l.SMTP.Cert == "",
		"listen.ldap": l.LDAP.ImplicitTLS && l.LDAP.Cert == ""} {
		if need {
			v.fault(key+".implicit_tls", "needs a certificate: set cert and key, or tls_dir")
		}
	}
	doors := v.doors()
	for i, a := range doors {
		if !v.hostport(a.key, a.addr) {
			continue
		}
		for _, b := range doors[:i] {
			if same(a.addr, b.addr, v.c.Hostname) && !strings.HasSuffix(a.addr, ":0") {
				v.fault(a.key, "%s is taken by %s", a.addr, b.key)
			}
		}
	}
}

func (v *validator) limits() {
	l := v.c.Limits
	positive := func(key string, n int64) {
		if n <= 0 && v.ok(key) {
			v.fault(key, "must be more than 0")
		}
	}
	positive("limits.message", int64(l.Message))
	positive("limits.memory", int64(l.Memory))
	positive("limits.spill", int64(l.Spill))
	positive("limits.recipients", int64(l.Recipients))
	positive("limits.received", int64(l.Received))
	positive("limits.sessions", int64(l.Sessions))
	positive("limits.sessions_per_client", int64(l.SessionsPerClient))
	positive("limits.idle", int64(l.Idle))
	within := func(key string, d, low, high Duration) {
		if (d < low || d > high) && v.ok(key) {
			v.fault(key, "must be between %s and %s", low, high)
		}
	}
	within("relay.timeout", v.c.Relay.Timeout, Duration(time.Second), Duration(5*time.Minute))
	within("relay.slow_after", v.c.Relay.SlowAfter, Duration(100*time.Millisecond), Duration(5*time.Minute))
	positive("directory.max_age", int64(v.c.Directory.MaxAge))
	within("directory.fetch.every", v.c.Directory.Fetch.Every, Duration(10*time.Minute), Duration(7*day))
	positive("directory.alarm_age", int64(v.c.Directory.AlarmAge))
	positive("pickup.expiry", int64(v.c.Pickup.Expiry))
	positive("sms.timeout", int64(v.c.SMS.Timeout))
}

func (v *validator) rules() {
	sound, before := v.ok("rules"), maps.Clone(v.broken)
	u := v.c.Trust.ListedUnverified
	if u != policy.Trust && u != policy.Refuse {
		v.fault("trust.listed_unverified", "%q is not trust or refuse: mail for a listed domain never takes an Internet route", string(u))
		u = policy.Trust
	}
	var own []string
	for _, d := range v.c.Clinic.Domains {
		a, _ := idna.Lookup.ToASCII(d)
		own = append(own, a)
	}
	p, err := policy.Compile(v.c.Rules, policy.Options{ListedUnverified: u, ClinicDomains: own, Scope: v.c.Encrypt.Scope, Limits: v.c.Encrypt.Limits.ByForm()})
	for _, e := range split(err) {
		var r *policy.RuleError
		if errors.As(e, &r) {
			if key := index("rules", r.Index) + "." + r.Field; !before[key] && !before[index("rules", r.Index)] {
				text, _, _ := strings.Cut(r.Err.Error(), "\n") // the rest is an excerpt with a caret
				v.fault(key, "%s", text)
			}
		} else {
			v.fault("rules", "%v", e)
		}
	}
	for i, r := range v.c.Rules {
		if _, known := v.c.Hops[r.Hop]; r.Hop != "" && !known {
			v.fault(index("rules", i)+".hop", "hops.%s does not stand in this file", r.Hop)
		}
		if r.Notify != "" {
			v.address(index("rules", i)+".notify", r.Notify)
		}
	}
	if sound { // a matcher that could not be read is no matcher: nothing follows from such a table
		v.c.Policy = p
	}
}

// split takes joined errors apart.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// enhancedCode is a permanent one (RFC 3463 section 2).
var enhancedCode = regexp.MustCompile(`^5\.\d{1,3}\.\d{1,3}$`)

func (v *validator) trust() {
	t := v.c.Trust
	for i, f := range t.CA {
		key := index("trust.ca", i)
		if !v.seen(key) { // a single value, or made from tls_dir
			key = "trust.ca"
		}
		v.file(key, f)
	}
	v.file("trust.cert", t.Cert)
	v.file("trust.key", t.Key)
	v.file("trust.crl", t.CRL)
	v.revocation()
	v.trustTLS()
	v.whiteList()
	if (t.Cert == "") != (t.Key == "") && (t.Client() || v.c.Collects()) && v.ok("trust.cert") && v.ok("trust.key") {
		v.fault("trust.cert", "cert and key must be set together")
	}
	if len(t.Domains) > 0 || t.WhiteList.URL != "" || v.c.Listen.Trust.Addr != "" || t.Client() {
		for _, f := range [][2]string{{"ca", strings.Join(t.CA, "")}, {"cert", t.Cert}, {"key", t.Key}} {
			if f[1] == "" && (f[0] == "ca" || !t.Client() || v.c.Listen.Trust.Addr != "") { // a client has its own (submission.go)
				v.fault("trust."+f[0], "must be set (or tls_dir) where trust.domains, trust.white_list or listen.trust is")
			}
		}
		if len(t.OwnDomains) == 0 && v.ok("trust.own_domains") {
			v.fault("trust.own_domains", "must name the clinic's domains in the trust space")
		}
	}
	v.domains("trust.own_domains", t.OwnDomains)
	for _, d := range sortedKeys(t.Domains) {
		v.domain(join("trust.domains", d), d)
		if len(t.Domains[d]) == 0 && v.ok(join("trust.domains", d)) {
			v.fault(join("trust.domains", d), "must name the distinguished names that may speak for the domain")
		}
	}
	for _, d := range sortedKeys(t.Hosts) {
		v.domain(join("trust.hosts", d), d)
		if key := join("trust.hosts", d); v.hostport(key, t.Hosts[d]) {
			v.loop(key, t.Hosts[d])
		}
	}
	if t.Port < 1 || t.Port > 65535 {
		v.fault("trust.port", "%d is no port", t.Port)
	}
	for _, d := range sortedKeys(t.Limits) {
		key := join("trust.limits", d)
		v.domain(key, d)
		if t.Limits[d].MaxConns < 0 {
			v.fault(key+".max_conns", "must not be negative")
		}
	}
	if f := t.Patients.Header; strings.ContainsFunc(f, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		v.fault("trust.patients.header", "%q is no name of a header field", f)
	}
	for i, c := range t.Patients.NoMailbox {
		if !enhancedCode.MatchString(c) {
			v.fault(index("trust.patients.no_mailbox", i), "%q is no code such as 5.1.1", c)
		}
	}
	v.oneOf("trust.documents.check", t.Documents.Check, "note", "refuse")
	if p := t.Documents.Product; len(p) > 60 || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' }) {
		v.fault("trust.documents.product", "%q is no product reference: letters, digits and signs without blanks, 60 at most", p)
	}
	v.domain("trust.patient_domain", t.PatientDomain)
	v.submission()
	v.identities()
}

func (v *validator) directory() {
	if e := v.c.Directory.Extraction; e != "" {
		if err := v.files(filepath.Dir(e)); err != nil {
			v.fault("directory.extraction", "folder %s: %v", filepath.Dir(e), err)
		}
	}
	v.file("directory.list", v.c.Directory.List)
	f := v.c.Directory.Fetch
	if f.URL != "" {
		v.weburl("directory.fetch.url", f.URL, false)
		if strings.HasPrefix(strings.ToLower(f.URL), "http:") && v.ok("directory.fetch.url") {
			v.fault("directory.fetch.url", "must begin with https://: who is verified hangs on it")
		}
	}
	v.file("directory.fetch.ca", f.CA)
	for i, h := range f.RedirectHosts {
		if key := index("directory.fetch.redirect_hosts", i); v.ok(key) && (!isHost(h) || h != strings.ToLower(h)) {
			v.fault(key, "%q is no host name in lower case", h)
		}
	}
	if f.Shrink < 1 || f.Shrink > 90 {
		v.fault("directory.fetch.shrink", "must be between 1%% and 90%%: beyond it passerelle directory import --force takes a single file")
	}
	v.oneOf("directory.known_as", v.c.Directory.KnownAs, "off", "suggest", "redirect")
	for i, p := range v.c.Directory.Precedence {
		key := index("directory.precedence", i)
		v.oneOf(key, p, "extraction", "fhir", "ldap")
		if slices.Index(v.c.Directory.Precedence, p) < i {
			v.fault(key, "%s stands twice", p)
		}
	}
	d := v.c.Directory
	for _, s := range []struct {
		name string
		on   bool
	}{{"extraction", d.Extraction != "" || d.Fetch.URL != ""}, {"fhir", d.FHIR.URL != "" && d.FHIR.Ask != "never"}, {"ldap", d.LDAP.URL != "" && d.LDAP.Ask != "never"}} {
		if s.on && len(d.Precedence) > 0 && !slices.Contains(d.Precedence, s.name) {
			v.fault("directory.precedence", "lacks %s, which is configured: it would not be asked", s.name)
		}
	}
	v.fhir()
	v.ldap()
}

func (v *validator) encrypt() {
	for _, who := range sortedKeys(v.c.Encrypt.Keys) {
		key := join("encrypt.keys", who)
		if d, ok := strings.CutPrefix(who, "@"); ok {
			v.domain(key, d)
		} else {
			v.address(key, who)
		}
		if v.c.Encrypt.Keys[who] == "" && v.ok(key) {
			v.fault(key, "must name a key file")
		}
		v.file(key, v.c.Encrypt.Keys[who])
	}
	v.oneOf("encrypt.min_trust", v.c.Encrypt.MinTrust, "seen", "discovered", "verified", "confirmed")
	v.keySources()
	v.oneOf("encrypt.smime.cipher", v.c.Encrypt.SMIME.Cipher, "auto", "gcm", "cbc")
	v.oneOf("encrypt.pdf.mode", v.c.Encrypt.PDF.Mode, "each", "whole")
	v.oneOf("encrypt.scope", v.c.Encrypt.Scope, policy.ScopeMessage, policy.ScopeAttachments)
	v.oneOf("encrypt.unclear", v.c.Encrypt.Unclear, "seal", "refuse")
	if strings.ContainsAny(v.c.Encrypt.Subject, "\r\n") {
		v.fault("encrypt.subject", "must be one line")
	}
}

func (v *validator) sms() {
	s := v.c.SMS
	if s.URL != "" {
		v.weburl("sms.url", s.URL.Reveal(), false)
	}
	v.oneOf("sms.method", s.Method, "POST", "PUT", "GET")
	if _, err := s.Template(); err != nil {
		v.fault("sms.body", "is no template over .To and .Text (functions: json, query)") // the text itself may hold a key
	}
	v.smsCredit()
}

func (v *validator) expect() {
	for i, e := range v.c.Expect {
		key := index("expect", i)
		if e.From != "" && e.From != "<>" {
			v.address(key+".from", e.From)
		}
		v.address(key+".to", e.To)
		if !slices.Contains([]policy.Route{policy.Local, policy.Trust, policy.Encrypt, policy.Pickup, policy.Plain, policy.Refuse, policy.Later}, e.Route) {
			v.fault(key+".route", "%q is no route: local, trust, encrypt, pickup, plain, refuse, later", string(e.Route))
		}
	}
}

// reaches tells whether some mail may leave by the route. Where the rules are faulty nothing follows from them.
func (v *validator) reaches(r policy.Route) bool { return v.c.Policy != nil && v.c.Policy.Reaches(r) }

// why says whether a rule or the safe default behind the last rule leads there.
func (v *validator) why(r policy.Route) string {
	for _, rule := range v.c.Rules {
		if rule.Route == r {
			return fmt.Sprintf("rule %q routes to %s", rule.Name, r)
		}
	}
	return fmt.Sprintf("mail that no rule settles takes %s", r)
}
