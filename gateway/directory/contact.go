package directory

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
)

// Secret is a phrase agreed with a correspondent. It prints as <secret>.
type Secret string

func (Secret) String() string               { return "<secret>" }
func (Secret) GoString() string             { return "<secret>" }
func (Secret) LogValue() slog.Value         { return slog.StringValue("<secret>") }
func (Secret) MarshalText() ([]byte, error) { return []byte("<secret>"), nil }

// Contact is an entry of the clinic's own list, or a key of the config under an address of its own.
type Contact struct {
	Address        string // key form (lower case, A-label), or "@domain" for all of a domain
	Name           string
	Person         string            // patient, professional, partner, supplier, ... : a word of the operator's rules
	Phone          string            // E.164
	Prefer         string            // the route preferred: trust, encrypt, pickup, plain, refuse
	Form           string            // the form of encryption preferred: smime, openpgp, zip
	OpenPGPKey     []byte            // as in the file, armoured or binary
	OpenPGPKeyFile string            // where it was read, "" where it stood in the list
	Certificate    *x509.Certificate // for S/MIME; it may have run out
	CertFile       string
	Secret         Secret
	BirthName      string // with FirstNames and BirthDate: who a patient is, for who proves himself by an OpenID provider
	FirstNames     string
	BirthDate      string // 1962-08-24
	Word           string // agreed at the desk, by which the person knows that a notice is the clinic's; no secret
	RPPS           string // of the person: links the address with the national extraction
	MSS            string // the person's MSSanté mailbox, a link that the operator confirms; key form
	AliasOf        string // the address for which this one stands, key form: it is decided on, and written to, in this one's place
	PickupAt       string // of a patient's Mon espace santé address: where else he is reached by pickup, key form
	Qualified      bool   // of a patient's Mon espace santé address: his INS is qualified
	Opposed        bool   // the person opposes being written to electronically
	Label, Lang    string
	File           string // base name of the list; "" where only a key of the config is known
	Line           int

	Sealed bool // the list has Secret sealed

	opened bool   // a sealed Secret is the phrase itself
	first  string // first name, until the entry is whole
}

// Listed tells whether the clinic's list has the entry; without it, only a key from the config is known.
func (c *Contact) Listed() bool { return c != nil && c.Line > 0 }

// LogValue hides who it is.
func (c *Contact) LogValue() slog.Value {
	if c == nil {
		return slog.StringValue("none")
	}
	return slog.StringValue(c.Person + " *" + c.Address[strings.LastIndexByte(c.Address, '@'):])
}

// Mobile tells whether a code can reach the phone by SMS: a French landline cannot take one; of other countries nothing is known
// and the answer is yes.
func (c *Contact) Mobile() bool {
	if c == nil || c.Phone == "" {
		return false
	}
	if n, ok := strings.CutPrefix(c.Phone, "+33"); ok {
		return n[0] == '6' || n[0] == '7'
	}
	for _, o := range overseas {
		if n, ok := strings.CutPrefix(c.Phone, o.country); ok {
			return n[0] == '6' || n[0] == '7'
		}
	}
	return true
}

// overseas are the departments that have a country code of their own but are dialled nationally (ARCEP numbering plan).
var overseas = []struct{ national, country string }{
	{"0690", "+590"}, {"0691", "+590"}, {"0590", "+590"}, {"0694", "+594"}, {"0594", "+594"}, {"0696", "+596"}, {"0697", "+596"},
	{"0596", "+596"}, {"0692", "+262"}, {"0693", "+262"}, {"0262", "+262"}, {"0639", "+262"}, {"0269", "+262"},
}

// normalPhone gives a phone in E.164. French national numbers are understood, with spaces, dots, dashes, "(0)", and without the
// leading zero of a mobile, which spreadsheets eat.
func normalPhone(s string) (string, error) {
	s = strings.ReplaceAll(s, "(0)", "")
	var b strings.Builder
	for i, r := range s {
		switch {
		case r >= '0' && r <= '9', r == '+' && i == 0:
			b.WriteRune(r)
		case strings.ContainsRune(" .-/()\u00a0\u202f\u2011", r):
		default:
			return "", fmt.Errorf("phone holds %q", r)
		}
	}
	n := b.String()
	if rest, ok := strings.CutPrefix(n, "00"); ok {
		n = "+" + rest
	}
	switch {
	case strings.HasPrefix(n, "+"):
	case len(n) == 10 && n[0] == '0':
		country := "+33"
		for _, o := range overseas {
			if strings.HasPrefix(n, o.national) {
				country = o.country
			}
		}
		n = country + n[1:]
	case len(n) == 9 && (n[0] == '6' || n[0] == '7'):
		return normalPhone("0" + n)
	case len(n) == 11 && strings.HasPrefix(n, "33"):
		n = "+" + n
	default:
		return "", fmt.Errorf("phone is neither international (+33...) nor a French number of ten digits")
	}
	if len(n) < 9 || len(n) > 16 || n[1] == '0' { // E.164: at most 15 digits, no country starts with 0
		return "", fmt.Errorf("phone has the wrong number of digits")
	}
	if rest, ok := strings.CutPrefix(n, "+33"); ok && (len(rest) != 9 || rest[0] == '0') {
		return "", fmt.Errorf("phone of +33 must have nine digits after it")
	}
	return n, nil
}
