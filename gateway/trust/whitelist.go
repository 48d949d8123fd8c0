package trust

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// WhiteListConfig says where the signed white list comes from, whom it is believed and for how long.
type WhiteListConfig struct {
	URL      string        // https
	StateDir string        // holds the last good list
	Every    time.Duration // from one look to the next; 0 is 1 h
	CA       string        // PEM file of the only authorities that are believed about the host; "" is the system's
	// Roots name PEM files of the authorities of the list's signer, read at each use as Config.CA is; none: those of Config.CA.
	Roots []string
	// CN and Issuer are the common names of the signer and of who issued its certificate, EKU what that must be made for. Keys change every
	// few years, these do not.
	CN, Issuer string
	EKU        x509.ExtKeyUsage
	// MaxAge is how old a list may be by its own date (DateDeGeneration) before what hangs on it waits; 0 is 72 h. Its own date alone is
	// signed: a fetch that goes well says nothing where somebody keeps an old list in front of us.
	MaxAge time.Duration
	// AlarmAge is for the operator alone; 0 is 24 h.
	AlarmAge time.Duration
	// Shrink is the share of domains that a list may lack against the one in force; one that lacks more waits for the operator. 0 is 0.2.
	Shrink float64
	// Silence ends a download that brings nothing for so long (0: 30 s), Total one that lasts so long (0: 10 min).
	Silence, Total time.Duration
}

func (c WhiteListConfig) withDefaults() WhiteListConfig {
	c.Every, c.MaxAge, c.AlarmAge = cmp.Or(c.Every, time.Hour), cmp.Or(c.MaxAge, 72*time.Hour), cmp.Or(c.AlarmAge, 24*time.Hour)
	c.Silence, c.Total = cmp.Or(c.Silence, 30*time.Second), cmp.Or(c.Total, 10*time.Minute)
	c.Shrink = cmp.Or(c.Shrink, 0.2)
	return c
}

// whiteList is one list whose signature was good. It never changes.
type whiteList struct {
	date    time.Time                  // DateDeGeneration
	digest  [sha256.Size]byte          // of the bytes that the signature covers
	names   map[string][]distinguished // by domain; a domain without a name that can be read has none, and no peer
	all     []distinguished            // each once
	skipped []string                   // why entries count for nothing, the first ones
	odd     int                        // how many
	signer  string                     // its DN
	until   time.Time                  // the end of its certificate
}

const (
	listAhead  = 3 * time.Hour // a list may be of the future by so much: clocks differ, and local time was written as UTC before
	maxSkipped = 20            // lines about entries that are skipped
)

// readWhiteList verifies a list and reads the bytes that its signature covers.
func (s *Space) readWhiteList(r io.Reader, size int64) (*whiteList, error) {
	covered, cert, err := verifySigned(r, size, s.proveSigner)
	if err != nil {
		return nil, err
	}
	l, err := parseWhiteList(covered)
	if err != nil {
		return nil, fmt.Errorf("read the white list: %w", err)
	}
	if ahead := l.date.Sub(s.cfg.Now()); ahead > listAhead {
		return nil, fmt.Errorf("the white list is of the future: %s", l.date.Format(time.RFC3339))
	}
	l.signer, l.until = dnText(cert), cert.NotAfter
	return l, nil
}

// proveSigner tells whether a certificate may sign the white list: its common name, its issuer's, what it is made for, a chain to the
// roots at this moment, strong keys, and revocation as of any peer.
func (s *Space) proveSigner(cert *x509.Certificate) error {
	st, c, now := s.state.Load(), &s.lister.cfg, s.cfg.Now()
	names := 0
	for _, a := range cert.Subject.Names {
		if a.Type.Equal([]int{2, 5, 4, 3}) {
			names++
		}
	}
	switch {
	case names != 1 || normal(cert.Subject.CommonName) != normal(c.CN):
		return fmt.Errorf("its common name is not %q", c.CN)
	case normal(cert.Issuer.CommonName) != normal(c.Issuer):
		return fmt.Errorf("issued by %q, not by %q", cert.Issuer.CommonName, c.Issuer)
	case c.EKU != x509.ExtKeyUsageAny && !slices.Contains(cert.ExtKeyUsage, c.EKU): // Verify takes a certificate that names none
		return errors.New("its certificate is made for another use")
	case cert.KeyUsage != 0 && cert.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return errors.New("its key is not for signatures")
	}
	roots, others := st.roots, st.others
	if len(c.Roots) > 0 {
		cas, err := readAuthorities(c.Roots)
		if err != nil {
			return err
		}
		roots, others = pools(cas)
	}
	chains, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{c.EKU}})
	if err != nil {
		return err
	}
	var last error
	for _, chain := range chains {
		if _, last = s.sound(st, chain, nil, now); last == nil {
			return nil
		}
	}
	return last
}

// parseWhiteList reads the bytes that a signature covers. An entry that cannot be read is skipped and told; elements that are not known
// are passed over with all that is in them.
func parseWhiteList(covered []byte) (*whiteList, error) {
	l := &whiteList{names: map[string][]distinguished{}, digest: sha256.Sum256(covered)}
	known := map[string]distinguished{} // by its text; nil: cannot be read
	var e listEntry
	var into *field // what text goes into
	var date field
	domains := 0
	for s := rescan(covered); ; {
		kind, err := s.next()
		if err != nil {
			return nil, err
		}
		depth := len(s.open)
		inside := func(names ...string) bool { // s.open[1:] bears these names
			return slices.EqualFunc(s.open[1:], names, func(o xmlElement, n string) bool { return o.name == n })
		}
		switch {
		case kind == xmlEOF:
			if date.times != 1 || domains != 1 {
				return nil, errors.New("it has not one DateDeGeneration and one ListeDomaines")
			}
			if l.date, err = time.Parse(time.RFC3339, strings.Trim(string(date.text), xmlSpace)); err != nil {
				return nil, fmt.Errorf("DateDeGeneration: %w", err)
			}
			if l.date = l.date.UTC(); len(l.names) == 0 {
				return nil, errors.New("it lists no domain")
			}
			return l, nil
		case kind == xmlText && into != nil:
			into.add(s.text)
		case kind == xmlStart && depth == 1 && s.name != "ListeBlancheMSSante":
			return nil, fmt.Errorf("its root is %s", s.name)
		case kind == xmlStart && into != nil: // an element within a value: neither reading of it is right
			into.odd = true
			into = nil
		case kind == xmlStart && depth == 2 && s.name == "ListeDomaines":
			domains++
		case kind == xmlStart && depth == 2 && s.name == "DateDeGeneration":
			into = date.begin()
		case kind == xmlStart && depth == 3 && inside("ListeDomaines", "Domaine"):
			e.clear()
		case kind == xmlStart && depth == 4 && inside("ListeDomaines", "Domaine", "Nom"):
			into = e.name.begin()
		case kind == xmlStart && depth == 4 && inside("ListeDomaines", "Domaine", "DNCertificatOperateur"):
			into = e.dn.begin()
		case kind == xmlEnd:
			into = nil
			if depth == 2 && s.name == "Domaine" && inside("ListeDomaines") {
				l.add(&e, known)
			}
		}
	}
}

// field is the text of an element that may stand once.
type field struct {
	text  []byte
	times int
	odd   bool
}

func (f *field) begin() *field { f.times++; return f }

func (f *field) add(b []byte) {
	if len(f.text)+len(b) > maxDN {
		f.odd = true
		return
	}
	f.text = append(f.text, b...)
}

func (f *field) sound() bool { return f.times == 1 && !f.odd }

// listEntry is one Domaine.
type listEntry struct{ name, dn field }

func (e *listEntry) clear() {
	for _, f := range []*field{&e.name, &e.dn} {
		*f = field{text: f.text[:0]}
	}
}

// add takes an entry. A domain whose DN cannot be read stays a domain of the trust space, so that its mail takes no other way; nobody
// speaks for it by that entry.
func (l *whiteList) add(e *listEntry, known map[string]distinguished) {
	written := strings.Trim(string(e.name.text), xmlSpace)
	domain, err := message.ParseDomain(written)
	if !e.name.sound() || err != nil || strings.HasPrefix(domain, "[") {
		l.skip("domain %.80q cannot be read", written)
		return
	}
	names := l.names[domain]
	if names == nil {
		names = []distinguished{}
	}
	defer func() { l.names[domain] = names }()
	dn, seen := known[string(e.dn.text)]
	if !seen {
		text := string(e.dn.text) // its parts point into it
		if dn, err = parseDN(strings.Trim(text, xmlSpace)); err != nil {
			dn = nil
		} else {
			l.all = append(l.all, dn)
		}
		known[text] = dn
	}
	if !e.dn.sound() || dn == nil {
		l.skip("domain %s: its DN %.200q cannot be read", domain, e.dn.text)
		return
	}
	if !slices.ContainsFunc(names, func(n distinguished) bool { return &n[0] == &dn[0] }) { // one DN is kept once
		names = append(names, dn)
	}
}

func (l *whiteList) skip(format string, args ...any) {
	if l.odd++; l.odd <= maxSkipped {
		l.skipped = append(l.skipped, fmt.Sprintf(format, args...))
	}
}

// against gives the domains that a list has more and fewer than another (nil: nothing), sorted.
func (l *whiteList) against(old *whiteList) (added, lost []string) {
	if old == nil {
		old = &whiteList{}
	}
	missing := func(from, in map[string][]distinguished) (out []string) {
		for d := range maps.Keys(from) {
			if _, there := in[d]; !there {
				out = append(out, d)
			}
		}
		slices.Sort(out)
		return out
	}
	return missing(l.names, old.names), missing(old.names, l.names)
}

// String writes a DN as it was read: without the quotes and escapes of its writer.
func (d distinguished) String() string {
	var rdns []string
	for _, rdn := range d {
		var attrs []string
		for _, a := range rdn {
			attrs = append(attrs, a.kind+"="+a.readings[0])
		}
		rdns = append(rdns, strings.Join(attrs, "+"))
	}
	return strings.Join(rdns, ",")
}
