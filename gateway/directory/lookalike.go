package directory

import (
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// wellKnown are mail domains that people write to every day and mistype. The second line are real ones near those of the first: they are
// nobody's mistake.
var wellKnown = strings.Fields(`
gmail.com googlemail.com hotmail.com hotmail.fr outlook.com outlook.fr live.com live.fr msn.com yahoo.com yahoo.fr ymail.com icloud.com me.com mac.com aol.com aol.fr
orange.fr wanadoo.fr free.fr laposte.net sfr.fr neuf.fr numericable.fr bbox.fr club-internet.fr aliceadsl.fr cegetel.net 9online.fr libertysurf.fr tiscali.fr noos.fr
voila.fr protonmail.com proton.me pm.me gmx.fr gmx.com gmx.net gmx.de web.de posteo.net mailo.com net-c.com caramail.fr caramail.com skynet.be mssante.fr apicrypt.org
mail.com email.com fmail.com zmail.com hmail.com rmail.com gmail.fr mail.fr email.fr outlook.be outlook.de hotmail.be hotmail.de hotmail.it hotmail.es hotmail.co.uk live.be live.de
live.it live.ca yahoo.de yahoo.it yahoo.es yahoo.ca yahoo.co.uk orange.com orange.be orange.es sfr.com free.com laposte.fr mailo.fr proton.com me.fr tutanota.com fastmail.com
hushmail.com zoho.com yandex.com gmx.at gmx.ch bluewin.ch sunrise.ch telenet.be proximus.be voo.be videotron.ca`)

// lookalikes tells domains that may be mistaken for a known one: misspelt by one sign, by another ending, or written with signs of other
// scripts. It says what a domain looks like, never whose it is.
type lookalikes struct {
	known    map[string]bool
	names    []string // the targets, in order
	skeleton map[string]string

	mu   sync.Mutex
	seen map[string]string // what was said before: a clinic writes to the same domains
}

func newLookalikes(known []string) *lookalikes {
	l := &lookalikes{known: make(map[string]bool), skeleton: make(map[string]string), seen: make(map[string]string)}
	for _, d := range slices.Concat(known, wellKnown) {
		if d = strings.ToLower(d); d == "" || l.known[d] {
			continue
		}
		l.known[d] = true
		l.names = append(l.names, d)
		if s := skeleton(d); l.skeleton[s] == "" {
			l.skeleton[s] = d
		}
	}
	return l
}

// of gives the known domain that the domain may be mistaken for, "" where it is known itself, below a known one, or like none. A domain of
// the clinic's list is known.
func (l *lookalikes) of(domain string, list *list) string {
	if domain == "" || domain[0] == '[' || list.knows(domain) {
		return ""
	}
	l.mu.Lock()
	of, ok := l.seen[domain]
	l.mu.Unlock()
	if ok {
		return of
	}
	of = l.find(domain)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) >= maxCached {
		clear(l.seen)
	}
	l.seen[domain] = of
	return of
}

func (l *lookalikes) find(domain string) string {
	for d, ok := domain, true; ok && strings.Contains(d, "."); _, d, ok = strings.Cut(d, ".") {
		if l.known[d] { // itself, or its owner made it
			return ""
		}
	}
	// What stands before its owner's name: "mssante.fr.example.com" is example.com's. yahoo.com.br is a name of Brazil.
	for i := range len(domain) {
		if len(domain)-i > 3 && domain[i] == '.' && strings.Count(domain[:i], ".") > 0 && l.known[domain[:i]] {
			return domain[:i]
		}
	}
	for d, ok := skeleton(domain), true; ok && strings.Contains(d, "."); _, d, ok = strings.Cut(d, ".") {
		if of := l.skeleton[d]; of != "" { // as they read, the longest first: cabinet.rnssante.fr too
			return of
		}
	}
	for _, k := range l.names {
		// Of a longer name the end counts: mail.gmial.com is as wrong as gmial.com.
		d := domain
		for n := strings.Count(d, ".") - strings.Count(k, "."); n > 0; n-- {
			_, d, _ = strings.Cut(d, ".")
		}
		if near(k, d) || otherEnding(k, d) {
			return k
		}
	}
	return ""
}

// near tells whether one sign makes d of the known domain k: one more, one less, another, or two changed about. Short names have too many
// neighbours, and digits tell siblings apart (chu1, chu2).
func near(k, d string) bool {
	if len(d) < len(k)-1 || len(d) > len(k)+1 {
		return false
	}
	i := 0
	for i < len(k) && i < len(d) && k[i] == d[i] {
		i++
	}
	a, b := k[i:], d[i:]
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	switch {
	case len(a)+len(b) == 0, len(a) > 2, len(b) > 2, strings.ContainsAny(a+b, "0123456789"):
		return false
	case len(a) == 2 && len(b) == 2 && (a[0] != b[1] || a[1] != b[0]):
		return false
	case len(a) == 2 && len(b) != 2, len(b) == 2 && len(a) != 2:
		return false
	}
	label, _, _ := strings.Cut(k, ".")
	if at := strings.IndexByte(k, '.'); i > at && strings.Count(k, ".") == 1 {
		return len(label) >= 4 && !realEnding(d) // gmail.con; laposte.net is not laposte.nl
	}
	switch {
	case len(label) >= 6:
		return true
	case len(label) == 5: // a five-letter word with another letter is often another word
		return len(a) != 1 || len(b) != 1
	}
	return false
}

// otherEnding tells whether d is the known domain under another top-level domain. Only names of the health system count: everybody else's
// are taken by others in other countries.
func otherEnding(k, d string) bool {
	i, j := strings.LastIndexByte(k, '.'), strings.LastIndexByte(d, '.')
	return i > 0 && j > 0 && k[:i] == d[:j] && strings.Contains(k, "mssante")
}

// endings are top-level domains in which mail is really received: a known name under one of them is another's.
var endings = strings.Fields("fr com net org eu be ch de it es lu ca uk nl pt ie at dk se no fi pl cz ro re gp mq gf nc pf yt pm wf info biz io me co tv cc us in")

func realEnding(d string) bool { return slices.Contains(endings, d[strings.LastIndexByte(d, '.')+1:]) }

// skeleton writes a domain as the eye reads it (Unicode TR39, for the signs that matter in host names): without accents, Cyrillic and Greek
// as the Latin letters that they look like, and rn as m, vv as w, 0 as o, 1 as l.
func skeleton(domain string) string {
	u, err := idna.ToUnicode(domain)
	if err != nil {
		u = domain
	}
	var b strings.Builder
	for _, r := range norm.NFD.String(strings.ToLower(u)) {
		switch s, ok := looks[r]; {
		case ok:
			b.WriteString(s)
		case r >= 0x300 && r < 0x370: // an accent
		default:
			b.WriteRune(r)
		}
	}
	return strings.NewReplacer("rn", "m", "vv", "w").Replace(b.String())
}

var looks = map[rune]string{
	'0': "o", '1': "l", 'ı': "i", 'ɩ': "i", 'ɑ': "a", 'ɡ': "g", 'ſ': "s", 'ł': "l", 'ø': "o", 'đ': "d", 'ħ': "h",
	'а': "a", 'в': "b", 'с': "c", 'ԁ': "d", 'е': "e", 'ё': "e", 'ғ': "f", 'һ': "h", 'і': "i", 'ї': "i", 'ј': "j", 'к': "k", 'ӏ': "l", 'м': "m", 'п': "n", 'о': "o",
	'р': "p", 'ԛ': "q", 'г': "r", 'ѕ': "s", 'т': "t", 'υ': "u", 'ѵ': "v", 'ѡ': "w", 'ԝ': "w", 'х': "x", 'у': "y", 'ү': "y",
	'α': "a", 'β': "b", 'ε': "e", 'γ': "y", 'ι': "i", 'κ': "k", 'ν': "v", 'η': "n", 'ο': "o", 'ρ': "p", 'τ': "t", 'χ': "x", 'ω': "w", 'σ': "o",
	'օ': "o", 'ս': "u", 'ո': "n", 'հ': "h", 'ց': "g", 'ⅼ': "l", 'ⅰ': "i", '‐': "-", '‑': "-",
}
