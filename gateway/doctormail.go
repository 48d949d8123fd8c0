package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/relay"
)

// hops greets every next hop as a letter would, with TLS as it must be shown.
func (d *doctor) hops(ctx context.Context, s *sheet) {
	for _, h := range lookAtHops(ctx, d.relay, d.hopsOf(d.cfg)) {
		addr := d.cfg.Hops[h.name].Addr
		switch {
		case h.ours(d.set.hostname):
			s.fail(h.name, fmt.Sprintf("%s answers as %s, which is this gateway: mail would go round in a circle", addr, d.set.hostname), "hops."+h.name+".addr must be the next server's")
		case h.err != nil:
			s.fail(h.name, fmt.Sprintf("%s takes no mail, which waits: %v", addr, cause(h.err)), "start that server, or mend hops."+h.name)
		default:
			s.ok(h.name, "%s greets as %s, %s", addr, firstWord(h.Banner), tlsWords(h.TLS))
		}
	}
}

// cause is what happened, without the words that a sender would be told.
func cause(err error) string {
	var e *relay.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	if e.Err == nil {
		return e.Step + ": " + e.Text
	}
	return e.Step + ": " + e.Err.Error()
}

func firstWord(text string) string {
	if f := strings.Fields(text); len(f) > 0 {
		return f[0]
	}
	return "nobody"
}

func tlsWords(cs *tls.ConnectionState) string {
	if cs == nil {
		return "without TLS"
	}
	return tls.VersionName(cs.Version) + " " + tls.CipherSuiteName(cs.CipherSuite)
}

// term says from which time left a certificate's end is spoken of.
type term struct{ warns, urges, fails time.Duration }

const aDay = 24 * time.Hour

var (
	// ordered by people: IGC-Santé renews only what is still valid, on request.
	ordered = term{60 * aDay, 30 * aDay, 7 * aDay}
	// public certificates are renewed by a program, some a fortnight before their end.
	public = term{10 * aDay, 5 * aDay, 2 * aDay}
)

// judge tells of the time that a certificate has left.
func judge(s *sheet, about, what string, left time.Duration, t term) {
	said := fmt.Sprintf("%s: %d days left", what, int(left/aDay))
	switch {
	case left <= 0:
		s.fail(about, fmt.Sprintf("%s: ended %d days ago", what, int(-left/aDay)), "put the new certificate in its place now")
	case left < t.fails:
		s.fail(about, said, "put the new certificate in its place now: at its end mail stops")
	case left < t.urges:
		s.warn(about, said, "the new certificate should be there by now: ask where it is")
	case left < t.warns:
		s.warn(about, said, "order the next one while this one is valid")
	default:
		s.ok(about, "%s", said)
	}
}

// certificates tells how long each certificate of ours is good for, as the metric does.
func (d *doctor) certificates(_ context.Context, s *sheet) {
	days := d.certificateDays()
	for _, name := range slices.Sorted(maps.Keys(days)) {
		t := ordered
		if strings.HasPrefix(name, "listen.") {
			t = public
		}
		judge(s, name, "our certificate", time.Duration(days[name]*float64(aDay)), t)
	}
}

// dns asks for the names that the config has, and where the trust space finds us.
func (d *doctor) dns(ctx context.Context, s *sheet) {
	names := map[string]string{} // name -> the key that has it
	for name, h := range d.cfg.Hops {
		names[hostOf(h.Addr)] = "hops." + name
	}
	for domain, addr := range d.cfg.Trust.Hosts {
		names[hostOf(addr)] = "trust.hosts." + domain
	}
	asked := 0
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if net.ParseIP(name) != nil || name == "" {
			continue
		}
		asked++
		began := time.Now()
		addrs, err := d.resolver().LookupHost(ctx, name)
		if err != nil {
			s.fail(name, fmt.Sprintf("%s cannot be found: %v", names[name], err), "look at /etc/resolv.conf and at the name")
			continue
		}
		s.ok(name, "%d addresses, in %s", len(addrs), time.Since(began).Round(time.Millisecond))
	}
	if d.cfg.Listen.Trust.Addr != "" {
		for _, own := range d.cfg.Trust.OwnDomains {
			asked++
			d.ownMX(ctx, s, own)
		}
	}
	if asked == 0 {
		s.ok("", "not asked: the config has addresses alone")
	}
}

func (d *doctor) resolver() *net.Resolver {
	if d.o.Resolver != nil {
		return d.o.Resolver
	}
	return net.DefaultResolver
}

// ownMX: other operators look for us there.
func (d *doctor) ownMX(ctx context.Context, s *sheet, own string) {
	const remedy = "have the domain's DNS name this gateway's public host as MX"
	mxs, err := d.resolver().LookupMX(ctx, own+".")
	dnsErr := (*net.DNSError)(nil)
	switch {
	case errors.As(err, &dnsErr) && dnsErr.IsNotFound:
		s.warn(own, "has no MX: the trust space writes to the host of that name, if it is one", remedy)
	case len(mxs) == 0:
		s.fail(own, fmt.Sprintf("its MX cannot be asked for: %v", err), "look at /etc/resolv.conf")
	default:
		var hosts []string
		for _, mx := range mxs {
			hosts = append(hosts, strings.TrimSuffix(mx.Host, "."))
		}
		s.ok(own, "MX %s", strings.Join(hosts, ", "))
	}
}
