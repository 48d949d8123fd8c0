package protect

import (
	"crypto/hmac"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// ProtectionField is the header field that says how mail for the clinic came protected, and what the gateway made of that.
const ProtectionField = "X-Passerelle-Protection"

// Protection is what it says. Empty texts are left out.
type Protection struct {
	// Form is the layers from the outside in: "smime", "openpgp", "openpgp-inline", "smime+smime".
	Form string
	// Encrypted is the cipher and whether the content was proved whole: "aes-256-gcm, authenticated", "aes-256-cbc, not authenticated", "" where it
	// was signed alone.
	Encrypted string
	// Result is what the reader has before him: Opened, Unchanged, or Wrapped and why: "wrapped, altered".
	Result string
	// Key names the clinic's key that opened it.
	Key string
	// Signed is who signed, as his certificate or key says, Verified what that is worth.
	Signed, Verified string
	// Subject is "restored" where the outer one was another.
	Subject string
	// ID is the message in log and ledger.
	ID string
}

// What Protection.Result begins with.
const (
	ResultOpened    = "opened"
	ResultUnchanged = "unchanged"
	ResultWrapped   = "wrapped"
)

// maxSigned bounds what a stranger's certificate adds to a message.
const maxSigned = 240

// FormatProtection gives the value of ProtectionField. Its HMAC covers what that of a mark covers (see Mark), under another label.
func FormatProtection(key [32]byte, p Protection, h message.Header, now time.Time) string {
	text := "v1"
	for _, part := range []struct {
		name, value string
		most        int
	}{{"form", p.Form, 60}, {"result", p.Result, 60}, {"encrypted", p.Encrypted, 80}, {"key", p.Key, 64}, {"signed", p.Signed, maxSigned}, {"verified", p.Verified, maxSigned},
		{"subject", p.Subject, 20}, {"id", p.ID, 64}} {
		if part.value != "" {
			text += "; " + part.name + "=" + escape(part.value, part.most)
		}
	}
	text += "; t=" + strconv.FormatInt(now.Unix(), 10)
	return text + "; mac=" + markMAC(key, h, "passerelle protection v1", text)
}

// VerifyProtection gives what the first true field of the message says. The error is ErrNoMark, ErrForged where none is ours, or ErrOldMark
// beside a true one.
func VerifyProtection(key [32]byte, h message.Header, now time.Time) (p Protection, err error) {
	err = ErrNoMark
	for _, v := range h.Values(ProtectionField) {
		p, at, ok := readProtection(key, collapse(v), h)
		if !ok {
			err = ErrForged
			continue
		}
		if age := now.Sub(at); age > MarkAge || age < -time.Hour {
			return p, ErrOldMark
		}
		return p, nil
	}
	return Protection{}, err
}

// Encloses tells whether the message was encrypted on its way here, and may have been opened: by a field of ours, however old, or by one that
// does not verify here (see gateway.kept).
func Encloses(key [32]byte, h message.Header, now time.Time) bool {
	p, err := VerifyProtection(key, h, now)
	return errors.Is(err, ErrForged) || !errors.Is(err, ErrNoMark) && p.Encrypted != ""
}

func readProtection(key [32]byte, v string, h message.Header) (Protection, time.Time, bool) {
	text, mac, ok := strings.Cut(v, "; mac=")
	if !ok || !strings.HasPrefix(text, "v1; ") || !hmac.Equal([]byte(markMAC(key, h, "passerelle protection v1", text)), []byte(mac)) {
		return Protection{}, time.Time{}, false
	}
	var p Protection
	var secs int64
	var faults []error
	for _, s := range strings.Split(text, "; ")[1:] {
		name, value, _ := strings.Cut(s, "=")
		value, err := url.PathUnescape(value)
		faults = append(faults, err)
		switch name {
		case "form":
			p.Form = value
		case "result":
			p.Result = value
		case "encrypted":
			p.Encrypted = value
		case "key":
			p.Key = value
		case "signed":
			p.Signed = value
		case "verified":
			p.Verified = value
		case "subject":
			p.Subject = value
		case "id":
			p.ID = value
		case "t":
			secs, err = strconv.ParseInt(value, 10, 64)
			faults = append(faults, err)
		}
	}
	return p, time.Unix(secs, 0), errors.Join(faults...) == nil
}
