package config

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"passerelle/policy"
)

// door is one of our own listeners.
type door struct{ key, addr string }

// doors lists the listeners that are open.
func (v *validator) doors() []door {
	l := v.c.Listen
	all := []door{
		{"listen.lmtp.addr", l.LMTP.Addr}, {"listen.smtp.addr", l.SMTP.Addr}, {"listen.trust.addr", l.Trust.Addr},
		{"listen.portal.addr", l.Portal.Addr}, {"listen.metrics.addr", l.Metrics.Addr},
		{"listen.addressbook.addr", l.Addressbook.Addr}, {"listen.ldap.addr", l.LDAP.Addr},
	}
	return slices.DeleteFunc(all, func(d door) bool { return d.addr == "" })
}

// hops checks each hop, that the two with a meaning are there where mail may need them, and that none leads back to us: a message that
// the gateway hands to itself would go round until its Received limit.
func (v *validator) hops() {
	for _, name := range sortedKeys(v.c.Hops) {
		h, key := v.c.Hops[name], join("hops", name)
		v.oneOf(key+".tls", h.TLS, "none", "opportunistic", "encrypt", "verify")
		v.file(key+".ca", h.CA)
		v.file(key+".cert", h.Cert)
		v.file(key+".key", h.Key)
		if (h.Cert == "") != (h.Key == "") && v.ok(key+".cert") && v.ok(key+".key") {
			v.fault(key+".cert", "cert and key go together")
		}
		v.partner(name, key, h)
		if h.MaxConns < 0 {
			v.fault(key+".max_conns", "must not be negative")
		}
		if h.Addr == "" {
			if !v.broken[key] && v.ok(key+".addr") {
				v.fault(key+".addr", "must be set (host:port)")
			}
			continue
		}
		if v.hostport(key+".addr", h.Addr) {
			v.loop(key+".addr", h.Addr)
		}
	}
	if _, known := v.c.Hops["clinic"]; !known && !v.broken["hops"] {
		if why := v.handsBack(); why != "" {
			v.fault("hops.clinic", "must be set: %s", why)
		}
	}
	if _, known := v.c.Hops["internet"]; !known && !v.broken["hops"] {
		if why := v.leaves(); why != "" {
			v.fault("hops.internet", "must be set: %s", why)
		}
	}
}

// partner checks a hop with domains of its own: its mail waits rather than leave by any other way, so nothing but verified TLS will do.
func (v *validator) partner(name, key string, h Hop) {
	if len(h.Domains) == 0 {
		return
	}
	if name == "clinic" || name == "internet" {
		v.fault(key+".domains", "%s has a meaning of its own: name another hop", name)
	}
	if h.TLS != "verify" && v.ok(key+".tls") {
		v.fault(key+".tls", "must be verify where the hop has domains, not %s", h.TLS)
	}
	for i, d := range h.Domains {
		at := index(key+".domains", i)
		v.domain(at, strings.TrimPrefix(d, "*."))
		if !v.ok(at) {
			continue
		}
		for _, other := range sortedKeys(v.c.Hops) {
			for j, o := range v.c.Hops[other].Domains {
				if (other < name || other == name && j < i) && labelBelow(o) == labelBelow(d) {
					v.fault(at, "%s belongs to hops.%s already", d, other)
				}
			}
		}
	}
}

// loop refuses an address at which one of our own doors answers.
func (v *validator) loop(key, addr string) {
	for _, d := range v.doors() {
		if same(addr, d.addr, v.c.Hostname) {
			v.fault(key, "%s leads back to ourselves (%s)", addr, d.key)
		}
	}
}

// handsBack says why the clinic's server may have to be handed mail, "" if it never is.
func (v *validator) handsBack() string {
	own := v.c.Recipients.Domains
	switch {
	case v.c.Listen.Trust.Addr != "":
		return "mail from listen.trust is handed to it"
	case v.c.Collects():
		return "mail of collect is handed to it"
	case v.reaches(policy.Pickup):
		return "patients' answers are handed to it"
	case v.reaches(policy.Local):
		return "a rule routes to local"
	case len(own) == 0 || slices.ContainsFunc(v.c.Clinic.Domains, func(d string) bool { return slices.Contains(own, d) }):
		return "mail for the clinic's own domains is handed back to it"
	}
	return ""
}

// leaves says why mail may have to go to the Internet, "" if it never does.
func (v *validator) leaves() string {
	if v.c.Mode == "observe" {
		return "observe mode sends everything on"
	}
	for _, r := range []policy.Route{policy.Plain, policy.Encrypt, policy.Pickup} {
		if v.reaches(r) {
			return v.why(r)
		}
	}
	return ""
}

// same tells whether a connection to target arrives at the listener: the same port, and the same host or one that means it. Other
// names of this machine cannot be told without asking the network, which checking a file does not do.
func same(target, listener, hostname string) bool {
	th, tp, err1 := net.SplitHostPort(target)
	lh, lp, err2 := net.SplitHostPort(listener)
	if err1 != nil || err2 != nil || tp != lp || tp == "0" {
		return false
	}
	th, lh = strings.ToLower(th), strings.ToLower(lh)
	here := func(h string) bool { return wildcard(h) || loopback(h) || h == strings.ToLower(hostname) }
	switch {
	case th == lh:
		return true
	case wildcard(lh):
		return here(th)
	case wildcard(th): // connecting to 0.0.0.0 reaches loopback; listening on it takes every address
		return true
	case loopback(lh) && loopback(th):
		ta, err1 := netip.ParseAddr(th)
		la, err2 := netip.ParseAddr(lh)
		return err1 != nil || err2 != nil || ta.Unmap() == la.Unmap()
	}
	return false
}

func wildcard(host string) bool {
	if host == "" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsUnspecified()
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
