package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Rule is one line of the operator's table. Every matcher that is given must hold; a list holds when any of its entries does.
// Addresses, domains, words of the directory, header values and media types are globs: `*` stands for any run of characters,
// upper and lower case are the same. A rule without a matcher holds for everything.
type Rule struct {
	// Name stands in the ledger and in reasons; it must be given and be unique.
	Name string `yaml:"name"`

	// Sender and SenderDomain are the envelope sender: `compta@clinic.test`, `*@labo.clinic.test`, `clinic.test`.
	Sender       []string `yaml:"sender"`
	SenderDomain []string `yaml:"sender_domain"`
	// Recipient and Domain are the envelope recipient and its domain.
	Recipient []string `yaml:"recipient"`
	Domain    []string `yaml:"domain"`

	// Verdict is the directory's answer: verified, not-listed, could-not-ask. A rule that reads the verdict (this matcher, Kind,
	// Profession, Category, Structure, or a When that mentions them) ends in "later" where the directory could not be asked.
	// could-not-ask may be named in rules that route to trust or refuse only: doubt never opens.
	Verdict []Verdict `yaml:"verdict"`
	// Kind is the directory's kind of mailbox: PER, ORG, APP, CAB.
	Kind []string `yaml:"kind"`
	// Profession, Category and Structure are the directory's words: "Médecin", "Civil", "CHU *".
	Profession []string `yaml:"profession"`
	Category   []string `yaml:"category"`
	Structure  []string `yaml:"structure"`

	// Person is the class in the clinic's own list: patient, professional, partner, supplier, or any word used there.
	Person []string `yaml:"person"`
	// Has asks what is known of the recipient: smime (a usable certificate), openpgp (a usable key), phone (a mobile), secret (an agreed one), preferred (a route).
	Has []string `yaml:"has"`
	// Opposed: the person opposes being written to electronically. Such mail is refused before any rule.
	Opposed *bool `yaml:"opposed"`

	// TrustDomain: the recipient's domain is in the signed white list. Patient: a Mon espace santé mailbox.
	TrustDomain *bool `yaml:"trust_domain"`
	Patient     *bool `yaml:"patient"`

	// Lookalike: the recipient's domain is near a known one and none itself: gmial.com, mssante.com. KnownAs: the person has an MSSanté
	// mailbox too, by the clinic's list or the same RPPS.
	Lookalike *bool `yaml:"lookalike"`
	KnownAs   *bool `yaml:"known_as"`

	// SizeOver and SizeUnder compare the message's size as transferred: over 10MiB, under 1MiB.
	SizeOver  Size `yaml:"size_over"`
	SizeUnder Size `yaml:"size_under"`
	// Attachments are media types (`application/pdf`, `image/*`) or, without a slash, file names (`*.dcm`).
	Attachments []string `yaml:"attachments"`
	// Header wants for each name a value that matches: {X-Application: "dpi*"}.
	Header map[string]string `yaml:"header"`
	// Sensitivity is Outlook's mark: personal, private, company-confidential.
	Sensitivity []string `yaml:"sensitivity"`
	// Tag is a word in brackets in the subject, without brackets: secure for "[secure] Résultats".
	Tag []string `yaml:"tag"`
	// Null, Auto and List are mail without a person behind it: null sender, Auto-Submitted, mailing list.
	Null *bool `yaml:"null"`
	Auto *bool `yaml:"auto"`
	List *bool `yaml:"list"`
	// Encrypted: its sender has encrypted it end to end (OpenPGP or S/MIME).
	Encrypted *bool `yaml:"encrypted"`
	// When is one expression (github.com/expr-lang/expr) over the same names: `size > 1000000 and not phone`.
	When string `yaml:"when"`

	// Route is the way out: local, trust, encrypt, pickup, plain, refuse.
	Route Route `yaml:"route"`
	// Form of encryption on encrypt: smime, openpgp, zip, pdf; "" takes the list's, else smime, else openpgp.
	Form string `yaml:"form"`
	// Scope on encrypt is what is sealed: message, or attachments; "" is encrypt.scope.
	Scope string `yaml:"scope"`
	// Text is what the sender is told on refuse, or on encrypt with fallback: refuse: one line of ASCII.
	Text string `yaml:"text"`
	// Hop names the next hop on plain (hops.NAME); "" is internet.
	Hop string `yaml:"hop"`
	// Notify is an address that is told of codes and refusals in the sender's place; for senders that nobody reads (applications).
	Notify string `yaml:"notify"`
	// VerifiedTLS on plain: only over TLS with a verified certificate, else it is counted as left in clear.
	VerifiedTLS bool `yaml:"verified_tls"`
	// Qualified on trust: this sender's application qualifies the patient's INS (identity checked), so a Mon espace santé mailbox
	// may be written to.
	Qualified bool `yaml:"qualified"`
	// Fallback on trust: pickup sends what a patient's Mon espace santé mailbox could not take, because there is none, to the ordinary address
	// that the clinic's list gives for it. On encrypt it is for whom no form is possible, or a message over the limits of all: pickup, which
	// is the default, or refuse, which makes encryption mandatory.
	Fallback Route `yaml:"fallback"`
	// Preferred uses the route that the recipient's entry in the clinic's list prefers; Route is for entries without one. With no
	// Route the rule holds only where there is a preference.
	Preferred bool `yaml:"preferred"`
}

// Expectation is one line of the operator's own test of the rules: mail from From to To must take Route.
type Expectation struct {
	From  string `yaml:"from"`
	To    string `yaml:"to"`
	Route Route  `yaml:"route"`
	// Form and Rule are compared where given.
	Form string `yaml:"form"`
	Rule string `yaml:"rule"`
}

// Size is a number of bytes, written 50MiB, 10MB, 64KiB or 1000.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1},
}

// UnmarshalText reads a size; units are exact: MiB is 1048576 bytes, MB a million.
func (s *Size) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	for _, u := range sizeUnits {
		num, ok := strings.CutSuffix(t, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(num), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is no size (write 50MiB, 10MB or a number of bytes)", t)
}

// String gives the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range []string{"GiB", "MiB", "KiB"} {
		for _, k := range sizeUnits {
			if k.name == u && s != 0 && int64(s)%k.bytes == 0 {
				return strconv.FormatInt(int64(s)/k.bytes, 10) + u
			}
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText gives what UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
