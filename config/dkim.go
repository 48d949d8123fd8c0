package config

// dkim checks the list of keys; the keys themselves are read by who signs with them.
func (v *validator) dkim() {
	for i, k := range v.c.DKIM {
		key := index("dkim", i)
		v.domain(key+".domain", k.Domain)
		if v.ok(key+".selector") && !isHost(k.Selector) { // RFC 6376 section 3.1: labels with dots between them
			v.fault(key+".selector", "%q is no selector (pass1)", k.Selector)
		}
		if k.Key == "" && v.ok(key+".key") && !v.seen(key+".key") { // one that is there and empty, ${DKIM_KEY:-}, is switched off
			v.fault(key+".key", "must name a file: a private key in PEM")
		}
		v.file(key+".key", k.Key)
		for j, o := range v.c.DKIM[:i] {
			if v.ok(key) && v.ok(index("dkim", j)) && o.Selector == k.Selector && label(o.Domain) == label(k.Domain) {
				v.fault(key, "%s of %s stands in dkim[%d] already: each key has a selector of its own", k.Selector, k.Domain, j)
			}
		}
	}
}
