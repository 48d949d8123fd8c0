package protect

import (
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"passerelle/gateway/message"
)

// Names are the clinic's inner domains and hosts: what no header in the trust space may show. A name below an inner one is inner too,
// but for the public ones and what is below these.
type Names struct {
	inner, public []string // lower case, A-labels and U-labels
}

// NewNames takes domain names; those that are none are taken as words.
func NewNames(inner, public []string) Names {
	return Names{forms(inner), forms(public)}
}

func forms(names []string) (out []string) {
	for _, n := range names {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if n == "" {
			continue
		}
		out = append(out, n)
		if a, err := message.ParseDomain(n); err == nil && a != n {
			out = append(out, a)
		}
		if u, err := idna.ToUnicode(n); err == nil && u != n {
			out = append(out, strings.ToLower(u))
		}
	}
	return out
}

// Domain tells whether a domain is inner.
func (n Names) Domain(d string) bool { return n.says(strings.ToLower(d)) }

// Address tells whether an address is inner: of an inner domain, or of one without a public name.
func (n Names) Address(a message.Address) bool { return n.Domain(a.Domain) || nameless("@"+a.Domain) }

// In tells whether text shows an inner name to whoever reads it as it stands, decodes its encoded words (RFC 2047), quoted pairs or percent
// signs, or does not tell look-alike letters apart.
func (n Names) In(text string) bool {
	seen := func(s string) bool {
		if n.says(strings.ToLower(s)) {
			return true
		}
		return strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) && n.says(plain(s))
	}
	return seen(text) || strings.Contains(text, "=?") && seen(message.DecodeText(text)) || strings.Contains(text, `\`) && seen(strings.ReplaceAll(text, `\`, "")) ||
		strings.Contains(text, "%") && seen(unescape(text, '%')) || strings.Contains(text, "=") && seen(unescape(text, '='))
}

// plain folds what looks the same: width, case, dots of other scripts, invisible signs.
func plain(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		switch {
		case r == '。' || r == '｡':
			return '.'
		case unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, norm.NFKC.String(s)))
}

// unescape undoes hexadecimal escapes: %40, =40.
func unescape(s string, sign byte) string {
	if strings.IndexByte(s, sign) < 0 {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == sign && i+2 < len(s) {
			if u, err := url.PathUnescape("%" + s[i+1:i+3]); err == nil {
				b.WriteString(u)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// maxName bounds a host name (RFC 1035 section 2.3.4).
const maxName = 255

// says looks for an inner name between label boundaries in lower-case text.
func (n Names) says(s string) bool {
	for _, name := range n.inner {
		for from := 0; ; {
			i := strings.Index(s[from:], name)
			if i < 0 {
				break
			}
			start, end := from+i, from+i+len(name)
			from = start + 1
			if start > 0 && isLabel(s[start-1]) || end < len(s) && isLabel(s[end]) {
				continue
			}
			low, high := max(start-maxName, 0), min(end+maxName, len(s))
			for start > low && (isLabel(s[start-1]) || s[start-1] == '.') { // the whole of the name that it stands in
				start--
			}
			for end < high && (isLabel(s[end]) || s[end] == '.') {
				end++
			}
			if !n.isPublic(strings.Trim(s[start:end], ".")) {
				return true
			}
		}
	}
	return false
}

// isPublic: an own domain of the trust space, or below one.
func (n Names) isPublic(host string) bool {
	for _, p := range n.public {
		if host == p || strings.HasSuffix(host, "."+p) {
			return true
		}
	}
	return false
}

// isLabel leaves other scripts out: what stands behind one is held against the inner names as if it began there.
func isLabel(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
}

var token = regexp.MustCompile(`[^\s<>()\[\],;:"']+`)

// Scrub takes inner names out of words: an address becomes its mailbox where known has one, all else three dots.
func (n Names) Scrub(text string, known func(message.Address) (message.Address, bool)) string {
	text = token.ReplaceAllStringFunc(text, func(w string) string {
		if !n.In(w) {
			return w
		}
		if a, err := message.ParseAddress(strings.TrimRight(w, "."), true); err == nil && !a.IsNull() {
			if box, ok := known(a); ok {
				return box.String()
			}
		}
		return "..."
	})
	if n.In(text) {
		return "..."
	}
	return text
}
