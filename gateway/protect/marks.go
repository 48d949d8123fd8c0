package protect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// MarkField is the header field that says where inbound mail came from.
const MarkField = "X-Passerelle-Origine"

// LoopField is the header field by which the gateway knows its own earlier pass.
const LoopField = "X-Passerelle-Loop"

// MarkAge is how long a mark speaks for a message that is delivered: the clinic's queue (5 days) and a holiday.
const MarkAge = 30 * 24 * time.Hour

var (
	// ErrNoMark: the message bears none.
	ErrNoMark = errors.New("no mark of origin")
	// ErrForged: it bears one that is not ours, or ours on another message.
	ErrForged = errors.New("the mark of origin is not ours")
	// ErrOldMark: the mark is ours on this message, but older than MarkAge. It no longer vouches for a delivery; the message is marked
	// all the same, and may leave by trust alone.
	ErrOldMark = errors.New("the mark of origin is too old")
)

// Origin is what a mark says.
type Origin struct {
	Origin   string // FromTrust, FromPatient, FromNotice
	Verified string // how that was verified: "peer CN=...", "operator host", "code, deposit id"
	Cert     string // SHA-256 of the peer's certificate in hexadecimal, "" where none was shown to us
	Sender   string // what is known of the author (From), "" where nobody looked
	ID       string // the message's id in the ledger
}

// What Origin.Origin may be.
const (
	FromTrust   = "trust"
	FromPatient = "patient"
	// FromNotice is a notice of ours about a message from the trust space. It holds nothing of that message, so it may leave again.
	FromNotice = "notice"
)

// maxVerified bounds what a stranger's certificate adds to a message: a DN may have 4 KiB.
const maxVerified, maxSender = 240, 120

// Mark gives the value of MarkField. The HMAC covers all that it says, and Message-ID, Date and From of the message, each field with its
// number of occurrences. It does not cover the body: Postfix, virus scanners and list software behind us may rewrap and
// re-encode it, and a mark that breaks on the way would be worth less than one that speaks of the header alone. Who holds a marked
// message can thus send another body under the same Message-ID, Date and From, within MarkAge, if the clinic's Postfix lets mail
// from outside keep the field: it does not (deploy/postfix header_checks).
//
// Values come from certificates and directories of strangers: what could end one, or is no printable ASCII, is written %XX.
func Mark(key [32]byte, o Origin, h message.Header, now time.Time) (string, error) {
	if o.Origin != FromTrust && o.Origin != FromPatient && o.Origin != FromNotice {
		return "", fmt.Errorf("mark: no such origin")
	}
	text := "v2; " + o.Origin + "; verified=" + escape(o.Verified, maxVerified)
	if o.Cert != "" {
		text += "; cert=" + escape(o.Cert, 2*sha256.Size)
	}
	if o.Sender != "" {
		text += "; sender=" + escape(o.Sender, maxSender)
	}
	text += "; id=" + escape(o.ID, 64) + "; t=" + strconv.FormatInt(now.Unix(), 10)
	return text + "; mac=" + markMAC(key, h, "passerelle origin v2", text), nil
}

// escape writes a value of a mark, cut at most octets.
func escape(s string, most int) string {
	var b strings.Builder
	for i := range len(s) {
		c, one := s[i], s[i:i+1]
		blank := c == ' ' && (i == 0 || i == len(s)-1 || s[i-1] == ' ') // folding would eat it
		if blank || c < ' ' || c > '~' || c == ';' || c == '%' {
			one = fmt.Sprintf("%%%02X", c)
		}
		if b.Len()+len(one) > most {
			return strings.TrimRight(b.String(), " ") + "..."
		}
		b.WriteString(one)
	}
	return b.String()
}

// markMAC covers the words that a mark says, and the header that it stands on.
func markMAC(key [32]byte, h message.Header, words ...string) string {
	m := hmac.New(sha256.New, key[:])
	put := func(s string) { // length first: no two lists of strings give the same bytes
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		m.Write([]byte(s))
	}
	for _, s := range words {
		put(s)
	}
	for _, name := range []string{"Message-ID", "Date", "From"} {
		values := h.Values(name)
		put(strconv.Itoa(len(values)))
		for _, v := range values {
			put(collapse(v))
		}
	}
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// collapse makes runs of blanks one: refolding on the way changes nothing else.
func collapse(s string) string { return strings.Join(strings.Fields(s), " ") }

// VerifyMark gives what the first true mark of the message says; one of FromNotice counts where there is no other. The error is
// ErrNoMark, ErrForged, or ErrOldMark beside a true Origin.
func VerifyMark(key [32]byte, h message.Header, now time.Time) (notice Origin, err error) {
	err = ErrNoMark
	for _, v := range h.Values(MarkField) {
		o, t, ok := readMark(key, collapse(v), h)
		if !ok {
			if notice == (Origin{}) {
				err = ErrForged
			}
			continue
		}
		var old error
		if age := now.Sub(t); age > MarkAge || age < -time.Hour {
			old = ErrOldMark
		}
		if o.Origin != FromNotice {
			return o, old
		}
		if notice == (Origin{}) {
			notice, err = o, old
		}
	}
	return notice, err
}

// readMark reads v2, and v1 as it was written until 2026: `v1; ORIGIN; verified=TEXT; id=ID; t=SECONDS; mac=MAC`.
func readMark(key [32]byte, v string, h message.Header) (Origin, time.Time, bool) {
	f := strings.Split(v, ";")
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	last := len(f) - 1
	mac, ok := strings.CutPrefix(f[last], "mac=")
	if !ok || last < 2 {
		return Origin{}, time.Time{}, false
	}
	o, said := Origin{Origin: f[1]}, map[string]string{}
	for _, s := range f[2:last] {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return Origin{}, time.Time{}, false
		}
		said[name] = value
	}
	var want string
	switch f[0] {
	case "v1":
		if last != 5 || len(said) != 3 {
			return Origin{}, time.Time{}, false
		}
		o.Verified, o.ID = said["verified"], said["id"]
		want = markMAC(key, h, "passerelle origin v1", o.Origin, o.Verified, o.ID, said["t"])
	case "v2":
		var faults [4]error
		o.Verified, faults[0] = url.PathUnescape(said["verified"])
		o.Cert, faults[1] = url.PathUnescape(said["cert"])
		o.Sender, faults[2] = url.PathUnescape(said["sender"])
		o.ID, faults[3] = url.PathUnescape(said["id"])
		if errors.Join(faults[:]...) != nil {
			return Origin{}, time.Time{}, false
		}
		want = markMAC(key, h, "passerelle origin v2", strings.Join(f[:last], "; "))
	default:
		return Origin{}, time.Time{}, false
	}
	secs, err := strconv.ParseInt(said["t"], 10, 64)
	if err != nil || !hmac.Equal([]byte(want), []byte(mac)) {
		return Origin{}, time.Time{}, false
	}
	return o, time.Unix(secs, 0), true
}

// Strip takes our marks off a header, of origin and of protection, also those with a blank before the colon, which some readers take for the
// field; it tells whether there were any.
func Strip(h *message.Header) (found bool) {
	return strip(h, func(name string) bool {
		return strings.EqualFold(name, MarkField) || strings.EqualFold(name, ProtectionField)
	})
}

// StripForged takes off those that do not verify.
func StripForged(key [32]byte, h *message.Header) (found bool) {
	whole := *h
	ours := func(f message.Field) bool {
		var ok bool
		if strings.EqualFold(f.Name, MarkField) {
			_, _, ok = readMark(key, collapse(f.Value()), whole)
		} else {
			_, _, ok = readProtection(key, collapse(f.Value()), whole)
		}
		return ok
	}
	return stripFields(h, func(name string, f message.Field) bool {
		return (strings.EqualFold(name, MarkField) || strings.EqualFold(name, ProtectionField)) && !ours(f)
	})
}

// StripSpace takes off the fields of the trust space, X-MSS-*, as Strip does the marks.
func StripSpace(h *message.Header) (found bool) {
	return strip(h, func(name string) bool { return len(name) > 6 && strings.EqualFold(name[:6], "X-MSS-") })
}

func strip(h *message.Header, is func(name string) bool) (found bool) {
	return stripFields(h, func(name string, _ message.Field) bool { return is(name) })
}

func stripFields(h *message.Header, is func(name string, f message.Field) bool) (found bool) {
	named := func(f message.Field) bool {
		name := f.Name
		if name == "" {
			before, _, _ := strings.Cut(string(f.Raw), ":")
			name = strings.TrimSpace(before)
		}
		return is(name, f)
	}
	if !slices.ContainsFunc(h.Fields(), named) {
		return false
	}
	var kept message.Header
	kept.AppendRaw(slices.DeleteFunc(slices.Clone(h.Fields()), named)...)
	*h = kept
	return true
}

// LoopToken is the value of LoopField for this gateway. It is no secret; it is hashed so that a host name of the inside does not leave.
func LoopToken(hostname string) string {
	m := hmac.New(sha256.New, []byte("passerelle loop v1"))
	m.Write([]byte(strings.ToLower(hostname)))
	return hex.EncodeToString(m.Sum(nil)[:16])
}

// Trace gives the Received field (RFC 5321 section 4.4) for a message taken in now. The recipient is named only where there is one:
// otherwise the field would tell each of the others.
func Trace(env *message.Envelope, hostname string, now time.Time, id string) []byte {
	var b strings.Builder
	with := env.Protocol
	if with == "" {
		with = map[bool]string{false: "ESMTP", true: "UTF8SMTP"}[env.SMTPUTF8]
	}
	fmt.Fprintf(&b, "Received: from %s (%s)\r\n\tby %s with %s id %s", word(env.Helo), word(env.Client), word(hostname), word(with), word(id))
	if len(env.Recipients) == 1 {
		if to := env.Recipients[0].Address; to.IsASCII() && !strings.ContainsAny(to.Local, "\r\n\x00") {
			fmt.Fprintf(&b, "\r\n\tfor <%s>", to)
		}
	}
	fmt.Fprintf(&b, ";\r\n\t%s\r\n", now.Format(time.RFC1123Z))
	return []byte(b.String())
}

// word leaves of what a client says of itself what may stand in a trace field.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f && !strings.ContainsRune(`()<>;\"`, r) {
			return r
		}
		return '_'
	}, s)
	if s == "" {
		return "unknown"
	}
	return s[:min(len(s), 200)]
}
