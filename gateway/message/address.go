// Package message is the cargo: the envelope, the strict address type, the body in memory or in an encrypted temp file, and the
// index of a message's parts by byte offsets. It takes bytes that strangers wrote, gives typed values with limits, and knows
// nothing of routes, sockets or the config. It is the ground floor: every room may import it, it imports none.
package message

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Address is a mailbox as RFC 5321 section 4.1.2 defines it. The zero value is the null reverse-path "<>".
type Address struct {
	// Local is the local part without quotes and escapes.
	Local string
	// Domain is an A-label in lower case, or an address literal with its brackets.
	Domain string
}

const (
	maxLocal  = 64  // RFC 5321 section 4.5.3.1.1, octets
	maxDomain = 255 // RFC 5321 section 4.5.3.1.2, octets
)

// ParseAddress reads an addr-spec without angle brackets and without a source route, as it stands in a MAIL or RCPT command:
// `local@domain` or `"quoted local"@domain`. Non-ASCII is refused unless smtputf8 is set (RFC 6531). The local part ends at the
// last @ outside of quotes; an unquoted local part must be a dot-string.
func ParseAddress(s string, smtputf8 bool) (Address, error) {
	if s == "" {
		return Address{}, nil
	}
	if !utf8.ValidString(s) {
		return Address{}, fmt.Errorf("address is not valid UTF-8")
	}
	for _, r := range s {
		switch {
		case r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0:
			return Address{}, fmt.Errorf("address holds a control character")
		case r >= 0x80 && !smtputf8:
			return Address{}, fmt.Errorf("address is not ASCII and SMTPUTF8 was not asked for")
		}
	}
	local, rest, err := parseLocal(s)
	if err != nil {
		return Address{}, err
	}
	if len(local) > maxLocal {
		return Address{}, fmt.Errorf("local part is longer than %d octets", maxLocal)
	}
	domain, err := ParseDomain(rest)
	if err != nil {
		return Address{}, err
	}
	return Address{Local: local, Domain: domain}, nil
}

// parseLocal splits s behind its local part and gives that part unquoted.
func parseLocal(s string) (local, domain string, err error) {
	if s[0] != '"' {
		local, domain, ok := strings.Cut(s, "@")
		if !ok || local == "" || domain == "" {
			return "", "", fmt.Errorf("address must be local@domain")
		}
		if !isDotString(local) {
			return "", "", fmt.Errorf("local part needs quotes (RFC 5321 section 4.1.2)")
		}
		return local, domain, nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
			if i == len(s) || s[i] >= 0x80 {
				return "", "", fmt.Errorf("quoted local part has a broken escape")
			}
			b.WriteByte(s[i])
		case '"':
			if i+2 > len(s)-1 || s[i+1] != '@' {
				return "", "", fmt.Errorf("address must be local@domain")
			}
			return b.String(), s[i+2:], nil
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", fmt.Errorf("quoted local part has no end")
}

// ParseDomain gives a domain name in the form that addresses are compared in: A-label, lower case, no trailing dot; or an
// address literal (RFC 5321 section 4.1.3) as written.
func ParseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		lit, ok := strings.CutSuffix(s[1:], "]")
		if !ok {
			return "", fmt.Errorf("address literal has no end")
		}
		ip := lit
		if len(lit) > 5 && strings.EqualFold(lit[:5], "IPv6:") {
			ip = lit[5:]
		}
		if a, err := netip.ParseAddr(ip); err != nil || a.Zone() != "" {
			return "", fmt.Errorf("address literal is no IP address")
		}
		return s, nil
	}
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxDomain {
		return "", fmt.Errorf("domain is empty or longer than %d octets", maxDomain)
	}
	a, err := idna.Lookup.ToASCII(s)
	if err != nil { // its text repeats the input, and a reply must stay ASCII
		return "", fmt.Errorf("domain is not a host name")
	}
	// A dot that is left at the end (also one that IDNA made of a look-alike) would make a second name for the same domain.
	if len(a) > maxDomain || strings.Contains(a, "..") || strings.HasPrefix(a, ".") || strings.HasSuffix(a, ".") {
		return "", fmt.Errorf("domain is not valid")
	}
	return a, nil
}

// isDotString tells whether s is an RFC 5321 Dot-string (UTF-8 allowed where the caller let it through).
func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x80 && c != '.' && !isAtext(c) {
			return false
		}
	}
	return true
}

func isAtext(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// String gives the address as it goes on the wire between < and >, quoted where it must be; the null path is "".
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	if isDotString(a.Local) {
		return a.Local + "@" + a.Domain
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(a.Local); i++ {
		if c := a.Local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(a.Local[i])
	}
	b.WriteString(`"@`)
	b.WriteString(a.Domain)
	return b.String()
}

// Key is the form in which addresses are compared: all lower case. The Kelvin sign and the dotted capital I stay: their lower case is an ASCII
// letter, and with it the address of somebody else.
func (a Address) Key() string {
	return strings.Map(func(r rune) rune {
		if l := unicode.ToLower(r); r < utf8.RuneSelf || l >= utf8.RuneSelf {
			return l
		}
		return r
	}, a.String())
}

// MarshalText gives what String gives, UnmarshalText takes it: JSON of our own.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads an address; "" is the null path.
func (a *Address) UnmarshalText(text []byte) (err error) {
	*a = Address{}
	if len(text) > 0 {
		*a, err = ParseAddress(string(text), true)
	}
	return err
}

// IsNull tells whether this is the null reverse-path.
func (a Address) IsNull() bool { return a == Address{} }

// IsASCII tells whether the address can be sent to a hop without SMTPUTF8.
func (a Address) IsASCII() bool {
	for i := 0; i < len(a.Local); i++ {
		if a.Local[i] >= 0x80 {
			return false
		}
	}
	return true
}

// LogValue hides the local part: logs never name a person.
func (a Address) LogValue() slog.Value {
	if a.IsNull() {
		return slog.StringValue("<>")
	}
	return slog.StringValue("*@" + a.Domain)
}
