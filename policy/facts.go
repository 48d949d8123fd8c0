// Package policy decides. It takes the facts about one recipient of one message and an ordered table of rules, gives one decision
// with its reason, and knows nothing of sockets, clocks, files or logs: the same facts always give the same decision.
package policy

import "time"

// Route is one of the ways out of the design.
type Route string

const (
	Local   Route = "local"
	Trust   Route = "trust"
	Encrypt Route = "encrypt"
	Pickup  Route = "pickup"
	Plain   Route = "plain"
	Refuse  Route = "refuse"
	// Later is no way out: a source that the first matching rule reads could not be asked; the client keeps the message.
	Later Route = "later"
)

// Verdict is what the directory said. "Could not ask" is a third answer, never "not listed".
type Verdict string

const (
	Verified    Verdict = "verified"
	NotListed   Verdict = "not-listed"
	CouldNotAsk Verdict = "could-not-ask"
)

// Why a message may not enter the trust space because of who wrote it.
const (
	SenderNoMailbox   = "no-mailbox"       // the author has no mailbox there
	SenderRefused     = "refused"          // the clinic's table refuses the author
	SenderForeign     = "foreign"          // the author is not of the clinic: a message redirected
	SenderNotDelegate = "not-delegate"     // who wrote may not write in the author's name
	SenderUnclear     = "unclear"          // From or Sender name nobody, or several
	SenderNotFound    = "not-in-directory" // the author's mailbox is not shown
	SenderNotAsked    = "could-not-ask"    // whether it is could not be asked
)

// FormReport is the form of null-sender mail that leaves by Plain: headers and status, without the returned content.
const FormReport = "report"

// The forms of encryption.
const (
	FormSMIME   = "smime"
	FormOpenPGP = "openpgp"
	FormZIP     = "zip"
	FormPDF     = "pdf"
	// FormAsIs is the form of what its sender has encrypted end to end: the sealed bytes leave as they came.
	FormAsIs = "as-is"
)

// What is sealed of a message.
const (
	ScopeMessage     = "message"     // all of it
	ScopeAttachments = "attachments" // its files and pictures; the text stays readable
)

// Attachment is one leaf part that a reader would save as a file. Inline pictures of multipart/related are not among them.
type Attachment struct {
	Type string `expr:"type"` // media type in lower case, "application/pdf"
	Name string `expr:"name"` // file name as written, "" where none
	Size int64  `expr:"size"` // bytes as transferred
}

// Facts are all that a decision may depend on.
type Facts struct {
	Sender, SenderDomain       string // lower case; "" for the null sender
	Recipient, RecipientDomain string

	// From the national directory.
	Verdict     Verdict
	VerdictWhy  string // why it could not be asked
	Kind        string // PER, ORG, APP, CAB
	Profession  string // "Médecin"
	Category    string // "Civil"
	Structure   string // the organisation's name
	DisplayName string
	Source      string    // which source said so
	AsOf        time.Time // the source's own date

	// Lookalike is the known mail domain that the recipient's may have been mistaken for, "" where none.
	Lookalike string
	// KnownAs tells that the person has an MSSanté mailbox at KnownAsDomain: the operator confirmed it in the list, or the RPPS is the same.
	KnownAs, KnownAsConfirmed bool
	KnownAsDomain             string

	// From the clinic's own list.
	Contact   bool   // the list has an entry
	Person    string // patient, professional, partner, supplier, ...
	Preferred Route  // "" where none
	Form      string // preferred form: smime, openpgp, zip, pdf
	SMIME     bool   // a certificate is known, and can be sealed to today
	OpenPGP   bool   // a usable key is known
	Phone     bool   // a mobile phone is known
	Secret    bool   // an agreed secret is known
	Opposed   bool   // the person opposes being written to electronically
	Label     string // words of the list entry, for the reason

	// From the trust space.
	TrustDomain bool // the recipient's domain is in the white list
	// TrustDoubt is why the white list could not be asked, "" where it could. With it a TrustDomain of false says nothing (no list was ever
	// loaded), and one of true stands in a list that is too old: mail for the domain waits.
	TrustDoubt  string
	TrustSender bool // the sender's domain is one of the clinic's trust domains, or its author has a mailbox there
	// SenderTrouble is why the author may not write there, one of the Sender constants, "" where only his domain is known. SendsAs says as whom
	// a message leaves, for the reason: mailbox, author, who wrote in his name; with a trouble whom From names.
	SenderTrouble, SendsAs string
	PatientINS             bool // the recipient is a patient's Mon espace santé mailbox
	INSValid               bool // its number's key is right
	// INSQualified: the message's own header or the clinic's list asserts that the patient's INS is qualified.
	INSQualified bool

	// From the message.
	Size        int64
	Recipients  int                 // of the whole message, as far as this session knows
	Headers     map[string][]string // canonical names; values unfolded and decoded
	Attachments []Attachment
	Calendar    bool     // it holds text/calendar
	Tags        []string // "[secure]" of the subject, without brackets, lower case
	Sensitivity string   // Outlook: personal, private, company-confidential
	Null        bool     // null sender
	Auto        bool     // Auto-Submitted other than "no", a report or receipt, an answer to an invitation
	List        bool     // List-Id or Precedence: list|bulk
	Marked      bool     // bears our mark: it came from the trust space
	Enclosed    bool     // it was encrypted on its way to the clinic (our protection field)
	// Encrypted: its sender encrypted it end to end, to somebody's key, and nothing of it is readable.
	Encrypted bool
	// Whole is why its attachments cannot be sealed apart from its text, "" where they can.
	Whole string
	// Sizes are how large the sealed message will be at most, by form; what is not there is not known, and no limit holds for it.
	Sizes      map[string]int64
	BrokenMark bool // the mark does not verify here: it binds as a whole one does, and no rule may read it as one
}

// Trial is one rule that was tried.
type Trial struct {
	Rule    string
	Matched bool
	Why     string // "recipient.domain = dest.test: no"
}

// Decision says by which way one recipient's copy leaves, and why.
type Decision struct {
	Route Route
	// Form is the form of encryption on Encrypt: "smime", "openpgp", "zip", "pdf", or FormAsIs. On Plain it may be FormReport: the gateway reduces a null-sender
	// message to headers and status before it leaves.
	Form string
	// Scope says on Encrypt what is sealed: ScopeMessage or ScopeAttachments.
	Scope string
	// Rule names the rule that decided; Reason is one line that names the rule and the facts it read, for ledger and operator.
	Rule, Reason string
	// Text is what the sender is told on Refuse or Later, and on Encrypt where Fallback is Refuse; one line of ASCII French.
	Text string
	// Hop names the next hop for Plain where the rule chose one (hops.NAME in the config), "" is the Internet hop.
	Hop string
	// Notify overrides who is told of codes and refusals (application senders), "" is the sender.
	Notify string
	// VerifiedTLS: Plain must go over TLS with a verified certificate, else it is counted as left in clear.
	VerifiedTLS bool
	// Unreduced: the rule itself says plain, so that null-sender mail which is no report leaves as it is.
	Unreduced bool
	// Suggest: the sender who is refused is to be told the recipient's MSSanté address; the rule asked for it.
	Suggest bool
	// Qualified: the rule asserts that the patient's INS is qualified (Mon espace santé).
	Qualified bool
	// Fallback is on Trust Pickup where the rule wants it for a patient who has no Mon espace santé mailbox; on Encrypt what becomes of a
	// message that the form turns out not to carry: Pickup, Refuse where the rule makes encryption mandatory, "" for a null sender's.
	Fallback Route
	Tried    []Trial
}
