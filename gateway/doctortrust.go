package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/relay"
	"passerelle/gateway/trust"
)

// ownCertificate looks at the certificate that the trust space sees: what peers will say of it.
func (d *doctor) ownCertificate(_ context.Context, s *sheet) {
	named := d.cfg.Trust.OwnDomains
	if d.cfg.Trust.Client() { // the list names our operator's certificate
		named = nil
	}
	for _, step := range d.space.InspectOwn(named) {
		var e *trust.Error
		switch {
		case step.Name == "validity" && step.Err == nil:
			judge(s, "", "our certificate", time.Duration(d.space.DaysLeft()*float64(aDay)), ordered)
			s.step(step.Name)
			continue
		case step.Err == nil:
			s.ok("", "%s", step.Found)
		case errors.As(step.Err, &e) && e.Reason == trust.NotListed && d.staticList():
			s.warn("", inWords(step.Err), "peers look it up in their list; add our own domains to trust.domains to have our DN compared here")
		case errors.As(step.Err, &e) && e.Later:
			s.warn("", inWords(step.Err), trustRemedies[step.Name])
		default:
			s.fail("", inWords(step.Err), ownRemedies[step.Name])
		}
		s.step(step.Name)
	}
}

// staticList: trust.domains is all there is.
func (d *doctor) staticList() bool { return d.WhiteList() == nil }

// whiteList tells how the signed list is that is kept: it was verified again as it was read. Its source is asked whether it is there.
func (d *doctor) whiteList(ctx context.Context, s *sheet) {
	l := d.WhiteList()
	if l == nil {
		s.ok("", "not configured: trust.domains is the list")
		return
	}
	const remedy = "passerelle whitelist status tells more; passerelle whitelist refresh looks for a newer one now"
	switch {
	case l.Doubt != "":
		s.fail(l.Source, l.Doubt+": mail of the trust space waits", remedy)
	case l.Alarm:
		s.warn(l.Source, fmt.Sprintf("%s old; at %s mail of the trust space waits", inTime(l.Age), inTime(l.MaxAge)), remedy)
	default:
		s.ok(l.Source, "%s old, %d domains", inTime(l.Age), l.Domains)
	}
	if l.Signer != "" {
		s.ok(l.Source, "signed by %s, whose certificate ends on %s", l.Signer, l.SignerUntil.Format(time.DateOnly))
	}
	if l.Fault != "" {
		s.warn(l.Source, "the last look: "+l.Fault, remedy)
	}
	if l.Skipped > 0 {
		s.warn(l.Source, fmt.Sprintf("%d entries of it cannot be read", l.Skipped), "tell ANS; mail for those domains takes no way of the trust space")
	}
	if w := l.Waiting; w != nil {
		s.warn(l.Source, fmt.Sprintf("a list with %d fewer domains waits for you", w.Lost), "passerelle whitelist accept shows what it changes")
	}
	d.reach(ctx, s, l.Source, d.cfg.Trust.WhiteList.URL, d.cfg.Trust.WhiteList.CA)
}

func inTime(d time.Duration) string {
	if d < 2*aDay {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int(d/aDay))
}

var ownRemedies = map[string]string{
	"certificate": "trust.cert must be the PEM chain, our certificate first",
	"chain":       "trust.cert must hold the intermediate certificates, trust.ca the roots; the certificate must be for servers (EKU)",
	"validity":    "the clock is wrong, or the certificate's time has not come or is over: put a good one in place",
	"key":         "order a certificate with RSA 2048 bits or more",
	"revocation":  "it is revoked: peers refuse it; order another one",
	"dn":          "have the MSSanté operator's contract (ANS) name the DN of this certificate for our domains, or use the certificate that it names",
}

var trustRemedies = map[string]string{
	"server":      "look at the DNS, or name the server in trust.hosts",
	"connect":     "is port 25 outward open in the firewall (trust.port)? else their server is away: mail waits",
	"banner":      "their server takes no mail from us now: mail waits; ask their operator",
	"hello":       "their server takes no mail from us: it may not know our address or our certificate; ask their operator",
	"starttls":    "without TLS nothing is sent: ask their operator",
	"certificate": "ask their operator",
	"chain":       "is their root in trust.ca? else the certificate is not of the trust space: ask their operator",
	"validity":    "their operator must put a new certificate in place; mail waits",
	"key":         "their operator must order a certificate with a stronger key",
	"revocation":  "revoked: their operator must change it. Unknown: look whether the CRL's address can be reached from here",
	"dn":          "their certificate is not the one that the white list names for the domain: ask their operator; mail waits",
	"verdict":     "see the steps above",
}

// step names what the last finding is about.
func (s *sheet) step(name string) {
	if n := len(s.list); n > 0 {
		s.list[n-1].Step = name
	}
}

// inWords is an error of the trust space without its grammar.
func inWords(err error) string {
	var e *trust.Error
	if errors.As(err, &e) {
		return e.Reason + ": " + e.Err.Error()
	}
	return err.Error()
}

// revocation asks all who can tell that our own certificate was revoked, and tells of those who were asked about others.
func (d *doctor) revocation(ctx context.Context, s *sheet) {
	list := d.space.Witnesses(ctx)
	if len(list) == 0 {
		s.warn("", "nobody is asked: a revoked certificate of the trust space is not noticed", "let trust.revocation fetch lists, or name one in trust.crl")
	}
	for _, w := range list {
		said := "answers"
		if !w.Until.IsZero() {
			said = "its list is good until " + w.Until.UTC().Format(time.RFC3339)
		}
		switch {
		case w.Fault == nil:
			s.ok(w.Name, "%s", said)
		case w.Kind == "file":
			s.fail(w.Name, w.Fault.Error(), "what renews the file has stopped; let trust.revocation.fetch do it")
		default: // another may tell the same; where nobody does, trust.certificate and trust.peer say so
			s.warn(w.Name, w.Fault.Error(), "is the way out open for it (port 80)? without a fresh word mail waits once the grace is over")
		}
		s.step(w.Kind)
	}
}

// peer speaks with a domain's servers up to EHLO under TLS, and tells each step. Nothing of a message is sent.
func (d *doctor) peer(ctx context.Context, s *sheet, domain string) {
	settings, check, err := d.space.ClientTLS(domain)
	if err != nil {
		s.fail(domain, inWords(err), "mail for it takes no way of the trust space; is it written as in the list?")
		s.step("list")
		return
	}
	hop, err := d.trustHop(domain)
	var hops []relay.Hop
	if err == nil {
		hops, err = d.serversOf(ctx, hop, domain)
	}
	if err != nil {
		why := err
		if f := (*fault)(nil); errors.As(err, &f) && f.err != nil {
			why = f.err
		}
		s.fail(domain, "no server: "+why.Error(), trustRemedies["server"])
		s.step("server")
		return
	}
	from := "by its MX"
	if _, named := d.set.hops["trust:"+domain]; named {
		from = "by trust.hosts"
	}
	var addrs []string
	for _, h := range hops {
		addrs = append(addrs, h.Addr)
	}
	s.ok(domain, "%s (%s)", strings.Join(addrs, ", "), from)
	s.step("server")
	// The settings without what they verify: a bad certificate is to be looked at, and judged below.
	settings = settings.Clone()
	settings.VerifyConnection = nil
	sheets := make([]*sheet, len(hops))
	good := false
	for i, hop := range hops {
		sheets[i] = &sheet{check: s.check}
		hop.TLS = relay.TLS{Mode: relay.Encrypt, Config: settings}
		seen, err := d.relay.Examine(ctx, hop)
		d.peerSteps(sheets[i], domain, hop.Addr, seen, err, check)
		good = good || Worst(sheets[i].list) != Fail
	}
	for _, one := range sheets {
		for _, f := range one.list {
			if f.Level == Fail && (good || d.cfg.Trust.Client()) {
				f.Level = Warn // another server of the domain takes its mail, or our operator speaks with it
			}
			s.list = append(s.list, f)
		}
	}
}

// peerSteps tells what was seen of one server.
func (d *doctor) peerSteps(s *sheet, domain, addr string, seen relay.Seen, err error, check func(tls.ConnectionState) error) {
	about := domain + " " + addr
	note := func(step string, ok bool, words string) {
		if ok {
			s.ok(about, "%s", words)
			s.step(step)
		}
	}
	note("connect", seen.Addr != "", "connects to "+seen.Addr)
	note("banner", seen.Banner != "", "greets: "+seen.Banner)
	note("hello", len(seen.Extensions) > 0, "EHLO: "+strings.Join(seen.Extensions, " "))
	note("starttls", seen.TLS != nil, tlsWords(seen.TLS))
	if err != nil {
		step := "connect"
		if e := (*relay.Error)(nil); errors.As(err, &e) {
			step = e.Step
		}
		s.list = slices.DeleteFunc(s.list, func(f Finding) bool { return f.Step == step && step != "hello" })
		s.fail(about, cause(err), trustRemedies[step])
		s.step(step)
	}
	if seen.TLS == nil {
		return
	}
	for _, step := range d.space.Inspect(*seen.TLS, domain) {
		if step.Err == nil {
			s.ok(about, "%s", step.Found)
		} else {
			s.fail(about, inWords(step.Err), trustRemedies[step.Name])
		}
		s.step(step.Name)
	}
	if verr := check(*seen.TLS); verr != nil { // what mail goes by
		s.fail(about, "mail for "+domain+" does not go there: "+inWords(verr), trustRemedies["verdict"])
	} else if err == nil {
		s.ok(about, "mail for %s may go there", domain)
	} else {
		return
	}
	s.step("verdict")
}

// operator opens a session for each mailbox at our MSSanté operator, as a letter would, with who we are.
func (d *doctor) operator(ctx context.Context, s *sheet) {
	for _, seen := range d.greetOperator(ctx) {
		if seen.err != nil {
			s.fail(seen.who, "its MSSante mail waits: "+cause(seen.err), "look at the certificate, the token command and the operator's service page; see trust.submission")
		} else {
			s.ok(seen.who, "%s lets it in", d.cfg.Trust.Submission.Addr)
		}
	}
}

// collected logs in to each mailbox that is collected.
func (d *doctor) collected(ctx context.Context, s *sheet) {
	all, err := d.tryMailboxes(ctx, d.cfg)
	if err != nil {
		s.fail("", err.Error(), "mend collect")
	}
	for _, b := range all {
		if b.err != nil {
			s.fail(b.name, "its mail waits at "+b.addr+": "+b.err.Error(), "look at the certificate, the token command and the operator's service page; see collect")
		} else {
			s.ok(b.name, "%s lets it in, its folder is there", b.addr)
		}
	}
}

// trustListener knocks at our own door as a peer does: does it show the certificate that is on the disk?
func (d *doctor) trustListener(ctx context.Context, s *sheet) {
	addr := d.cfg.Listen.Trust.Addr
	if addr == "" {
		s.ok("", "not configured: no other operator writes to us directly")
		return
	}
	settings := d.space.OperatorTLS(d.set.hostname, nil)
	settings.VerifyConnection = nil
	seen, err := d.relay.Examine(ctx, relay.Hop{Name: "listen.trust", Addr: dialable(addr), Helo: d.set.hostname, TLS: relay.TLS{Mode: relay.Encrypt, Config: settings}})
	switch {
	case err != nil && seen.TLS == nil:
		s.fail(addr, "does not greet with TLS: "+cause(err), "is the gateway running? its log says why")
	case !d.space.IsOwn(seen.TLS.PeerCertificates):
		s.warn(addr, "shows another certificate than trust.cert has", "reload the gateway (systemctl reload passerelle); it reads the files again every quarter of an hour by itself")
	case err != nil:
		s.warn(addr, "refuses our own certificate: "+cause(err), "see trust.certificate")
	default:
		s.ok(addr, "greets with trust.cert, %s", tlsWords(seen.TLS))
	}
}

// sources tells how old the directory is and what its sources last said.
func (d *doctor) sources(ctx context.Context, s *sheet) {
	st := d.directory.Status()
	age := func() string { return fmt.Sprintf("the extraction is %d days old", int(st.Age/aDay)) }
	if f := d.cfg.Directory.Fetch; f.URL != "" {
		d.reach(ctx, s, "fetch", f.URL, f.CA)
	}
	const remedy = "passerelle directory status tells more; passerelle directory refresh fetches it now"
	wanted := d.cfg.Directory.Extraction != "" || d.cfg.Directory.Fetch.URL != ""
	switch {
	case st.Fault != "" && (st.Configured || wanted):
		s.fail("extraction", st.Fault, remedy)
	case !st.Configured && !wanted:
		s.ok("extraction", "not configured")
	case st.Age > d.cfg.Directory.AlarmAge.Std():
		s.warn("extraction", fmt.Sprintf("%s; at %s mail for the trust space waits", age(), d.cfg.Directory.MaxAge), remedy)
	default:
		s.ok("extraction", "%s, %d mailboxes", age(), st.Entries)
	}
	for _, f := range [][3]string{{"import", st.ImportFault, remedy}, {"fetch", st.FetchFault, remedy}, {"list", st.ListFault, "mend directory.list; the former content answers"}} {
		if f[1] != "" {
			s.warn(f[0], f[1], f[2])
		}
	}
	if d.cfg.Directory.List != "" && st.ListFault == "" {
		s.ok("list", "%d entries", st.Contacts)
	}
	answers, warnings := d.CheckSources(ctx, d.cfg)
	for _, a := range answers {
		s.ok("remote", "%s", a)
	}
	for _, w := range warnings {
		s.warn("remote", w, "look at the source's address, key and certificate; docs/operations.md tells of each")
	}
	if st.CertificatesOver > 0 {
		s.warn("list", fmt.Sprintf("%d certificates of the list have run out", st.CertificatesOver), "ask those correspondents for new ones")
	}
}
